"""Forgets, once a day, what the public schema need not remember: it holds people's addresses and when they came."""

from datetime import timedelta

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.utils import timezone

from tenants.models import Invitation, OutgoingMail, Session
from tenants.sweeping import every, public_sweeper

DAY_SECONDS = 24 * 3600
KEEP_DAYS = 30


@public_sweeper
def once_a_day() -> None:
    if every(DAY_SECONDS, "housekeeping"):
        forget()


def forget() -> None:
    """Expired sessions, mail whose links are dead, old sign-in attempts, invitations nobody can take any more."""
    now = timezone.now()
    old = now - timedelta(days=KEEP_DAYS)
    Session.objects.filter(expire_date__lt=now).delete()
    OutgoingMail.objects.filter(created_at__lt=now - timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT)).delete()
    Invitation.objects.filter(expires_at__lt=old).delete()
    for model in (AccessAttempt, AccessFailureLog, AccessLog):
        model.objects.filter(attempt_time__lt=old).delete()
