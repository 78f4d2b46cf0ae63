"""`manage.py make_library ADDRESS --describe "…" --reason "…"`: opens a workspace of the staff to subscribers; `--undo`."""

from argparse import ArgumentParser
from typing import Any

from tenants import libraries
from workspace.commands import Command as Base
from workspace.commands import workspace_at


class Command(Base):
    help = "Makes a workspace that staff own a library: owners of other workspaces can subscribe, and their members read it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("slug", metavar="ADDRESS")
        parser.add_argument("--reason", required=True, help="why: the workspace's owners read it in their log")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--describe", metavar="WORDS", help="what it holds: owners of every workspace read it")
        which.add_argument("--undo", action="store_true", help="end it, with every subscription")

    def answer(self, *, slug: str, reason: str, describe: str | None, undo: bool, **options: Any) -> dict[str, Any]:
        tenant = workspace_at(slug)
        if undo:
            libraries.undo(tenant, reason)
        else:
            libraries.make(tenant, describe or "", reason)
        return {"slug": tenant.slug, "library": not undo}

    def word(self, answer: dict[str, Any]) -> str:
        if answer["library"]:
            return f"The workspace {answer['slug']} is a library: owners of other workspaces can subscribe to it."
        return f"The workspace {answer['slug']} is no library any more, and every subscription has ended."
