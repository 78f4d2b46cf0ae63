"""`manage.py accept_restore`: takes the rows that grant access as they are, after a backup of the database was restored."""

from argparse import ArgumentParser
from typing import Any

from tenants import names, seals
from tenants.errors import Refused
from tenants.wording import counted
from workspace.commands import Command as Base


class Command(Base):
    help = (
        "Seals every row that grants access as it is now. Only after you restored a backup, or put back what somebody "
        "changed: whatever else was planted in the database is let in as well."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--reason", required=True, help="why; every workspace's log keeps it")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def answer(self, *, reason: str, yes: bool, **options: Any) -> dict[str, Any]:
        reason = names.checked_reason(reason)
        found = seals.differing()
        if not found and not seals.is_old():
            return {"differing": {}, "sealed": 0}
        for table, number in sorted(found.items()):
            self.say(f"{table}: {number} not as Cloister last left them")
        if not yes and input("Let in whoever these rows let in? Type yes: ").strip().lower() != "yes":
            raise Refused("Nothing was changed.")
        return {"differing": found, "sealed": seals.accept(reason)}

    def word(self, answer: dict[str, Any]) -> str:
        if not answer["sealed"]:
            return "Every row that grants access stands: there is nothing to accept."
        accepted = counted(sum(answer["differing"].values()), "row")
        return f"Accepted {accepted}; sealed {answer['sealed']} workspaces and people anew."
