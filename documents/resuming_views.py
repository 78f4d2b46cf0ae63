"""Where a script sends a large file in pieces: begin, ask how far it is, add, complete, cancel. JSON alone."""

from collections.abc import Iterator
from uuid import UUID

from django.http import Http404, HttpResponse, JsonResponse, UnreadablePostError
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from documents import arrivals, resuming
from documents.access import visible_documents
from documents.describing import Invalid
from documents.forms import UploadForm
from documents.models import Arrival
from documents.storage import FileMissing
from documents.upload_views import refused_double, upload_answer
from documents.uploads import safe_name, safe_path
from documents.versions import AlreadyHere
from tenants.answers import as_json
from tenants.ciphers import Tampered
from tenants.errors import Refused
from tenants.limits import limited
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest

READ_BYTES = 256 * 1024
LOOK_AGAIN_SECONDS = 5


@require_POST
@requires("upload")
@limited("upload")
def arrival_begin(request: WorkspaceRequest) -> HttpResponse:
    form = UploadForm(request.POST, membership=request.membership)
    name, size = safe_name(request.POST.get("name", "")), request.POST.get("size", "")
    if not form.is_valid():
        return as_json([(name, " ".join(map(str, form.errors["collection"])))], 422)
    if not (size.isascii() and size.isdecimal() and len(size) <= 15):
        return as_json([(name, "Say the size of the file in bytes.")], 422)
    try:
        values = form.metadata().values()
        arrival = resuming.begin(
            request.membership,
            request.user.pk,
            form.target(),
            name,
            int(size),
            request.POST.get("modified", "")[:40],
            values,
            safe_path(request.POST.get("path", "")),
        )
    except Invalid as invalid:
        return as_json([(field, said) for field, said in invalid.errors.items()], 422)
    except Refused as reason:
        return as_json([(name, str(reason))], 422)
    return _how_far(arrival.pk, arrival.received)


@require_http_methods(["GET", "PUT", "DELETE"])
@requires("upload")
def arrival(request: WorkspaceRequest, arrival_id: UUID) -> HttpResponse:
    found = _own(request, arrival_id)
    if request.method == "GET":
        return _how_far(found.pk, found.received)
    if request.method == "DELETE":
        arrivals.drop(found)
        return as_json([], 200)
    start, length = request.GET.get("offset", ""), request.META.get("CONTENT_LENGTH") or "0"
    if not (start.isascii() and start.isdecimal() and len(start) <= 15 and length.isdecimal()):
        return as_json([("", "Say at which byte the piece begins.")], 422)
    try:
        return _how_far(found.pk, resuming.add(found, int(start), int(length), _body(request)))
    except resuming.WrongOffset as wrong:
        return _how_far(found.pk, wrong.offset, 409)
    except (resuming.CutShort, UnreadablePostError):
        return as_json([("", "The piece did not arrive whole. Send it again.")], 400)
    except Refused as reason:
        return as_json([("", str(reason))], 422)


@require_POST
@requires("upload")
@limited("upload")
def arrival_complete(request: WorkspaceRequest, arrival_id: UUID) -> HttpResponse:
    if document := resuming.completed(request.membership, request.user.pk, arrival_id):
        return upload_answer([document], [])
    found = _own(request, arrival_id)
    doubles = None if request.POST.get("anyway") else visible_documents(request.membership)
    try:
        return upload_answer([resuming.complete(found, doubles)], [])
    except resuming.WrongOffset as wrong:
        return _how_far(found.pk, wrong.offset, 409)
    except resuming.UnderWay:  # it was asked for before, and the answer did not arrive
        answer = as_json([("", "The file is being stored.")], 503)
        answer["Retry-After"] = str(LOOK_AGAIN_SECONDS)
        return answer
    except AlreadyHere as already:
        return upload_answer([], [refused_double(found.about["name"], already)], 422)
    except (FileMissing, Tampered, Refused) as error:
        if document := resuming.completed(request.membership, request.user.pk, arrival_id):  # a moment ago
            return upload_answer([document], [])
        if isinstance(error, Refused):
            return as_json([("", str(error))], 422)
        arrivals.drop(found)  # a piece is gone, or was changed
        return as_json([("", "What had arrived of the file can no longer be read. Upload it again.")], 422)


def _own(request: WorkspaceRequest, arrival_id: UUID) -> Arrival:
    found = resuming.arrivals(request.membership, request.user.pk).filter(pk=arrival_id).first()
    if found is None:
        raise Http404
    return found


def _body(request: WorkspaceRequest) -> Iterator[bytes]:
    while part := request.read(READ_BYTES):
        yield part


def _how_far(arrival_id: UUID, offset: int, status: int = 200) -> JsonResponse:
    urls = {"url": reverse("arrival", args=[arrival_id]), "complete": reverse("arrival-complete", args=[arrival_id])}
    errors = [("", f"The next piece begins at byte {offset}.")] if status == 409 else []
    return as_json(errors, status, offset=offset, piece_bytes=resuming.PIECE_BYTES, **urls)
