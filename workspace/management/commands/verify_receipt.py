"""`manage.py verify_receipt FILE`: whether a receipt was signed by this installation and not changed since."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from tenants import proofs, receipts
from tenants.errors import Refused
from workspace.commands import Command as Base
from workspace.commands import Failed


class Command(Base):
    help = "Checks a receipt against this installation's own key. `bin/verify` checks one without an installation."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", type=Path, metavar="FILE")

    def answer(self, *, file: Path, **options: Any) -> dict[str, Any]:
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Refused(f"{file} cannot be read: {error}") from None
        own = receipts.signing_key()["public_key"]
        try:
            body = proofs.check_receipt(document, own)
        except proofs.Forged as forged:
            raise Failed(f"{file}: {forged}", {"genuine": False, "why": str(forged)}) from None
        return {"genuine": True, "receipt": body["receipt"], "at": body["at"], "kind": body["kind"], "counts": body["counts"]}

    def word(self, answer: dict[str, Any]) -> str:
        return f"Genuine: receipt {answer['receipt']} of {answer['at']}, signed by this installation."
