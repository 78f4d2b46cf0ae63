"""Adds entries to a workspace's log: `record` is called by every verb that does something worth knowing.

Inside the workspace the entry is part of the caller's transaction, if there is one, and the log's head is locked until it
ends: record last. Without one it is written before `record` returns, in one statement with what other threads add meanwhile.
Outside, it waits in a public row (AuditOutbox), written with what it tells of, and is added once that is committed, or by
the sweeper. The head is also kept outside the database (tenants.witness), by a web process a moment later. Knows of documents
and people only their ids.
"""

import atexit
import json
import logging
import secrets
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from django.db import DatabaseError, transaction
from django.utils import timezone

from tenants import alarms, proofs, witness
from tenants.acting import NOBODY, Actor, actor
from tenants.audit.events import Event
from tenants.audit.models import Entry
from tenants.ciphers import InstallationCipher, Tampered
from tenants.context import current_tenant, public_context, workspace
from tenants.database import connection
from tenants.keys.providers import KeyUnavailable
from tenants.models import Alarm, AuditOutbox, Tenant
from tenants.privacy import describe_exception
from tenants.schemas import is_open
from tenants.sweeping import public_sweeper

logger = logging.getLogger(__name__)

About = str | int | bool | None
Last = tuple[int, bytes]  # the number and digest of a log's last entry
WITNESS_SECONDS = 0.05  # until a web process keeps the heads of what was added meanwhile
ADD = (
    "WITH head AS (UPDATE audit_head SET number = %s, digest = %s WHERE id = 1 AND (number, digest) = (%s, %s) RETURNING id) "
    "INSERT INTO audit_entry (number, at, event, person_id, details, digest, source) "
    "SELECT entry.* FROM head, (VALUES {}) AS entry"
)
ROW = "(%s::bigint, %s::timestamptz, %s::text, %s::bigint, %s::bytea, %s::bytea, %s::uuid)"
LAST_ENTRY = "SELECT number, digest FROM audit_head WHERE id = 1"
_withheld = threading.local()


@contextmanager
def withheld() -> Iterator[None]:
    """Nothing this thread does is written down: for what is undone afterwards, which would hold the head's lock till then."""
    _withheld.is_on = True
    try:
        yield
    finally:
        _withheld.is_on = False


def record(event: Event, tenant: Tenant | None = None, by: Actor | None = None, **about: About) -> None:
    """Write down that the actor (tenants.acting), or `by`, did it, in the workspace we are in or, outside any, in `tenant`'s.

    `about` holds ids, names of roles and the like: never what somebody wrote or searched for.
    """
    if getattr(_withheld, "is_on", False):
        return
    who = by or actor()
    if isinstance(connection.tenant, Tenant):
        waiting = _Waiting(event, timezone.now(), who, about)
        if connection.in_atomic_block:
            _append(waiting)
        else:
            _queues.setdefault(connection.tenant.pk, _Queue()).write(waiting)
        return
    if tenant is None:
        raise TypeError("outside a workspace `tenant` says whose log")
    row = AuditOutbox(id=uuid.uuid4(), tenant_id=tenant.pk)
    content = {
        "event": event.value, "at": timezone.now().isoformat(), "who": who.who, "via": who.via,
        "person_id": who.person_id, "reason": who.reason, "about": about,
    }  # fmt: skip
    row.sealed = InstallationCipher().encrypt(_context(tenant.pk, row.pk), json.dumps(content, ensure_ascii=False).encode())
    row.save(force_insert=True)
    transaction.on_commit(partial(_deliver_quietly, tenant.pk))


def as_exported(entry: Entry) -> dict[str, Any]:
    """What the digest covers, and what an export holds: JSON's types only."""
    return _exported(entry, entry.details)


def exported_by() -> Callable[[Entry], dict[str, Any]]:
    """`as_exported` for many entries of the current workspace: the cipher is taken once."""
    read = Entry._meta.get_field("details").reader()
    return lambda entry: _exported(entry, read(entry.number, entry.__dict__["details"]))


def _exported(entry: "Entry | _Made", details: Any) -> dict[str, Any]:
    return {
        "number": entry.number,
        "at": entry.at.astimezone(UTC).isoformat(),
        "event": entry.event,
        "person_id": entry.person_id,
        "details": details,
        "digest": bytes(entry.digest).hex(),
    }


def witness_name(tenant: Tenant) -> str:
    return f"audit/{tenant.pk}"


def deliver(tenant: Tenant) -> int:
    """Move what waits outside into the workspace's log. Repeating it adds nothing twice. Returns how many entries waited."""
    with public_context():
        waiting = list(AuditOutbox.objects.filter(tenant=tenant).order_by("created_at", "id"))
    cipher, delivered = InstallationCipher(), []
    for row in waiting:
        try:
            content = json.loads(cipher.decrypt(_context(tenant.pk, row.pk), bytes(row.sealed)))
        except Tampered:  # planted, changed, or another workspace's: it is no entry, and stays where it is
            alarms.raise_alarm(Alarm.Kind.LOG, f"tenants_auditoutbox {row.pk}", tenant)
            continue
        who = Actor(content["who"], content["via"], content["person_id"], content["reason"])
        at = datetime.fromisoformat(content["at"])
        with workspace(tenant), transaction.atomic():
            _append(_Waiting(Event(content["event"]), at, who, content["about"], row.pk))
        delivered.append(row.pk)
    with public_context():
        AuditOutbox.objects.filter(pk__in=delivered).delete()
    return len(delivered)


@public_sweeper
def deliver_waiting() -> None:
    """What a crash, a suspension or a freeze left waiting."""
    for tenant in Tenant.objects.filter(pk__in=AuditOutbox.objects.values("tenant_id").distinct()):
        _deliver_quietly(tenant.pk)


@alarms.heard
def _write_down_alarm(kind: Alarm.Kind, subject: str, tenant_id: uuid.UUID) -> None:
    if tenant := Tenant.objects.filter(pk=tenant_id).first():
        record(Event.ALARM, tenant, by=NOBODY, kind=kind.label, subject=subject)


def _deliver_quietly(tenant_id: uuid.UUID) -> None:
    """What was done is committed: an entry that cannot be added now waits for the sweeper."""
    try:
        tenant = Tenant.objects.filter(pk=tenant_id).first()
        if tenant is not None and is_open(tenant):
            deliver(tenant)
    except (DatabaseError, KeyUnavailable, Tampered) as error:
        logger.warning("the log of %s waits for the sweeper: %s", tenant_id, describe_exception(error))


@dataclass(eq=False, slots=True)
class _Waiting:
    """What is to become an entry."""

    event: Event
    at: datetime
    who: Actor
    about: dict[str, Any]
    source: uuid.UUID | None = None
    is_written: bool = False


class _Made(NamedTuple):
    """Of an entry what the digest covers in the clear."""

    number: int
    at: datetime
    event: str
    person_id: int | None

    @property
    def digest(self) -> bytes:
        return b""  # not yet


def _append(waiting: _Waiting) -> None:
    """In a transaction, until whose end the head is locked."""
    last = _last_entry(locked=True)
    if waiting.source is not None and Entry.objects.filter(source=waiting.source).exists():
        return
    added = _add([waiting], *last)
    assert added, "the head is locked"


class _Queue:
    """What threads of this process add to one workspace's log at the same time: whose turn it is writes all that waits."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._last: Last | None = None  # what this process added: most often nobody else has added anything since

    def write(self, own: _Waiting) -> None:
        """On the disk when this returns, by this thread or another. What fails here is left to the others to try again."""
        self._waiting.append(own)
        with self._turn:
            if own.is_written:
                return
            together = [self._waiting.popleft() for _ in range(len(self._waiting))]
            try:
                self._last = _write(together, self._last)
            except BaseException:
                self._waiting.extendleft(each for each in reversed(together) if each is not own)
                raise
            for each in together:
                each.is_written = True


_queues: dict[uuid.UUID, _Queue] = {}


def _write(together: list[_Waiting], last: Last | None) -> Last:
    """Without a transaction and a lock: where `last` is not the last entry any more, nothing is added, and it begins anew."""
    added = _add(together, *last) if last else None
    while added is None:
        added = _add(together, *_last_entry())
    return added


def _last_entry(*, locked: bool = False) -> Last:
    with connection.cursor() as cursor:
        cursor.execute(f"{LAST_ENTRY} FOR UPDATE" if locked else LAST_ENTRY)
        number, digest = cursor.fetchone()
    return number, bytes(digest)


def _add(together: list[_Waiting], number: int, before: bytes) -> Last | None:
    """What follows entry `number`, whose digest is `before`; nothing where that is not the last entry any more.

    In one statement, past the ORM: a search waits for it.
    """
    tenant, seal = current_tenant(), Entry._meta.get_field("details").seal
    rows: list[Any] = []
    digest, last = before, number
    for last, each in enumerate(together, start=number + 1):
        who = each.who
        details = {"who": who.who, "via": who.via, "reason": who.reason, "about": each.about, "salt": secrets.token_hex(16)}
        entry = _Made(last, each.at, each.event.value, who.person_id)
        digest = proofs.entry_digest(str(tenant.pk), _exported(entry, details), digest)
        rows += [*entry, bytes(seal(last, details)), digest, each.source]
    with connection.cursor() as cursor:
        cursor.execute(ADD.format(", ".join([ROW] * len(together))), [last, digest, number, before, *rows])
        if cursor.rowcount != len(together):
            return None
    transaction.on_commit(partial(_notary or _witness_head, witness_name(tenant), last, digest.hex()))
    return last, digest


def _witness_head(name: str, number: int, digest: str) -> None:
    """Not durable: after a power cut the witness may lag behind the log, which is no alarm; the other way round is. So it
    may when it cannot be written: the entry is committed, and whoever made it is told so.
    """
    try:
        with witness.alone(name):
            known = witness.record(name)
            if known is None or known["number"] < number:  # it only goes up: another process may have been faster
                witness.keep(name, {"number": number, "digest": digest}, durable=False)
    except (OSError, ValueError, KeyError, TypeError) as error:  # the last three: what is kept there is damaged
        logger.error("the head of %s is not witnessed: %s", name, describe_exception(error))


class _Notary:
    """Keeps heads outside the database in a thread of its own, the last of each log: what adds an entry does not wait for it.

    A process that is killed leaves the head before: as after a power cut, the witness lags behind, and goes on with the next.
    """

    def __init__(self) -> None:
        self._heads: dict[str, tuple[int, str]] = {}
        self._lock, self._there = threading.Lock(), threading.Event()
        atexit.register(self.keep)
        threading.Thread(target=self._run, name="notary", daemon=True).start()

    def __call__(self, name: str, number: int, digest: str) -> None:
        with self._lock:
            self._heads[name] = max(self._heads.get(name, (0, "")), (number, digest))
        self._there.set()

    def keep(self) -> None:
        """All there are."""
        with self._lock:
            heads, self._heads = self._heads, {}
        for name, head in heads.items():
            try:
                _witness_head(name, *head)
            except Exception as error:  # the others are kept all the same, and those to come
                logger.error("the head of %s is not witnessed: %s", name, describe_exception(error))

    def _run(self) -> None:
        while self._there.wait():
            time.sleep(WITNESS_SECONDS)
            self._there.clear()
            self.keep()


_notary: _Notary | None = None


def start_notary() -> None:
    """In a web process, once it is forked: others end without waiting for threads."""
    global _notary
    _notary = _notary or _Notary()


def _context(tenant_id: uuid.UUID, pk: uuid.UUID) -> tuple[str, str, str]:
    return ("tenants_auditoutbox", f"sealed for {tenant_id}", str(pk))
