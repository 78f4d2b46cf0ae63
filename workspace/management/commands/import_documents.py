"""`manage.py import_documents FOLDER --workspace …`: the files below a folder that this server can read."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from documents.importing import import_folder, planned
from documents.uploads import RefusedFile
from tenants.context import workspace
from tenants.errors import Refused
from workspace.commands import WorkspaceCommand
from workspace.waiting import failed, states, until_final


class Command(WorkspaceCommand):
    help = "Imports a folder into a collection, waits until every document is ready or failed, and says which failed and why."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("folder", type=Path)
        parser.add_argument("--collection", help="where to put them; the folder's name when not given")
        parser.add_argument(
            "--glob",
            action="append",
            default=[],
            metavar="PATTERN",
            help="take only files whose name, or path within the folder, fits: '*.pdf', 'contracts/*'. Can be repeated",
        )
        parser.add_argument(
            "--metadata",
            type=Path,
            metavar="CSV",
            help="values of the collection's fields: its column `file` holds paths within the folder",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be taken, and take nothing")
        parser.add_argument("--no-wait", action="store_true", help="only queue them")

    def answer(self, *, folder: Path, collection: str | None, no_wait: bool, dry_run: bool, **options: Any) -> dict[str, Any]:
        name = collection or folder.resolve().name or "Import"
        asked: dict[str, Any] = {"patterns": options["glob"], "metadata": _content(options["metadata"])}
        with workspace(self.tenant(options["workspace"])) as tenant:
            about = {"workspace": tenant.slug, "collection": name}
            if dry_run:
                plan = planned(folder, name, **asked)
                return about | {"would_take": list(plan.files), "already": plan.already, "refused": _named(plan.refused)}
            done = import_folder(folder, name, progress=self._count, **asked)
            if not no_wait:
                until_final(done.collection, self.say)
            return about | {
                "queued": len(done.documents),
                "already": done.already,
                "states": states(done.collection),
                "failed": failed(done.collection),
                "refused": _named(done.refused),
            }

    def _count(self, queued: int) -> None:
        if queued % 100 == 0:
            self.say(f"queued {queued} files")

    def word(self, answer: dict[str, Any]) -> str:
        refused = [f"not taken: {each['name']}: {each['message']}" for each in answer["refused"]]
        if "would_take" in answer:
            counts = f"would take {len(answer['would_take'])}, there already {answer['already']}. Nothing was taken."
            return "\n".join(
                [f"{answer['collection']}: {counts}", *(f"would take: {n}" for n in answer["would_take"]), *refused]
            )
        states = ", ".join(f"{count} {state}" for state, count in answer["states"].items())
        counts = f"queued {answer['queued']}, there already {answer['already']}"
        lines = [f"{answer['collection']}: {counts}; now {states or 'empty'}."]
        lines += [f"failed: {each['name']}: {each['message']}" for each in answer["failed"]]
        return "\n".join(lines + refused)


def _content(path: Path | None) -> bytes:
    """Of the file with the metadata; never empty when one was named. Raises Refused."""
    if path is None:
        return b""
    try:
        return path.read_bytes() or b"\n"
    except OSError as error:
        raise Refused(f"{path} could not be read: {error.strerror}. Give a CSV file that this server can read.") from None


def _named(refused: list[RefusedFile]) -> list[dict[str, str]]:
    return [{"name": each.name, "message": each.message} for each in refused]
