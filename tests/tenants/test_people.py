"""Who is a member of a workspace, in which role, and how that ends."""

import threading

import pytest
from django.db import connection, transaction
from django.test import Client

from tenants import people
from tenants.errors import Refused
from tenants.models import Membership, Tenant, User
from tenants.permissions import IN_WORDS, ROLE_ACTIONS, Role

pytestmark = pytest.mark.django_db


def test_the_last_owner_stays(client_owner, owner, workspace_a):
    response = client_owner.post(f"/w/alpha/members/{owner.pk}/remove/", follow=True)
    assert "at least one owner" in response.content.decode()
    assert Membership.objects.filter(user=owner).exists()


def test_a_removed_member_is_out_at_once(client_owner, client_viewer, viewer):
    assert client_viewer.get("/w/alpha/").status_code == 200
    client_owner.post(f"/w/alpha/members/{viewer.pk}/remove/")
    assert client_viewer.get("/w/alpha/").status_code == 404


def test_members_of_another_workspace_cannot_be_touched(client_owner, person, workspace_b):
    other = person("editor", workspace_b)
    assert client_owner.post(f"/w/alpha/members/{other.pk}/remove/").status_code == 404
    assert Membership.objects.filter(user=other).exists()


def members(tenant) -> dict[str, str]:
    return dict(Membership.objects.filter(tenant=tenant).values_list("user__email", "role"))


def test_an_owner_changes_a_role(client_owner, viewer, workspace_a):
    client_owner.post(f"/w/alpha/members/{viewer.pk}/role/", {"role": "admin"})
    assert members(workspace_a)[viewer.email] == "admin"


def test_an_admin_makes_and_unmakes_no_owner(person, workspace_a, owner, viewer, sign_in):
    admin = sign_in(person("admin", workspace_a))
    before = members(workspace_a)
    for target, role in ((viewer, "owner"), (owner, "viewer"), (owner, "owner")):
        response = admin.post(f"/w/alpha/members/{target.pk}/role/", {"role": role}, follow=True)
        assert "Only an owner" in response.content.decode()
    assert "Only an owner" in admin.post(f"/w/alpha/members/{owner.pk}/remove/", follow=True).content.decode()
    assert members(workspace_a) == before
    admin.post(f"/w/alpha/members/{viewer.pk}/role/", {"role": "editor"})
    assert members(workspace_a)[viewer.email] == "editor"


@pytest.mark.parametrize("role", ["emperor", "", "Owner"])
def test_a_role_that_is_none_changes_nothing(client_owner, viewer, workspace_a, role):
    client_owner.post(f"/w/alpha/members/{viewer.pk}/role/", {"role": role})
    assert members(workspace_a)[viewer.email] == "viewer"


def test_the_last_owner_does_not_step_down(client_owner, owner, workspace_a):
    response = client_owner.post(f"/w/alpha/members/{owner.pk}/role/", {"role": "viewer"}, follow=True)
    assert "at least one owner" in response.content.decode()
    assert members(workspace_a)[owner.email] == "owner"


def test_an_owner_hands_the_workspace_over(client_owner, owner, editor, workspace_a):
    assert editor.email in client_owner.get("/w/alpha/members/hand-over/").content.decode()
    client_owner.post("/w/alpha/members/hand-over/", {"member": editor.pk})
    assert members(workspace_a) == {owner.email: "admin", editor.email: "owner"}


def test_nobody_else_is_handed_it(client_owner, owner, person, workspace_a, workspace_b):
    stranger = person("viewer", workspace_b)
    for chosen in (stranger.pk, owner.pk, "", "x"):
        assert client_owner.post("/w/alpha/members/hand-over/", {"member": chosen}).status_code == 422
    assert members(workspace_a) == {owner.email: "owner"}


@pytest.mark.parametrize("role", ["admin", "editor", "viewer"])
def test_only_owners_hand_it_over(person, workspace_a, owner, sign_in, role):
    assert sign_in(person(role, workspace_a)).get("/w/alpha/members/hand-over/").status_code == 403


def test_a_viewer_leaves(client_viewer, viewer, owner, workspace_a):
    assert client_viewer.get("/w/alpha/members/leave/").status_code == 200
    assert client_viewer.post("/w/alpha/members/leave/")["Location"] == "/?all"
    assert client_viewer.get("/w/alpha/").status_code == 404
    assert members(workspace_a) == {owner.email: "owner"}


def test_the_last_owner_cannot_leave(client_owner, owner, workspace_a):
    response = client_owner.post("/w/alpha/members/leave/")
    assert response.status_code == 422
    assert "at least one owner" in response.content.decode()
    assert members(workspace_a) == {owner.email: "owner"}


@pytest.mark.parametrize("path", ["role", "remove"])
@pytest.mark.parametrize("kind", ["foreign", "unknown", "too large"])
def test_who_is_no_member_does_not_exist(client_owner, person, workspace_b, path, kind):
    who = {"foreign": person("viewer", workspace_b).pk, "unknown": 999_999_999, "too large": 10**30}[kind]
    assert client_owner.post(f"/w/alpha/members/{who}/{path}/", {"role": "viewer"}).status_code == 404
    assert members(workspace_b) == {"viewer@example.org": "viewer"}


def test_the_roles_are_shown_as_the_code_obeys_them(client_owner):
    page = client_owner.get("/w/alpha/members/").content.decode()
    table = page[page.index('class="table-plain roles"') :].partition("</table>")[0]
    rows = [row for row in table.split("<tr>")[1:] if 'scope="row"' in row]
    shown = [[">yes<" in cell for cell in row.split("<td>")[1:]] for row in rows]
    assert shown == [[action in ROLE_ACTIONS[role] for role in Role] for action, _ in IN_WORDS]


def test_an_open_page_asks_and_is_loaded_anew_when_it_is_shut_out(client_viewer, viewer, workspace_a):
    asking = {"HTTP_HX_REQUEST": "true"}
    assert client_viewer.get("/w/alpha/presence/", **asking).status_code == 204
    Membership.objects.filter(user=viewer).delete()
    gone = client_viewer.get("/w/alpha/presence/", **asking)
    nowhere = client_viewer.get("/w/nowhere/presence/", **asking)
    assert (gone.status_code, gone["HX-Refresh"]) == (nowhere.status_code, nowhere["HX-Refresh"]) == (404, "true")
    assert "HX-Refresh" not in client_viewer.get("/w/alpha/presence/")
    signed_out = Client().get("/w/alpha/presence/", **asking)
    assert signed_out["HX-Redirect"] == "/accounts/login/"
    assert "HX-Refresh" not in signed_out


def test_what_was_asked_for_is_judged_by_the_role_at_the_moment_it_happens(owner, editor, person, workspace_a):
    """Between the page's check and the lock the actor, or who is acted on, may have become another."""
    admin = person("admin", workspace_a)
    Membership.objects.filter(user=editor).update(role="owner")
    with pytest.raises(Refused, match="Only an owner can change or remove"):
        people.change_role(workspace_a, editor.pk, "viewer", by=admin.pk)
    with pytest.raises(Refused, match="Only an owner can change or remove"):
        people.remove(workspace_a, editor.pk, by=admin.pk)
    people.hand_over(workspace_a, owner.pk, admin.pk)
    with pytest.raises(Refused, match="you are none any more"):
        people.hand_over(workspace_a, owner.pk, editor.pk)
    Membership.objects.filter(user=owner).update(role="viewer")
    with pytest.raises(Refused, match="no longer do this"):
        people.invite(workspace_a, "new@example.org", "viewer", owner)
    with pytest.raises(Refused, match="no longer do this"):
        people.change_role(workspace_a, editor.pk, "viewer", by=owner.pk)


def test_the_last_owner_is_not_offered_to_leave(client_owner):
    page = client_owner.get("/w/alpha/members/leave/").content.decode()
    assert "its only owner" in page
    assert "Leave workspace" not in page


def test_an_owner_who_cannot_sign_in_is_none_to_leave_it_to(owner, person, workspace_a):
    away = person("owner", workspace_a, email="away@example.org")
    User.objects.filter(pk=away.pk).update(is_active=False)
    with pytest.raises(Refused, match="at least one owner"):
        people.remove(workspace_a, owner.pk, by=owner.pk)


@pytest.mark.django_db(transaction=True)
def test_who_waits_too_long_for_the_members_is_told_so(workspace_a, owner):
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                Tenant.objects.select_for_update().get(pk=workspace_a.pk)
                held.set()
                done.wait(60)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(10)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '300ms'")  # as long as a web process would wait
            with pytest.raises(Refused, match="busy"):
                people.invite(workspace_a, "new@a.example", "viewer", owner)
    finally:
        done.set()
        thread.join()
    assert people.invite(workspace_a, "new@a.example", "viewer", owner)
