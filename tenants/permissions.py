"""What each role may do in a workspace: the one table, and the decorator that reads it."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpResponseBase

if TYPE_CHECKING:
    from tenants.requests import WorkspaceRequest


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    EDITOR = "editor", "Editor"
    VIEWER = "viewer", "Viewer"


_VIEW = frozenset({"search", "read"})
_EDIT = _VIEW | {"upload", "judge", "run"}
_MANAGE = _EDIT | {"manage"}
ROLE_ACTIONS: dict[Role, frozenset[str]] = {
    Role.VIEWER: _VIEW,
    Role.EDITOR: _EDIT,
    Role.ADMIN: _MANAGE,
    Role.OWNER: _MANAGE | {"own"},
}
WHO_MAY = {
    "upload": "Editors, admins and owners",
    "judge": "Editors, admins and owners",
    "run": "Editors, admins and owners",
    "manage": "Admins and owners",
    "own": "Owners",
}
# What the table beside the choice of a role says, a row for each; the code obeys ROLE_ACTIONS.
IN_WORDS: tuple[tuple[str, str], ...] = (
    ("read", "Search, read and download"),
    ("upload", "Upload and delete documents, make collections"),
    ("judge", "Upload judgments and judge results"),
    ("run", "Run evaluations"),
    ("manage", "Invite and remove people, change roles, restrict and delete collections, rename the workspace"),
    (
        "own",
        "Make and remove owners, require a second factor, admit staff, read the audit log, change and freeze keys, delete the "
        "workspace",
    ),
)


def role_table() -> list[tuple[str, list[tuple[Role, bool]]]]:
    """Rows of what may be done, with each role and whether it may."""
    return [(words, [(role, action in ROLE_ACTIONS[role]) for role in Role]) for action, words in IN_WORDS]


def may_grant(own: str, role: str) -> bool:
    """Whether who has the role `own`, empty for none, may give or take `role`, and see a link that gives it.

    An owner's is the owners'.
    """
    return bool(own) and ("own" if role == Role.OWNER else "manage") in ROLE_ACTIONS[Role(own)]


View = Callable[..., HttpResponseBase]


def requires(action: str) -> Callable[[View], View]:
    """Let only members in whose role allows `action`; others get 403 with a sentence that says who may.

    Whoever is not a member at all never gets here: the middleware has answered 404.
    """
    if action not in ROLE_ACTIONS[Role.OWNER]:
        raise ValueError(f"no role allows {action!r}")

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: "WorkspaceRequest", *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.membership.may(action):
                raise PermissionDenied(f"{WHO_MAY.get(action, 'Members')} of this workspace can do this.")
            return view(request, *args, **kwargs)

        return guarded

    return decorate
