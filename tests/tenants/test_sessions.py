"""A session row is worth nothing to whoever reads or writes the table."""

import pytest
from django.contrib.sessions.models import Session
from django.test import Client

pytestmark = pytest.mark.django_db


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
    Session.objects.exclude(pk=victim.pk).update(session_data=victim.session_data)
    assert thief.get("/").status_code == 302


def test_the_old_cookie_is_dead_after_signing_out(client_owner):
    old = Client()
    old.cookies["sessionid"] = client_owner.cookies["sessionid"].value
    assert old.get("/?all").status_code == 200
    client_owner.post("/accounts/logout/")
    assert old.get("/?all").status_code == 302
