"""The screens of documents. They translate between requests and the verbs of this app, and hold no logic of their own."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Page as ListPage
from django.core.paginator import Paginator
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_GET, require_POST, require_safe
from django_htmx.http import HTMX_STOP_POLLING

from documents import access, dispatch, erasing, jobs, pictures, queueing, ranges, series, storage, trash, upload_views
from documents.access import visible_documents
from documents.describing import described
from documents.forms import FilterForm, UploadForm
from documents.models import Document
from documents.reading import PageView, read_page
from documents.reasons import RETRYABLE, SENTENCES, Reason
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.ciphers import Tampered
from tenants.limits import limited
from tenants.models import Person
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest
from tenants.wording import counted

PER_PAGE = 50

# ---------------------------------------------------------------- the list


@require_GET
@requires("read")
def documents(request: WorkspaceRequest) -> HttpResponse:
    collections = access.visible_by_name(request.membership)
    shown = _list(request, collections)
    if request.membership.can_upload:
        shown |= upload_views.area(UploadForm(membership=request.membership, names=collections))
        shown["disk_left"] = storage.left() if storage.is_nearly_full() else None
        with_fields = access.visible_collections(request.membership).filter(fields__isnull=False)
        ids = set(with_fields.order_by().values_list("id", flat=True))
        shown["with_fields"] = [(pk, name) for pk, name in collections.items() if pk in ids]
        shown["trashed_total"] = series.once(access.visible_trash(request.membership)).count()
    return render(request, "documents/documents.html", shown)


@require_GET
@requires("read")
def documents_rows(request: WorkspaceRequest) -> HttpResponse:
    shown = _list(request, access.visible_by_name(request.membership))
    batch = shown["batch"]
    assert isinstance(batch, queueing.Batch)
    return render(request, "documents/_rows.html", shown, status=200 if batch.unfinished else HTMX_STOP_POLLING)


def _list(request: WorkspaceRequest, collections: dict[UUID, str]) -> dict[str, object]:
    form = FilterForm(request.GET, collections=collections)
    chosen, visible = form.chosen(), visible_documents(request.membership)
    shown_once = series.listed(visible)
    batch = queueing.batch(visible)  # before the rows: what ends in between is asked for again
    failures = _failures(shown_once, form) if form.cleaned_data.get("state") in (None, "", Document.State.FAILED) else []
    page: ListPage[Document] = Paginator(shown_once.filter(**chosen), PER_PAGE).get_page(request.GET.get("page"))
    places = queueing.places([document.id for document in page.object_list if document.state == Document.State.QUEUED])
    rows = [
        (document, collections.get(document.collection_id, ""), places.get(document.id, 0)) for document in page.object_list
    ]
    kept = {key: value for key, value in form.cleaned_data.items() if value}
    return {
        "filter_form": form,
        "filtered": bool(chosen),
        "filter_query": urlencode(kept),
        "rows_query": urlencode({**kept, "page": page.number}),
        "page": page,
        "rows": rows,
        "batch": batch,
        "failures": failures,
        "failed_total": sum(each.documents for each in failures),
        "retryable_total": sum(each.documents for each in failures if each.can_be_retried),
        "any_document": bool(rows) or visible.exists(),
        "collections_total": len(collections),
    }


@dataclass(frozen=True)
class Failure:
    """Documents that failed for the same reason, and the query of the filter that shows them."""

    what_happened: str
    what_to_do: str
    can_be_retried: bool
    documents: int
    query: str


def _failures(visible: QuerySet[Document], form: FilterForm) -> list[Failure]:
    """By reason, the most frequent first; of the collection that is filtered by."""
    kept = {key: value for key, value in form.cleaned_data.items() if value and key == "collection"}
    failed = visible.filter(state=Document.State.FAILED, **({"collection_id": kept["collection"]} if kept else {}))
    counts = failed.order_by().values_list("reason").annotate(number=Count("pk")).order_by("-number", "reason")
    return [
        Failure(
            *SENTENCES[Reason(reason)],
            can_be_retried=reason in RETRYABLE,
            documents=number,
            query=urlencode({**kept, "state": Document.State.FAILED.value, "reason": reason}),
        )
        for reason, number in counts
    ]


@require_POST
@requires("upload")
def documents_act(request: WorkspaceRequest) -> HttpResponse:
    """`do` retry, read-again, cancel or trash to each `document` named, or with `which=all` to all of the filter in `query`."""
    visible, query = visible_documents(request.membership), QueryDict(request.POST.get("query", ""))
    if request.POST.get("which") == "all":
        form = FilterForm(query, collections=access.visible_by_name(request.membership))
        if not form.is_valid():  # it would widen to everything
            messages.error(request, "What the list was filtered by is not there any more. Nothing was changed. Choose again.")
            return redirect("documents")
        # cancelling means the versions too that the list does not show: one of them would come into use
        found = (visible if request.POST.get("do") == "cancel" else series.listed(visible)).filter(**form.chosen())
    else:
        found = visible.filter(pk__in=_ids(request.POST.getlist("document")))
    ids = list(found.values_list("id", flat=True))
    batches = list(erasing.batches(ids))
    match request.POST.get("do"):
        case _ if not ids:
            messages.error(request, "No document was chosen. Tick some in the list first.")
        case "retry":
            retried = sum(map(jobs.retry, batches))
            _say(request, retried, "queued again", "None of these failed for a passing reason, or was cancelled.")
        case "read-again":
            again = sum(map(jobs.read_again, batches))
            _say(request, again, "queued to be read again", "Of none of these pages are missing.")
        case "cancel":
            _say(request, sum(map(jobs.cancel, batches)), "cancelled", "None of these is in progress.")
        case "trash":
            trashed = sum(trash.trash(batch, request.user.pk) for batch in batches)
            _say(request, trashed, "moved to the trash", "These are in the trash already.")
    return redirect(f"{reverse('documents')}?{_known_query(request.POST.get('query', ''))}")


def _ids(named: list[str]) -> Iterator[UUID]:
    """What is no id names nothing."""
    for each in named:
        with suppress(ValueError):
            yield UUID(each)


def _say(request: WorkspaceRequest, number: int, done: str, none: str) -> None:
    if number:
        messages.success(request, f"{counted(number, 'document')} {done}.")
    else:
        messages.info(request, f"Nothing changed. {none}")


@require_POST
@requires("upload")
def queue_pause(request: WorkspaceRequest) -> HttpResponse:
    queueing.pause()
    return redirect(f"{reverse('documents')}?{_known_query(request.POST.get('query', ''))}")


@require_POST
@requires("upload")
def queue_resume(request: WorkspaceRequest) -> HttpResponse:
    queueing.resume()
    dispatch.queue_unfinished()
    return redirect(f"{reverse('documents')}?{_known_query(request.POST.get('query', ''))}")


# ---------------------------------------------------------------- one document


@require_GET
@requires("read")
def document(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    shown = get_object_or_404(visible_documents(request.membership).select_related("collection"), pk=document_id)
    number = request.GET.get("page", "1")
    page = read_page(shown, int(number) if number.isdecimal() and len(number) < 8 else 1, request.GET.get("passage", ""))
    person, stages = None, []
    if request.subscription is None:  # readers of a library learn of no member, and of no machine
        person = Person.objects.filter(pk=shown.created_by_id).first() if shown.created_by_id else None
        stages = list(shown.stages.all())
    record(Event.OPENED, document=str(shown.pk), page=page.number if page else None)
    about = {"document": shown, "page": page, "person": person, "metadata": described(shown), "stages": stages}
    more = {"place": _place(shown), "picture": _picture_address(request, shown, page)}
    context = {**about, **more, **_versions(request, shown), **_archive(request, shown)}
    return render(request, "documents/document.html", context)


def _versions(request: WorkspaceRequest, shown: Document) -> dict[str, object]:
    """Each with who uploaded it; nothing where there is one. Readers of a library learn of the one in use alone."""
    known = series.history(shown, visible_documents(request.membership))
    current = next((each for each in known if each.is_current), None)
    if request.subscription is not None:
        return {"current": current}
    people = Person.objects.in_bulk([each.created_by_id for each in known if each.created_by_id])
    return {
        "versions": [(each, people.get(each.created_by_id or 0)) for each in known] if len(known) > 1 else [],
        "newest": known[0],
        "current": current,
    }


def _archive(request: WorkspaceRequest, shown: Document) -> dict[str, object]:
    """How many documents came out of it, and what it came out of. Readers of a library learn of neither."""
    if request.subscription is not None:
        return {}
    visible = visible_documents(request.membership)
    return {
        "files": series.listed(visible).filter(archive=shown.pk).count() if shown.is_archive else 0,
        "came_from": visible.filter(pk=shown.archive).first() if shown.archive else None,
    }


def _picture_address(request: WorkspaceRequest, shown: Document, page: PageView | None) -> str:
    """Of the picture of a page that is being opened; empty when it has none."""
    if page is None or not pictures.can_have(shown):
        return ""
    proof = pictures.proof_of_opening(shown, page.number, request.user.pk)
    return f"{reverse('document-picture', args=[shown.id, page.number])}?{urlencode({'opened': proof})}"


def _place(shown: Document) -> int:
    """In the queue, from 1; 0 where it is in none."""
    return queueing.places([shown.id]).get(shown.id, 0) if shown.state == Document.State.QUEUED else 0


@require_GET
@requires("read")
@limited("picture", method="GET")
def document_picture(request: WorkspaceRequest, document_id: UUID, number: int) -> HttpResponseBase:
    """A page as a picture, for whoever has just opened it; who has not is led to the page, which records that they do."""
    shown = get_object_or_404(visible_documents(request.membership), pk=document_id)
    if not pictures.is_opened(shown, number, request.user.pk, request.GET.get("opened", "")):
        return redirect(f"{reverse('document', args=[shown.id])}?{urlencode({'page': number})}")
    try:
        response = HttpResponse(pictures.draw(shown, number), content_type="image/png")
    except pictures.NoPicture as none:
        context = {"document": shown, "number": number, "why": str(none)}
        return render(request, "documents/no_picture.html", context, status=503 if none.is_passing else 404)
    response.headers["Content-Disposition"] = "inline"
    return _as_data(response)


@require_GET
@requires("read")
def document_status(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    """The state of one document while it is worked on; when it has ended, the page is loaded anew."""
    shown = get_object_or_404(visible_documents(request.membership), pk=document_id)
    response = render(request, "documents/_status.html", {"document": shown, "place": _place(shown)})
    if not shown.is_unfinished:
        response.status_code = HTMX_STOP_POLLING
        response.headers["HX-Refresh"] = "true"
    return response


@require_safe
@requires("read")
def document_download(request: WorkspaceRequest, document_id: UUID) -> HttpResponseBase:
    shown = get_object_or_404(visible_documents(request.membership), pk=document_id)
    try:
        file = storage.WholeFile(shown.id, shown.stored_name)
        response = _download(request, file)
    except (storage.FileMissing, Tampered):
        return render(request, "documents/file_missing.html", {"document": shown}, status=404)
    if response.status_code in (200, 206):
        if request.method == "GET":  # each range: who reads from the second byte on has it, too
            record(Event.DOWNLOADED, document=str(shown.pk))
        response.headers["Content-Disposition"] = content_disposition_header(True, shown.download_name) or "attachment"
    return _as_data(response)


def _as_data(response: HttpResponseBase) -> HttpResponseBase:
    """What came from an uploaded file: a browser takes it for nothing but what we say, and runs nothing of it."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _download(request: HttpRequest, file: storage.WholeFile) -> HttpResponseBase:
    """The file, the range of it that is asked for, or why neither. Raises Tampered before the answer has begun."""
    tag = f'"{file.fingerprint}"'
    if unchanged := get_conditional_response(request, etag=tag):
        file.close()
        return unchanged
    wanted = None
    if request.method == "GET" and request.headers.get("If-Range", tag).strip() == tag:
        try:
            wanted = ranges.asked(request.headers.get("Range", ""), file.size)
        except ranges.Unsatisfiable:
            file.close()
            return HttpResponse(status=416, headers={"Content-Range": f"bytes */{file.size}", "Accept-Ranges": "bytes"})
    start, stop = wanted or (0, file.size)
    if request.method == "HEAD":
        file.close()
        response: HttpResponseBase = HttpResponse(content_type="application/octet-stream")
    else:
        pieces = file.read(start, stop)
        first = next(pieces, b"")  # opened before the answer begins, so that a changed file is said and not cut off
        response = StreamingHttpResponse(chain([first], pieces), content_type="application/octet-stream")
    if wanted:
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    response.headers["Content-Length"] = str(stop - start)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["ETag"] = tag
    return response


@require_POST
@requires("upload")
def document_delete(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    """To the trash; the page that follows offers to undo it."""
    shown = get_object_or_404(visible_documents(request.membership), pk=document_id)
    if request.POST.get("alone") and not shown.was_never_in_use:  # the page was older than that
        messages.error(request, "This version is ready by now, and nothing was moved. Choose again.")
        return redirect("document", shown.id)
    trash.trash([shown.id], request.user.pk)
    said = f"{shown.called} is in the trash{series.with_versions(shown)}."
    messages.success(request, said, extra_tags=f"undo:{shown.id}")
    return redirect("documents")


@require_POST
@requires("upload")
def document_retry(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    get_object_or_404(visible_documents(request.membership), pk=document_id)
    if not jobs.retry([document_id]) and not jobs.read_again([document_id]):
        said = "Only a document that failed for a passing reason, was cancelled or has unread pages can be tried again."
        messages.error(request, said)
    return _back(request, document_id)


@require_POST
@requires("upload")
def document_cancel(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    get_object_or_404(visible_documents(request.membership), pk=document_id)
    if not jobs.cancel([document_id]):
        messages.info(request, "The document had ended before it could be cancelled.")
    return _back(request, document_id)


def _back(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    """To the list the button stood in, else to the document. Only our own addresses are followed."""
    if request.POST.get("from") == "documents":
        return HttpResponseRedirect(f"{reverse('documents')}?{_known_query(request.POST.get('query', ''))}")
    return redirect("document", document_id)


def _known_query(query: str) -> str:
    given = QueryDict(query)
    return urlencode({key: given[key] for key in ("collection", "state", "reason", "archive", "page") if given.get(key)})
