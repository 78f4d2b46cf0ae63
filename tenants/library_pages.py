"""Libraries, as owners of a workspace see them: which there are, and which the workspace subscribes to."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from tenants import libraries
from tenants.context import public_context
from tenants.errors import Refused
from tenants.models import Library
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest


@require_GET
@requires("own")
def libraries_page(request: WorkspaceRequest) -> HttpResponse:
    with public_context():
        subscribed = libraries.subscribed(request.tenant)
        found = [
            (library, library.pk in subscribed) for library in libraries.available() if library.tenant_id != request.tenant.pk
        ]
    return render(request, "libraries/index.html", {"libraries": found})


@require_POST
@requires("own")
def subscribe(request: WorkspaceRequest, library_id: UUID) -> HttpResponseBase:
    with public_context():
        library = _library(library_id)
        try:
            libraries.subscribe(request.tenant, library, request.user)
        except Refused as refusal:
            messages.error(request, str(refusal))
        else:
            messages.success(request, f"Members of this workspace can search and read {library.tenant.name} now.")
    return redirect("libraries")


@require_POST
@requires("own")
def withdraw(request: WorkspaceRequest, library_id: UUID) -> HttpResponseBase:
    with public_context():
        library = _library(library_id)
        libraries.withdraw(request.tenant, library, request.user)
    messages.success(request, f"{library.tenant.name} is not open to this workspace any more.")
    return redirect("libraries")


def _library(library_id: UUID) -> Library:
    return get_object_or_404(Library.objects.select_related("tenant"), pk=library_id)
