"""The page that searches several workspaces at once."""

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client

from search import federated_page
from search.embeddings import Embedder
from search.forms import MAX_WORKSPACES, FederatedForm
from tenants import libraries, lifecycle
from tenants.context import workspace
from tenants.models import Library, Membership, Tenant, User
from tests.search.conftest import TOPICS, store
from tests.search.test_federation import locked, spoil

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])
HTMX = {"HX-Request": "true"}


@pytest.fixture
def both(workspace_a: Tenant, workspace_b: Tenant, model: Embedder) -> tuple[Tenant, Tenant]:
    for tenant in (workspace_a, workspace_b):
        with workspace(tenant):
            for title, text in TOPICS.items():
                store([text], title=f"{title} of {tenant.name}")
    return workspace_a, workspace_b


@pytest.fixture
def client(both: tuple[Tenant, Tenant], person: Callable[..., Any], sign_in: Callable[..., Client]) -> Client:
    """Of a viewer of both."""
    made = person("viewer", both[0])
    Membership.objects.create(user=made, tenant=both[1], role="viewer")
    return sign_in(made)


def post(client: Client, question: str, *tenants: Tenant, **headers: str) -> Any:
    return client.post("/search/", {"q": question, "workspaces": [str(tenant.pk) for tenant in tenants]}, headers=headers)


def test_all_workspaces_are_chosen_at_first(both: tuple[Tenant, Tenant], client: Client) -> None:
    answer = client.get("/search/")
    html = answer.content.decode()
    assert answer.status_code == 200
    for tenant in both:
        assert re.search(rf'<input type="checkbox" name="workspaces" value="{tenant.pk}"[^>]* checked', html)
    assert "no-store" in answer["Cache-Control"]


def test_results_name_their_workspace_and_lead_into_it(both: tuple[Tenant, Tenant], client: Client) -> None:
    html = post(client, "a password of twelve characters", *both, **HTMX).content.decode()
    assert "<html" not in html
    for first in html.split("<article")[1:3]:
        name = "Alpha" if "of Alpha" in first else "Beta"
        assert f'<span class="truncate">{name}</span>' in first
        link = re.search(r'<a href="(/w/[^"]+)">', first)
        assert link
        assert link[1].startswith(f"/w/{name.lower()}/documents/")
        assert client.get(link[1].replace("&amp;", "&").partition("#")[0]).status_code == 200
        assert "<mark>password</mark>" in first
        assert "<dt>Words here</dt>" in first
    assert "from 16 passages of 2 workspaces" in html


def test_documents_that_say_the_same_are_folded_and_named(both: tuple[Tenant, Tenant], client: Client) -> None:
    with workspace(both[1]):
        store([TOPICS["Passwords"]], title="Passwords again")
    html = post(client, "a password of twelve characters", both[1], **HTMX).content.decode()
    assert "Same passage in 1 more document" in html
    assert "Passwords again" in html
    assert "Passwords of Beta" in html


def test_without_javascript_the_whole_page_answers(both: tuple[Tenant, Tenant], client: Client) -> None:
    html = post(client, "password", both[1]).content.decode()
    assert "<html" in html
    assert 'value="password"' in html
    assert "Passwords of Beta" in html
    assert "of Alpha" not in html
    checked = re.findall(r'<input type="checkbox" name="workspaces" value="([^"]+)"[^>]* checked', html)
    assert checked == [str(both[1].pk)]  # what was chosen stays


def test_what_was_not_searched_is_named_above_the_results(
    both: tuple[Tenant, Tenant], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federated_page, "DEADLINE_SECONDS", 2)
    with locked(both[0]):
        html = post(client, "password", *both).content.decode()
    assert "<b>Alpha</b> did not answer in time." in html
    assert html.index("<b>Alpha</b>") < html.index("<article")
    spoil(both[0])
    assert "<b>Alpha</b> could not be searched." in post(client, "password", *both).content.decode()
    lifecycle.require_second_factor(both[0], True)
    html = post(client, "password", *both).content.decode()
    assert '<b>Alpha</b> needs a second factor. <a href="/accounts/second-factor/?next=/search/">' in html
    lifecycle.require_second_factor(both[0], False)
    lifecycle.suspend(both[0], "Unpaid")
    html = post(client, "password", both[0]).content.decode()
    assert "<b>Alpha</b> is closed at the moment." in html
    assert "<article" not in html


def test_the_question_is_not_in_the_title_the_address_or_the_log(
    both: tuple[Tenant, Tenant], client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        html = post(client, "zebracrossing", *both).content.decode()
    title = re.search(r"<title>(.*?)</title>", html, re.S)
    assert title
    assert "zebra" not in title[1]
    assert not re.search(r'(href|action|hx-\w+)="[^"]*zebra', html)
    assert "zebra" not in caplog.text
    assert "<article" not in client.get("/search/?q=password").content.decode()


def test_nothing_typed_and_nothing_chosen_are_said(both: tuple[Tenant, Tenant], client: Client) -> None:
    empty = post(client, "  ", *both, **HTMX)
    assert (empty.status_code, "Type what you are looking for." in empty.content.decode()) == (422, True)
    none = post(client, "password")
    assert (none.status_code, "Choose at least one workspace." in none.content.decode()) == (422, True)


def test_an_id_of_another_workspace_says_as_little_as_one_of_none(both: tuple[Tenant, Tenant], client: Client) -> None:
    own = Membership.objects.select_related("tenant").filter(tenant=both[1])
    tried = {"q": "password", "workspaces": [str(both[0].pk), "none", str(both[1].pk)]}
    form = FederatedForm(tried, memberships=own)
    assert form.is_valid()
    assert form.chosen == [both[1].pk]


def test_at_most_fifty_are_chosen() -> None:
    memberships = [Membership(tenant=Tenant(name=f"Workspace {n}")) for n in range(MAX_WORKSPACES + 1)]
    form = FederatedForm(memberships=memberships)
    assert len(form["workspaces"].initial) == MAX_WORKSPACES
    everything = {"q": "password", "workspaces": [str(each.tenant_id) for each in memberships]}
    form = FederatedForm(everything, memberships=memberships)
    assert form.errors["workspaces"] == ["Choose at most 50 workspaces; you chose 51."]


def test_with_fewer_than_two_workspaces_the_page_says_what_to_do(
    both: tuple[Tenant, Tenant], person: Callable[..., Any], sign_in: Callable[..., Client]
) -> None:
    one, none = sign_in(person("viewer", both[0])), sign_in(person(None))
    for answer in (one.get("/search/"), post(one, "password", *both)):
        html = answer.content.decode()
        assert 'href="/w/alpha/"' in html
        assert "Passwords of" not in html
    assert "You belong to no workspace yet" in none.get("/search/").content.decode()
    assert post(one, "password", *both, **HTMX)["HX-Refresh"] == "true"


def test_the_list_of_workspaces_leads_to_it(
    both: tuple[Tenant, Tenant], client: Client, person: Callable[..., Any], sign_in: Callable[..., Client]
) -> None:
    assert 'href="/search/"' in client.get("/?all").content.decode()
    assert 'href="/search/"' not in sign_in(person("editor", both[0])).get("/?all").content.decode()


def test_who_is_not_signed_in_is_led_to_signing_in(db: None) -> None:
    assert Client().get("/search/")["Location"] == "/accounts/login/?next=/search/"


def test_it_is_no_page_of_a_workspace(both: tuple[Tenant, Tenant], client: Client) -> None:
    assert client.get(f"{both[0].path}search/").status_code == 404


def test_too_many_searches_are_refused(both: tuple[Tenant, Tenant], client: Client, settings: LazySettings) -> None:
    settings.RATE_SEARCH = (1, 3600)
    assert post(client, "password", *both).status_code == 200
    assert post(client, "password", *both).status_code == 429


def test_libraries_are_offered_and_their_results_say_so(
    both: tuple[Tenant, Tenant], person: Callable[..., Any], sign_in: Callable[..., Client]
) -> None:
    alpha, beta = both
    curator = person("owner", beta, email="curator@example.org")
    User.objects.filter(pk=curator.pk).update(is_staff=True)
    client = sign_in(person("viewer", alpha))
    assert "Search all workspaces" not in client.get("/?all").content.decode()
    libraries.make(beta, "Rules of the house.", "Everybody asks for them.")
    libraries.subscribe(alpha, Library.objects.get(), person("owner", alpha))
    assert "Search all workspaces" in client.get("/?all").content.decode()
    html = client.get("/search/").content.decode()
    assert "Beta (library)" in html
    assert re.search(rf'<input type="checkbox" name="workspaces" value="{beta.pk}"[^>]* checked', html)
    html = post(client, "a password of twelve characters", *both, **HTMX).content.decode()
    assert '<span class="truncate">Library: Beta</span>' in html
    assert '<span class="truncate">Alpha</span>' in html
    link = re.search(r'<a href="(/w/beta/documents/[^"]+)">', html)
    assert link
    assert client.get(link[1].replace("&amp;", "&").partition("#")[0]).status_code == 200
    libraries.withdraw(alpha, Library.objects.get(), curator)
    assert "Beta" not in client.get("/search/").content.decode()
    assert client.get(link[1].replace("&amp;", "&").partition("#")[0]).status_code == 404
