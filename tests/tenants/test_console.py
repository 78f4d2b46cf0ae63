"""The staff console: workspaces, people, queues; nothing of what is inside a workspace."""

import pytest
from allauth.account.models import EmailAddress
from django.test import Client

from documents.receiving import create_collection
from tenants import people
from tenants.context import workspace
from tenants.models import Membership, Tenant, User
from tests.conftest import PASSWORD

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])


@pytest.fixture
def staff(person, sign_in) -> Client:
    return sign_in(person(None, email="staff@example.org", staff=True))


def formsets(**fields) -> dict[str, str]:
    empty = {
        f"{prefix}-{name}": "0"
        for prefix in ("domain_set", "domains", "memberships")
        for name in ("TOTAL_FORMS", "INITIAL_FORMS")
    }
    return empty | fields


def test_the_console_is_for_staff(client_owner, staff):
    assert client_owner.get("/admin/").status_code == 302
    assert staff.get("/admin/").status_code == 200


def test_staff_create_a_workspace_and_the_worker_makes_it(staff, run_jobs):
    response = staff.post("/admin/tenants/tenant/add/", formsets(name="New one", slug="new-one"))
    assert response.status_code == 302, response.context["errors"]
    assert run_jobs() == 1
    assert Tenant.objects.get(slug="new-one").status == Tenant.Status.ACTIVE
    assert "New one" in staff.get("/admin/tenants/tenant/").content.decode()


def test_a_taken_address_is_refused_in_the_form(staff, workspace_a):
    response = staff.post("/admin/tenants/tenant/add/", formsets(name="Other", slug="alpha"))
    assert response.status_code == 200
    assert "already exists" in response.content.decode()


def test_an_account_made_by_staff_can_sign_in_and_is_one_with_its_invitations(staff, workspace_a, owner):
    added = {"email": "New@Example.org", "name": "New", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    response = staff.post("/admin/tenants/user/add/", formsets(**added))
    assert response.status_code == 302, response.context["errors"]
    user = User.objects.get(email="new@example.org")
    assert EmailAddress.objects.get(user=user).verified
    client = Client()
    client.post("/accounts/login/", {"login": "new@example.org", "password": PASSWORD})
    offer = people.invite(workspace_a, "NEW@example.org", "viewer", owner)
    assert client.post(f"/invitation/{people.token_of(offer)}/")["Location"] == "/w/alpha/"


def test_memberships_are_kept_here_too(staff, owner, workspace_b):
    staff.post("/admin/tenants/membership/add/", {"user": owner.pk, "tenant": str(workspace_b.pk), "role": "viewer"})
    assert Membership.objects.get(user=owner, tenant=workspace_b).role == "viewer"


def test_an_active_workspace_is_not_deleted_by_a_click(staff, workspace_a):
    assert staff.post(f"/admin/tenants/tenant/{workspace_a.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize(
    "path",
    ["", "tenants/tenant/", "tenants/user/", "tenants/membership/", "tenants/outgoingmail/", "queues/", "account/emailaddress/",
     "axes/accessattempt/", "mfa/authenticator/"],
)  # fmt: skip
def test_pages_open_and_show_nothing_of_a_workspaces_content(staff, owner, workspace_a, path):
    with workspace(workspace_a):
        create_collection("Confidential collection")
    response = staff.get(f"/admin/{path}")
    assert response.status_code == 200
    assert "Confidential" not in response.content.decode()


def test_no_model_of_a_workspace_is_in_the_console(staff):
    from django.contrib import admin

    assert not [model for model in admin.site._registry if model._meta.app_label in {"documents", "search"}]
