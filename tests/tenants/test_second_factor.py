"""Where a second factor is required, the session must have been proved with one."""

from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import decrypt
from allauth.socialaccount.models import SocialAccount
from django.core import mail
from django.test import Client

from tenants.models import Domain
from tests.conftest import PASSWORD, SECRET
from tests.one_time_code import one_time_code

pytestmark = pytest.mark.django_db

PAGE = "/accounts/second-factor/"


def set_up_app(client: Client) -> None:
    """As a person does it: the password once more, the secret, its code."""
    asked = client.get("/accounts/2fa/totp/activate/")
    if "reauthenticate" in asked.headers.get("Location", ""):
        client.post(asked["Location"], {"password": PASSWORD})
        client.get("/accounts/2fa/totp/activate/")
    client.post("/accounts/2fa/totp/activate/", {"code": one_time_code(client.session["mfa.totp.secret"])})


@pytest.fixture
def strict(workspace_a):
    workspace_a.require_mfa = True
    workspace_a.save()
    return workspace_a


def test_a_member_without_one_is_led_to_a_page_that_says_why(strict, client_viewer):
    response = client_viewer.get("/w/alpha/documents/?page=2")
    assert response.status_code == 302
    assert response["Location"] == f"{PAGE}?next=%2Fw%2Falpha%2Fdocuments%2F%3Fpage%3D2"
    page = client_viewer.get(response["Location"]).content.decode()
    assert "Alpha" in page
    assert "/accounts/2fa/totp/activate/" in page
    add_passkey = "/accounts/2fa/webauthn/add/"
    assert add_passkey not in page, "over plain HTTP no browser offers one"
    assert add_passkey in client_viewer.get(response["Location"], secure=True).content.decode()


def test_a_part_of_a_page_leads_the_whole_there(strict, client_viewer):
    headers = {"hx-request": "true", "hx-current-url": "http://testserver/w/alpha/documents/?page=2"}
    response = client_viewer.post("/w/alpha/", {"q": "x"}, headers=headers)
    assert response.status_code == 204
    assert response["HX-Redirect"] == f"{PAGE}?next=%2Fw%2Falpha%2Fdocuments%2F"


def test_nothing_happens_before_it_is_proved(strict, client_owner):
    assert client_owner.post("/w/alpha/collections/create/", {"name": "Secret"})["Location"].startswith(PAGE)
    client = Client()
    client.cookies = client_owner.cookies
    strict.require_mfa = False
    strict.save()
    assert "Secret" not in client.get("/w/alpha/collections/").content.decode()


def test_a_workspace_that_does_not_require_it_stays_open(workspace_a, client_viewer):
    assert client_viewer.get("/w/alpha/").status_code == 200


def test_nobody_learns_of_a_workspace_by_it(strict, sign_in, person):
    assert sign_in(person(None)).get("/w/alpha/").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_setting_it_up_in_the_session_proves_it_and_leads_back(strict, viewer, sign_in):
    client = sign_in(viewer)
    client.get(client.get("/w/alpha/documents/")["Location"])
    set_up_app(client)
    codes = client.get("/accounts/2fa/recovery-codes/").content.decode()
    assert f'href="{PAGE}"' in codes
    assert client.get(PAGE)["Location"] == "/w/alpha/documents/"
    assert client.get("/w/alpha/documents/").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_an_older_session_on_another_device_does_not_get_in_with_it(strict, viewer, sign_in):
    older, newer = sign_in(viewer), sign_in(viewer)
    set_up_app(newer)
    assert newer.get("/w/alpha/").status_code == 200
    led = older.get("/w/alpha/")
    assert led["Location"].startswith(PAGE)
    page = older.get(led["Location"]).content.decode()
    assert "Confirm your second factor" in page
    assert "/accounts/2fa/reauthenticate/" in page
    secret = decrypt(Authenticator.objects.get(user=viewer, type="totp").data["secret"])
    confirmed = older.post(f"/accounts/2fa/reauthenticate/?next={PAGE}", {"code": one_time_code(secret, later=1), "next": PAGE})
    assert confirmed["Location"] == PAGE
    assert older.get(PAGE)["Location"] == "/w/alpha/"
    assert older.get("/w/alpha/").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["", "webauthn/", "webauthn/add/", "totp/activate/", "totp/deactivate/", "recovery-codes/", "recovery-codes/download/",
     "recovery-codes/generate/"],
)  # fmt: skip
def test_the_password_alone_changes_no_second_factor(viewer, sign_in, path):
    """Else whoever knows it, in a session without one, would add a passkey of their own or read the recovery codes."""
    sign_in(viewer, second_factor=True)
    thief = sign_in(viewer)
    thief.post("/accounts/reauthenticate/", {"password": PASSWORD})
    assert thief.get(f"/accounts/2fa/{path}")["Location"].startswith(PAGE)
    assert sign_in(viewer, second_factor=True).get("/accounts/2fa/").status_code == 200


def test_one_that_was_removed_proves_nothing_any_more(strict, viewer, sign_in):
    client = sign_in(viewer, second_factor=True)
    assert client.get("/w/alpha/").status_code == 200
    Authenticator.objects.filter(user=viewer).delete()
    assert client.get("/w/alpha/")["Location"].startswith(PAGE)


def test_records_of_another_person_count_for_nothing(strict, viewer, owner, sign_in):
    client = sign_in(viewer, second_factor=True)
    session = client.session
    session["account_authentication_methods_user"] = str(owner.pk)
    session.save()
    assert client.get("/w/alpha/")["Location"].startswith(PAGE)


def test_signing_in_with_a_code_is_enough(strict, viewer, sign_in):
    sign_in(viewer, second_factor=True)
    client = Client()
    client.post("/accounts/login/", {"login": viewer.email, "password": PASSWORD})
    assert client.get("/w/alpha/")["Location"].startswith("/accounts/login/")
    client.post("/accounts/2fa/authenticate/", {"code": one_time_code(SECRET)})
    assert client.get("/w/alpha/").status_code == 200


def test_a_link_cannot_lead_elsewhere_afterwards(client_viewer):
    client_viewer.get(f"{PAGE}?next=https://evil.example.org/")
    assert "second_factor_next" not in client_viewer.session


def test_it_holds_on_a_hostname_of_its_own(strict, viewer):
    Domain.objects.create(tenant=strict, domain="alpha.example.org", is_primary=True)
    client_viewer = Client(headers={"host": "alpha.example.org"})
    client_viewer.post("/accounts/login/", {"login": viewer.email, "password": PASSWORD})
    led = client_viewer.get("/documents/")
    assert led["Location"] == f"{PAGE}?next=%2Fdocuments%2F"
    assert client_viewer.get(led["Location"]).status_code == 200


# ---------------------------------------------------------------- staff


@pytest.mark.parametrize("path", [f"/admin/{page}" for page in ("", "tenants/user/", "queues/", "queues/queues/0/", "jsi18n/")])
def test_staff_always_need_it(person, sign_in, path):
    staff = person(None, email="staff@example.org", staff=True)
    led = sign_in(staff, second_factor=False).get(path)
    assert parse_qs(urlsplit(led["Location"]).query) == {"next": [path]}
    page = sign_in(staff, second_factor=False).get(led["Location"]).content.decode()
    assert "because staff can change every workspace" in page
    assert sign_in(staff).get(path).status_code == 200


def test_staff_change_nothing_without_it(person, sign_in, viewer):
    client = sign_in(person(None, email="staff@example.org", staff=True), second_factor=False)
    client.post("/admin/tenants/user/", {"action": "delete_selected", "_selected_action": [viewer.pk], "post": "yes"})
    viewer.refresh_from_db()


def test_staff_help_whoever_lost_theirs(person, sign_in, viewer, mail_server):
    sign_in(viewer, second_factor=True)
    staff = sign_in(person(None, email="staff@example.org", staff=True))
    lost = Authenticator.objects.get(user=viewer)
    staff.post(f"/admin/mfa/authenticator/{lost.pk}/delete/", {"post": "yes"})
    assert [(message.to, message.subject) for message in mail.outbox] == [([viewer.email], "A way to sign in was removed")]
    client = Client()
    response = client.post("/accounts/login/", {"login": viewer.email, "password": PASSWORD})
    assert response["Location"] == "/"
    assert client.get("/w/alpha/").status_code == 200


@pytest.mark.parametrize("model", ["mfa/authenticator", "socialaccount/socialaccount"])
def test_staff_neither_see_nor_make_nor_change_what_proves_a_person(person, sign_in, viewer, model):
    sign_in(viewer, second_factor=True)
    SocialAccount.objects.create(user=viewer, provider="oidc", uid="subject", extra_data={"note": "confidential claim"})
    staff = sign_in(person(None, email="staff@example.org", staff=True))
    theirs = Authenticator if model.startswith("mfa") else SocialAccount
    page = f"/admin/{model}/{theirs.objects.get(user=viewer).pk}/change/"
    words = staff.get(page).content.decode()
    assert viewer.email in words
    assert "secret" not in words
    assert "confidential claim" not in words
    assert (staff.post(page, {"user": "1"}).status_code, staff.get(f"/admin/{model}/add/").status_code) == (403, 403)


def test_who_is_no_staff_is_not_led_there(client_owner):
    assert client_owner.get("/admin/")["Location"].startswith("/admin/login/")
