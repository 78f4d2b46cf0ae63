"""The screens of documents. They translate between requests and the verbs of this app, and hold no logic of their own."""

import errno
from itertools import chain
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Page as ListPage
from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict, StreamingHttpResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HTMX_STOP_POLLING

from documents import access, erasing, jobs, ledger, quotas, storage
from documents.access import visible_collections, visible_documents
from documents.forms import AccessForm, CollectionForm, FilterForm, NewCollectionForm, UploadForm
from documents.models import Document
from documents.reading import read_page
from documents.reasons import READABLE
from documents.receiving import create_collection, receive, rename_collection
from documents.uploads import EncryptingUploadHandler, ReceivedFile, RefusedFile, least_size, size_limit
from tenants.answers import as_json, wants_json
from tenants.ciphers import Tampered
from tenants.errors import Refused
from tenants.limits import limited
from tenants.models import Person
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest

PER_PAGE = 50
CANNOT_BE_READ = (
    "The upload arrived incomplete, or a file has too long a name. Nothing was kept. Shorten long names, then upload again."
)

# ---------------------------------------------------------------- the list


@require_GET
@requires("read")
def documents(request: WorkspaceRequest) -> HttpResponse:
    collections = access.visible_by_name(request.membership)
    shown = _list(request, collections)
    if request.membership.can_upload:
        shown |= _upload_area(UploadForm(membership=request.membership, names=collections))
    return render(request, "documents/documents.html", shown)


@require_GET
@requires("read")
def documents_rows(request: WorkspaceRequest) -> HttpResponse:
    shown = _list(request, access.visible_by_name(request.membership))
    return render(request, "documents/_rows.html", shown, status=200 if shown["unfinished"] else HTMX_STOP_POLLING)


def _list(request: WorkspaceRequest, collections: dict[UUID, str]) -> dict[str, object]:
    form = FilterForm(request.GET, collections=collections)
    chosen = form.chosen()
    found: QuerySet[Document] = visible_documents(request.membership).filter(**chosen)
    unfinished = found.filter(state__in=Document.UNFINISHED).count()  # before the rows: what ends in between is asked for again
    page: ListPage[Document] = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    rows = [(document, collections.get(document.collection_id, "")) for document in page.object_list]
    kept = {key: value for key, value in form.cleaned_data.items() if value}
    return {
        "filter_form": form,
        "filtered": bool(chosen),
        "filter_query": urlencode(kept),
        "rows_query": urlencode({**kept, "page": page.number}),
        "page": page,
        "rows": rows,
        "unfinished": unfinished,
        "any_document": bool(rows) or visible_documents(request.membership).exists(),
        "collections_total": len(collections),
    }


def _upload_area(form: UploadForm) -> dict[str, object]:
    return {
        "upload_form": form,
        "quota_bars": [bar for bar in quotas.bars() if bar.is_tight],
        "readable": READABLE,
        "size_limit": size_limit(),
        "max_bytes": settings.MAX_UPLOAD_BYTES,
    }


# ---------------------------------------------------------------- uploading


@csrf_exempt  # the check reads the body: it is made inside, once the handler that encrypts is in place
@require_http_methods(["GET", "POST"])
@requires("upload")
@limited("upload")
def document_upload(request: WorkspaceRequest) -> HttpResponseBase:
    held = quotas.held()
    if request.method == "POST" and (refusal := held.refusal(1, least_size(request))):  # before a byte of it is read
        return _refused(request, UploadForm(membership=request.membership), [RefusedFile("", refusal)])
    handler = EncryptingUploadHandler(request, held)
    request.upload_handlers = [handler]
    try:
        return _upload(request, handler)
    except MultiPartParserError:  # Django reads 1,024 bytes about a file: a name of 350 Chinese characters is too much
        return _refused(request, UploadForm(membership=request.membership), [RefusedFile("", CANNOT_BE_READ)])
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = RefusedFile("", "There is no room left for files. Nothing was kept. Tell your administrator.")
        return _refused(request, UploadForm(membership=request.membership), [full], status=507)
    finally:
        handler.clean_up()


@csrf_protect
def _upload(request: WorkspaceRequest, handler: EncryptingUploadHandler) -> HttpResponse:
    if request.method == "GET":
        return _upload_page(request, UploadForm(membership=request.membership), [])
    form = UploadForm(request.POST, membership=request.membership)
    received: list[ReceivedFile] = request.FILES.getlist("files")  # type: ignore[assignment]  # our handler's own class
    if not form.is_valid():
        return _refused(request, form, [RefusedFile("", " ".join(map(str, form.errors["collection"])))])
    if not received:
        missing = RefusedFile("", "No file arrived. Choose at least one file, then upload again.")
        return _refused(request, form, handler.refused or [missing])
    try:
        collection = form.target()
    except Refused as reason:
        return _refused(request, form, [RefusedFile("", str(reason))])
    added, refused = [], handler.refused
    for file in received:
        try:
            with handler.keeping(file.stored):
                added.append(receive(file.stored, file.name, collection, created_by_id=request.user.pk))
        except Refused as reason:
            refused.append(RefusedFile(file.name, str(reason)))
    if not added:
        return _refused(request, form, refused)
    if wants_json(request):
        return _upload_answer(added, refused)
    if refused:
        return _upload_page(request, form, refused, added=len(added), status=422)
    messages.success(request, f"{_files(len(added))} uploaded to “{collection.name}”.")
    return redirect("documents")


def _refused(request: WorkspaceRequest, form: UploadForm, refused: list[RefusedFile], status: int = 422) -> HttpResponse:
    if wants_json(request):
        return _upload_answer([], refused, status)
    return _upload_page(request, form, refused, status=status)


def _upload_answer(added: list[Document], refused: list[RefusedFile], status: int = 200) -> JsonResponse:
    documents = [
        {
            "id": str(document.id),
            "url": reverse("document", args=[document.id]),
            "name": document.file_name,
            "state": document.state,
        }
        for document in added
    ]
    return as_json([(file.name, file.message) for file in refused], status, documents=documents)


def _upload_page(
    request: WorkspaceRequest, form: UploadForm, refused: list[RefusedFile], *, added: int = 0, status: int = 200
) -> HttpResponse:
    shown = {"refused": refused, "added": added, **_upload_area(form)}
    return render(request, "documents/upload.html", shown, status=status)


# ---------------------------------------------------------------- one document


@require_GET
@requires("read")
def document(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    shown = get_object_or_404(visible_documents(request.membership).select_related("collection"), pk=document_id)
    number = request.GET.get("page", "1")
    page = read_page(shown, int(number) if number.isdecimal() and len(number) < 8 else 1, request.GET.get("passage", ""))
    person = Person.objects.filter(pk=shown.created_by_id).first() if shown.created_by_id else None
    return render(request, "documents/document.html", {"document": shown, "page": page, "person": person})


@require_GET
@requires("read")
def document_status(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    """The state of one document while it is worked on; when it has ended, the page is loaded anew."""
    shown = get_object_or_404(visible_documents(request.membership), pk=document_id)
    response = render(request, "documents/_status.html", {"document": shown})
    if not shown.is_unfinished:
        response.status_code = HTMX_STOP_POLLING
        response.headers["HX-Refresh"] = "true"
    return response


@require_GET
@requires("read")
def document_download(request: WorkspaceRequest, document_id: UUID) -> HttpResponseBase:
    shown = get_object_or_404(visible_documents(request.membership), pk=document_id)
    pieces = storage.read(shown.id, shown.stored_name)
    try:
        first = next(pieces, b"")  # opened before the answer begins, so that a missing file is said and not cut off
    except (storage.FileMissing, Tampered):
        return render(request, "documents/file_missing.html", {"document": shown}, status=404)
    response = StreamingHttpResponse(chain([first], pieces), content_type="application/octet-stream")
    response.headers["Content-Length"] = str(shown.size)
    response.headers["Content-Disposition"] = content_disposition_header(True, shown.file_name) or "attachment"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


@require_http_methods(["GET", "POST"])
@requires("upload")
def document_delete(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    shown = get_object_or_404(visible_documents(request.membership).select_related("collection"), pk=document_id)
    if request.method == "POST":
        title = shown.title
        erasing.delete(shown)
        messages.success(request, f"“{title}” is deleted.")
        return redirect("documents")
    return render(request, "documents/document_delete.html", {"document": shown})


@require_POST
@requires("upload")
def document_retry(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    get_object_or_404(visible_documents(request.membership), pk=document_id)
    try:
        ledger.retry(document_id)
    except Refused as refused:
        messages.error(request, str(refused))
    else:
        jobs.enqueue_ingest(document_id)
    return _back(request, document_id)


@require_POST
@requires("upload")
def document_cancel(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    get_object_or_404(visible_documents(request.membership), pk=document_id)
    if not ledger.cancel(document_id):
        messages.info(request, "The document had ended before it could be cancelled.")
    return _back(request, document_id)


def _back(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    """To the list the button stood in, else to the document. Only our own addresses are followed."""
    if request.POST.get("from") == "documents":
        return HttpResponseRedirect(f"{reverse('documents')}?{_known_query(request.POST.get('query', ''))}")
    return redirect("document", document_id)


def _known_query(query: str) -> str:
    given = QueryDict(query)
    return urlencode({key: given[key] for key in ("collection", "state", "page") if given.get(key)})


# ---------------------------------------------------------------- collections


@require_GET
@requires("read")
def collections(request: WorkspaceRequest) -> HttpResponse:
    return _collections(request, NewCollectionForm(membership=request.membership))


@require_POST
@requires("upload")
def collection_create(request: WorkspaceRequest) -> HttpResponse:
    form = NewCollectionForm(request.POST, membership=request.membership)
    if form.is_valid():
        name, restricted = form.cleaned_data["name"], form.cleaned_data.get("restricted", False)
        try:
            collection = create_collection(name, by=request.membership, restricted=restricted)
        except Refused as refused:
            form.add_error("name", str(refused))
        else:
            messages.success(request, f"Collection “{collection.name}” is ready for documents.")
            return redirect("collection-access", collection.pk) if restricted else redirect("collections")
    return _collections(request, form, status=422)


@require_http_methods(["GET", "POST"])
@requires("upload")
def collection_rename(request: WorkspaceRequest, collection_id: UUID) -> HttpResponse:
    collection = get_object_or_404(visible_collections(request.membership), pk=collection_id)
    form = CollectionForm(request.POST or None, initial={"name": collection.name})
    if request.method == "POST" and form.is_valid():
        try:
            rename_collection(collection, form.cleaned_data["name"])
        except Refused as refused:
            form.add_error("name", str(refused))
        else:
            return redirect("collections")
    shown = {"collection": collection, "form": form}
    return render(request, "documents/collection_rename.html", shown, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@requires("manage")
def collection_access(request: WorkspaceRequest, collection_id: UUID) -> HttpResponse:
    """Who may see it."""
    member = request.membership
    collection = get_object_or_404(visible_collections(member), pk=collection_id)
    candidates = access.candidates()
    # for who restricts it now, their own name is chosen already: nobody locks themselves out by forgetting it
    chosen = access.named_in(collection) if collection.restricted else {member.pk}
    current = {"who": AccessForm.CHOSEN if collection.restricted else AccessForm.EVERYONE, "people": list(chosen)}
    sent = request.POST if request.method == "POST" else None
    form = AccessForm(sent, candidates=candidates, initial=current)
    if request.method == "POST" and form.is_valid():
        try:
            change = access.set_access(collection, member, restricted=form.restricted, chosen=form.cleaned_data["people"])
        except Refused as refused:
            form.add_error("people", str(refused))
        else:
            messages.success(request, change.in_words(collection.name))
            return redirect("collections")
    shown = {"collection": collection, "form": form, "any_candidates": bool(candidates)}
    return render(request, "documents/collection_access.html", shown, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@requires("manage")
def collection_delete(request: WorkspaceRequest, collection_id: UUID) -> HttpResponse:
    collection = get_object_or_404(visible_collections(request.membership), pk=collection_id)
    if request.method == "POST":
        name = collection.name
        deleted = erasing.delete_collection(collection)
        messages.success(request, f"Collection “{name}” is deleted, with {_documents(deleted)}.")
        return redirect("collections")
    return render(
        request,
        "documents/collection_delete.html",
        {"collection": collection, "documents_total": collection.documents.count()},
    )


def _collections(request: WorkspaceRequest, form: CollectionForm, status: int = 200) -> HttpResponse:
    counted = visible_collections(request.membership).annotate(
        documents_total=Count("documents"),
        documents_ready=Count("documents", filter=Q(documents__state=Document.State.READY)),
    )
    rows = sorted(counted, key=lambda collection: collection.name.casefold())
    return render(request, "documents/collections.html", {"rows": rows, "form": form}, status=status)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _documents(count: int) -> str:
    return "1 document" if count == 1 else f"{count:,} documents"
