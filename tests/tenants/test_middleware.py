"""Which workspace a request is for, and who may be in it."""

import pytest
from django.db import connection
from django.test import Client

from tenants.models import Domain, Tenant
from tests.conftest import PASSWORD

pytestmark = pytest.mark.django_db


def test_an_unknown_host_is_not_found():
    assert Client().get("/", headers={"host": "evil.example.org"}).status_code == 404
    assert Client().get("/accounts/login/", headers={"host": "evil.example.org"}).status_code == 404


@pytest.mark.parametrize("slug", ["alpha", "no-such-workspace"])
def test_the_anonymous_are_sent_to_sign_in_for_any_workspace(workspace_a, slug):
    response = Client().get(f"/w/{slug}/documents/")
    assert response.status_code == 302
    assert response["Location"] == f"/accounts/login/?next=/w/{slug}/documents/"


def test_a_non_member_gets_the_same_page_as_for_no_workspace(workspace_a, workspace_b, person, sign_in):
    client = sign_in(person("viewer", workspace_b))
    there, nowhere = client.get("/w/alpha/documents/"), client.get("/w/no-such-workspace/documents/")
    assert there.status_code == nowhere.status_code == 404

    def body(response) -> str:
        return (
            response.content.decode()
            .replace(response.context["reference"], "")
            .replace(str(response.context["csrf_token"]), "")
        )

    assert body(there) == body(nowhere)
    assert "Alpha" not in there.content.decode()


def test_a_workspace_without_its_slash_is_redirected(client_owner):
    assert client_owner.get("/w/alpha")["Location"] == "/w/alpha/"


@pytest.mark.parametrize("path", ["/w/%00/", "/w/alpha/s/%00/", "/workspaces/%00/opening/", "/w/"])
def test_an_address_that_cannot_be_one_is_not_found(client_owner, path):
    assert client_owner.get(path).status_code == 404


def test_pages_of_the_signed_in_are_not_kept_outside_a_workspace_either(client_owner):
    assert "no-store" in client_owner.get("/?all")["Cache-Control"]


def test_a_pending_workspace_is_not_found(client_owner, workspace_a):
    Tenant.objects.filter(pk=workspace_a.pk).update(status="pending")
    assert client_owner.get("/w/alpha/").status_code == 404


def test_a_superuser_is_no_member(person, sign_in, workspace_a):
    assert sign_in(person(None, staff=True)).get("/w/alpha/").status_code == 404


def test_links_inside_a_workspace_stay_inside(client_owner):
    page = client_owner.get("/w/alpha/").content.decode()
    assert 'href="/w/alpha/documents/"' in page


def test_pages_of_a_workspace_are_not_kept(client_owner):
    response = client_owner.get("/w/alpha/")
    assert "no-store" in response["Cache-Control"]
    assert response["Referrer-Policy"] == "same-origin"
    assert "default-src 'none'" in response["Content-Security-Policy"]
    assert "unsafe" not in response["Content-Security-Policy"]


def signed_in_at(host: str, user) -> Client:
    """A session belongs to the hostname it was begun on."""
    client = Client(headers={"host": host})
    client.post("/accounts/login/", {"login": user.email, "password": PASSWORD})
    return client


def test_a_hostname_of_its_own(owner, workspace_a, person, workspace_b, settings):
    Domain.objects.create(tenant=workspace_a, domain="alpha.example.org", is_primary=True)
    host = {"host": "alpha.example.org"}
    client_owner = signed_in_at("alpha.example.org", owner)
    page = client_owner.get("/documents/", headers=host)
    assert page.status_code == 200
    assert 'href="/documents/"' in page.content.decode()
    assert f'href="{settings.PUBLIC_URL}/?all"' in page.content.decode()
    assert '<a href="/" aria-current="true">Alpha' in page.content.decode()  # at home it is at the root
    assert Client().get("/", headers=host)["Location"] == "/accounts/login/?next=/"
    assert Client().get("/accounts/login/", headers=host).status_code == 200
    assert client_owner.get("/admin/", headers=host).status_code == 404
    assert client_owner.get("/w/alpha/", headers=host).status_code == 404
    assert signed_in_at("alpha.example.org", person("viewer", workspace_b)).get("/").status_code == 404


def test_sign_in_and_console_are_not_inside_a_workspace(client_owner):
    for path in ("accounts/login/", "admin/", "health/"):
        assert client_owner.get(f"/w/alpha/{path}").status_code == 404


def test_the_connection_is_public_again_after_an_error(client_owner, monkeypatch):
    client_owner.raise_request_exception = False
    monkeypatch.setattr("tenants.views.people.link_of", lambda *_: 1 / 0)
    client_owner.post("/w/alpha/members/invite/", {"email": "x@example.org", "role": "viewer"})
    response = client_owner.get("/w/alpha/members/")
    assert response.status_code == 500
    assert connection.schema_name == "public"
    assert b"division" not in response.content


def test_an_expired_session_in_an_open_page_leads_htmx_to_sign_in(workspace_a):
    response = Client().get("/w/alpha/", headers={"hx-request": "true"})
    assert response.status_code == 204
    assert response["HX-Redirect"] == "/accounts/login/"
