"""What every page's frame needs: the person's workspaces for the switcher, and whether mail is set up."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from tenants import seals, staff_access
from tenants.context import public_context
from tenants.middleware import outside
from tenants.models import Membership, StaffAccess, Tenant


@dataclass(frozen=True)
class Choice:
    id: UUID
    name: str
    url: str


def screen(request: HttpRequest) -> dict[str, Any]:
    return {
        "mail_is_configured": settings.MAIL_IS_CONFIGURED,
        "sign_up_is_open": settings.SIGN_UP_OPEN,
        "single_sign_on": settings.OIDC_NAME if settings.OIDC_ISSUER else "",
        "reference": getattr(request, "reference", ""),
        "installation": outside(request),
        "staff_accesses": SimpleLazyObject(lambda: _staff_accesses(request)),
        "my_workspaces": SimpleLazyObject(lambda: _workspaces(request)),
    }


def _staff_accesses(request: HttpRequest) -> list[StaffAccess]:
    """For owners, on every page: who asks to view their workspace, may, or is looking."""
    membership = getattr(request, "membership", None)
    if membership is None or not membership.can_own or not getattr(request, "has_staff_accesses", False):
        return []
    with public_context():
        return staff_access.open_in(membership.tenant)


def _workspaces(request: HttpRequest) -> list[Choice]:
    """Read only by pages that show the switcher."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return []
    with public_context():
        found = (
            Membership.objects.filter(user_id=user.pk, tenant__status=Tenant.Status.ACTIVE)
            .select_related("tenant")
            .order_by("tenant__name")
        )
        here = getattr(request, "tenant", None) if outside(request) else None  # on its own hostname it is at the root
        return [
            Choice(m.tenant_id, m.tenant.name, "/" if m.tenant == here else outside(request) + m.tenant.path)
            for m in seals.standing(found)
        ]
