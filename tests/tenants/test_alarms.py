"""Alarms in the staff console: listed, settled with a reason, and for staff alone."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client

from tenants import alarms
from tenants.context import workspace
from tenants.models import Alarm, Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(person: Any, sign_in: Any) -> Client:
    client: Client = sign_in(person(None, email="staff@example.org", staff=True))
    return client


@pytest.fixture
def alarm(workspace_a: Tenant) -> Alarm:
    alarms.raise_alarm(Alarm.Kind.ROW, "tenants_membership 7", workspace_a)
    alarms.flush()
    return Alarm.objects.get()


def test_staff_see_what_was_found_and_settle_it_with_a_reason(staff: Client, alarm: Alarm) -> None:
    page = staff.get("/admin/tenants/alarm/").content.decode()
    assert "A row that grants access was not written by Cloister" in page
    assert "tenants_membership 7" in page
    page = staff.get(f"/admin/tenants/alarm/{alarm.pk}/change/").content.decode()
    assert "accept_restore" in page
    assert staff.post(f"/admin/tenants/alarm/{alarm.pk}/settle/", {"reason": ""}).status_code == 422
    staff.post(f"/admin/tenants/alarm/{alarm.pk}/settle/", {"reason": "A test of the backup"})
    alarm.refresh_from_db()
    assert alarm.settled_at is not None
    assert alarm.settled_because == "A test of the backup"
    page = staff.post(f"/admin/tenants/alarm/{alarm.pk}/settle/", {"reason": "Again"}, follow=True).content.decode()
    assert "before" in page
    assert not Alarm.objects.exclude(settled_because="A test of the backup").exists()


def test_nobody_else_sees_or_settles_them(client_owner: Client, alarm: Alarm) -> None:
    assert client_owner.get("/admin/tenants/alarm/").status_code == 302
    client_owner.post(f"/admin/tenants/alarm/{alarm.pk}/settle/", {"reason": "None of yours"})
    alarm.refresh_from_db()
    assert alarm.settled_at is None


def test_they_cannot_be_deleted_or_made(staff: Client, alarm: Alarm) -> None:
    assert staff.post(f"/admin/tenants/alarm/{alarm.pk}/delete/", {"post": "yes"}).status_code == 403
    assert staff.get("/admin/tenants/alarm/add/").status_code == 403
    assert Alarm.objects.exists()


def test_one_is_raised_inside_a_workspace(workspace_a: Tenant) -> None:
    with workspace(workspace_a):
        alarms.raise_alarm(Alarm.Kind.LOG, "audit_entry 3", workspace_a)
        alarms.flush()
        assert connection.tenant == workspace_a
    assert Alarm.objects.get().tenant == workspace_a


def test_one_about_a_workspace_that_is_gone_is_kept(db: None) -> None:
    alarms.raise_alarm(Alarm.Kind.ROW, "tenants_tenant x", Tenant().pk)
    alarms.flush()
    assert Alarm.objects.get().tenant is None
