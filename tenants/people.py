"""Who belongs to a workspace: invitations and memberships. Runs in public context; asks nobody for permission."""

from functools import partial
from typing import Any

from allauth.account.forms import default_token_generator
from allauth.account.models import EmailAddress
from allauth.account.utils import user_pk_to_url_str
from django.conf import settings
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, OperationalError, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone
from psycopg.errors import LockNotAvailable

from tenants import names, notices, seals
from tenants.acting import person
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.errors import Refused
from tenants.models import Invitation, Membership, Tenant, User
from tenants.permissions import Role, may_grant
from tenants.wording import counted

SALT = "tenants.invitation"


def address(email: str) -> str:
    """An e-mail address as it is stored. Raises Refused when it is none."""
    email = User.objects.normalize_email(email)
    try:
        validate_email(email)
    except ValidationError:
        raise Refused(f"{email!r} is no e-mail address.") from None
    return email


def create_person(email: str, password: str | None, *, name: str = "", staff: bool = False, verified: bool = True) -> User:
    """An account. Its address counts as verified where the caller vouches for it. Raises Refused when it is taken or none."""
    email, name = address(email), names.of_person(name)
    try:
        with transaction.atomic():
            user = User.objects.create_user(email, password, name=name, is_staff=staff, is_superuser=staff)
            EmailAddress.objects.create(user=user, email=email, verified=verified, primary=True)
    except IntegrityError:
        raise Refused(f"There is an account for {email} already.") from None
    return user


def token_of(invitation: Invitation) -> str:
    """What the link carries: the row's id, signed. The database alone cannot make one."""
    return signing.Signer(salt=SALT).sign(invitation.id.hex)


def link_of(invitation: Invitation) -> str:
    return f"{settings.PUBLIC_URL}/invitation/{token_of(invitation)}/"


def invitation_of(token: str) -> Invitation | None:
    """The open invitation of a link; None when it is forged, used, withdrawn or expired."""
    try:
        invitation = Invitation.objects.select_related("tenant", "invited_by").get(pk=signing.Signer(salt=SALT).unsign(token))
    except (signing.BadSignature, Invitation.DoesNotExist, ValueError):
        return None
    if not (invitation.is_open and seals.stands(invitation) and seals.stands(invitation.tenant)):
        return None
    return invitation if invitation.is_open and invitation.tenant.status == Tenant.Status.ACTIVE else None


def is_invited(email: str) -> bool:
    """Whether some workspace waits for this address."""
    offers = Invitation.objects.filter(email=email, accepted_at=None, expires_at__gt=timezone.now())
    return bool(email) and any(map(seals.stands, offers.filter(tenant__status=Tenant.Status.ACTIVE)))


def invite(tenant: Tenant, email: str, role: str, by: User) -> Invitation:
    """Offer a place to `email`, or to whoever has the link when it is empty. The link is still to be sent.

    An earlier open offer to the same address is replaced. Raises Refused.
    """
    email = User.objects.normalize_email(email)
    if email and any(map(seals.stands, Membership.objects.filter(tenant=tenant, user__email=email))):
        raise Refused(f"{email} is a member already.")
    with transaction.atomic():
        _lock(tenant)
        actor = _role_of(tenant, by.pk)
        _refuse_to_grant(actor, role, "Only an owner can invite an owner.")
        earlier = Invitation.objects.filter(tenant=tenant, email=email, accepted_at=None)
        for offer in earlier if email else ():
            _refuse_to_grant(actor, offer.role, "An owner has invited this person as owner: only an owner can change that.")
            offer.delete()
        _refuse_when_full(tenant, with_offers=True)
        made = Invitation.objects.create(tenant=tenant, email=email, role=Role(role), invited_by=by)
        record(Event.INVITED, tenant, address=email, role=str(role))
        return made


@transaction.atomic
def withdraw(tenant: Tenant, invitation: Invitation, *, by: str) -> None:
    """Take an offer back, as somebody with the role `by` may. Raises Refused."""
    if not may_grant(by, invitation.role):
        raise Refused("Only an owner can withdraw the invitation of an owner.")
    invitation.delete()
    record(Event.INVITATION_WITHDRAWN, tenant, address=invitation.email, role=invitation.role)


def send_link(invitation: Invitation) -> bool:
    """Mail it to the address it is for. Whether it went; the invitation stands either way."""
    tenant, by, role = invitation.tenant, invitation.invited_by, Role(invitation.role).label.lower()
    assert by is not None  # who has just made it
    return notices.tell(
        [invitation.email],
        f"{by} invites you to {tenant.name}",
        f"{by} ({by.email}) invites you to the workspace {tenant.name} as {role}.\n\n"
        f"{link_of(invitation)}\n\nThe link works once, until {invitation.expires_at:%d %B %Y}.\n",
    )


@transaction.atomic
def accept(invitation: Invitation, user: User) -> Membership:
    """Single use: the row is locked while it is taken. Raises Refused."""
    _lock(invitation.tenant)
    taken = Invitation.objects.select_for_update().filter(pk=invitation.pk, accepted_at=None).first()
    if taken is None or not seals.stands(taken) or not taken.is_open:
        raise Refused("This invitation has been used or withdrawn, or is out of date. Ask for a new one.")
    if taken.email and taken.email != user.email:
        raise Refused(f"This invitation is for {taken.email}; you are signed in as {user.email}.")
    if not may_grant(_role_of(taken.tenant, taken.invited_by_id), taken.role):
        raise Refused("Whoever made this invitation may no longer do so. Ask for a new one.")
    member = Membership.objects.filter(user=user, tenant_id=taken.tenant_id).first()
    if member is not None and not seals.stands(member):
        member.delete()  # planted, which makes nobody a member; the offer does
        member = None
    if member is not None:
        if taken.email:
            taken.delete()  # made a member otherwise in the meantime; a link stays for whom it was meant
        return member
    _refuse_when_full(taken.tenant, with_offers=False)
    taken.accepted_at = timezone.now()
    taken.save(update_fields=["accepted_at"])
    joined = Membership.objects.create(user=user, tenant_id=taken.tenant_id, role=taken.role)
    record(Event.JOINED, taken.tenant, by=person(user), role=taken.role)
    return joined


@transaction.atomic
def change_role(tenant: Tenant, user_id: int, role: str, *, by: int) -> Membership:
    """As the member `by` may, who is asked for under the lock. The last owner stays one. Raises Refused."""
    member = _locked_member(tenant, user_id)
    actor = _role_of(tenant, by)
    _refuse_to_grant(actor, member.role, "Only an owner can change or remove an owner.")
    _refuse_to_grant(actor, role, "Only an owner can make somebody an owner.")
    if member.role == Role.OWNER and role != Role.OWNER:
        _refuse_last_owner(tenant, user_id)
    before, member.role = member.role, Role(role)
    member.save(update_fields=["role"])
    _withdraw_what_is_no_longer_theirs(member)
    record(Event.ROLE_CHANGED, tenant, member=member.user.email, role=str(member.role), before=before)
    return member


@transaction.atomic
def hand_over(tenant: Tenant, owner_id: int, user_id: int) -> Membership:
    """Make another member the owner in one's place; who hands over stays as admin. Raises Refused."""
    if owner_id == user_id:
        raise Refused("Choose somebody else: you are the owner already.")
    heir, owner = _locked_member(tenant, user_id), _locked_member(tenant, owner_id)
    if owner.role != Role.OWNER:
        raise Refused("Only an owner can hand the workspace over, and you are none any more.")
    if not is_confirmed(heir.user):
        raise Refused(f"{heir.user.email} has not confirmed this address yet, so cannot sign in. Choose somebody else.")
    heir.role, owner.role = Role.OWNER, Role.ADMIN
    heir.save(update_fields=["role"])
    owner.save(update_fields=["role"])
    _withdraw_what_is_no_longer_theirs(owner)
    record(Event.HANDED_OVER, tenant, member=heir.user.email)
    return heir


@transaction.atomic
def remove(tenant: Tenant, user_id: int, *, by: int) -> None:
    """End a membership, as the member `by` may; everybody may end their own. The last owner stays. Raises Refused.

    What was planted in its place goes too.
    """
    _lock(tenant)
    planted = Membership.objects.filter(tenant=tenant, user_id=user_id).first()
    if planted is not None and not seals.stands(planted):
        _refuse_to_grant(_role_of(tenant, by), planted.role, "Only an owner can change or remove an owner.")
        planted.delete()
        return
    member = _locked_member(tenant, user_id)
    if by != user_id:
        _refuse_to_grant(_role_of(tenant, by), member.role, "Only an owner can change or remove an owner.")
    if member.role == Role.OWNER:
        _refuse_last_owner(tenant, user_id)
    member.delete()
    Invitation.objects.filter(tenant=tenant, invited_by_id=user_id, accepted_at=None).delete()
    if by == user_id:
        record(Event.LEFT, tenant)
    else:
        record(Event.REMOVED, tenant, member=member.user.email, role=member.role)


def changed_by_staff(tenant: Tenant, user: User, before: str, after: str) -> None:
    """Write down that the console changed who belongs to a workspace (a role; "" for none), and tell the owners after the
    commit: who could read everything in it should not come to do so unseen.
    """
    if before == after:
        return
    event = Event.ROLE_CHANGED if before and after else Event.JOINED if after else Event.REMOVED
    record(event, tenant, member=user.email, role=after or before, before=before)
    was, now = (f"{role} in it" if role else "no member" for role in (before, after))
    words = (
        f"The staff of this installation changed who belongs to the workspace {tenant.name}: {user.email} was {was}, and is "
        f"{now} now.\nIf nobody asked them to, ask them why.\n"
    )
    transaction.on_commit(partial(notices.tell_owners, tenant, f"Staff changed the members of {tenant.name}", words))


def memberships_of(tenant: Tenant) -> QuerySet[Any]:
    """By address, each with its person and, as `confirmed`, whether they can sign in.

    Also those that were not written by Cloister, which make nobody a member: `seals.stands` tells.
    """
    proof = EmailAddress.objects.filter(user_id=OuterRef("user_id"), email=OuterRef("user__email"), verified=True)
    found = Membership.objects.filter(tenant=tenant).annotate(confirmed=Exists(proof))
    return found.select_related("user").order_by("user__email")


def owners_besides(tenant_id: Any, user_id: int | None) -> list[Membership]:
    """Owners who can sign in, without one person."""
    found = Membership.objects.filter(tenant_id=tenant_id, role=Role.OWNER, user__is_active=True).exclude(user_id=user_id or 0)
    return [member for member in found.select_related("user") if seals.stands(member) and seals.stands(member.user)]


def is_confirmed(user: User) -> bool:
    """Whether the person can sign in: somebody who joined by an open link has to confirm the address first."""
    return EmailAddress.objects.filter(user=user, email=user.email, verified=True).exists()


class NoMember(Refused):
    """The person does not belong to the workspace."""


def _lock(tenant: Tenant) -> None:
    """Whoever changes who belongs to a workspace does so alone, else two owners could leave at the same time. In a transaction.

    Raises Refused when somebody else does for longer than one waits; an isolation self-test does for seconds at a time.
    """
    try:
        Tenant.objects.select_for_update().only("pk").get(pk=tenant.pk)
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise
        raise Refused("This workspace is busy: its members are being changed, or it is being checked. Try again.") from None


def _locked_member(tenant: Tenant, user_id: int) -> Membership:
    _lock(tenant)
    member = Membership.objects.filter(tenant=tenant, user_id=user_id).select_related("user").first()
    if member is None or not seals.stands(member):
        raise NoMember("This person is no member any more.")
    return member


def _role_of(tenant: Tenant, user_id: int | None) -> str:
    """What a person who can sign in is in the workspace now; empty when nothing."""
    found = Membership.objects.filter(tenant=tenant, user_id=user_id or 0, user__is_active=True).select_related("user").first()
    return found.role if found is not None and seals.stands(found) and seals.stands(found.user) else ""


def _refuse_to_grant(actor: str, role: str, words: str) -> None:
    """Under the lock: what the actor was when the page was asked for may have ended since."""
    if not may_grant(actor, Role.VIEWER):
        raise Refused("You may no longer do this: admins and owners of this workspace can.")
    if not may_grant(actor, role):
        raise Refused(words)


def _withdraw_what_is_no_longer_theirs(member: Membership) -> None:
    """Open invitations they made and could not make now."""
    for offer in Invitation.objects.filter(tenant_id=member.tenant_id, invited_by_id=member.user_id, accepted_at=None):
        if not may_grant(member.role, offer.role):
            offer.delete()


def _refuse_last_owner(tenant: Tenant, user_id: int) -> None:
    if not owners_besides(tenant.pk, user_id):
        raise Refused("A workspace keeps at least one owner. Hand it over first, or make somebody else an owner.")


def _refuse_when_full(tenant: Tenant, *, with_offers: bool) -> None:
    """Offers count when one more is made: a place is promised to each."""
    limit = Tenant.objects.values_list("quota_members", flat=True).get(pk=tenant.pk)
    if limit is None:
        return
    used = Membership.objects.filter(tenant=tenant).count()
    if with_offers:
        used += Invitation.objects.filter(tenant=tenant, accepted_at=None, expires_at__gt=timezone.now()).count()
    if used >= limit:
        raise Refused(
            f"This workspace has room for {counted(limit, 'member')}, and all places are taken or offered. Remove a member or "
            "withdraw an invitation, or ask whoever runs this installation for more."
        )


def password_link(user: User) -> str:
    """A link that lets `user` set a password once, as the reset mail would carry it; for who may hand it over."""
    key = f"{user_pk_to_url_str(user)}-{default_token_generator.make_token(user)}"
    return f"{settings.PUBLIC_URL}/accounts/password/reset/key/{key}/"
