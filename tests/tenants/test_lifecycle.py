"""Renaming, suspending, holding and scheduling the deletion of a workspace, by verb and by screen."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from tenants import lifecycle, people
from tenants.errors import Refused
from tenants.models import Membership, Tenant

pytestmark = pytest.mark.django_db


def test_a_suspended_workspace_is_shut_for_members_and_unknown_to_others(client_owner, workspace_a, person, sign_in):
    lifecycle.suspend(workspace_a, "The invoice of March is open")
    for path in ("", "documents/", "evaluation/", "members/", "settings/", "presence/"):
        response = client_owner.get(f"/w/alpha/{path}")
        assert response.status_code == 403
        assert "The invoice of March is open" in response.content.decode()
    assert client_owner.post("/w/alpha/", {"q": "anything"}).status_code == 403
    assert client_owner.get("/w/alpha/documents/rows/", HTTP_HX_REQUEST="true")["HX-Refresh"] == "true"
    assert sign_in(person(None)).get("/w/alpha/").status_code == 404
    lifecycle.resume(workspace_a)
    assert client_owner.get("/w/alpha/").status_code == 200


def test_an_invitation_into_a_suspended_workspace_opens_nothing(owner, workspace_a):
    offer = people.invite(workspace_a, "new@example.org", "viewer", owner)
    lifecycle.suspend(workspace_a, "Reason")
    assert Client().get(f"/invitation/{people.token_of(offer)}/").status_code == 410
    lifecycle.resume(workspace_a)
    assert Client().get(f"/invitation/{people.token_of(offer)}/").status_code == 200


def test_the_list_of_workspaces_says_that_one_is_suspended(client_owner, workspace_a):
    lifecycle.suspend(workspace_a, "Reason")
    assert "Suspended" in client_owner.get("/?all").content.decode()


@pytest.mark.parametrize("reason", ["", "   ", "x" * 301])
def test_a_reason_is_needed(workspace_a, reason):
    with pytest.raises(Refused, match="reason"):
        lifecycle.suspend(workspace_a, reason)
    with pytest.raises(Refused, match="reason"):
        lifecycle.hold(workspace_a, reason)


def test_what_does_not_follow_is_refused(workspace_a):
    with pytest.raises(Refused, match="not suspended"):
        lifecycle.resume(workspace_a)
    with pytest.raises(Refused, match="not scheduled"):
        lifecycle.keep(workspace_a)
    with pytest.raises(Refused, match="not held"):
        lifecycle.release(workspace_a)
    lifecycle.suspend(workspace_a, "Reason")
    with pytest.raises(Refused, match="only an active"):
        lifecycle.suspend(workspace_a, "Reason")
    with pytest.raises(Refused, match="1 to 365"):
        lifecycle.schedule_deletion(workspace_a, 0)


def test_a_hold_forbids_deletion_and_calls_it_off(workspace_a):
    lifecycle.schedule_deletion(workspace_a, 3)
    lifecycle.hold(workspace_a, "Court order 12")
    assert Tenant.objects.get(pk=workspace_a.pk).delete_at is None
    with pytest.raises(Refused, match="Court order 12"):
        lifecycle.schedule_deletion(workspace_a, 3)
    with pytest.raises(Refused, match="Court order 12"):
        lifecycle.begin_erasure(workspace_a)
    lifecycle.release(workspace_a)
    lifecycle.schedule_deletion(workspace_a, 3)


def test_owners_are_told_of_a_deletion(settings, workspace_a, owner, viewer, mailoutbox):
    settings.MAIL_IS_CONFIGURED = True
    lifecycle.schedule_deletion(workspace_a, 3)
    lifecycle.keep(workspace_a)
    assert [(message.to, message.subject.partition(" ")[0]) for message in mailoutbox] == [([owner.email], "Alpha")] * 2


def test_owners_are_told_of_a_suspension(mail_server, workspace_a, owner, viewer, mailoutbox):
    lifecycle.suspend(workspace_a, "The invoice of March is open")
    lifecycle.resume(workspace_a)
    assert [(message.to, message.subject) for message in mailoutbox] == [
        ([owner.email], "Alpha is suspended"),
        ([owner.email], "Alpha is resumed"),
    ]
    assert "The invoice of March is open" in mailoutbox[0].body


# ---------------------------------------------------------------- the settings page


def test_an_admin_renames_the_workspace(person, workspace_a, sign_in):
    admin = sign_in(person("admin", workspace_a))
    response = admin.post("/w/alpha/settings/", {"name": "  Reading   room "}, follow=True)
    assert "Reading room" in response.content.decode()
    assert Tenant.objects.get(pk=workspace_a.pk).name == "Reading room"
    Tenant.objects.filter(pk=workspace_a.pk).update(name="Alpha")


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_a_name_that_is_none_is_refused_and_stays_in_the_form(client_owner, workspace_a, name):
    response = client_owner.post("/w/alpha/settings/", {"name": name})
    assert response.status_code == 422
    assert Tenant.objects.get(pk=workspace_a.pk).name == "Alpha"


def test_an_owner_schedules_the_deletion_by_typing_the_address(client_owner, workspace_a):
    assert "In 14 days" in client_owner.get("/w/alpha/settings/delete/").content.decode()
    assert client_owner.post("/w/alpha/settings/delete/", {"address": "beta"}).status_code == 422
    client_owner.post("/w/alpha/settings/delete/", {"address": "alpha"})
    delete_at = Tenant.objects.get(pk=workspace_a.pk).delete_at
    assert timedelta(days=13) < delete_at - timezone.now() < timedelta(days=15)
    assert "will be deleted on" in client_owner.get("/w/alpha/").content.decode()
    client_owner.post("/w/alpha/settings/keep/")
    assert Tenant.objects.get(pk=workspace_a.pk).delete_at is None


def test_a_second_factor_is_required_only_by_who_has_one(client_owner, workspace_a):
    response = client_owner.post("/w/alpha/settings/second-factor/", {"require": "yes"}, follow=True)
    assert "of your own first" in response.content.decode()
    assert not Tenant.objects.get(pk=workspace_a.pk).require_mfa


@pytest.mark.parametrize("role", ["admin", "editor", "viewer"])
@pytest.mark.parametrize("path", ["second-factor/", "delete/", "keep/"])
def test_what_is_the_owners_is_refused_to_others(person, workspace_a, sign_in, role, path):
    response = sign_in(person(role, workspace_a)).post(f"/w/alpha/settings/{path}", {"address": "alpha", "require": "no"})
    assert response.status_code == 403
    assert "Owners of this workspace" in response.content.decode()
    assert Tenant.objects.get(pk=workspace_a.pk).delete_at is None


def test_editors_see_no_settings(client_editor):
    assert client_editor.get("/w/alpha/settings/").status_code == 403
    assert "/settings/" not in client_editor.get("/w/alpha/").content.decode()


def test_the_settings_say_how_much_room_there_is(client_owner, workspace_a):
    Tenant.objects.filter(pk=workspace_a.pk).update(quota_members=5)
    page = client_owner.get("/w/alpha/settings/").content.decode()
    assert "1 of 5 members" in page
    assert Membership.objects.filter(tenant=workspace_a).count() == 1


def test_under_a_hold_the_page_offers_no_deletion(client_owner, workspace_a):
    lifecycle.hold(workspace_a, "Court order 12")
    response = client_owner.get("/w/alpha/settings/delete/", follow=True)
    assert "Court order 12" in response.content.decode()
    assert "Delete in" not in response.content.decode()


def test_a_second_hold_does_not_replace_the_first_ones_reason(workspace_a):
    lifecycle.hold(workspace_a, "Court order 12")
    with pytest.raises(Refused, match="Court order 12"):
        lifecycle.hold(workspace_a, "Another")
    assert Tenant.objects.get(pk=workspace_a.pk).legal_hold == "Court order 12"
