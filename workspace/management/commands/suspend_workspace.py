"""`manage.py suspend_workspace ADDRESS --reason "…"`, and back with `--resume`."""

from argparse import ArgumentParser
from typing import Any

from tenants import lifecycle
from workspace.commands import Command as Base
from workspace.commands import workspace_at


class Command(Base):
    help = "Closes a workspace until it is resumed: every page, job and invitation refuses, and nothing is lost."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("slug", metavar="ADDRESS")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--reason", help="members read it")
        which.add_argument("--resume", action="store_true", help="open it again")

    def answer(self, *, slug: str, reason: str | None, resume: bool, **options: Any) -> dict[str, Any]:
        tenant = workspace_at(slug)
        if resume:
            lifecycle.resume(tenant)
        else:
            lifecycle.suspend(tenant, reason or "")
        return {"slug": tenant.slug, "status": tenant.status}

    def word(self, answer: dict[str, Any]) -> str:
        return f"The workspace {answer['slug']} is {answer['status']}."
