"""A session row is worth nothing to whoever reads or writes the table; its person sees it and can end it."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from tenants.models import Domain, Session
from tenants.sessions import in_words
from tests.conftest import PASSWORD

pytestmark = pytest.mark.django_db

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def test_the_table_does_not_hold_the_cookie_nor_what_is_in_the_session(client_owner):
    key = client_owner.cookies["sessionid"].value
    row = Session.objects.get()
    assert row.session_key != key
    assert key not in row.session_data
    assert row.get_decoded() == {}


def test_a_key_read_from_the_table_is_no_cookie(client_owner):
    thief = Client()
    thief.cookies["sessionid"] = Session.objects.get().session_key
    assert thief.get("/").status_code == 302


def test_contents_copied_into_another_row_sign_nobody_in(client_owner):
    victim = Session.objects.get()
    thief = Client()
    session = thief.session
    session["x"] = 1
    session.save()
    Session.objects.exclude(pk=victim.pk).update(session_data=victim.session_data, user=victim.user)
    assert thief.get("/").status_code == 302


def test_a_cookie_of_a_workspaces_own_hostname_opens_nothing_elsewhere(owner, workspace_a, workspace_b):
    """Whoever brought the hostname can read what browsers send to it."""
    for tenant, host in ((workspace_a, "alpha.example"), (workspace_b, "beta.example")):
        Domain.objects.create(domain=host, tenant=tenant, is_primary=True)
    client = Client(headers={"host": "alpha.example"})
    client.post("/accounts/login/", {"login": owner.email, "password": PASSWORD})
    assert client.get("/").status_code == 200
    for host in ("testserver", "beta.example"):
        thief = Client(headers={"host": host})
        thief.cookies["sessionid"] = client.cookies["sessionid"].value
        assert thief.get("/accounts/sessions/").status_code == 302
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("session", ["", "\0", "no such", "x" * 1000])
def test_a_session_that_is_none_ends_nothing(client_owner, session):
    assert client_owner.post("/accounts/sessions/end/", {"session": session}).status_code == 302
    assert Session.objects.count() == 1


def test_the_old_cookie_is_dead_after_signing_out(client_owner):
    old = Client()
    old.cookies["sessionid"] = client_owner.cookies["sessionid"].value
    assert old.get("/?all").status_code == 200
    client_owner.post("/accounts/logout/")
    assert old.get("/?all").status_code == 302


def test_a_row_says_whose_it_is_from_where_and_since_when(owner):
    client = Client(headers={"user-agent": FIREFOX}, REMOTE_ADDR="192.0.2.7")
    client.post("/accounts/login/", {"login": owner.email, "password": PASSWORD})
    row = Session.objects.get(user=owner)
    assert (row.browser, row.address) == ("Firefox on Linux", "192.0.2.7")
    long_ago = timezone.now() - timedelta(hours=2)
    Session.objects.update(started_at=long_ago, seen_at=long_ago)
    client.get("/w/alpha/", REMOTE_ADDR="192.0.2.8")  # in the workspace's role
    row.refresh_from_db()
    assert row.started_at == long_ago
    assert row.seen_at > long_ago
    assert row.address == "192.0.2.8"


def test_it_is_written_at_most_every_ten_minutes(client_owner, owner):
    lately = timezone.now() - timedelta(minutes=9)
    Session.objects.update(seen_at=lately)
    client_owner.get("/?all")
    assert Session.objects.get(user=owner).seen_at == lately


def test_a_change_of_its_contents_leaves_its_beginning(client_owner, owner):
    long_ago = timezone.now() - timedelta(hours=2)
    Session.objects.update(started_at=long_ago)
    session = client_owner.session
    session["x"] = 1
    session.save()
    assert Session.objects.get(user=owner).started_at == long_ago


def test_a_person_sees_their_sessions_and_nobody_elses(sign_in, owner, viewer):
    for user, agent in ((owner, FIREFOX), (viewer, "somebody's own program")):
        Client(headers={"user-agent": agent}).post("/accounts/login/", {"login": user.email, "password": PASSWORD})
    page = sign_in(owner).get("/accounts/sessions/").content.decode()
    assert page.count("This device") == 1
    assert "Firefox on Linux" in page
    assert "somebody" not in page


def test_one_browser_is_signed_out_by_another(sign_in, owner):
    lost, kept = sign_in(owner), sign_in(owner)
    row = next(row for row in Session.objects.filter(user=owner) if row.pk in kept.get("/accounts/sessions/").content.decode())
    kept.post("/accounts/sessions/end/", {"session": row.pk})
    assert lost.get("/w/alpha/").status_code == 302
    assert kept.get("/w/alpha/").status_code == 200


def test_everywhere_else_is_everywhere_but_here(sign_in, owner, viewer):
    others, other_person, here = [sign_in(owner) for _ in range(3)], sign_in(viewer), sign_in(owner)
    page = here.post("/accounts/sessions/end-others/", follow=True).content.decode()
    assert "Signed out 3 other browsers." in page
    assert "Sign out everywhere else" not in page
    assert [client.get("/w/alpha/").status_code for client in others] == [302, 302, 302]
    assert here.get("/w/alpha/").status_code == other_person.get("/w/alpha/").status_code == 200


def test_nobody_ends_the_session_of_another(client_viewer, client_owner, owner):
    client_viewer.post("/accounts/sessions/end/", {"session": Session.objects.get(user=owner).pk})
    assert client_owner.get("/w/alpha/").status_code == 200


def test_staff_sign_somebody_out_everywhere(sign_in, person, client_owner, owner):
    staff = sign_in(person(None, email="staff@example.org", staff=True))
    staff.post("/admin/tenants/user/", {"action": "sign_out_everywhere", "_selected_action": [owner.pk]})
    assert client_owner.get("/w/alpha/").status_code == 302
    assert staff.get("/admin/").status_code == 200


def test_a_new_password_ends_all_other_sessions(sign_in, owner):
    other, here = sign_in(owner), sign_in(owner)
    new = "another-long-passphrase"
    here.post("/accounts/password/change/", {"oldpassword": PASSWORD, "password1": new, "password2": new})
    assert Session.objects.filter(user=owner).count() == 1
    assert here.get("/w/alpha/").status_code == 200
    assert other.get("/w/alpha/").status_code == 302


def test_a_deleted_person_has_no_session(client_viewer, viewer):
    viewer.delete()
    assert not Session.objects.exists()
    assert client_viewer.get("/w/alpha/").status_code == 302


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (FIREFOX, "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 "
         "Edg/140.0.0.0", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 "
         "Mobile/15E148 Safari/604.1", "Safari on iPhone"),
        ("curl/8.9", "curl/8.9"),
        ("x" * 500, "x" * 200),
        ("", ""),
    ],
)  # fmt: skip
def test_browsers_in_words(header, words):
    assert in_words(header) == words
