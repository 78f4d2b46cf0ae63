"""`manage.py hold_workspace ADDRESS --reason "…"`: forbids its deletion, until `--release`."""

from argparse import ArgumentParser
from typing import Any

from tenants import lifecycle
from workspace.commands import Command as Base
from workspace.commands import workspace_at


class Command(Base):
    help = "Puts a workspace under legal hold: nobody can delete it, and a deletion that is scheduled is called off."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("slug", metavar="ADDRESS")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--reason", help="staff read it, and owners who want to delete the workspace")
        which.add_argument("--release", action="store_true", help="end the hold")

    def answer(self, *, slug: str, reason: str | None, release: bool, **options: Any) -> dict[str, Any]:
        tenant = workspace_at(slug)
        if release:
            lifecycle.release(tenant)
        else:
            lifecycle.hold(tenant, reason or "")
        return {"slug": tenant.slug, "legal_hold": tenant.legal_hold}

    def word(self, answer: dict[str, Any]) -> str:
        if answer["legal_hold"]:
            return f"The workspace {answer['slug']} must be kept: {answer['legal_hold']}"
        return f"The workspace {answer['slug']} is under no legal hold any more."
