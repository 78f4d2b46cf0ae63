"""`manage.py freeze_workspace <workspace> --reason …`: every process drops the workspace's keys; `--unfreeze` lifts it."""

import time
from argparse import ArgumentParser
from typing import Any

from tenants.acting import actor
from tenants.keys import freezing
from workspace.commands import Command as BaseCommand
from workspace.commands import Failed, workspace_at

PATIENCE_SECONDS = 10  # for the answers


class Command(BaseCommand):
    help = "Freezes a workspace's keys and says which processes dropped them. Ends with 1 when one has not answered."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("workspace", metavar="ADDRESS", help="the workspace's address")
        parser.add_argument("--reason", required=True, help="why; owners read it, and it is logged")
        parser.add_argument("--unfreeze", action="store_true", help="lift it, without asking its owners")

    def answer(self, *, workspace: str, reason: str, unfreeze: bool, **options: Any) -> dict[str, Any]:
        tenant, by = workspace_at(workspace), actor()
        if unfreeze:
            freezing.unfreeze(tenant, reason, by)
            return {"workspace": tenant.slug, "frozen": False, "answers": []}
        row, until = freezing.freeze(tenant, reason, by), time.monotonic() + PATIENCE_SECONDS
        while any(each.seconds is None for each in freezing.answers(row)) and time.monotonic() < until:
            time.sleep(0.2)
        given = [{"process": each.name, "seconds": each.seconds, "state": each.state} for each in freezing.answers(row)]
        answer = {"workspace": tenant.slug, "frozen": True, "answers": given}
        if silent := [each["process"] for each in given if each["seconds"] is None]:
            raise Failed(f"{tenant.slug} is frozen, but unconfirmed by: {', '.join(map(str, silent))}.", answer)
        return answer

    def word(self, answer: dict[str, Any]) -> str:
        if not answer["frozen"]:
            return f"The keys of {answer['workspace']} are unfrozen."
        lines = [f"  {each['process']}: {each['seconds']:.1f} s" for each in answer["answers"]]
        return "\n".join([f"The keys of {answer['workspace']} are frozen.", *lines])
