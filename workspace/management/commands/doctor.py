"""`manage.py doctor`: what works here, what does not, and what to do about it."""

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from workspace import doctor
from workspace.commands import Command as Base

MARKS = {"ok": "ok", "warning": "note", "repair": "REPAIR"}


class Command(Base):
    help = "Checks the installation and says what to do about each fault; exit 1 when something must be repaired."

    def answer(self, **options: Any) -> dict[str, Any]:
        findings = doctor.examine()
        self.to_repair = [finding.name for finding in findings if finding.state == "repair"]
        return {"ok": not self.to_repair, "checks": [asdict(finding) for finding in findings]}

    def word(self, answer: dict[str, Any]) -> str:
        lines = []
        for check in answer["checks"]:
            lines.append(f"{MARKS[check['state']]:<7}{check['name']:<10} {check['detail']}")
            if check["action"]:
                lines.append(f"{'':<18}{check['action']}")
        return "\n".join(lines)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        if self.to_repair:
            raise CommandError(f"To repair: {', '.join(self.to_repair)}.")
