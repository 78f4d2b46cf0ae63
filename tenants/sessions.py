"""Database sessions that are worth nothing to whoever reads or writes the table.

The row is found by a hash of the cookie, and its contents are encrypted under a key made of the installation's key and
the cookie, which the database never sees: reading the table signs nobody in, copying another person's row over one's own
neither (`Session.get_decoded()` returns nothing), and what a page wrote into the session stays private.
"""

import base64
import hashlib
import secrets
from typing import Any

from asgiref.sync import sync_to_async
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.contrib.sessions.backends import db
from django.utils import timezone

from tenants.context import public_context
from tenants.keys.keyring import derive, provider
from tenants.keys.providers import NONCE_BYTES


def digest(key: str) -> str:
    """160 bits of a 165-bit random key; fits Django's column."""
    return hashlib.sha256(key.encode()).hexdigest()[:40]


class SessionStore(db.SessionStore):
    def _aead(self) -> AESGCM:
        return AESGCM(derive(provider().installation_key(), b"session", (self.session_key or "").encode()))

    def encode(self, session_dict: dict[str, Any]) -> str:
        nonce = secrets.token_bytes(NONCE_BYTES)
        plaintext = self.serializer().dumps(session_dict)
        return base64.b64encode(nonce + self._aead().encrypt(nonce, plaintext, None)).decode()

    def decode(self, session_data: bytes | str) -> dict[str, Any]:
        try:
            blob = base64.b64decode(session_data, validate=True)
            return self.serializer().loads(self._aead().decrypt(blob[:NONCE_BYTES], blob[NONCE_BYTES:], None))
        except (InvalidTag, ValueError):
            return {}

    def _get_session_from_db(self) -> Any:
        with public_context():
            row = self.model.objects.filter(session_key=digest(self.session_key or ""), expire_date__gt=timezone.now()).first()
        if row is None:
            self._session_key = None  # a key chosen by the client is never kept
        return row

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        row = super().create_model_instance(data)
        row.session_key = digest(row.session_key)
        return row

    def exists(self, session_key: str) -> bool:
        with public_context():
            return super().exists(digest(session_key))

    def save(self, must_create: bool = False) -> None:
        with public_context():
            super().save(must_create)

    def delete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            with public_context():
                self.model.objects.filter(session_key=digest(key)).delete()

    # Django's async variants have bodies of their own, which would store the raw key.

    async def aload(self) -> dict[str, Any]:
        return await sync_to_async(self.load)()

    async def aexists(self, session_key: str) -> bool:
        return await sync_to_async(self.exists)(session_key)

    async def acreate(self) -> None:
        await sync_to_async(self.create)()

    async def asave(self, must_create: bool = False) -> None:
        await sync_to_async(self.save)(must_create)

    async def adelete(self, session_key: str | None = None) -> None:
        await sync_to_async(self.delete)(session_key)
