"""Who is mailed about a workspace, and what it means when the mail server does not take it."""

import pytest
from django.core import mail

from tenants import lifecycle, notices
from tenants.models import Invitation, OutgoingMail, User

pytestmark = pytest.mark.django_db
TWO = ["a@example.org", "b@example.org"]


def test_one_message_each(mail_server):
    assert notices.tell(TWO, "Alpha\nis deleted", "Words")
    assert [(message.to, message.subject) for message in mail.outbox] == [([each], "Alpha is deleted") for each in TWO]


def test_a_refused_address_keeps_no_other_from_being_told(mail_server, caplog):
    mail_server.refuses(TWO[0])
    assert notices.tell(TWO, "Subject", "Words")
    assert [message.to for message in mail.outbox] == [[TWO[1]]]
    assert "SMTPRecipientsRefused" in caplog.text
    assert TWO[0] not in caplog.text


def test_a_server_that_is_away_is_logged_once_and_raises_nothing(mail_server, caplog):
    mail_server.is_away()
    assert not notices.tell(TWO, "Subject", "Words")
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_real_server_that_does_not_answer(settings):
    settings.MAIL_IS_CONFIGURED, settings.EMAIL_BACKEND = True, "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", 1, 2
    assert not notices.tell(TWO, "Subject", "Words")


def test_owners_who_can_sign_in_are_told_and_nobody_else(mail_server, owner, viewer, person, workspace_a, workspace_b):
    gone = person("owner", workspace_a, email="gone@example.org")
    person("owner", workspace_b, email="other@example.org")
    User.objects.filter(pk=gone.pk).update(is_active=False)
    lifecycle.schedule_deletion(workspace_a, 3)
    assert [message.to for message in mail.outbox] == [[owner.email]]


def test_without_a_mail_server_no_notice_waits_to_be_handed_over(settings, owner, workspace_a):
    settings.EMAIL_BACKEND = "tenants.mail.HandOverBackend"
    lifecycle.schedule_deletion(workspace_a, 3)
    assert not OutgoingMail.objects.exists()


def test_a_deletion_is_scheduled_whether_or_not_anybody_could_be_told(mail_server, owner, client_owner, workspace_a):
    mail_server.is_away()
    assert client_owner.post("/w/alpha/settings/delete/", {"address": "alpha"}).status_code == 302
    workspace_a.refresh_from_db()
    assert workspace_a.delete_at is not None


def test_an_invitation_that_could_not_be_mailed_stands_and_the_page_says_what_to_do(mail_server, client_owner):
    mail_server.is_away()
    fields = {"email": "new@example.org", "role": "viewer"}
    page = client_owner.post("/w/alpha/members/invite/", fields, follow=True).content.decode()
    assert "The mail could not be sent: invite them again later" in page
    assert Invitation.objects.get().email == "new@example.org"
    mail_server.recover()
    client_owner.post("/w/alpha/members/invite/", fields)
    assert "/invitation/" in mail.outbox[0].body
    assert Invitation.objects.count() == 1
