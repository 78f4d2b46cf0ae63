"""Adds entries to a workspace's log: `record` is called by every verb that does something worth knowing.

Inside the workspace the entry is part of the caller's transaction, and the log's head is locked until it ends: record last.
Outside, it waits in a public row (AuditOutbox), written with what it tells of, and is added once that is committed, or by
the sweeper. The head is also kept outside the database (tenants.witness). Knows of documents and people only their ids.
"""

import json
import logging
import secrets
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

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
        with transaction.atomic():
            _append(event, timezone.now(), who, about)
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


def _exported(entry: Entry, details: Any) -> dict[str, Any]:
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
            _append(Event(content["event"]), at, who, content["about"], source=row.pk)
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


def _append(event: Event, at: datetime, who: Actor, about: dict[str, Any], source: uuid.UUID | None = None) -> None:
    with connection.cursor() as cursor:  # as the rest below: a search waits for it, and the ORM takes twice as long
        cursor.execute("SELECT number, digest FROM audit_head WHERE id = 1 FOR UPDATE")
        number, before = cursor.fetchone()
    if source is not None and Entry.objects.filter(source=source).exists():
        return
    details = {"who": who.who, "via": who.via, "reason": who.reason, "about": about, "salt": secrets.token_hex(16)}
    entry = Entry(number=number + 1, at=at, event=event, person_id=who.person_id, details=details, digest=b"", source=source)
    tenant = current_tenant()
    entry.digest = proofs.entry_digest(str(tenant.pk), as_exported(entry), bytes(before))
    sealed = bytes(Entry._meta.get_field("details").seal(entry.number, details))
    with connection.cursor() as cursor:  # one statement: a search waits for it
        cursor.execute(
            "WITH added AS (INSERT INTO audit_entry (number, at, event, person_id, details, digest, source) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s)) UPDATE audit_head SET number = %s, digest = %s WHERE id = 1",
            [entry.number, at, event.value, who.person_id, sealed, entry.digest, source, entry.number, entry.digest],
        )
    transaction.on_commit(partial(_witness_head, witness_name(tenant), entry.number, entry.digest.hex()))


def _witness_head(name: str, number: int, digest: str) -> None:
    """Not durable: after a power cut the witness may lag behind the log, which is no alarm; the other way round is."""
    with witness.alone(name):
        known = witness.record(name)
        if known is None or known["number"] < number:
            witness.keep(name, {"number": number, "digest": digest}, durable=False)


def _context(tenant_id: uuid.UUID, pk: uuid.UUID) -> tuple[str, str, str]:
    return ("tenants_auditoutbox", f"sealed for {tenant_id}", str(pk))
