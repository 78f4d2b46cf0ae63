"""Invitations, memberships, and accounts without a mail server."""

import re
from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client
from django.utils import timezone

from tenants import mail, people
from tenants.errors import Refused
from tenants.models import Invitation, Membership, OutgoingMail, Tenant, User
from tenants.permissions import IN_WORDS, ROLE_ACTIONS, Role
from tests.conftest import PASSWORD
from tests.one_time_code import one_time_code

pytestmark = pytest.mark.django_db


def invitation(workspace, owner, email="new@example.org", role="editor") -> tuple[Invitation, str]:
    offer = people.invite(workspace, email, role, owner)
    return offer, f"/invitation/{people.token_of(offer)}/"


def test_an_owner_invites_and_gets_a_link_to_hand_over(client_owner, workspace_a):
    response = client_owner.post("/w/alpha/members/invite/", {"email": "New@Example.org", "role": "editor"}, follow=True)
    offer = Invitation.objects.get(tenant=workspace_a)
    assert offer.email == "new@example.org"
    assert people.link_of(offer) in response.content.decode()


def test_somebody_new_joins_with_the_link(workspace_a, owner):
    _, link = invitation(workspace_a, owner)
    client = Client()
    assert client.get(link).status_code == 200
    response = client.post(link, {"name": "New Person", "password": "a-long-passphrase"})
    assert response["Location"] == "/w/alpha/"
    assert Membership.objects.get(user__email="new@example.org").role == "editor"
    assert client.get("/w/alpha/").status_code == 200


def test_a_link_works_once(workspace_a, owner):
    _, link = invitation(workspace_a, owner)
    Client().post(link, {"name": "New Person", "password": "a-long-passphrase"})
    assert Client().get(link).status_code == 410


@pytest.mark.parametrize("spoil", ["forged", "expired", "withdrawn"])
def test_a_bad_link_says_so(workspace_a, owner, spoil):
    offer, link = invitation(workspace_a, owner)
    if spoil == "forged":
        link = link[:-3] + ("aa/" if not link.endswith("aa/") else "bb/")
    elif spoil == "expired":
        Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    else:
        offer.delete()
    assert Client().get(link).status_code == 410


def test_a_weak_password_is_refused_and_nothing_is_lost(workspace_a, owner):
    _, link = invitation(workspace_a, owner)
    response = Client().post(link, {"name": "New Person", "password": "short"})
    assert response.status_code == 422
    assert b"New Person" in response.content
    assert not User.objects.filter(email="new@example.org").exists()


def test_somebody_with_an_account_signs_in_and_joins(workspace_a, owner, person, sign_in):
    stranger = person(None)
    _, link = invitation(workspace_a, owner, stranger.email, "viewer")
    assert b"/accounts/login/?next=" in Client().get(link).content
    assert sign_in(stranger).post(link)["Location"] == "/w/alpha/"


def test_another_person_cannot_take_the_place(workspace_a, owner, person, sign_in):
    _, link = invitation(workspace_a, owner)
    response = sign_in(person(None)).post(link)
    assert response.status_code == 422
    assert "is for new@example.org" in response.content.decode()


def test_an_invitation_is_replaced_not_doubled(workspace_a, owner):
    first, _ = invitation(workspace_a, owner)
    second, _ = invitation(workspace_a, owner, "NEW@example.org", "viewer")
    assert list(Invitation.objects.filter(tenant=workspace_a)) == [second] != [first]


@pytest.mark.parametrize("path", ["members/invite/", "members/1/remove/"])
def test_a_viewer_manages_nobody(client_viewer, path):
    response = client_viewer.post(f"/w/alpha/{path}", {"email": "x@example.org", "role": "viewer"})
    assert response.status_code == 403
    assert b"Admins and owners" in response.content


def test_an_admin_makes_no_owner(person, workspace_a, sign_in):
    client = sign_in(person("admin", workspace_a))
    response = client.post("/w/alpha/members/invite/", {"email": "x@example.org", "role": "owner"})
    assert response.status_code == 422
    assert not Invitation.objects.exists()


def test_an_owners_invitation_is_the_owners_alone(person, workspace_a, owner, client_owner, sign_in):
    offer, link = invitation(workspace_a, owner, "boss@example.org", "owner")
    admin = sign_in(person("admin", workspace_a))
    assert link not in admin.get("/w/alpha/members/").content.decode()
    assert link in client_owner.get("/w/alpha/members/").content.decode()
    replaced = admin.post("/w/alpha/members/invite/", {"email": "Boss@example.org", "role": "viewer"})
    assert replaced.status_code == 422
    assert admin.post(f"/w/alpha/members/invitations/{offer.pk}/withdraw/").status_code == 403
    assert Invitation.objects.get() == offer


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


def test_invitations_of_another_workspace_cannot_be_withdrawn(client_owner, person, workspace_b):
    offer, _ = invitation(workspace_b, person("owner", workspace_b, "theirs@example.org"))
    assert client_owner.post(f"/w/alpha/members/invitations/{offer.pk}/withdraw/").status_code == 404
    assert Invitation.objects.filter(pk=offer.pk).exists()


def test_a_reset_mail_waits_encrypted_for_staff_to_hand_over(owner, settings):
    settings.EMAIL_BACKEND = "tenants.mail.HandOverBackend"  # as where EMAIL_HOST is not set
    Client().post("/accounts/password/reset/", {"email": owner.email})
    message = OutgoingMail.objects.get()
    assert message.recipient == owner.email
    link = mail.link(message)
    assert "/accounts/password/reset/key/" in link
    assert link.encode() not in bytes(message.sealed_body)
    client = Client()
    path = "/" + link.split("/", 3)[3]
    page = client.get(path, follow=True)
    assert page.status_code == 200
    client.post(page.request["PATH_INFO"], {"password1": "another-long-one", "password2": "another-long-one"})
    owner.refresh_from_db()
    assert owner.check_password("another-long-one")


def test_links_in_mail_lead_to_the_installation_not_to_a_workspaces_host(owner, workspace_a, settings):
    from tenants.models import Domain

    settings.EMAIL_BACKEND = "tenants.mail.HandOverBackend"
    Domain.objects.create(tenant=workspace_a, domain="alpha.example.org", is_primary=True)
    Client().post("/accounts/password/reset/", {"email": owner.email}, headers={"host": "alpha.example.org"})
    assert mail.link(OutgoingMail.objects.get()).startswith(settings.PUBLIC_URL + "/")


def test_only_superusers_see_mail_to_hand_over(owner, person, sign_in, settings):
    settings.EMAIL_BACKEND = "tenants.mail.HandOverBackend"
    Client().post("/accounts/password/reset/", {"email": owner.email})
    staff = person(None, email="staff@example.org", staff=True)
    listing = "/admin/tenants/outgoingmail/"
    assert sign_in(staff).get(listing).status_code == 200
    staff.is_superuser = False
    staff.save()
    assert sign_in(staff).get(listing).status_code == 403


def test_a_password_link_sets_the_password_once(person):
    user = person(None)
    path = "/" + people.password_link(user).split("/", 3)[3]
    client = Client()
    page = client.get(path, follow=True)
    client.post(page.request["PATH_INFO"], {"password1": "another-long-one", "password2": "another-long-one"})
    user.refresh_from_db()
    assert user.check_password("another-long-one")
    assert b"password1" not in Client().get(path, follow=True).content


def test_sign_up_is_closed_unless_opened(settings):
    page = Client().get("/accounts/signup/")
    assert b"password1" not in page.content
    settings.SIGN_UP_OPEN = True
    assert b"password1" in Client().get("/accounts/signup/").content


def test_one_address_has_one_account(owner):
    with pytest.raises(Refused, match="already"):
        people.create_person("OWNER@example.org", "x")


def test_five_wrong_passwords_lock_the_person_out(owner):
    client = Client()
    answers = [client.post("/accounts/login/", {"login": owner.email, "password": "wrong"}).status_code for _ in range(6)]
    assert 429 in answers
    client.post("/accounts/login/", {"login": owner.email, "password": PASSWORD})
    assert client.get("/w/alpha/").status_code == 302


def test_signing_in_leads_to_the_search_box(owner):
    client = Client()
    response = client.post("/accounts/login/", {"login": "Owner@Example.org", "password": PASSWORD}, follow=True)
    assert [path for path, _ in response.redirect_chain] == ["/", "/w/alpha/"]
    assert b'type="search"' in response.content


def test_a_second_factor_is_asked_for_and_its_secret_is_encrypted(owner):
    client = Client()
    client.post("/accounts/login/", {"login": owner.email, "password": PASSWORD})
    page = client.get("/accounts/2fa/totp/activate/", follow=True)
    if b'name="password"' in page.content:
        client.post(page.request["PATH_INFO"] + "?next=/accounts/2fa/totp/activate/", {"password": PASSWORD})
        client.get("/accounts/2fa/totp/activate/")
    secret = client.session["mfa.totp.secret"]
    client.post("/accounts/2fa/totp/activate/", {"code": one_time_code(secret)})
    stored = Authenticator.objects.get(type="totp")
    assert secret not in str(stored.data)
    again = Client()
    response = again.post("/accounts/login/", {"login": owner.email, "password": PASSWORD})
    assert "2fa" in response["Location"]
    assert again.get("/w/alpha/").status_code == 302
    again.post("/accounts/2fa/authenticate/", {"code": one_time_code(secret, later=1)})
    assert again.get("/w/alpha/").status_code == 200
    staff = User.objects.get(pk=owner.pk)
    staff.is_staff = staff.is_superuser = True
    staff.save()
    admin = Client().post("/admin/login/", {"username": owner.email, "password": PASSWORD})
    assert re.search("/accounts/", admin["Location"])


# ---------------------------------------------------------------- links without an address


def test_a_link_without_an_address_is_for_whoever_has_it(client_owner, owner, workspace_a, person, sign_in):
    client_owner.post("/w/alpha/members/invite/", {"email": "", "role": "editor"})
    offer = Invitation.objects.get(tenant=workspace_a, email="")
    link = f"/invitation/{people.token_of(offer)}/"
    assert link in client_owner.get("/w/alpha/members/").content.decode()
    stranger = person(None)
    assert sign_in(stranger).post(link)["Location"] == "/w/alpha/"
    assert Membership.objects.get(user=stranger).role == "editor"
    assert Client().get(link).status_code == 410


def test_a_member_does_not_use_a_link_up(owner, client_owner, workspace_a):
    offer, link = invitation(workspace_a, owner, "", "viewer")
    assert client_owner.post(link)["Location"] == "/w/alpha/"
    assert Membership.objects.get(user=owner).role == "owner"
    assert people.invitation_of(people.token_of(offer)) is not None


def test_who_joins_by_a_link_confirms_the_address_before_signing_in(owner, workspace_a, mailoutbox):
    _, link = invitation(workspace_a, owner, "", "viewer")
    client = Client()
    joining = {"email": "Some@Body.example", "name": "Some Body", "password": "a-long-passphrase"}
    assert client.post(link, joining)["Location"] == "/accounts/confirm-email/"
    assert Membership.objects.get(user__email="some@body.example").role == "viewer"
    assert client.get("/w/alpha/")["Location"].startswith("/accounts/login/")
    client.post("/accounts/login/", {"login": "some@body.example", "password": "a-long-passphrase"})
    assert client.get("/w/alpha/")["Location"].startswith("/accounts/login/")
    assert mailoutbox[0].to == ["some@body.example"]
    confirm = re.search(r"/accounts/confirm-email/\S+", mailoutbox[0].body)
    assert confirm
    client.post(confirm[0])
    client.post("/accounts/login/", {"login": "some@body.example", "password": "a-long-passphrase"})
    assert client.get("/w/alpha/").status_code == 200


def test_a_link_does_not_take_an_account_over(owner, workspace_a):
    _, link = invitation(workspace_a, owner, "", "viewer")
    response = Client().post(link, {"email": owner.email, "name": "Thief", "password": "a-long-passphrase"})
    assert response.status_code == 422
    assert "There is an account" in response.content.decode()
    assert people.invitation_of(people.token_of(Invitation.objects.get())) is not None


# ---------------------------------------------------------------- roles


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


# ---------------------------------------------------------------- places


def test_a_full_workspace_invites_nobody(client_owner, owner, workspace_a):
    Tenant.objects.filter(pk=workspace_a.pk).update(quota_members=2)
    invitation(workspace_a, owner, "first@example.org")
    response = client_owner.post("/w/alpha/members/invite/", {"email": "second@example.org", "role": "viewer"})
    assert response.status_code == 422
    assert "room for 2 members" in response.content.decode()
    replaced = client_owner.post("/w/alpha/members/invite/", {"email": "first@example.org", "role": "viewer"})
    assert replaced.status_code == 302


def test_a_workspace_that_became_full_takes_nobody(owner, workspace_a, person, sign_in):
    _, link = invitation(workspace_a, owner, "", "viewer")
    Tenant.objects.filter(pk=workspace_a.pk).update(quota_members=1)
    response = sign_in(person(None)).post(link)
    assert response.status_code == 422
    assert "room for 1 member," in response.content.decode()


# ---------------------------------------------------------------- open pages


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


# ---------------------------------------------------------------- what a role could do before it ended


@pytest.mark.parametrize("end", ["removed", "made a viewer", "handed over"])
def test_a_link_made_before_ones_role_ended_opens_nothing(client_owner, owner, person, workspace_a, sign_in, end):
    other = person("owner", workspace_a, "other@example.org")
    offer, link = invitation(workspace_a, other, "", "owner")
    if end == "removed":
        client_owner.post(f"/w/alpha/members/{other.pk}/remove/")
    elif end == "made a viewer":
        client_owner.post(f"/w/alpha/members/{other.pk}/role/", {"role": "viewer"})
    else:
        people.hand_over(workspace_a, other.pk, owner.pk)
    assert not Invitation.objects.filter(pk=offer.pk).exists()
    assert Client().get(link).status_code == 410


def test_a_link_of_somebody_whom_staff_demoted_opens_nothing(owner, workspace_a, person, sign_in):
    """The console changes a role past the verbs."""
    _, link = invitation(workspace_a, owner, "", "owner")
    Membership.objects.filter(user=owner).update(role="admin")
    response = sign_in(person(None)).post(link)
    assert response.status_code == 422
    assert "may no longer do so" in response.content.decode()
    assert members(workspace_a) == {owner.email: "admin"}


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


def test_who_has_not_confirmed_an_address_is_marked_and_becomes_no_owner(client_owner, owner, workspace_a):
    _, link = invitation(workspace_a, owner, "", "viewer")
    Client().post(link, {"email": "some@body.example", "name": "Some Body", "password": "a-long-passphrase"})
    assert "not confirmed yet" in client_owner.get("/w/alpha/members/").content.decode()
    assert "some@body.example" not in client_owner.get("/w/alpha/members/hand-over/").content.decode()
    with pytest.raises(Refused, match="has not confirmed"):
        people.hand_over(workspace_a, owner.pk, User.objects.get(email="some@body.example").pk)


def test_the_last_owner_is_not_offered_to_leave(client_owner):
    page = client_owner.get("/w/alpha/members/leave/").content.decode()
    assert "its only owner" in page
    assert "Leave workspace" not in page
