"""What is forgotten after a while, and what is not."""

from datetime import timedelta

import pytest
from django.utils import timezone

from tenants import housekeeping, people
from tenants.models import Invitation, OutgoingMail, Session

pytestmark = pytest.mark.django_db


def test_it_forgets_what_nobody_can_use_any_more(client_owner, owner, workspace_a):
    people.invite(workspace_a, "a@example.org", "viewer", owner)
    OutgoingMail.objects.create(recipient="a@example.org", subject="Reset", sealed_body=b"")
    housekeeping.forget()
    assert (Session.objects.count(), Invitation.objects.count(), OutgoingMail.objects.count()) == (1, 1, 1)
    long_ago = timezone.now() - timedelta(days=31)
    Session.objects.update(expire_date=long_ago)
    Invitation.objects.update(expires_at=long_ago)
    OutgoingMail.objects.update(created_at=long_ago)
    housekeeping.forget()
    assert (Session.objects.count(), Invitation.objects.count(), OutgoingMail.objects.count()) == (0, 0, 0)


def test_once_a_day_is_once(client_owner):
    housekeeping.once_a_day()
    Session.objects.update(expire_date=timezone.now() - timedelta(days=31))
    housekeeping.once_a_day()
    assert Session.objects.exists()
