"""Somebody who can write to the database of a running installation, and uses the pages in Chromium: nothing lets them in."""

import json
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.journeys.browsing import NewContext, sign_in
from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place
from tests.journeys.visitor import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.slow]


class Thief:
    """Psycopg as the administrator: reads, plants and brings back rows, and has neither keystore nor witness."""

    def __init__(self, database: psycopg.Connection[Any]) -> None:
        self.database = database

    def sql(self, statement: str, *values: Any) -> None:
        self.database.execute(statement, values)  # type: ignore[call-overload]

    def one(self, statement: str, *values: Any) -> Any:
        row = self.database.execute(statement, values).fetchone()  # type: ignore[call-overload]
        assert row is not None, statement
        return row[0]

    def person(self, email: str) -> int:
        return int(self.one("SELECT id FROM tenants_user WHERE email = %s", email))

    def copy(self, table: str, where: str, *values: Any) -> str:
        return json.dumps(self.one(f"SELECT to_jsonb(row) FROM {table} row WHERE {where}", *values))

    def bring_back(self, table: str, copy: str) -> None:
        record = json.loads(copy)
        columns = ", ".join(f'"{name}"' for name in record)
        changes = ", ".join(f'"{name}" = EXCLUDED."{name}"' for name in record)
        self.sql(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM jsonb_populate_record(NULL::{table}, %s::jsonb) "
            f"ON CONFLICT (id) DO UPDATE SET {changes}",
            copy,
        )

    def alarms(self, subject: str) -> int:
        return int(self.one("SELECT count(*) FROM tenants_alarm WHERE subject LIKE %s AND settled_at IS NULL", f"{subject}%"))


@pytest.fixture
def thief(database: psycopg.Connection[Any]) -> Thief:
    return Thief(database)


def is_shut_out(page: Page, place: Place) -> None:
    page.goto(f"{place.running.url}{place.path}")
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()


def does_not_sign_in(page: Page, place: Place, email: str, password: str = PASSWORD) -> None:
    page.goto(f"{place.running.url}/accounts/login/")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_text("The e-mail address or the password is wrong.")).to_be_visible()


def test_memberships_and_roles(make_place: MakePlace, new_context: NewContext, thief: Thief) -> None:
    vault, shed = make_place("Vault"), make_place("Shed")
    viewer = f"viewer@{shed.slug}.example"
    shed.member("viewer")
    page, owner = new_context().new_page(), new_context().new_page()
    sign_in(page, shed, viewer)
    sign_in(owner, vault)
    somebody = thief.person(viewer)

    # the owner's row under one's own name: not there, not even by name
    thief.sql(
        "INSERT INTO tenants_membership (user_id, tenant_id, role, seal) SELECT %s, tenant_id, role, seal "
        "FROM tenants_membership WHERE tenant_id = %s",
        somebody,
        vault.id,
    )
    is_shut_out(page, vault)
    page.goto(f"{vault.running.url}/?all")
    expect(page.get_by_text("Shed")).not_to_have_count(0)
    expect(page.get_by_text("Vault")).to_have_count(0)
    planted = thief.one("SELECT id FROM tenants_membership WHERE user_id = %s AND tenant_id = %s", somebody, vault.id)
    assert thief.alarms(f"tenants_membership {planted}") == 1

    # its owner is told, and takes it away
    owner.goto(f"{vault.running.url}{vault.path}members/")
    expect(owner.get_by_role("alert")).to_contain_text("not by Cloister")
    expect(owner.get_by_text("Not valid: not written by Cloister")).to_be_visible()
    owner.get_by_role("button", name=f"Remove {viewer}").click()
    expect(owner.get_by_text("Not valid: not written by Cloister")).to_have_count(0)

    # one's own role raised
    own = thief.copy("tenants_membership", "user_id = %s AND tenant_id = %s", somebody, shed.id)
    thief.sql("UPDATE tenants_membership SET role = 'owner' WHERE user_id = %s AND tenant_id = %s", somebody, shed.id)
    is_shut_out(page, shed)
    thief.bring_back("tenants_membership", own)  # as it was, nothing has happened
    page.goto(f"{shed.running.url}{shed.path}")
    expect(page.get_by_role("searchbox")).to_be_visible()

    # removed, and brought back as it was: alone, and with the workspace's row
    roster = thief.copy("tenants_tenant", "id = %s", shed.id)
    shed.owner.post(f"{shed.path}members/{somebody}/remove/")
    current = thief.copy("tenants_tenant", "id = %s", shed.id)
    thief.bring_back("tenants_membership", own)
    is_shut_out(page, shed)
    thief.bring_back("tenants_tenant", roster)
    is_shut_out(page, shed)
    thief.bring_back("tenants_tenant", current)
    assert shed.owner.get(shed.path).status == 200
    membership = json.loads(own)["id"]
    assert thief.alarms(f"tenants_membership {membership}") == 1


def test_passwords_addresses_staff_and_sessions(make_place: MakePlace, new_context: NewContext, thief: Thief) -> None:
    place = make_place("Strongroom")
    viewer = f"viewer@{place.slug}.example"
    place.member("viewer")
    mine, theirs = thief.person(viewer), thief.person(place.email)
    page = new_context().new_page()

    # one's own password hash for another person
    was = thief.copy("tenants_user", "id = %s", theirs)
    thief.sql(
        "UPDATE tenants_user SET password = (SELECT password FROM tenants_user WHERE id = %s) WHERE id = %s", mine, theirs
    )
    does_not_sign_in(page, place, place.email)
    assert place.owner.get(place.path).path.startswith("/accounts/login/")
    assert thief.alarms(f"tenants_user {theirs}") == 1
    thief.bring_back("tenants_user", was)

    # a former password
    former = thief.copy("tenants_user", "id = %s", mine)
    sign_in(page, place, viewer)
    page.goto(f"{place.running.url}/accounts/password/change/")
    page.get_by_label("Current password").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill("a-longer-one-than-before")
    page.get_by_label("New password again").fill("a-longer-one-than-before")
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_text("Your password is changed.")).to_be_visible()
    current = thief.copy("tenants_user", "id = %s", mine)
    thief.bring_back("tenants_user", former)
    other = new_context().new_page()
    does_not_sign_in(other, place, viewer)
    thief.bring_back("tenants_user", current)
    assert thief.alarms(f"tenants_user {mine}") == 1

    # staff by SQL: the console asks who one is
    thief.sql("UPDATE tenants_user SET is_staff = true, is_superuser = true WHERE id = %s", mine)
    page.goto(f"{place.running.url}/admin/")
    expect(page.get_by_label("Password", exact=True)).to_be_visible()
    thief.bring_back("tenants_user", current)
    page.goto(f"{place.running.url}{place.path}")
    expect(page.get_by_role("searchbox")).to_be_visible()

    # an address verified by SQL: the account pages are closed, and nobody signs in
    thief.sql(
        'INSERT INTO account_emailaddress (user_id, email, verified, "primary") VALUES (%s, %s, true, false)',
        mine,
        f"somebody-else@{place.slug}.example",
    )
    page.goto(f"{place.running.url}/accounts/email/")
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    does_not_sign_in(new_context().new_page(), place, viewer, "a-longer-one-than-before")
    assert thief.alarms(f"tenants_user {mine}, ways to sign in") == 1

    # a session as it is stored is no cookie
    place.owner.sign_in(place.email)
    key = thief.one("SELECT session_key FROM tenants_session WHERE user_id = %s LIMIT 1", theirs)
    context = new_context()
    context.add_cookies([{"name": "sessionid", "value": key, "url": place.running.url}])
    visitor = context.new_page()
    visitor.goto(f"{place.running.url}{place.path}")
    expect(visitor.get_by_label("Password", exact=True)).to_be_visible()
