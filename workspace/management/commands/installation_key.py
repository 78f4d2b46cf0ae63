"""`manage.py installation_key`: the public key that receipts and exported logs are signed with, for people to keep."""

from typing import Any

from tenants import receipts
from workspace.commands import Command as Base


class Command(Base):
    help = "Prints the installation's public key and its fingerprint. Publish both where forgers cannot change them."

    def answer(self, **options: Any) -> dict[str, Any]:
        return receipts.signing_key()

    def word(self, answer: dict[str, Any]) -> str:
        return f"{answer['public_key']}\nFingerprint: {answer['fingerprint']}"
