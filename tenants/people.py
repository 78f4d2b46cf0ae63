"""Who belongs to a workspace: invitations and memberships. Runs in public context; asks nobody for permission."""

from allauth.account.forms import default_token_generator
from allauth.account.models import EmailAddress
from allauth.account.utils import user_pk_to_url_str
from django.conf import settings
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone

from tenants.errors import Refused
from tenants.models import Invitation, Membership, Tenant, User
from tenants.permissions import Role

SALT = "tenants.invitation"


def address(email: str) -> str:
    """An e-mail address as it is stored. Raises Refused when it is none."""
    email = User.objects.normalize_email(email)
    try:
        validate_email(email)
    except ValidationError:
        raise Refused(f"{email!r} is no e-mail address.") from None
    return email


def create_person(email: str, password: str | None, *, name: str = "", staff: bool = False) -> User:
    """An account whose address counts as verified: the caller vouches for it. Raises Refused when it is taken or none."""
    email = address(email)
    try:
        with transaction.atomic():
            user = User.objects.create_user(email, password, name=name, is_staff=staff, is_superuser=staff)
            EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
    except IntegrityError:
        raise Refused(f"There is an account for {email} already.") from None
    return user


def token_of(invitation: Invitation) -> str:
    """What the link carries: the row's id, signed. The database alone cannot make one."""
    return signing.dumps(invitation.id.hex, salt=SALT)


def link_of(invitation: Invitation) -> str:
    return f"{settings.PUBLIC_URL}/invitation/{token_of(invitation)}/"


def invitation_of(token: str) -> Invitation | None:
    """The open invitation of a link; None when it is forged, used, withdrawn or expired."""
    try:
        invitation = Invitation.objects.select_related("tenant", "invited_by").get(pk=signing.loads(token, salt=SALT))
    except (signing.BadSignature, Invitation.DoesNotExist, ValueError):
        return None
    return invitation if invitation.is_open and invitation.tenant.status == Tenant.Status.ACTIVE else None


def invite(tenant: Tenant, email: str, role: str, by: User) -> Invitation:
    """Offer `email` a place; mailed where a mail server is set up. An earlier open offer to it is replaced."""
    email = User.objects.normalize_email(email)
    if Membership.objects.filter(tenant=tenant, user__email=email).exists():
        raise Refused(f"{email} is a member already.")
    with transaction.atomic():
        Invitation.objects.filter(tenant=tenant, email=email, accepted_at=None).delete()
        invitation = Invitation.objects.create(tenant=tenant, email=email, role=Role(role), invited_by=by)
    if settings.MAIL_IS_CONFIGURED:
        send_mail(
            f"{by} invites you to {tenant.name}",
            f"{by} ({by.email}) invites you to the workspace {tenant.name} as {Role(role).label.lower()}.\n\n"
            f"{link_of(invitation)}\n\nThe link works once, until {invitation.expires_at:%d %B %Y}.\n",
            None,
            [email],
        )
    return invitation


@transaction.atomic
def accept(invitation: Invitation, user: User) -> Membership:
    """Single use: the row is locked while it is taken. Raises Refused."""
    taken = Invitation.objects.select_for_update().filter(pk=invitation.pk, accepted_at=None).first()
    if taken is None or not taken.is_open:
        raise Refused("This invitation has been used or withdrawn, or is out of date. Ask for a new one.")
    if taken.email != user.email:
        raise Refused(f"This invitation is for {taken.email}; you are signed in as {user.email}.")
    taken.accepted_at = timezone.now()
    taken.save(update_fields=["accepted_at"])
    membership, _ = Membership.objects.get_or_create(user=user, tenant_id=taken.tenant_id, defaults={"role": taken.role})
    return membership


@transaction.atomic
def remove(tenant: Tenant, user_id: int) -> None:
    """End a membership. The last owner stays. Raises Refused."""
    owners = list(Membership.objects.select_for_update().filter(tenant=tenant, role=Role.OWNER))
    if [owner.user_id for owner in owners] == [user_id]:
        raise Refused("A workspace keeps at least one owner.")
    Membership.objects.filter(tenant=tenant, user_id=user_id).delete()


def password_link(user: User) -> str:
    """A link that lets `user` set a password once, as the reset mail would carry it; for who may hand it over."""
    key = f"{user_pk_to_url_str(user)}-{default_token_generator.make_token(user)}"
    return f"{settings.PUBLIC_URL}/accounts/password/reset/key/{key}/"
