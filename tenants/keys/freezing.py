"""Freezes a workspace's keys: every process drops them, refuses the workspace from its next request or batch on, and says so.

That it is frozen the witness says, outside the database; the rows here tell who asked, who answered and who wants it lifted.
Runs in public context; asks nobody for permission. Not protected from whoever can write to the witness's directory.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from tenants import erasures, names, notices, witness
from tenants.acting import Actor
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.errors import Refused
from tenants.keys.keyring import is_frozen, keyring
from tenants.keys.presence import FORGOTTEN, SILENT_SECONDS
from tenants.models import Freeze, FreezeAnswer, Process, Tenant, User
from tenants.sweeping import public_sweeper


def freeze(tenant: Tenant, reason: str, by: Actor) -> Freeze:
    """From here on nothing of the workspace is decrypted. Owners are told. Raises Refused when it is frozen already."""
    reason = names.checked_reason(reason)
    if is_frozen(tenant.pk):
        raise Refused(f"The keys of {tenant.name} are frozen already.")
    with transaction.atomic():
        expected = [
            {"id": str(each.pk), "kind": each.kind, "host": each.host, "pid": each.pid}
            for each in Process.objects.filter(seen_at__gt=timezone.now() - FORGOTTEN).order_by("kind", "started_at")
        ]
        row = Freeze(tenant=tenant, reason=reason, asked_by=by.who, expected=expected)
        row.asked_at = Now()  # the database's clock: answers are timed by it too
        row.save(force_insert=True)
        transaction.on_commit(partial(_keep, row))  # before what is recorded: that waits until it is unfrozen
        record(Event.FROZEN, tenant, by=_reasoned(by, reason))
    row.refresh_from_db()
    keyring.forget(tenant.pk)
    notices.tell_owners(
        tenant,
        f"The keys of {tenant.name} are frozen",
        f"{by.who} froze the keys of the workspace {tenant.name}: until owners unfreeze them nobody can open, search or add "
        f"anything in it, and no job works in it. Nothing is deleted.\nReason: {reason}\n",
    )
    return row


def _keep(row: Freeze) -> None:
    needed = votes_needed(row.tenant)  # kept: fewer owners later need no fewer votes
    kept = {"freeze": str(row.pk), "reason": row.reason, "by": row.asked_by, "needed": needed}
    witness.keep(_name(row.tenant_id), kept)


def _name(tenant_id: UUID) -> str:
    return f"frozen/{tenant_id}"


def current(tenant: Tenant) -> Freeze | None:
    """The freeze that holds now; its row is made again where the database was restored to a time before it."""
    found = witness.record(_name(tenant.pk))
    if found is None:
        return None
    told = {"tenant": tenant, "reason": found.get("reason", ""), "asked_by": found.get("by", "")}
    return Freeze.objects.get_or_create(pk=found["freeze"], defaults=told)[0]


# ---------------------------------------------------------------- lifting it


def votes_needed(tenant: Tenant) -> int:
    """Two owners where there are two who can sign in, or were when it was frozen; else one."""
    kept = witness.record(_name(tenant.pk)) or {}
    return int(kept["needed"]) if "needed" in kept else min(2, max(1, len(notices.owners_of(tenant))))


def voters(row: Freeze) -> list[User]:
    """Who asked to unfreeze, and is an owner who can sign in still."""
    voted = (witness.record(_name(row.tenant_id)) or {}).get("votes", ())
    return [owner for owner in notices.owners_of(row.tenant) if owner.pk in voted]


def ask_to_unfreeze(tenant: Tenant, owner: User) -> bool:
    """An owner's vote; whether the workspace is unfrozen by it. Raises Refused."""
    row = current(tenant)
    if row is None:
        raise Refused(f"The keys of {tenant.name} are not frozen.")
    if owner not in notices.owners_of(tenant):
        raise Refused("Owners of this workspace can unfreeze its keys.")
    by = Actor(owner.email, "web", owner.pk)
    with transaction.atomic():
        locked = Freeze.objects.select_for_update().get(pk=row.pk)  # two at the same time count each other
        if locked.lifted_at is not None:  # somebody was faster, or was killed before the witness heard of it
            witness.forget(_name(tenant.pk))
            return True
        first = _vote(tenant, owner)
        enough = len(voters(row)) >= votes_needed(tenant)
        if enough:
            _lift(row, by)
        elif first:
            record(Event.UNFREEZE_ASKED, tenant, by=by)
    if enough:
        _tell_lifted(tenant, by)
    return enough


def _vote(tenant: Tenant, owner: User) -> bool:
    """Kept outside the database, where nobody can vote for somebody else by SQL. Whether it is the owner's first."""
    found = witness.record(_name(tenant.pk)) or {}
    votes = found.get("votes", [])
    if owner.pk in votes:
        return False
    witness.keep(_name(tenant.pk), found | {"votes": [*votes, owner.pk]})
    return True


def unfreeze(tenant: Tenant, reason: str, by: Actor) -> None:
    """For the command line: whoever has the server can. Owners are told, with the reason. Raises Refused."""
    reason, row = names.checked_reason(reason), current(tenant)
    if row is None:
        raise Refused(f"The keys of {tenant.name} are not frozen.")
    with transaction.atomic():
        _lift(row, _reasoned(by, reason))
    _tell_lifted(tenant, by, f"\nReason: {reason}\n")


def _lift(row: Freeze, by: Actor) -> None:
    Freeze.objects.filter(pk=row.pk).update(lifted_at=Now())
    transaction.on_commit(partial(witness.forget, _name(row.tenant_id)))
    record(Event.UNFROZEN, row.tenant, by=by)


def _tell_lifted(tenant: Tenant, by: Actor, more: str = "\n") -> None:
    words = f"{by.who} unfroze the keys of the workspace {tenant.name}. It can be used again.{more}"
    notices.tell_owners(tenant, f"The keys of {tenant.name} are unfrozen", words)


def _reasoned(by: Actor, reason: str) -> Actor:
    return Actor(by.who, by.via, by.person_id, reason)


# ---------------------------------------------------------------- who answered


@dataclass(frozen=True)
class Answer:
    """What is known of a process that ran when the keys were frozen. Without `seconds` it is unconfirmed."""

    name: str
    seconds: float | None
    seen_at: datetime | None
    state: str  # "confirmed", "waiting", "silent", "ended"


def answers(row: Freeze) -> list[Answer]:
    """Of every process that was expected, in the order they were listed. Never guesses: only an answer confirms."""
    answered = dict(FreezeAnswer.objects.filter(freeze=row).values_list("process_id", "at"))
    running = Process.objects.in_bulk([each["id"] for each in row.expected])
    return [_answer(row, each, answered.get(UUID(each["id"])), running.get(UUID(each["id"]))) for each in row.expected]


def _answer(row: Freeze, each: dict[str, Any], at: datetime | None, process: Process | None) -> Answer:
    name = f"{each['kind']} process {each['pid']} on {each['host']}".capitalize()
    seen_at = process.seen_at if process else None
    if at is not None:
        return Answer(name, max(0.0, (at - row.asked_at).total_seconds()), seen_at, "confirmed")
    if seen_at is None:
        return Answer(name, None, None, "ended")
    silent = timezone.now() - seen_at > timedelta(seconds=SILENT_SECONDS)
    return Answer(name, None, seen_at, "silent" if silent else "waiting")


@public_sweeper
def forget_erased() -> None:
    """A workspace that was erased is not frozen. That its row is missing says nothing: whoever writes SQL can do that."""
    for name in witness.names("frozen"):
        if erasures.is_erased(UUID(name.rpartition("/")[2])):
            witness.forget(name)
