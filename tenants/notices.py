"""Mail that tells people what happens to a workspace. It is best effort: whoever calls decides what it means that nobody
was told. Without a mail server nobody is, and nothing waits to be handed over: a notice carries no secret to hand.

Speaks to a mail server, which may take its time: never call it while holding a lock.
"""

import logging
from collections.abc import Iterable

from django.conf import settings
from django.core.mail import EmailMessage, get_connection

from tenants import seals
from tenants.models import Membership, Tenant, User
from tenants.permissions import Role
from tenants.privacy import describe_exception

logger = logging.getLogger(__name__)

FAILURES = (OSError, ValueError)  # smtplib's are OSError; ValueError: an address or header that cannot be put into mail


def owners_of(tenant: Tenant) -> list[User]:
    """Those who can still sign in. Whoever was made one by SQL is none (tenants/seals.py)."""
    found = Membership.objects.filter(tenant=tenant, role=Role.OWNER, user__is_active=True).select_related("user")
    return [member.user for member in found if seals.stands(member) and seals.stands(member.user) and member.role == Role.OWNER]


def tell(addresses: Iterable[str], subject: str, words: str, attachment: tuple[str, str] | None = None) -> bool:
    """One message each, `attachment` (name of a file, its JSON) with it.

    Whether the mail server took any; what it did not take is logged, and never raised.
    """
    addresses, told = list(addresses), 0
    if not addresses or not settings.MAIL_IS_CONFIGURED:
        return False
    try:
        with get_connection() as server:  # one for all: a server that is away is waited for once
            for address in addresses:
                try:
                    message = EmailMessage(" ".join(subject.split()), words, None, [address], connection=server)
                    if attachment:
                        message.attach(*attachment, "application/json")
                    message.send()
                    told += 1
                except FAILURES as error:
                    logger.warning("a notice was not taken: %s", describe_exception(error))
    except FAILURES as error:
        logger.warning("the mail server failed: %s", describe_exception(error))
    return bool(told)


def tell_owners(tenant: Tenant, subject: str, words: str, attachment: tuple[str, str] | None = None) -> bool:
    return tell([owner.email for owner in owners_of(tenant)], subject, words, attachment)
