"""How staff come to see a workspace they do not belong to: asked for with a reason, known to its owners, for a time.

An owner consents, or nobody refuses within the delay after the owners were mailed; without a mail server only consent
counts. The time runs from the first page. Staff see what a viewer sees, change nothing (ActivateTenant), and owners can
end it at any time. Runs in public context. Somebody with the server or the console's memberships needs none of this:
docs/security.md says so.
"""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from tenants import names, notices, seals
from tenants.acting import Actor, person
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.context import public_context
from tenants.errors import Refused
from tenants.models import MINUTES, Membership, StaffAccess, Tenant, User
from tenants.sweeping import public_sweeper

LAPSES_AFTER = timedelta(days=7)  # from when it may be used


def request(tenant: Tenant, staff: User, reason: str, minutes: int) -> StaffAccess:
    """Ask to view, and tell every owner. Raises Refused; when no owner could be told, nothing was asked.

    Only consent opens it until an owner has been mailed, also when this is killed in between.
    """
    reason = names.checked_reason(reason)
    if not min(MINUTES) <= minutes <= max(MINUTES):
        raise Refused(f"Ask for {min(MINUTES)} to {max(MINUTES)} minutes.")
    if not staff.is_staff or not staff.is_active:
        raise Refused("Only staff can ask.")
    if tenant.status != Tenant.Status.ACTIVE:
        raise Refused(f"{tenant.name} is not active: nobody can view it.")
    if Membership.objects.filter(tenant=tenant, user=staff).exists():
        raise Refused(f"You are a member of {tenant.name} already.")
    if not notices.owners_of(tenant):
        raise Refused(f"{tenant.name} has no owner who could be told. Make somebody its owner first.")
    now = timezone.now()
    with transaction.atomic():
        Tenant.objects.select_for_update().get(pk=tenant.pk)  # two clicks ask once
        if StaffAccess.objects.open().filter(tenant=tenant, staff=staff).exists():
            raise Refused(f"You have asked to view {tenant.name} already.")
        made = StaffAccess.objects.create(
            tenant=tenant,
            staff=staff,
            staff_email=staff.email,
            reason=reason,
            minutes=minutes,
            requested_at=now,
            lapses_at=now + LAPSES_AFTER,
        )
        record(Event.STAFF_ASKED, tenant, by=person(staff, "console", reason), minutes=minutes)
    if not settings.MAIL_IS_CONFIGURED:
        return made
    usable_from = now + timedelta(hours=settings.STAFF_ACCESS_DELAY_HOURS)
    told = _tell_owners(
        made,
        f"{staff.email} (staff) asks to view {tenant.name}",
        f"{staff} ({staff.email}) asks to view the workspace {tenant.name} for {minutes} minutes, reading only.\n"
        f"Reason: {reason}\n\n"
        f"If no owner refuses, it is possible from {usable_from:%d %B %Y, %H:%M} UTC. Consent or refuse here:",
    )
    # an owner may have seen it on a page meanwhile, and answered
    unanswered = StaffAccess.objects.open().filter(pk=made.pk, consented_at=None)
    if told:
        unanswered.update(usable_from=usable_from, lapses_at=usable_from + LAPSES_AFTER)
        made.refresh_from_db(fields=["usable_from", "lapses_at"])
    elif unanswered.delete()[0]:
        raise Refused("The owners could not be told: the mail server does not take mail. Try again later.")
    return made


@transaction.atomic
def consent(access: StaffAccess, owner: User) -> None:
    """It may be used at once. Raises Refused."""
    if access.staff_id == owner.pk:
        raise Refused("Another owner has to consent: you cannot admit yourself.")
    untouched = StaffAccess.objects.open().filter(pk=access.pk, consented_at=None, began_at=None)
    if not untouched.update(consented_by=owner, consented_at=timezone.now()):
        raise Refused("This request cannot be consented to any more. Reload the page to see what became of it.")
    record(Event.STAFF_CONSENTED, access.tenant, by=person(owner), staff=access.staff_email)


@transaction.atomic
def refuse(access: StaffAccess, owner: User) -> None:
    """It can never be used. Raises Refused once it has been: it can then be ended."""
    untouched = StaffAccess.objects.open().filter(pk=access.pk, began_at=None)
    if not untouched.update(refused_by=owner, refused_at=timezone.now()):
        raise Refused("This request cannot be refused any more. Reload the page to see what became of it.")
    record(Event.STAFF_REFUSED, access.tenant, by=person(owner), staff=access.staff_email)


def end(access: StaffAccess) -> bool:
    """At once: the next request of the person finds nothing. Whether it was running: otherwise nothing changes."""
    ended = bool(StaffAccess.objects.running().filter(pk=access.pk).update(ended_at=timezone.now()))
    if ended:
        _say_it_ended(access)
    return ended


def find(user: User, tenants: Q) -> StaffAccess | None:
    """What lets this person into the workspace that `tenants` selects now; begun by `begin`."""
    if not (user.is_staff and user.is_active):
        return None
    admitting = StaffAccess.objects.admitting().filter(tenants, staff=user, tenant__status__in=Tenant.MADE)
    for access in admitting.select_related("tenant"):
        if seals.stands(access) and seals.stands(access.tenant):
            return access
    return None


def begin(access: StaffAccess) -> bool:
    """Start the clock at the first page. Whether it is running: an owner may have been quicker."""
    if access.began_at is not None:
        return True
    now = timezone.now()
    ends_at = now + timedelta(minutes=access.minutes)
    if StaffAccess.objects.open().filter(pk=access.pk, began_at=None).update(began_at=now, ends_at=ends_at):
        access.began_at, access.ends_at = now, ends_at
        record(Event.STAFF_BEGAN, access.tenant, by=Actor(access.staff_email, "staff view", access.staff_id, access.reason))
        _tell_owners(
            access,
            f"{access.staff_email} (staff) is viewing {access.tenant.name}",
            f"{access.staff_email} views the workspace {access.tenant.name} until {ends_at:%H:%M} UTC, reading only.\n"
            f"Reason: {access.reason}\n\nYou can end it at any time:",
        )
        return True
    # another request of the same person was quicker, or an owner
    access.refresh_from_db(fields=["began_at", "ends_at", "refused_at", "ended_at"])
    return access.state == StaffAccess.State.RUNNING


def goes_on(access: StaffAccess) -> bool:
    """Whether a view that has begun has not ended since."""
    running = StaffAccess.objects.running().filter(pk=access.pk, staff__is_staff=True, staff__is_active=True)
    return any(seals.stands(found) and seals.stands(found.staff) for found in running.select_related("staff"))


def concerning(tenant: Tenant) -> list[StaffAccess]:
    """Every access to a workspace, ever, the newest first."""
    return list(StaffAccess.objects.filter(tenant=tenant).select_related("staff", "consented_by", "refused_by"))


def open_in(tenant: Tenant) -> list[StaffAccess]:
    """What owners should know of on every page: who waits for an answer, may begin, or is looking."""
    return list(StaffAccess.objects.open().filter(tenant=tenant).select_related("staff"))


def any_open() -> Exists:
    """The same question for a query of memberships, of which it costs no other: whether there is any in its workspace."""
    return Exists(StaffAccess.objects.open().filter(tenant=OuterRef("tenant")))


@public_sweeper
def close_expired() -> None:
    """Write down that the time is over, and tell the owners. Nobody waits for this: what is over lets nobody in."""
    now = timezone.now()
    for access in StaffAccess.objects.filter(ended_at=None, ends_at__lte=now).select_related("tenant"):
        if StaffAccess.objects.filter(pk=access.pk, ended_at=None).update(ended_at=F("ends_at")):
            _say_it_ended(access)


def _tell_owners(access: StaffAccess, subject: str, words: str) -> bool:
    """By mail, where there is a mail server. The pages of the workspace tell them all the same."""
    link = f"{settings.PUBLIC_URL}{access.tenant.path}staff-access/"
    return notices.tell_owners(access.tenant, subject, f"{words}\n\n{link}\n")


def _say_it_ended(access: StaffAccess) -> None:
    with public_context():
        record(Event.STAFF_ENDED, access.tenant, staff=access.staff_email)
        _tell_owners(
            access,
            f"{access.staff_email} (staff) no longer views {access.tenant.name}",
            f"The view of {access.tenant.name} by {access.staff_email} has ended. All of them are listed here:",
        )
