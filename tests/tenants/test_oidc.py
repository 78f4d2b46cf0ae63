"""Sign-in by OpenID Connect, against a provider that really answers, signs and can be wrong."""

import html
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount, SocialToken
from cryptography.hazmat.primitives.asymmetric import rsa
from django.test import Client

from tenants import people
from tenants.models import User
from tests.conftest import PASSWORD
from tests.tenants.identity_provider import IdentityProvider

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider(settings: Any) -> Iterator[IdentityProvider]:
    with IdentityProvider() as provider:
        for name, value in provider.settings().items():
            setattr(settings, name, value)
        yield provider


@pytest.fixture
def open_to_all(settings: Any) -> None:
    settings.SIGN_UP_OPEN = True


def leave(client: Client, **fields: str) -> Any:
    return client.post("/accounts/oidc/login/", fields)


def address_in(page: Any) -> str:
    return html.unescape(re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', page.content.decode())[1])  # type: ignore[index]


def come_back(client: Client, page: Any) -> Any:
    """Go where the page leads, as a browser does, and come back with what the provider says."""
    back = requests.get(address_in(page), allow_redirects=False, timeout=5).headers["Location"]
    parts = urlsplit(back)
    return client.get(f"{parts.path}?{parts.query}")


def sign_in_there(client: Client, **fields: str) -> Any:
    return come_back(client, leave(client, **fields))


def is_signed_in(client: Client) -> bool:
    return bool(client.get("/?all").status_code == 200)


def words(response: Any) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode()))


# ---------------------------------------------------------------- what works


def test_there_is_no_button_and_no_page_where_it_is_not_configured(client):
    assert "oidc" not in client.get("/accounts/login/").content.decode()
    assert client.post("/accounts/oidc/login/").status_code == 404
    assert client.get("/accounts/oidc/login/callback/?code=x&state=y").status_code == 404


def test_an_invited_person_gets_an_account(provider, workspace_a, owner, client):
    people.invite(workspace_a, "ann@example.org", "viewer", owner)
    assert "Sign in with Guild" in client.get("/accounts/login/").content.decode()
    assert sign_in_there(client, next="/?all")["Location"] == "/?all"
    user = User.objects.get(email="ann@example.org")
    assert (user.name, user.has_usable_password(), user.is_staff) == ("Ann", False, False)
    assert EmailAddress.objects.get(user=user).verified
    assert is_signed_in(client)


def test_the_second_time_it_is_the_same_person_whatever_the_address_is_now(provider, open_to_all, client):
    sign_in_there(client)
    provider.claims["email"] = "ann.smith@example.org"
    again = Client()
    sign_in_there(again)
    assert is_signed_in(again)
    assert User.objects.get().email == "ann@example.org"


def test_somebody_else_with_the_same_address_is_not_that_person(provider, open_to_all, client):
    sign_in_there(client)
    provider.claims["sub"] = "person-2"
    impostor = Client()
    refused = sign_in_there(impostor)
    assert refused.status_code == 403
    assert "connect it under Account" in words(refused)
    assert not is_signed_in(impostor)


def test_the_same_subject_of_another_issuer_is_another_person(provider, open_to_all, client, settings):
    sign_in_there(client)
    with IdentityProvider() as other:
        for name, value in other.settings().items():
            setattr(settings, name, value)
        other.claims["email"] = "eve@example.org"
        sign_in_there(Client())
    assert User.objects.count() == SocialAccount.objects.count() == 2


def test_no_token_and_no_more_than_the_address_is_kept(provider, open_to_all, client):
    provider.claims["phone_number"] = "+49 30 123456"
    sign_in_there(client)
    assert not SocialToken.objects.exists()
    assert SocialAccount.objects.get().extra_data == {"email": "Ann@Example.org"}
    assert "person-1" not in SocialAccount.objects.get().uid


def test_an_address_may_come_by_userinfo(provider, open_to_all, client):
    provider.claims = {"sub": "person-1"}
    provider.userinfo = {"sub": "person-1", "email": "ann@example.org", "email_verified": True}
    sign_in_there(client)
    assert is_signed_in(client)


def test_a_person_connects_it_to_their_account_and_takes_it_off(provider, owner, client):
    provider.claims["email"] = "somebody.else@example.org"
    client.post("/accounts/login/", {"login": owner.email, "password": PASSWORD})
    asked = sign_in_there(client, process="connect")
    assert asked["Location"] == "/accounts/reauthenticate/"  # the password once more
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    assert SocialAccount.objects.get().user == owner
    other = Client()
    sign_in_there(other)
    assert other.get("/w/alpha/").status_code == 200
    page = client.get("/accounts/3rdparty/")
    assert "somebody.else@example.org" in page.content.decode()
    client.post("/accounts/3rdparty/", {"account": SocialAccount.objects.get().pk})
    assert not is_signed_in_anew()


def is_signed_in_anew() -> bool:
    client = Client()
    sign_in_there(client)
    return is_signed_in(client)


def test_a_second_factor_set_up_here_is_asked_for_all_the_same(provider, open_to_all, client, sign_in):
    sign_in_there(client)
    sign_in(User.objects.get(), second_factor=True)
    again = Client()
    assert sign_in_there(again)["Location"] == "/accounts/2fa/authenticate/"
    assert not is_signed_in(again)


def test_it_is_no_second_factor(provider, workspace_a, person, client):
    workspace_a.require_mfa = True
    workspace_a.save()
    viewer = person("viewer", workspace_a)
    client.force_login(viewer, backend="allauth.account.auth_backends.AuthenticationBackend")
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    sign_in_there(client, process="connect")
    other = Client()
    sign_in_there(other)
    assert other.get("/w/alpha/")["Location"].startswith("/accounts/second-factor/")


# ---------------------------------------------------------------- what is refused


def test_a_stranger_gets_no_account_where_sign_up_is_closed(provider, client):
    refused = sign_in_there(client)
    assert refused.status_code == 403
    assert "No workspace has invited ann@example.org" in " ".join(words(refused).split())
    assert not User.objects.exists()


@pytest.mark.parametrize("said", [False, None, "false"])
def test_an_unverified_address_makes_no_account(provider, open_to_all, client, said):
    provider.claims["email_verified"] = said
    refused = sign_in_there(client)
    assert refused.status_code == 403
    assert "names no e-mail address for you that it has confirmed" in words(refused)
    assert not User.objects.exists()


def test_an_account_with_that_address_is_not_taken_over(provider, open_to_all, person, client):
    there = person(None, email="ann@example.org")
    refused = sign_in_there(client)
    assert refused.status_code == 403
    assert "Sign in with your password, then connect it" in words(refused)
    assert not is_signed_in(client)
    assert not SocialAccount.objects.exists()
    assert there.check_password(PASSWORD)


@pytest.mark.parametrize(
    "spoil",
    [
        {"iss": "https://evil.example.org"},
        {"aud": "another-client"},
        {"exp": 1},
        {"iat": None},
        {"sub": None},
        {"email": ["ann@example.org"]},
        {"azp": "another-client"},
    ],
    ids=lambda spoil: next(iter(spoil)),
)
def test_a_token_not_from_it_or_not_for_us_is_not_believed(provider, open_to_all, client, spoil):
    provider.claims |= spoil
    refused = sign_in_there(client)
    assert refused.status_code == 401
    assert "was not accepted" in words(refused)
    assert not User.objects.exists()


def test_who_says_the_address_says_whether_it_is_verified(provider, open_to_all, client):
    provider.claims = {"sub": "person-1", "email_verified": True}
    provider.userinfo = {"sub": "person-1", "email": "ann@example.org", "email_verified": False}
    sign_in_there(client)
    assert not User.objects.exists()


def test_a_token_signed_by_another_key_is_not_believed(provider, open_to_all, client):
    provider.signing_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert sign_in_there(client).status_code == 401
    assert not User.objects.exists()


def test_userinfo_about_another_subject_is_not_believed(provider, open_to_all, client):
    provider.claims = {"sub": "person-1"}
    provider.userinfo = {"sub": "person-2", "email": "ann@example.org", "email_verified": True}
    assert sign_in_there(client).status_code == 401
    assert not User.objects.exists()


def test_a_discovery_document_of_another_issuer_is_not_believed(provider, client):
    provider.configuration["issuer"] = "https://evil.example.org"
    refused = leave(client)
    assert refused.status_code == 401
    assert "was not accepted" in words(refused)


def test_the_provider_is_away_before_and_afterwards(provider, open_to_all, client):
    page = leave(client)
    back = requests.get(address_in(page), allow_redirects=False, timeout=5).headers["Location"]
    provider.server.shutdown()
    provider.server.server_close()
    for refused in (leave(client), client.get("/accounts/oidc/login/callback/?" + urlsplit(back).query)):
        assert refused.status_code == 401
        assert "does not answer as it should" in words(refused)
    assert not is_signed_in(client)


@pytest.mark.parametrize("missing", ["token_endpoint", "jwks_uri", "authorization_endpoint"])
def test_a_discovery_document_without_what_is_needed(provider, open_to_all, client, missing):
    page = leave(client)
    back = requests.get(address_in(page), allow_redirects=False, timeout=5).headers["Location"]
    discovery = provider.discovery()
    del discovery[missing]
    provider.discovery = lambda: discovery
    assert (leave(client) if missing == "authorization_endpoint" else come_back_with(client, back)).status_code == 401


def come_back_with(client: Client, back: str) -> Any:
    return client.get(f"/accounts/oidc/login/callback/?{urlsplit(back).query}")


def test_an_answer_to_another_browsers_request_is_not_taken(provider, open_to_all, client):
    victim = Client()
    back = requests.get(address_in(leave(client)), allow_redirects=False, timeout=5).headers["Location"]
    refused = come_back_with(victim, back)
    assert refused.status_code == 401
    assert "did not belong to a sign-in begun in this browser" in words(refused)
    assert not is_signed_in(victim)


def test_a_person_who_changes_their_mind(provider, client):
    provider.refuses = True
    response = sign_in_there(client)
    assert "Sign-in was cancelled" in words(client.get(response["Location"]))


def test_a_link_starts_nothing_and_adds_nothing_to_what_is_asked(provider, client):
    assert client.get("/accounts/oidc/login/?process=connect").status_code == 200  # a page that asks
    asked = address_in(client.post("/accounts/oidc/login/?scope=admin&auth_params=prompt%3Dnone"))
    query = parse_qs(urlsplit(asked).query)
    assert set(query["scope"][0].split()) == {"openid", "profile", "email"}
    assert "prompt" not in query
    assert query["code_challenge_method"] == ["S256"]


def test_it_is_not_begun_without_end(provider, client):
    assert [leave(client).status_code for _ in range(31)][-1] == 429


def test_the_console_shows_no_secret_and_takes_no_provider(provider, open_to_all, person, sign_in, client):
    sign_in_there(client)
    staff = sign_in(person(None, email="staff@example.org", staff=True))
    assert "a-client-secret" not in staff.get("/admin/socialaccount/socialaccount/").content.decode()
    assert staff.get("/admin/socialaccount/socialapp/add/").status_code == 404
    assert staff.get("/admin/socialaccount/socialtoken/").status_code == 404
