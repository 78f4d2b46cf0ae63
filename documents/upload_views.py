"""The screen on which documents come in. It translates between requests and the verbs of this app, and holds no logic of its
own.
"""

import errno
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods

from documents import quotas, sidecar, storage
from documents.access import visible_documents
from documents.describing import Invalid
from documents.extraction.sandbox import LARGEST_BYTES
from documents.forms import UploadForm
from documents.models import Collection, Document
from documents.reasons import READABLE
from documents.receiving import receive
from documents.uploads import (
    SIDECAR_BYTES,
    EncryptingUploadHandler,
    ReceivedFile,
    ReceivedSidecar,
    RefusedFile,
    SidecarHandler,
    least_size,
    safe_path,
    size_limit,
)
from documents.versions import AlreadyHere
from tenants.answers import as_json, wants_json
from tenants.errors import Refused
from tenants.limits import limited
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest
from tenants.wording import counted

CANNOT_BE_READ = (
    "The upload arrived incomplete, or a file has too long a name. Nothing was kept. Shorten long names, then upload again."
)
NO_ROOM = "There is no room left for files. Nothing was kept. Tell your administrator."


def area(form: UploadForm) -> dict[str, object]:
    """What templates/documents/_upload_form.html takes."""
    return {
        "upload_form": form,
        "quota_bars": [bar for bar in quotas.bars() if bar.is_tight],
        "readable": READABLE,
        "size_limit": size_limit(),
        "read_limit": f"{LARGEST_BYTES // 1_000_000} MB" if settings.MAX_UPLOAD_BYTES > LARGEST_BYTES else "",
        "max_bytes": settings.MAX_UPLOAD_BYTES,
    }


@csrf_exempt  # the check reads the body: it is made inside, once the handler that encrypts is in place
@require_http_methods(["GET", "POST"])
@requires("upload")
@limited("upload")
def document_upload(request: WorkspaceRequest) -> HttpResponseBase:
    held = quotas.held()
    if request.method == "POST" and (refusal := held.refusal(1, least_size(request))):  # before a byte of it is read
        return _refused(request, UploadForm(membership=request.membership), [RefusedFile("", refusal)])
    if request.method == "POST" and not storage.has_room(least_size(request)):
        return _refused(request, UploadForm(membership=request.membership), [RefusedFile("", NO_ROOM)], status=507)
    handler = EncryptingUploadHandler(request, held)
    along = SidecarHandler(request)
    request.upload_handlers = [along, handler]
    try:
        return _upload(request, handler, along)
    except MultiPartParserError:  # Django reads 1,024 bytes about a file: a name of 350 Chinese characters is too much
        return _refused(request, UploadForm(membership=request.membership), [RefusedFile("", CANNOT_BE_READ)])
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _refused(request, UploadForm(membership=request.membership), [RefusedFile("", NO_ROOM)], status=507)
    finally:
        handler.clean_up()


@csrf_protect
def _upload(request: WorkspaceRequest, handler: EncryptingUploadHandler, along: SidecarHandler) -> HttpResponse:
    if request.method == "GET":
        chosen = {"collection": request.GET.get("collection", "")}
        return _upload_page(request, UploadForm(membership=request.membership, initial=chosen), [])
    form = UploadForm(request.POST, membership=request.membership)
    received: list[ReceivedFile] = request.FILES.getlist("files")  # type: ignore[assignment]  # our handler's own class
    if not form.is_valid():
        return _refused(request, form, [RefusedFile("", " ".join(map(str, form.errors["collection"])))])
    try:
        values = form.metadata().values()
    except Invalid as invalid:
        return _refused(
            request, form, [RefusedFile("", f"{name}: {said}") for name, said in invalid.errors.items()], invalid=invalid
        )
    if not received:
        missing = RefusedFile("", "No file arrived. Choose at least one file, then upload again.")
        return _refused(request, form, handler.refused or [missing])
    try:
        collection = form.target()
        lines = _values_by_name(request, collection, along)
    except sidecar.BadSidecar as bad:
        refused = [RefusedFile("", f"In the CSV file: {mistake}") for mistake in bad.mistakes]
        return _refused(
            request, form, refused, heading="Nothing was uploaded: correct the CSV file, then choose the files again"
        )
    except Refused as reason:
        return _refused(request, form, [RefusedFile("", str(reason))])
    added, refused = [], handler.refused
    reference = safe_path(request.POST.get("path", "")) if len(received) == 1 else ""  # a script sends them one by one
    for file in received:
        try:
            with handler.keeping(file.stored):
                described = lines.get(sidecar.file_name(reference)) or lines.get(sidecar.file_name(file.name), {})
                added.append(
                    receive(
                        file.stored,
                        file.name,
                        collection,
                        created_by_id=request.user.pk,
                        reference=reference,
                        unless_among=None if request.POST.get("anyway") else visible_documents(request.membership),
                        values=values | described,
                    )
                )
        except AlreadyHere as already:
            refused.append(refused_double(file.name, already))
        except Refused as reason:
            refused.append(RefusedFile(file.name, str(reason)))
    if not added:
        return _refused(request, form, refused)
    if wants_json(request):
        return upload_answer(added, refused)
    if refused:
        return _upload_page(request, form, refused, added=len(added), status=422)
    messages.success(request, f"{counted(len(added), 'file')} uploaded to “{collection.name}”.")
    return redirect("documents")


def _values_by_name(request: WorkspaceRequest, collection: Collection, along: SidecarHandler) -> dict[str, dict[UUID, str]]:
    """What the CSV file that came along says of files, by their names. Raises BadSidecar."""
    if along.too_large:
        raise sidecar.BadSidecar(
            [f"It is larger than {SIDECAR_BYTES // 1_000_000} MB. Describe by CSV after the upload instead."]
        )
    received: list[ReceivedSidecar] = request.FILES.getlist(SidecarHandler.FIELD)  # type: ignore[assignment]
    return sidecar.of_files(collection, received[0].content) if received else {}


def _refused(
    request: WorkspaceRequest,
    form: UploadForm,
    refused: list[RefusedFile],
    status: int = 422,
    invalid: Invalid | None = None,
    heading: str = "",
) -> HttpResponse:
    """`invalid`: the metadata typed with the files; `heading`: what it all is about, where it is no file in particular."""
    if wants_json(request):
        return upload_answer([], refused, status)
    if invalid:
        heading = "Nothing was uploaded: correct the metadata, then choose the files again"
    return _upload_page(request, form, refused, status=status, invalid=invalid, heading=heading)


def refused_double(name: str, already: AlreadyHere) -> RefusedFile:
    there = already.document
    return RefusedFile(name, str(already), reverse("document", args=[there.pk]), there.title)


def upload_answer(added: list[Document], refused: list[RefusedFile], status: int = 200) -> JsonResponse:
    documents = [
        {
            "id": str(document.id),
            "url": reverse("document", args=[document.id]),
            "name": document.file_name,
            "state": document.state,
        }
        for document in added
    ]
    already = [
        {"name": file.name, "title": file.already_title, "url": file.already_url} for file in refused if file.already_url
    ]
    return as_json([(file.name, file.message) for file in refused], status, documents=documents, already=already)


def _upload_page(
    request: WorkspaceRequest,
    form: UploadForm,
    refused: list[RefusedFile],
    *,
    added: int = 0,
    status: int = 200,
    invalid: Invalid | None = None,
    heading: str = "",
) -> HttpResponse:
    metadata = form.metadata()
    if invalid:
        metadata.refuse(invalid)
    shown = {"refused": refused, "added": added, "metadata": metadata, "heading": heading, **area(form)}
    shown["already"] = any(file.already_url for file in refused)
    shown["upload_to"] = form.names.get(str(form["collection"].value()), "")
    return render(request, "documents/upload.html", shown, status=status)
