"""`manage.py import_documents FOLDER --workspace …`: every file below a folder that this server can read."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from documents.importing import import_folder
from tenants.context import workspace
from workspace.commands import WorkspaceCommand
from workspace.waiting import failed, states, until_final


class Command(WorkspaceCommand):
    help = "Imports a folder into a collection and waits until every document is ready or failed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("folder", type=Path)
        parser.add_argument("--collection", help="where to put them; the folder's name when not given")
        parser.add_argument("--no-wait", action="store_true", help="only queue them")

    def answer(self, *, folder: Path, collection: str | None, no_wait: bool, **options: Any) -> dict[str, Any]:
        name = collection or folder.resolve().name or "Import"
        with workspace(self.tenant(options["workspace"])) as tenant:
            done = import_folder(folder, name, progress=lambda n: self.say(f"queued {n} files") if n % 100 == 0 else None)
            if not no_wait:
                until_final(done.collection, self.say)
            return {
                "workspace": tenant.slug,
                "collection": name,
                "queued": len(done.documents),
                "already": done.already,
                "states": states(done.collection),
                "failed": failed(done.collection),
                "refused": [{"name": refused.name, "message": refused.message} for refused in done.refused],
            }

    def word(self, answer: dict[str, Any]) -> str:
        states = ", ".join(f"{count} {state}" for state, count in answer["states"].items())
        counts = f"queued {answer['queued']}, there already {answer['already']}"
        lines = [f"{answer['collection']}: {counts}; now {states or 'empty'}."]
        lines += [f"failed: {each['name']}: {each['message']}" for each in answer["failed"]]
        return "\n".join(lines + [f"not taken: {refused['name']}: {refused['message']}" for refused in answer["refused"]])
