"""What happens to a workspace between its creation and its erasure: renamed, suspended, kept, scheduled to be deleted.

Runs in public context; asks nobody for permission. Refuses to know what is inside a workspace: erasing it is
workspace.erasure's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from tenants import names, notices
from tenants.acting import actor
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.errors import Refused
from tenants.models import Tenant

MOST_DAYS = 365


@contextmanager
def _locked(tenant: Tenant) -> Iterator[Tenant]:
    """The row as it is now, saved at the end of the block; `tenant` follows it."""
    with transaction.atomic():
        row = Tenant.objects.select_for_update().filter(pk=tenant.pk).first()
        if row is None or row.status == Tenant.Status.ERASING:
            raise Refused(f"The workspace {tenant.name} has been deleted.")
        yield row
        row.save()
    tenant.__dict__.update(row.__dict__)


def rename(tenant: Tenant, name: str) -> None:
    name = names.of_workspace(name)
    with _locked(tenant) as row:
        row.name = name
        record(Event.RENAMED, row)


def require_second_factor(tenant: Tenant, wanted: bool) -> None:
    """From the next request on, who has none is led to setting one up."""
    with _locked(tenant) as row:
        row.require_mfa = wanted
        record(Event.SECOND_FACTOR, row, required=wanted)


def suspend(tenant: Tenant, reason: str) -> None:
    """From now on every route, job and invitation refuses; nothing is lost. Members read the reason, owners are told."""
    reason = names.checked_reason(reason)
    with _locked(tenant) as row:
        if row.status != Tenant.Status.ACTIVE:
            raise Refused(f"{row.name} is {row.get_status_display()}: only an active workspace can be suspended.")
        row.status, row.suspended_at, row.suspension = Tenant.Status.SUSPENDED, timezone.now(), reason
        record(Event.SUSPENDED, row, by=replace(actor(), reason=reason))
    notices.tell_owners(
        tenant,
        f"{tenant.name} is suspended",
        f"The workspace {tenant.name} has been suspended by the staff of this installation: until they resume it nobody can "
        f"open it and no job works in it. Nothing is deleted.\nReason: {reason}\n",
    )


def resume(tenant: Tenant) -> None:
    """What was queued goes on by itself: the sweepers find it."""
    with _locked(tenant) as row:
        if row.status != Tenant.Status.SUSPENDED:
            raise Refused(f"{row.name} is not suspended.")
        row.status, row.suspended_at, row.suspension = Tenant.Status.ACTIVE, None, ""
        record(Event.RESUMED, row)
    notices.tell_owners(tenant, f"{tenant.name} is resumed", f"The workspace {tenant.name} can be used again.\n")


def schedule_deletion(tenant: Tenant, days: int) -> None:
    """Have it erased in so many days; until then it works, and `keep` calls it off. Owners are told."""
    if not 0 < days <= MOST_DAYS:
        raise Refused(f"A workspace can be deleted in 1 to {MOST_DAYS} days.")
    with _locked(tenant) as row:
        if row.status not in Tenant.MADE:
            raise Refused(f"{row.name} is {row.get_status_display()}: there is nothing to delete yet.")
        if row.legal_hold:
            raise Refused(f"{row.name} must be kept ({row.legal_hold}): staff have to release it first.")
        row.delete_at = timezone.now() + timedelta(days=days)
        record(Event.DELETION_SCHEDULED, row, on=row.delete_at.date().isoformat())
    notices.tell_owners(
        tenant,
        f"{tenant.name} will be deleted on {tenant.delete_at:%d %B %Y}",
        f"The workspace {tenant.name} is scheduled to be deleted on {tenant.delete_at:%d %B %Y at %H:%M} UTC, with every "
        "document in it. Until then it works as before, and an owner can keep it under Settings.\n",
    )


def keep(tenant: Tenant) -> None:
    """Call a scheduled deletion off."""
    with _locked(tenant) as row:
        if row.delete_at is None:
            raise Refused(f"{row.name} is not scheduled to be deleted.")
        row.delete_at = None
        record(Event.KEPT, row)
    notices.tell_owners(tenant, f"{tenant.name} is kept", f"The workspace {tenant.name} will not be deleted after all.\n")


def hold(tenant: Tenant, reason: str) -> None:
    """Forbid deletion until `release`; one that is scheduled is called off, so that releasing deletes nothing at once."""
    reason = names.checked_reason(reason)
    with _locked(tenant) as row:
        if row.status not in Tenant.MADE:
            raise Refused(f"{row.name} is {row.get_status_display()}: there is nothing to keep.")
        if row.legal_hold:
            raise Refused(f"{row.name} is under legal hold already ({row.legal_hold}): release it first.")
        row.legal_hold, row.delete_at = reason, None
        record(Event.HELD, row, by=replace(actor(), reason=reason))


def release(tenant: Tenant) -> None:
    with _locked(tenant) as row:
        if not row.legal_hold:
            raise Refused(f"{row.name} is not held.")
        row.legal_hold = ""
        record(Event.RELEASED, row)


def begin_erasure(tenant: Tenant, *, because_due: bool = False) -> None:
    """Close it for good: from here on only erasing goes on. Raises Refused where it must be kept.

    `because_due`: only if its day has come still; somebody may have called it off since it was looked up.
    """
    with _locked(tenant) as row:
        if because_due and (row.delete_at is None or row.delete_at > timezone.now()):
            raise Refused(f"{row.name} is not due to be deleted.")
        if row.legal_hold:
            raise Refused(f"{row.name} must be kept ({row.legal_hold}): staff have to release it first.")
        row.status = Tenant.Status.ERASING
