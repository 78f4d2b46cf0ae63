"""`manage.py erase_workspace ADDRESS`: now and for good; or, with `--in-days`, unless somebody calls it off (`--keep`)."""

import sys
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tenants import lifecycle, receipts
from tenants.errors import Refused
from workspace.commands import Command as Base
from workspace.commands import workspace_at
from workspace.erasure import erase


class Command(Base):
    help = "Erases a workspace: its key, tables, role, files, jobs and members. A legal hold forbids it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("slug", metavar="ADDRESS")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--receipt", type=Path, metavar="FILE", help="write the signed receipt there")
        when = parser.add_mutually_exclusive_group()
        when.add_argument("--in-days", type=int, metavar="DAYS", help="schedule it; owners are told and can keep the workspace")
        when.add_argument("--keep", action="store_true", help="call a scheduled deletion off")

    def answer(
        self, *, slug: str, yes: bool, receipt: Path | None, in_days: int | None, keep: bool, **options: Any
    ) -> dict[str, Any]:
        tenant = workspace_at(slug)
        if keep:
            lifecycle.keep(tenant)
        elif in_days is not None:
            lifecycle.schedule_deletion(tenant, in_days)
        else:
            if not yes:
                self._ask(slug)
            if receipt is not None and not receipt.absolute().parent.is_dir():  # found out before, not after
                raise Refused(f"Nothing was erased: there is no directory {receipt.absolute().parent} for the receipt.")
            erased = erase(tenant)
            if receipt is not None:
                receipt.write_text(receipts.as_file(erased.receipt), encoding="utf-8")
            return {"erased": True, **asdict(erased)}
        return {"erased": False, "slug": slug, "delete_at": tenant.delete_at}

    def _ask(self, slug: str) -> None:
        if not sys.stdin.isatty():
            raise Refused("Nothing was erased: nobody is there to confirm it. Add --yes.")
        self.say(f"This erases {slug} for good, backups of the keystore apart. Type its address to go on:")
        if input().strip() != slug:
            raise Refused("Nothing was erased.")

    def word(self, answer: dict[str, Any]) -> str:
        if answer["erased"]:
            went = f"its key, {answer['files']} files, {answer['tables']} tables, {answer['jobs']} jobs"
            receipt = answer["receipt"]["body"]["receipt"]
            return f"Erased {answer['slug']}: {went}. Receipt {receipt} is in the console under Receipts."
        when = answer["delete_at"]
        return f"{answer['slug']} will be erased on {when:%Y-%m-%d %H:%M} UTC." if when else f"{answer['slug']} is kept."
