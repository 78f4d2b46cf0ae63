"""Passkeys: made once, then a second factor, or a way in alone."""

import json
import re
from typing import Any

import pytest
from allauth.mfa.models import Authenticator as Stored
from django.test import Client

from tests.conftest import PASSWORD
from tests.tenants.authenticator import Authenticator

pytestmark = pytest.mark.django_db


def options_in(page: Any) -> dict[str, Any]:
    found = re.search(r'<script id="js_data" type="application/json">(.*?)</script>', page.content.decode())
    assert found, page.content
    (options,) = json.loads(found[1]).values()
    return options["publicKey"]


def add_passkey(client: Client, device: Authenticator, **fields: str) -> Any:
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    credential = device.create(options_in(client.get("/accounts/2fa/webauthn/add/")))
    given = {"name": "Laptop", "passwordless": "on", "credential": json.dumps(credential)} | fields
    return client.post("/accounts/2fa/webauthn/add/", given)


def use_passkey(client: Client, device: Authenticator, **fields: str) -> Any:
    """On the sign-in page, before anybody is named."""
    options = client.get("/accounts/2fa/webauthn/login/", headers={"accept": "application/json"}).json()["request_options"]
    return client.post("/accounts/2fa/webauthn/login/", {"credential": json.dumps(device.get(options["publicKey"])), **fields})


@pytest.fixture
def device() -> Authenticator:
    return Authenticator()


@pytest.fixture
def client_with_passkey(client_viewer: Client, device: Authenticator) -> Client:
    response = add_passkey(client_viewer, device)
    assert response["Location"] == "/accounts/2fa/recovery-codes/"
    return client_viewer


def test_it_signs_in_alone(client_with_passkey, device):
    client = Client()
    assert "Sign in with a passkey" in client.get("/accounts/login/").content.decode()
    assert use_passkey(client, device, next="/w/alpha/documents/")["Location"] == "/w/alpha/documents/"
    assert client.get("/w/alpha/documents/").status_code == 200


def test_it_is_a_second_factor_after_the_password(client_with_passkey, viewer, device):
    client = Client()
    asked = client.post("/accounts/login/", {"login": viewer.email, "password": PASSWORD})
    assert asked["Location"] == "/accounts/2fa/authenticate/"
    assert client.get("/w/alpha/").status_code == 302
    page = client.get("/accounts/2fa/authenticate/")
    assert "Use your passkey" in page.content.decode()
    client.post("/accounts/2fa/authenticate/", {"credential": json.dumps(device.get(options_in(page)))})
    assert client.get("/w/alpha/").status_code == 200


@pytest.mark.parametrize("alone", [True, False])
def test_either_way_satisfies_a_workspace_that_requires_one(client_with_passkey, viewer, workspace_a, device, alone):
    workspace_a.require_mfa = True
    workspace_a.save()
    assert client_with_passkey.get("/w/alpha/").status_code == 200  # it was set up in this session
    client = Client()
    if alone:
        use_passkey(client, device)
    else:
        client.post("/accounts/login/", {"login": viewer.email, "password": PASSWORD})
        page = client.get("/accounts/2fa/authenticate/")
        client.post("/accounts/2fa/authenticate/", {"credential": json.dumps(device.get(options_in(page)))})
    assert client.get("/w/alpha/").status_code == 200


def test_an_older_session_is_confirmed_with_it(client_viewer, sign_in, viewer, workspace_a, device):
    older = sign_in(viewer)
    add_passkey(client_viewer, device)
    workspace_a.require_mfa = True
    workspace_a.save()
    page = older.get(older.get("/w/alpha/")["Location"]).content.decode()
    assert "/accounts/2fa/webauthn/reauthenticate/" in page
    page = older.get("/accounts/2fa/webauthn/reauthenticate/?next=/accounts/second-factor/")
    answer = {"credential": json.dumps(device.get(options_in(page))), "next": "/accounts/second-factor/"}
    assert older.post("/accounts/2fa/webauthn/reauthenticate/", answer)["Location"] == "/accounts/second-factor/"
    assert older.get("/w/alpha/").status_code == 200


def test_alone_it_needs_the_owners_presence_proved(client_viewer):
    """A key that only blinks is a second factor; whoever finds it must not get in with it."""
    key = Authenticator(verifies=False)
    add_passkey(client_viewer, key, passwordless="")
    assert Stored.objects.filter(type="webauthn").count() == 1
    client = Client()
    use_passkey(client, key)
    assert client.get("/w/alpha/").status_code == 302


def test_another_devices_answer_is_none(client_with_passkey, device):
    stranger = Authenticator()
    stranger.handle, stranger.id = device.handle, device.id
    client = Client()
    page = client.get(use_passkey(client, stranger)["Location"])
    assert "belongs to no account here" in page.content.decode()
    assert client.get("/w/alpha/").status_code == 302


def test_an_answer_works_once_and_only_in_its_browser(client_with_passkey, device):
    client, thief = Client(), Client()
    options = client.get("/accounts/2fa/webauthn/login/", headers={"accept": "application/json"}).json()["request_options"]
    answer = {"credential": json.dumps(device.get(options["publicKey"]))}
    thief.post("/accounts/2fa/webauthn/login/", answer)
    assert thief.get("/w/alpha/").status_code == 302
    client.post("/accounts/2fa/webauthn/login/", answer)
    client.post("/accounts/logout/")
    client.post("/accounts/2fa/webauthn/login/", answer)
    assert client.get("/w/alpha/").status_code == 302


def test_one_made_at_another_address_is_none(client_viewer):
    with_another_host = Authenticator("http://alpha.example.org")
    add_passkey(client_viewer, with_another_host)
    assert not Stored.objects.exists()


DEEP = "[" * 100_000


@pytest.mark.parametrize("garbage", ["", "{}", "[]", "null", "1", DEEP, '{"response": {}}', '{"id": "x", "response": {}}'])
def test_garbage_signs_nobody_in_and_breaks_nothing(client, garbage):
    client.get("/accounts/2fa/webauthn/login/", headers={"accept": "application/json"})
    assert client.post("/accounts/2fa/webauthn/login/", {"credential": garbage}).status_code == 302
    assert client.get("/?all").status_code == 302


@pytest.mark.parametrize("garbage", ["", "{}", "[]", DEEP, '{"id": "x", "response": {}}'])
def test_garbage_makes_and_confirms_nothing(client_viewer, garbage):
    client_viewer.post("/accounts/reauthenticate/", {"password": PASSWORD})
    client_viewer.get("/accounts/2fa/webauthn/add/")
    assert client_viewer.post("/accounts/2fa/webauthn/add/", {"credential": garbage}).status_code == 200
    assert client_viewer.post("/accounts/2fa/webauthn/reauthenticate/", {"credential": garbage}).status_code == 302
    assert not Stored.objects.exists()


def test_who_was_switched_off_is_not_let_in(client_with_passkey, viewer, device):
    viewer.is_active = False
    viewer.save()
    client = Client()
    use_passkey(client, device)
    assert client.get("/w/alpha/").status_code == 302


def test_they_are_listed_renamed_and_removed(client_with_passkey):
    passkey = Stored.objects.get(type="webauthn")
    assert "Laptop" in client_with_passkey.get("/accounts/2fa/webauthn/").content.decode()
    client_with_passkey.post(f"/accounts/2fa/webauthn/keys/{passkey.pk}/edit/", {"name": "Old laptop"})
    assert "Old laptop" in client_with_passkey.get("/accounts/2fa/webauthn/").content.decode()
    client_with_passkey.post(f"/accounts/2fa/webauthn/keys/{passkey.pk}/remove/")
    assert not Stored.objects.exists()  # the recovery codes went with the last one


def test_nobody_touches_anothers(client_with_passkey, sign_in, owner):
    passkey = Stored.objects.get(type="webauthn")
    client = sign_in(owner)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    assert client.post(f"/accounts/2fa/webauthn/keys/{passkey.pk}/remove/").status_code == 404


def test_there_are_too_many_attempts(client_with_passkey):
    client = Client()
    answers = [client.post("/accounts/2fa/webauthn/login/", {"credential": "{}"}) for _ in range(11)]
    assert answers[-1].status_code == 429
    assert answers[-1]["Retry-After"] == "60"
