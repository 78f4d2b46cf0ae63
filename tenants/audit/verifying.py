"""Tells whether a workspace's log is whole: every entry follows from the one before, to the head, and to what was witnessed.

The witness is what somebody who rewrites the whole log in the database cannot change with it (docs/security.md says what
that proves, and what not).
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone

from tenants import alarms, notices, proofs, witness
from tenants.audit.models import Entry, Head
from tenants.audit.recording import exported_by, witness_name
from tenants.ciphers import Tampered
from tenants.context import current_tenant, public_context, workspace
from tenants.jobs import enqueue, in_flight, task
from tenants.keys.providers import KeyUnavailable
from tenants.models import Alarm, Tenant
from tenants.sweeping import sweeper

BATCH = 2000  # entries decrypted at a time
EVERY = timedelta(days=1)
JOB = "audit-check"


@dataclass(frozen=True)
class Verdict:
    """What a check found. `number` and `digest` are of the last entry that stood; `problem` is empty for a whole log."""

    at: str
    number: int
    digest: str
    problem: str = ""

    @property
    def when(self) -> datetime:
        return datetime.fromisoformat(self.at)


def verify(tenant: Tenant) -> Verdict:
    """Go through the whole log. What was added since this began is not looked at. Raises KeyUnavailable."""
    known, damage = _witnessed(tenant)  # before the head, which only goes on
    before = last_verdict(tenant)
    stood = {before.number: before.digest} if before is not None and not before.problem else {}
    if known is not None:
        stood[known["number"]] = known["digest"]
    with workspace(tenant):
        head = Head.objects.filter(pk=1).first()
        number, digest, problem = _walk(tenant, head.number if head else 0, stood)
    if not problem and (head is None or (number, digest) != (head.number, bytes(head.digest).hex())):
        problem = f"The log's head does not fit its last entry, number {number}."
    if not problem and max(stood, default=0) > number:
        problem = f"The log ends at entry {number}; entry {max(stood)} had been written. What followed was removed."
    return Verdict(datetime.now(UTC).isoformat(timespec="seconds"), number, digest, problem or damage)


def _witnessed(tenant: Tenant) -> tuple[dict[str, Any] | None, str]:
    """What is kept of the head outside the database, and what is wrong with that."""
    name = witness_name(tenant)
    try:
        known = witness.record(name)
        return (known if known is None else {"number": int(known["number"]), "digest": str(known["digest"])}), ""
    except (ValueError, KeyError, TypeError):
        return None, (
            f"What was witnessed of the log outside the database cannot be read: {name} in WITNESS_DIR. Compare the log with "
            "the last head that was mailed, then remove the file: the next entry is witnessed anew."
        )


def _walk(tenant: Tenant, last: int, stood: Mapping[int, str]) -> tuple[int, str, str]:
    """`stood`: digests by numbers, as they were when they were kept outside the database."""
    number, previous = 0, proofs.FIRST
    try:
        for entry in entries(last):
            number, previous = proofs.check_chain(str(tenant.pk), [entry], previous, number)
            if stood.get(number, previous.hex()) != previous.hex():
                return (
                    number,
                    previous.hex(),
                    f"Entry {number}, or an entry before it, was rewritten after it had been witnessed.",
                )
    except proofs.Forged as forged:
        return number, previous.hex(), str(forged)
    except Tampered:
        return number, previous.hex(), f"Entry {number + 1} does not open: it was changed, or comes from elsewhere."
    return number, previous.hex(), ""


def entries(last: int | None = None) -> Iterator[dict[str, Any]]:
    """Every entry of the current workspace as it is exported, from the first; decrypted a batch at a time. Raises Tampered."""
    export, number = exported_by(), 0
    rows = Entry.objects.order_by("number")
    while batch := list(rows.filter(number__gt=number, **({} if last is None else {"number__lte": last}))[:BATCH]):
        for entry in batch:
            yield export(entry)
        number = batch[-1].number


def check(tenant: Tenant) -> Verdict:
    """Verify, keep the verdict for the page, and raise the alarm where something is wrong."""
    verdict, before = verify(tenant), last_verdict(tenant)
    witness.keep(_verdict_name(tenant), asdict(verdict))
    if verdict.problem:
        alarms.raise_alarm(Alarm.Kind.LOG, f"audit log of {tenant.pk}", tenant)
        if before is None or before.problem != verdict.problem:  # told once of each
            with public_context():
                notices.tell_owners(
                    tenant,
                    f"The log of {tenant.name} does not add up",
                    f"The audit log of the workspace {tenant.name} was checked and is not whole. {verdict.problem}\n"
                    "Somebody changed the database, or what is kept outside it, past Cloister, or it was restored from a "
                    "backup. Ask whoever runs this installation.\n",
                )
    return verdict


def last_verdict(tenant: Tenant) -> Verdict | None:
    """What the last check found; of a record that is damaged, which the next check replaces, that it is."""
    try:
        found = witness.record(_verdict_name(tenant))
        return Verdict(**found) if found else None
    except (ValueError, TypeError):
        never = datetime.fromtimestamp(0, UTC).isoformat()
        return Verdict(never, 0, "", f"What the last check found cannot be read: {_verdict_name(tenant)} in WITNESS_DIR.")


def _verdict_name(tenant: Tenant) -> str:
    return f"audit-checks/{tenant.pk}"


# ---------------------------------------------------------------- by job and by day


def request_check() -> None:
    """Have the current workspace's log checked by the worker."""
    enqueue("tenants.audit.verifying.check_current", job_id=JOB, timeout=3600)


def is_being_checked() -> bool:
    return in_flight(JOB, "default")


@task
def check_current() -> None:
    check(current_tenant())


@sweeper
def check_daily() -> None:
    tenant = current_tenant()
    verdict = last_verdict(tenant)
    if verdict is None or timezone.now() - verdict.when >= EVERY:
        try:
            check(tenant)
        except KeyUnavailable:
            return  # its pages say so
