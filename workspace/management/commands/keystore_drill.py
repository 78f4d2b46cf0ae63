"""`manage.py keystore_drill --backup PATH`: proves that a backup of the keystore opens every key in the database."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from tenants.keys.drill import drill
from tenants.wording import counted
from workspace.commands import Command as Base
from workspace.commands import Failed


class Command(Base):
    help = "Opens every workspace's key with a backup of the keystore, without touching the one in use, and notes that it did."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--backup", required=True, type=Path, help="a directory, or a tar archive that is not encrypted")

    def answer(self, *args: Any, **options: Any) -> dict[str, Any]:
        report = drill(options["backup"])
        if report.missing:
            words = "; ".join(f"{name}: {why}" for name, why in sorted(report.missing.items())[:5])
            raise Failed(
                f"The backup lacks {counted(len(report.missing), 'key')} or does not open them: {words}. Make a new one.",
                report.as_dict(),
            )
        return report.as_dict()

    def word(self, answer: dict[str, Any]) -> str:
        elsewhere = f" {answer['elsewhere']} keys are held by a key service and not in it." if answer["elsewhere"] else ""
        return f"The backup opens the installation key and the keys of {counted(answer['workspaces'], 'workspace')}.{elsewhere}"
