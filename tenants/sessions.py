"""Database sessions that are worth nothing to whoever reads or writes the table, and that a person can see and end.

The row is found by a hash of the cookie, and its contents are encrypted under a key made of the installation's key, the
cookie, which the database never sees, and the hostname where it is one that a workspace brought: reading the table signs
nobody in, copying another person's row over one's own neither (`Session.get_decoded()` returns nothing), and what a page
wrote into the session stays private. In the clear stands only what its person is shown: whose it is, since when, from
where, with which browser.
"""

import base64
import hashlib
import secrets
from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends import db
from django.contrib.sessions.backends.base import SessionBase
from django.utils import timezone

from tenants.context import public_context
from tenants.keys.keyring import derive, provider
from tenants.keys.providers import NONCE_BYTES
from tenants.models import Session, User

SEEN_EVERY = timedelta(minutes=10)  # a write for each request would cost more than the figure is worth


def digest(key: str) -> str:
    """160 bits of a 165-bit random key; fits Django's column."""
    return hashlib.sha256(key.encode()).hexdigest()[:40]


class SessionStore(db.SessionStore):
    """Sessions of `Session`. The middleware says where a request comes from, by `browser` and `address`, and by `host` where
    it goes: a hostname of a workspace's own, whose owner may read the cookies sent to it; they open nothing elsewhere.
    """

    browser = address = host = ""

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self._found: Session | None = None

    @classmethod
    def get_model_class(cls) -> Any:
        return Session

    def _aead(self) -> AESGCM:
        where = [self.host.encode()] if self.host else []
        return AESGCM(derive(provider().installation_key(), b"session", (self.session_key or "").encode(), *where))

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
            row = Session.objects.filter(session_key=digest(self.session_key or ""), expire_date__gt=timezone.now()).first()
        if row is None:
            self._session_key = None  # a key chosen by the client is never kept
        self._found = row
        return row

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        row: Any = super().create_model_instance(data)
        row.session_key = digest(row.session_key)
        row.user_id = data.get(SESSION_KEY)
        row.browser, row.address = self.browser, self.address
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
                Session.objects.filter(session_key=digest(key)).delete()

    def note_use(self) -> None:
        """Write down, at most every ten minutes, that the session is in use, and from where."""
        row, now = self._found, timezone.now()
        if row is None or row.user_id is None or now - row.seen_at < SEEN_EVERY:
            return
        with public_context():
            Session.objects.filter(pk=row.pk).update(seen_at=now, browser=self.browser, address=self.address)

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


# ---------------------------------------------------------------- what a person sees and ends, in public context


def sessions_of(user: User, current: SessionBase) -> list[tuple[Session, bool]]:
    """Where somebody is signed in, each with whether it is this browser; this one first, then the latest used."""
    here = digest(current.session_key or "")
    rows = Session.objects.filter(user=user, expire_date__gt=timezone.now()).order_by("-seen_at")
    return sorted(((row, row.pk == here) for row in rows), key=lambda pair: not pair[1])


def end_session(user: User, pk: str) -> bool:
    """Sign one browser out; whether there was such a session of this person."""
    return pk.isalnum() and Session.objects.filter(user=user, pk=pk).delete()[0] > 0


def end_sessions(user: User, but: SessionBase | None = None) -> int:
    """Sign somebody out everywhere, `but` excepted; how many sessions ended."""
    kept = digest(but.session_key or "") if but else ""
    return Session.objects.filter(user=user).exclude(pk=kept).delete()[0]


# ---------------------------------------------------------------- browsers in words

BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("FxiOS", "Firefox"), ("Chrome", "Chrome"),
            ("CriOS", "Chrome"), ("Safari", "Safari"))  # fmt: skip
SYSTEMS = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS", "macOS"),
           ("CrOS", "ChromeOS"), ("Linux", "Linux"))  # fmt: skip


def in_words(user_agent: str) -> str:
    """“Firefox on Windows”, or the header itself, cut. Browsers name others too in it, so the order of the table counts."""
    browser = next((word for sign, word in BROWSERS if f"{sign}/" in user_agent), "")
    system = next((word for sign, word in SYSTEMS if sign in user_agent), "")
    return f"{browser} on {system}" if browser and system else user_agent[:200]
