"""The page from which owners take away everything their workspace put in."""

from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from documents import exporting
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest


@require_http_methods(["GET", "POST"])
@requires("own")
def export(request: WorkspaceRequest) -> HttpResponseBase:
    documents, size = exporting.total()
    if request.method == "GET":
        return render(request, "documents/export.html", {"documents": documents, "size": size})
    record(Event.TAKEN_AWAY, documents=documents)
    response = StreamingHttpResponse(exporting.archive(), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="{request.tenant.slug}-{timezone.now():%Y-%m-%d}.zip"'
    response["X-Content-Type-Options"] = "nosniff"
    return response
