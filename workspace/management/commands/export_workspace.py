"""`manage.py export_workspace FILE --workspace …`: everything that was put into a workspace, as it was, in one ZIP."""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from documents import exporting
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.context import workspace
from tenants.errors import Refused
from workspace.commands import WorkspaceCommand


class Command(WorkspaceCommand):
    help = "Writes each file as it was uploaded, metadata and judgments into a ZIP, which is not encrypted."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", type=Path, help="must not be there yet; only you can read it")

    def answer(self, *, file: Path, **options: Any) -> dict[str, Any]:
        with workspace(self.tenant(options["workspace"])) as tenant:
            documents, _ = exporting.total()
            try:
                handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except OSError as error:
                raise Refused(f"{file} cannot be written: {error.strerror}. Name a file that is not there yet.") from None
            try:
                with open(handle, "wb") as out:
                    out.writelines(exporting.archive())
                    out.flush()
                    os.fsync(out.fileno())
            except BaseException:
                file.unlink(missing_ok=True)
                raise
            record(Event.TAKEN_AWAY, documents=documents)
            return {"workspace": tenant.slug, "file": str(file), "documents": documents, "bytes": file.stat().st_size}

    def word(self, answer: dict[str, Any]) -> str:
        return f"{answer['documents']} documents of {answer['workspace']} are in {answer['file']}, which is not encrypted."
