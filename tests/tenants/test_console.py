"""The staff console: workspaces, people, queues; nothing of what is inside a workspace."""

import pytest
from allauth.account.models import EmailAddress
from django.test import Client

from documents.receiving import create_collection
from tenants import lifecycle, people, provisioning, schemas
from tenants.context import workspace
from tenants.models import Domain, Membership, Tenant, User, WorkspaceStats
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


def test_only_what_could_not_be_created_is_tried_again(staff, workspace_a, run_jobs, monkeypatch):
    monkeypatch.setattr("tenants.sweeping._public_sweepers", [])  # nothing goes on with the erasure meanwhile
    failed, erased = (provisioning.request_workspace(slug.title(), slug, None) for slug in ("failed", "erased"))
    Tenant.objects.filter(pk=failed.pk).update(status=Tenant.Status.FAILED)
    lifecycle.begin_erasure(erased)
    chosen = [str(tenant.pk) for tenant in (failed, erased, workspace_a)]
    staff.post("/admin/tenants/tenant/", {"action": "try_again", "_selected_action": chosen})
    assert run_jobs() == 1
    statuses = dict(Tenant.objects.values_list("slug", "status"))
    assert (statuses["failed"], statuses["erased"]) == (Tenant.Status.ACTIVE, Tenant.Status.ERASING)


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
     "jobs/", "axes/accessattempt/", "mfa/authenticator/"],
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


# ---------------------------------------------------------------- the list


def listed(client) -> list[str]:
    page = client.get("/admin/tenants/tenant/").context["cl"].result_list
    return [tenant.slug for tenant in page]


def made(slug: str, **fields) -> Tenant:
    tenant = Tenant(slug=slug, name=slug.title(), status=Tenant.Status.ACTIVE, schema_version=schemas.head(), **fields)
    tenant.schema_name, tenant.db_role = f"tenant_{tenant.id.hex}", f"role_{tenant.id.hex}"
    tenant.save()
    return tenant


def test_trouble_comes_first_with_the_reason(staff, workspace_a, workspace_b):
    made("failed").__class__.objects.filter(slug="failed").update(status=Tenant.Status.FAILED)
    WorkspaceStats.objects.create(tenant=workspace_b, trouble=60, trouble_words="Two documents hang.", jobs_failed=2)
    WorkspaceStats.objects.create(tenant=workspace_a, documents=7, bytes=4_200_000, entries=12, passages=12)
    Tenant.objects.filter(pk=workspace_a.pk).update(quota_documents=10, legal_hold="Case 12")
    assert listed(staff) == ["failed", "beta", "alpha"]
    page = staff.get("/admin/tenants/tenant/").content.decode().replace("\N{NO-BREAK SPACE}", " ")
    for words in ("Two documents hang.", "2 failed jobs", "7 of 10", "4.2 MB", "legal hold: Case 12", "12 passages"):
        assert words in page
    assert [t.slug for t in staff.get("/admin/tenants/tenant/?trouble=none").context["cl"].result_list] == ["alpha"]
    assert [t.slug for t in staff.get("/admin/tenants/tenant/?deletion=hold").context["cl"].result_list] == ["alpha"]
    assert [t.slug for t in staff.get("/admin/tenants/tenant/?q=bet").context["cl"].result_list] == ["beta"]


def test_the_list_takes_as_many_queries_for_fifty_as_for_five(staff, workspace_a, django_assert_max_num_queries):
    def fill(start: int, end: int) -> None:
        for number in range(start, end):
            WorkspaceStats.objects.create(tenant=made(f"w{number}"), documents=number)

    fill(0, 3)
    staff.get("/admin/tenants/tenant/")
    with django_assert_max_num_queries(20) as few:
        assert len(listed(staff)) == 5
    fill(3, 48)
    with django_assert_max_num_queries(len(few)):
        assert len(listed(staff)) == 50


# ---------------------------------------------------------------- one workspace


def test_staff_suspend_with_a_reason_members_read_it_and_staff_resume(staff, client_owner, workspace_a):
    page = f"/admin/tenants/tenant/{workspace_a.pk}"
    assert staff.post(f"{page}/suspend/", {"reason": ""}).status_code == 422
    assert staff.post(f"{page}/suspend/", {"reason": "Unpaid since May."})["Location"] == f"{page}/change/"
    shut = client_owner.get("/w/alpha/")
    assert (shut.status_code, "Unpaid since May." in shut.content.decode()) == (403, True)
    assert "Unpaid since May." in staff.get(f"{page}/history/").content.decode()
    assert "suspend/" not in staff.get(f"{page}/change/").content.decode()
    again = staff.post(f"{page}/suspend/", {"reason": "Twice."})
    assert again.status_code == 422
    staff.post(f"{page}/resume/")
    assert client_owner.get("/w/alpha/").status_code == 200


def test_staff_hold_and_release(staff, workspace_a):
    page = f"/admin/tenants/tenant/{workspace_a.pk}"
    staff.post(f"{page}/hold/", {"reason": "Case 12"})
    workspace_a.refresh_from_db()
    assert workspace_a.legal_hold == "Case 12"
    staff.post(f"{page}/release/")
    workspace_a.refresh_from_db()
    assert workspace_a.legal_hold == ""


@pytest.mark.parametrize("verb", ["suspend", "resume", "hold", "release", "view-as-member"])
def test_these_pages_are_for_staff(client_owner, staff, workspace_a, verb):
    from uuid import uuid4

    assert client_owner.post(f"/admin/tenants/tenant/{workspace_a.pk}/{verb}/", {"reason": "x"}).status_code == 302
    workspace_a.refresh_from_db()
    assert (workspace_a.status, workspace_a.legal_hold) == ("active", "")
    assert staff.get(f"/admin/tenants/tenant/{workspace_a.pk}/{verb}/").status_code == 200
    assert staff.get(f"/admin/tenants/tenant/{uuid4()}/{verb}/").status_code == 404


def change(staff, tenant, **fields):
    data = {"name": tenant.name, "quota_documents": "", "quota_bytes": "", "quota_members": ""} | fields
    return staff.post(f"/admin/tenants/tenant/{tenant.pk}/change/", formsets(**data))


def test_quotas_are_set_here_and_what_changed_meanwhile_stays(staff, workspace_a):
    Tenant.objects.filter(pk=workspace_a.pk).update(legal_hold="Case 12")
    response = change(staff, workspace_a, quota_documents="100", quota_bytes="1000000000")
    assert response.status_code == 302, response.context["errors"]
    workspace_a.refresh_from_db()
    assert (workspace_a.quota_documents, workspace_a.quota_bytes, workspace_a.quota_members) == (100, 1_000_000_000, None)
    assert workspace_a.legal_hold == "Case 12"


def one_host(host: str) -> dict[str, str]:
    return {"domains-TOTAL_FORMS": "1", "domains-0-domain": host}


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("Search.Example.org", "lower-case letters"),
        ("https://search.example.org", "no scheme, port or path"),
        ("search.example.org:8000", "no scheme, port or path"),
        ("search_x.example.org", "lower-case letters"),
        ("-search.example.org", "lower-case letters"),
        ("10.0.0.1", "Use a hostname"),
        ("search..org", "Use a hostname"),
        ("testserver", "own (HOSTS)"),
        ("beta.example.org", "is taken"),
    ],
)
def test_a_hostname_that_cannot_be_one_is_refused_with_the_reason(staff, workspace_a, workspace_b, host, words):
    Domain.objects.create(domain="beta.example.org", tenant=workspace_b)
    response = change(staff, workspace_a, **one_host(host))
    assert response.status_code == 200
    assert words in response.content.decode()
    assert not workspace_a.domains.exists()


def test_a_hostname_of_its_own(staff, owner, workspace_a):
    response = change(staff, workspace_a, **one_host("search.example.org"))
    assert response.status_code == 302, response.context["errors"]
    assert Domain.objects.get().tenant_id == workspace_a.pk
    member = Client(headers={"host": "search.example.org"})  # a session belongs to the hostname it was begun on
    member.post("/accounts/login/", {"login": owner.email, "password": PASSWORD})
    assert member.get("/").status_code == 200


# ---------------------------------------------------------------- an owner stays


def memberships(tenant) -> dict[str, str]:
    return dict(Membership.objects.filter(tenant=tenant).values_list("user__email", "role"))


def with_memberships(*rows: dict[str, str], **fields: str) -> dict[str, str]:
    flat = {f"memberships-{number}-{name}": value for number, row in enumerate(rows) for name, value in row.items()}
    count = str(len(rows))
    return formsets(**fields) | {"memberships-TOTAL_FORMS": count, "memberships-INITIAL_FORMS": count} | flat


@pytest.mark.parametrize("change", [{"DELETE": "on"}, {"role": "viewer"}], ids=["deleted", "demoted"])
def test_the_last_owner_stays_in_the_workspaces_form(staff, owner, workspace_a, change):
    row = Membership.objects.get(user=owner)
    kept = {"id": str(row.pk), "tenant": str(workspace_a.pk), "user": str(owner.pk), "role": "owner", **change}
    response = staff.post(f"/admin/tenants/tenant/{workspace_a.pk}/change/", with_memberships(kept, name="Alpha"))
    assert response.status_code == 200
    assert "keeps at least one owner" in response.content.decode()
    assert memberships(workspace_a) == {owner.email: "owner"}


def test_an_owner_may_go_when_another_comes(staff, owner, editor, workspace_a):
    rows = [
        {"id": str(row.pk), "tenant": str(workspace_a.pk), "user": str(row.user_id), "role": role}
        for row, role in ((Membership.objects.get(user=owner), "viewer"), (Membership.objects.get(user=editor), "owner"))
    ]
    response = staff.post(f"/admin/tenants/tenant/{workspace_a.pk}/change/", with_memberships(*rows, name="Alpha"))
    assert response.status_code == 302, response.context["errors"]
    assert memberships(workspace_a) == {owner.email: "viewer", editor.email: "owner"}


def test_the_last_owner_stays_on_the_other_pages(staff, owner, workspace_a):
    row = Membership.objects.get(user=owner)
    changed = {"user": owner.pk, "tenant": str(workspace_a.pk), "role": "viewer"}
    response = staff.post(f"/admin/tenants/membership/{row.pk}/change/", changed)
    assert "keeps at least one owner" in response.content.decode()
    assert staff.post(f"/admin/tenants/membership/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert staff.post(f"/admin/tenants/user/{owner.pk}/delete/", {"post": "yes"}).status_code == 403
    for model in ("membership", "user"):
        assert "delete_selected" not in staff.get(f"/admin/tenants/{model}/").content.decode()
    assert memberships(workspace_a) == {owner.email: "owner"}


def test_an_owner_who_cannot_sign_in_is_none_to_leave_it_to(staff, person, owner, workspace_a):
    """In all three places where the console asks."""
    away = person("owner", workspace_a, email="away@example.org")
    away.is_active = False
    away.save()
    own = Membership.objects.get(user=owner)
    assert staff.get(f"/admin/tenants/user/{owner.pk}/delete/").status_code == 403
    assert staff.get(f"/admin/tenants/membership/{own.pk}/delete/").status_code == 403
    page = staff.post(
        f"/admin/tenants/membership/{own.pk}/change/", {"user": owner.pk, "tenant": workspace_a.pk, "role": "viewer"}
    )
    assert "keeps at least one owner" in page.content.decode()
    assert Membership.objects.get(pk=own.pk).role == "owner"


def test_an_address_that_is_somebody_elses_is_refused_in_the_form(staff, owner, viewer):
    from allauth.account.models import EmailAddress

    EmailAddress.objects.create(user=viewer, email="second@example.org", verified=True)
    inline = {"memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0}
    given = {"email": "second@example.org", "name": "Owner", "is_active": "on", **inline}
    page = staff.post(f"/admin/tenants/user/{owner.pk}/change/", given)
    assert page.status_code == 200
    assert "belongs to another account" in page.content.decode()
    # one of one's own becomes the first
    EmailAddress.objects.create(user=owner, email="third@example.org", verified=True)
    staff.post(f"/admin/tenants/user/{owner.pk}/change/", {**given, "email": "third@example.org"})
    assert EmailAddress.objects.get(user=owner).email == "third@example.org"
    assert EmailAddress.objects.get(user=owner).primary
