"""Staff's view of a workspace, as its owners see it: who asked, who was let in, and what may be done about it."""

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from tenants import staff_access
from tenants.context import public_context
from tenants.errors import Refused
from tenants.middleware import outside
from tenants.models import StaffAccess
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest

DONE = {
    "consent": "{} can view this workspace now.",
    "refuse": "Refused {}.",
    "end": "{} can no longer view this workspace.",
}


@require_GET
@requires("own")
def staff_access_page(request: WorkspaceRequest) -> HttpResponseBase:
    return _page(request)


@require_POST
@requires("own")
def decide(request: WorkspaceRequest, access_id: UUID) -> HttpResponseBase:
    """`decision`: consent, refuse or end."""
    decision = request.POST.get("decision", "")
    with public_context():
        access = get_object_or_404(StaffAccess.objects.select_related("tenant"), pk=access_id, tenant=request.tenant)
        try:
            match decision:
                case "consent":
                    staff_access.consent(access, request.user)
                case "refuse":
                    staff_access.refuse(access, request.user)
                case "end":
                    if not staff_access.end(access):
                        raise Refused(f"{access.staff_email} is not viewing this workspace: there is nothing to end.")
                case _:
                    raise Refused("Choose whether to consent, refuse or end.")
        except Refused as refusal:
            problem = str(refusal)
        else:
            problem = ""
    if problem:
        return _page(request, problem, status=422)
    messages.success(request, DONE[decision].format(access.staff_email))
    return redirect("staff-access")


@require_POST
def leave(request: WorkspaceRequest) -> HttpResponseBase:
    """For the person of the staff: end one's own view. Nobody else has one, so for them there is no such page."""
    access = request.staff_access
    if access is None:
        raise Http404
    with public_context():
        staff_access.end(access)
    return redirect(f"{outside(request)}/admin/")


def _page(request: WorkspaceRequest, problem: str = "", status: int = 200) -> HttpResponse:
    with public_context():
        accesses = staff_access.concerning(request.tenant)
    context = {
        "open_accesses": [access for access in accesses if access.is_open],
        "past_accesses": [access for access in accesses if not access.is_open],
        "problem": problem,
        "delay_hours": settings.STAFF_ACCESS_DELAY_HOURS,
    }
    return render(request, "members/staff_access.html", context, status=status)
