"""`manage.py upgrade_workspaces`: brings existing workspaces to this version's tables while the site goes on answering."""

from argparse import ArgumentParser
from typing import Any

from tenants.upgrading import upgrade_workspaces
from workspace.commands import Command as Base
from workspace.commands import Failed, workspace_at

TELL_EVERY = 100  # workspaces


class Command(Base):
    help = "Upgrades the schemas of workspaces that are not at head. Safe to stop and repeat; a failing one stops no other."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--workspace", metavar="ADDRESS", action="append", help="only this one; may be repeated")

    def answer(self, *, workspace: list[str] | None, **options: Any) -> dict[str, Any]:
        for slug in workspace or ():
            workspace_at(slug)
        report = upgrade_workspaces(self._tell, workspace)
        answer = {
            "head": report.head,
            "workspaces": report.workspaces,
            "at_head": report.at_head,
            "upgraded": report.upgraded,
            "failed": report.failed,
        }
        if report.failed:
            for slug, why in report.failed.items():
                self.say(f"{slug}: {why}")
            named = ", ".join(sorted(report.failed)[:5])
            raise Failed(
                f"{len(report.failed)} of {report.workspaces} workspaces were not upgraded ({named}); they are as they were, "
                f"{len(report.upgraded)} others are done. Mend what is named above, then run it again.",
                answer,
            )
        return answer

    def word(self, answer: dict[str, Any]) -> str:
        return f"{len(answer['upgraded'])} workspaces upgraded, {answer['at_head']} were there already ({answer['head']})."

    def _tell(self, done: int, total: int) -> None:
        if done % TELL_EVERY == 0 or done == total:
            self.say(f"{done} of {total}")
