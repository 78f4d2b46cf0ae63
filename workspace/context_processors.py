"""What every page's frame needs: the person's workspaces for the switcher, and whether mail is set up."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from tenants.context import public_context
from tenants.models import Membership, Tenant


@dataclass(frozen=True)
class Choice:
    name: str
    url: str


def screen(request: HttpRequest) -> dict[str, Any]:
    return {
        "mail_is_configured": settings.MAIL_IS_CONFIGURED,
        "sign_up_is_open": settings.SIGN_UP_OPEN,
        "reference": getattr(request, "reference", ""),
        "installation": _installation(request),
        "my_workspaces": SimpleLazyObject(lambda: _workspaces(request)),
    }


def _installation(request: HttpRequest) -> str:
    """In front of paths outside the workspace: empty, except on a hostname of its own, where they are elsewhere."""
    return settings.PUBLIC_URL if getattr(request, "on_own_host", False) else ""


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
        return [Choice(membership.tenant.name, _installation(request) + membership.tenant.path) for membership in found]
