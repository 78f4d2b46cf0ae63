"""Invitations: who may make one, what its link opens, and when it opens nothing any more."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from tenants import people
from tenants.errors import Refused
from tenants.models import Invitation, Membership, Tenant, User

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


def test_invitations_of_another_workspace_cannot_be_withdrawn(client_owner, person, workspace_b):
    offer, _ = invitation(workspace_b, person("owner", workspace_b, "theirs@example.org"))
    assert client_owner.post(f"/w/alpha/members/invitations/{offer.pk}/withdraw/").status_code == 404
    assert Invitation.objects.filter(pk=offer.pk).exists()


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
    members = Membership.objects.filter(tenant=workspace_a)
    assert list(members.values_list("user", "role")) == [(owner.pk, "admin")]


def test_who_has_not_confirmed_an_address_is_marked_and_becomes_no_owner(client_owner, owner, workspace_a):
    _, link = invitation(workspace_a, owner, "", "viewer")
    Client().post(link, {"email": "some@body.example", "name": "Some Body", "password": "a-long-passphrase"})
    assert "not confirmed yet" in client_owner.get("/w/alpha/members/").content.decode()
    assert "some@body.example" not in client_owner.get("/w/alpha/members/hand-over/").content.decode()
    with pytest.raises(Refused, match="has not confirmed"):
        people.hand_over(workspace_a, owner.pk, User.objects.get(email="some@body.example").pk)


def test_a_link_of_somebody_who_cannot_sign_in_any_more_opens_nothing(owner, workspace_a, person, sign_in):
    _, link = invitation(workspace_a, owner, "", "owner")
    User.objects.filter(pk=owner.pk).update(is_active=False)
    assert sign_in(person(None)).post(link).status_code == 422
    assert Membership.objects.filter(tenant=workspace_a).count() == 1
