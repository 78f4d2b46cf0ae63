"""Sign-in, account and error pages: each in Cloister's frame, none with anything a strict policy would block."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponseBase
from django.test import Client

pytestmark = pytest.mark.django_db

BLOCKED = re.compile(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\s(src=|type=.application/json))", re.IGNORECASE)


def text_of(response: HttpResponseBase, status: int = 200) -> str:
    assert response.status_code == status
    page = response.content.decode()  # type: ignore[attr-defined]
    assert '<a class="wordmark"' in page
    assert BLOCKED.search(page) is None
    assert "<h1" in page
    return page


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/accounts/login/", "Sign in"),
        ("/accounts/signup/", "Accounts are by invitation"),
        ("/accounts/inactive/", "This account is switched off"),
        ("/accounts/password/reset/", "Reset your password"),
        ("/accounts/password/reset/done/", "Ask the administrator for your link"),
        ("/accounts/password/reset/key/1-bad/", "This link no longer works"),
        ("/accounts/confirm-email/", "Confirm your address"),
        ("/accounts/confirm-email/bad/", "Confirm your address"),
        ("/invitation/bad/", "This link does not work"),
    ],
)
def test_a_visitor_sees(client: Client, path: str, words: str) -> None:
    response = client.get(path)
    assert words in text_of(response, 410 if path == "/invitation/bad/" else 200)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/accounts/logout/", "Stay signed in"),
        ("/accounts/email/", "Your addresses"),
        ("/accounts/password/change/", "Change your password"),
        ("/accounts/2fa/", "Authenticator app"),
        ("/accounts/reauthenticate/", "Confirm that it is you"),
        ("/?all", "Your workspaces"),
    ],
)
def test_a_member_sees(client_owner: Client, path: str, words: str) -> None:
    assert words in text_of(client_owner.get(path))


def test_it_asks_for_the_password_again_before_a_second_factor(
    sign_in: Callable[[Any], Client], person: Callable[..., Any]
) -> None:
    client = sign_in(person(None))
    asked = client.get("/accounts/2fa/totp/activate/", follow=True)
    assert "Confirm that it is you" in text_of(asked)
    client.post(asked.request["PATH_INFO"] + "?" + asked.request["QUERY_STRING"], {"password": "correct-horse-battery"})
    page = text_of(client.get("/accounts/2fa/totp/activate/"))
    assert 'alt="QR code with the secret below"' in page
    assert 'data-copy="#authenticator_secret"' in page


def test_it_says_honestly_that_no_mail_is_sent(client: Client, settings: Any) -> None:
    assert "This installation does not send mail." in text_of(client.get("/accounts/password/reset/"))
    settings.MAIL_IS_CONFIGURED = True
    assert "Send the link" in text_of(client.get("/accounts/password/reset/"))


def test_it_answers_a_wrong_password_above_the_form(client: Client) -> None:
    page = text_of(client.post("/accounts/login/", {"login": "nobody@example.org", "password": "wrong-wrong-wrong"}))
    assert 'role="alert" tabindex="-1" data-focus' in page
    assert 'value="nobody@example.org"' in page


def test_what_does_not_exist_and_what_is_not_yours_look_alike(
    sign_in: Callable[[Any], Client], person: Callable[..., Any], workspace_b: Any
) -> None:
    client = sign_in(person(None))
    pages = [text_of(client.get(f"/w/{slug}/"), 404) for slug in (workspace_b.slug, "never-made")]
    varying = re.compile(r'(?<=id="reference">)\w+|(?<=csrfmiddlewaretoken" value=")\w+|(?<=csrf-token" content=")\w+')
    assert varying.sub("", pages[0]) == varying.sub("", pages[1])
    assert workspace_b.name not in pages[0]


def test_a_small_role_is_told_who_may(client_viewer: Client, workspace_a: Any) -> None:
    page = text_of(client_viewer.post(f"/w/{workspace_a.slug}/members/invite/"), 403)
    assert "Admins and owners of this workspace can do this." in page
    assert 'id="reference"' in page


def test_the_members_page_shows_people_roles_and_links(client_owner: Client, workspace_a: Any) -> None:
    address = f"/w/{workspace_a.slug}/members/"
    assert client_owner.post(f"{address}invite/", {"email": "bob@example.org", "role": "editor"}).status_code == 302
    page = text_of(client_owner.get(address))
    assert "owner@example.org" in page
    assert 'aria-label="Link for bob@example.org"' in page
    assert "What each role may do" in page
    link = re.search(r'aria-label="Link for bob@example.org" value="https?://[^/]+(/[^"]+)"', page)
    assert link
    assert f"Join {workspace_a.name}" in text_of(Client().get(link.group(1)))


def test_a_viewer_sees_members_but_cannot_invite(client_viewer: Client, workspace_a: Any) -> None:
    page = text_of(client_viewer.get(f"/w/{workspace_a.slug}/members/"))
    assert "viewer@example.org" in page
    assert "Invite someone" not in page


def test_the_server_sets_the_theme(client: Client) -> None:
    client.cookies["theme"] = "dark"
    assert '<html lang="en" data-theme="dark">' in text_of(client.get("/accounts/login/"))


def test_only_the_queue_pages_of_the_staff_console_may_carry_styles(person: Callable[..., Any], sign_in: Any) -> None:
    staff = sign_in(person(None, staff=True))
    index, queue = staff.get("/admin/"), staff.get("/admin/queues/queues/0/")
    assert BLOCKED.search(index.content.decode()) is None
    assert BLOCKED.search(queue.content.decode()) is None
    assert "unsafe-inline" not in index["Content-Security-Policy"]
    assert "style-src 'self' 'unsafe-inline'" in queue["Content-Security-Policy"]
    directives = [each.strip() for each in queue["Content-Security-Policy"].split(";")]
    assert "script-src 'self'" in directives  # their order differs from process to process
