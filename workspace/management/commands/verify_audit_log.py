"""`manage.py verify_audit_log --workspace ADDRESS`, or of a file alone `--export FILE`."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from tenants import proofs
from tenants.audit import verifying
from tenants.errors import Refused
from workspace.commands import Failed, WorkspaceCommand


class Command(WorkspaceCommand):
    help = "Checks that nothing was changed in a workspace's audit log, or in an exported one. Ends with 1 when something was."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--export", type=Path, metavar="FILE", help="an exported log: needs neither database nor keys")
        parser.add_argument("--key", help="with --export: the installation's public key, from elsewhere than the file")
        parser.add_argument("--head", metavar="NUMBER:DIGEST", help="with --export: a head that was mailed to an owner")

    def answer(self, *, export: Path | None, key: str | None, head: str | None, **options: Any) -> dict[str, Any]:
        if export is not None:
            return _of_file(export, key, head)
        if key or head:
            raise Refused("--key and --head belong to --export FILE.")
        tenant = self.tenant(options["workspace"])
        verdict = verifying.check(tenant)
        answer = {"workspace": tenant.slug, "entries": verdict.number, "digest": verdict.digest, "problem": verdict.problem}
        if verdict.problem:
            raise Failed(verdict.problem, answer)
        return answer

    def word(self, answer: dict[str, Any]) -> str:
        return f"The log is whole: {answer['entries']:,} entries, each following from the one before. Head {answer['digest']}."


def _of_file(path: Path, key: str | None, head: str | None) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{path} cannot be read as an exported log: {error}") from None
    try:
        body = proofs.check_log(document, key, head)
    except (proofs.Forged, KeyError, TypeError) as forged:
        raise Failed(f"FORGED: {forged}", {"file": str(path), "problem": str(forged)}) from None
    return {
        "file": str(path),
        "workspace": body["workspace"],
        "entries": body["head"]["number"],
        "digest": body["head"]["digest"],
        "public_key": document["public_key"],
        "problem": "",
    }
