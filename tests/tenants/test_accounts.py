"""Accounts and signing in, without a mail server."""

import re

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client

from tenants import mail, people
from tenants.errors import Refused
from tenants.models import OutgoingMail, User
from tests.conftest import PASSWORD
from tests.one_time_code import one_time_code

pytestmark = pytest.mark.django_db


def test_a_reset_mail_waits_encrypted_for_staff_to_hand_over(owner, settings):
    settings.EMAIL_BACKEND = "tenants.mail.HandOverBackend"  # as where EMAIL_HOST is not set
    Client().post("/accounts/password/reset/", {"email": owner.email})
    message = OutgoingMail.objects.get()
    assert message.recipient == owner.email
    link = mail.link(message)
    assert "/accounts/password/reset/key/" in link
    assert link.encode() not in bytes(message.sealed_body)
    client = Client()
    path = "/" + link.split("/", 3)[3]
    page = client.get(path, follow=True)
    assert page.status_code == 200
    client.post(page.request["PATH_INFO"], {"password1": "another-long-one", "password2": "another-long-one"})
    owner.refresh_from_db()
    assert owner.check_password("another-long-one")


def test_links_in_mail_lead_to_the_installation_not_to_a_workspaces_host(owner, workspace_a, settings):
    from tenants.models import Domain

    settings.EMAIL_BACKEND = "tenants.mail.HandOverBackend"
    Domain.objects.create(tenant=workspace_a, domain="alpha.example.org", is_primary=True)
    Client().post("/accounts/password/reset/", {"email": owner.email}, headers={"host": "alpha.example.org"})
    assert mail.link(OutgoingMail.objects.get()).startswith(settings.PUBLIC_URL + "/")


def test_only_superusers_see_mail_to_hand_over(owner, person, sign_in, settings):
    settings.EMAIL_BACKEND = "tenants.mail.HandOverBackend"
    Client().post("/accounts/password/reset/", {"email": owner.email})
    staff = person(None, email="staff@example.org", staff=True)
    listing = "/admin/tenants/outgoingmail/"
    assert sign_in(staff).get(listing).status_code == 200
    staff.is_superuser = False
    staff.save()
    assert sign_in(staff).get(listing).status_code == 403


def test_a_password_link_sets_the_password_once(person):
    user = person(None)
    path = "/" + people.password_link(user).split("/", 3)[3]
    client = Client()
    page = client.get(path, follow=True)
    client.post(page.request["PATH_INFO"], {"password1": "another-long-one", "password2": "another-long-one"})
    user.refresh_from_db()
    assert user.check_password("another-long-one")
    assert b"password1" not in Client().get(path, follow=True).content


def test_sign_up_is_closed_unless_opened(settings):
    page = Client().get("/accounts/signup/")
    assert b"password1" not in page.content
    settings.SIGN_UP_OPEN = True
    assert b"password1" in Client().get("/accounts/signup/").content


def test_one_address_has_one_account(owner):
    with pytest.raises(Refused, match="already"):
        people.create_person("OWNER@example.org", "x")


def test_five_wrong_passwords_lock_the_person_out(owner):
    client = Client()
    answers = [client.post("/accounts/login/", {"login": owner.email, "password": "wrong"}).status_code for _ in range(6)]
    assert 429 in answers
    client.post("/accounts/login/", {"login": owner.email, "password": PASSWORD})
    assert client.get("/w/alpha/").status_code == 302


def test_signing_in_leads_to_the_search_box(owner):
    client = Client()
    response = client.post("/accounts/login/", {"login": "Owner@Example.org", "password": PASSWORD}, follow=True)
    assert [path for path, _ in response.redirect_chain] == ["/", "/w/alpha/"]
    assert b'type="search"' in response.content


def test_a_second_factor_is_asked_for_and_its_secret_is_encrypted(owner):
    client = Client()
    client.post("/accounts/login/", {"login": owner.email, "password": PASSWORD})
    page = client.get("/accounts/2fa/totp/activate/", follow=True)
    if b'name="password"' in page.content:
        client.post(page.request["PATH_INFO"] + "?next=/accounts/2fa/totp/activate/", {"password": PASSWORD})
        client.get("/accounts/2fa/totp/activate/")
    secret = client.session["mfa.totp.secret"]
    client.post("/accounts/2fa/totp/activate/", {"code": one_time_code(secret)})
    stored = Authenticator.objects.get(type="totp")
    assert secret not in str(stored.data)
    again = Client()
    response = again.post("/accounts/login/", {"login": owner.email, "password": PASSWORD})
    assert "2fa" in response["Location"]
    assert again.get("/w/alpha/").status_code == 302
    again.post("/accounts/2fa/authenticate/", {"code": one_time_code(secret, later=1)})
    assert again.get("/w/alpha/").status_code == 200
    staff = User.objects.get(pk=owner.pk)
    staff.is_staff = staff.is_superuser = True
    staff.save()
    admin = Client().post("/admin/login/", {"username": owner.email, "password": PASSWORD})
    assert re.search("/accounts/", admin["Location"])
