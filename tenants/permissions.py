"""What each role may do in a workspace: the one table, and the decorator that reads it."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponseBase


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    EDITOR = "editor", "Editor"
    VIEWER = "viewer", "Viewer"


ROLE_ACTIONS: dict[Role, frozenset[str]] = {
    Role.VIEWER: frozenset({"search", "read"}),
    Role.EDITOR: frozenset({"search", "read", "upload", "judge", "run"}),
    Role.ADMIN: frozenset({"search", "read", "upload", "judge", "run", "manage"}),
    Role.OWNER: frozenset({"search", "read", "upload", "judge", "run", "manage"}),
}
WHO_MAY = {
    "upload": "Editors, admins and owners",
    "judge": "Editors, admins and owners",
    "run": "Editors, admins and owners",
    "manage": "Admins and owners",
}

View = Callable[..., HttpResponseBase]


def requires(action: str) -> Callable[[View], View]:
    """Let only members in whose role allows `action`; others get 403 with a sentence that says who may.

    Whoever is not a member at all never gets here: the middleware has answered 404.
    """
    if action not in ROLE_ACTIONS[Role.OWNER]:
        raise ValueError(f"no role allows {action!r}")

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.membership.may(action):  # type: ignore[attr-defined]  # set by ActivateTenant
                raise PermissionDenied(f"{WHO_MAY.get(action, 'Members')} of this workspace can do this.")
            return view(request, *args, **kwargs)

        return guarded

    return decorate
