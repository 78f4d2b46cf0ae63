"""The screens of versions: putting an earlier one in use again, and what changed between two. They hold no logic."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from documents import series, versions
from documents.access import visible_documents
from documents.models import Document
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.errors import Refused
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest


@require_POST
@requires("upload")
def document_use(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    shown = get_object_or_404(visible_documents(request.membership), pk=document_id)
    try:
        versions.restore(shown.pk)
    except Refused as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, f"Version {shown.version} of “{shown.title}” is in use again: searches find it and no other.")
    return redirect("document", shown.pk)


@require_GET
@requires("read")
def document_compare(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    """What the version `to` changed in the text of this one; without `to`, what the next one did."""
    shown = get_object_or_404(visible_documents(request.membership), pk=document_id)
    known = [each for each in series.history(shown, visible_documents(request.membership)) if each.pages]
    other = _chosen(request.GET.get("to", ""), shown, known) if shown.pages else None
    old, new = sorted([shown, other or shown], key=lambda each: each.version)
    compared = versions.compare(old, new) if other else None
    if other:
        for each in (old, new):
            record(Event.OPENED, document=str(each.pk))
    context = {"document": shown, "old": old, "new": new, "compared": compared, "known": known}
    return render(request, "documents/compare.html", context)


def _chosen(named: str, shown: Document, known: list[Document]) -> Document | None:
    others = [each for each in known if each.pk != shown.pk]
    if named:
        return next((each for each in others if str(each.pk) == named), None)
    later = [each for each in others if each.version > shown.version]
    return later[-1] if later else next(iter(others), None)
