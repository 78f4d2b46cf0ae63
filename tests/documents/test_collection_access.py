"""The page that says and changes who may see a collection."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from documents.models import Collection, CollectionMember
from documents.receiving import create_collection
from tenants.context import workspace
from tenants.models import Membership

CHOSEN, EVERYONE = "chosen", "everyone"


@pytest.fixture
def letters(workspace_a: Any) -> Collection:
    with workspace(workspace_a):
        return create_collection("Letters")


@pytest.fixture
def screen(workspace_a: Any, letters: Collection) -> str:
    return f"{workspace_a.path}collections/{letters.id}/access/"


def number(user: Any) -> int:
    return Membership.objects.get(user=user).pk


def test_it_names_everybody_but_owners(client_owner: Client, viewer: Any, screen: str) -> None:
    html = client_owner.get(screen).content.decode()
    assert "Who may see “Letters”" in html
    assert "Viewer (viewer@example.org), viewer" in html
    assert "owner@example.org), owner" not in html
    assert "Owners see every collection" in html


def test_saving_restricts_and_says_what_changed(
    client_owner: Client, client_editor: Client, viewer: Any, screen: str, workspace_a: Any, letters: Collection
) -> None:
    answer = client_owner.post(screen, {"who": CHOSEN, "people": [number(viewer)]}, follow=True)
    html = answer.content.decode()
    assert answer.redirect_chain == [(f"{workspace_a.path}collections/", 302)]
    assert "Only owners and the people chosen may see “Letters” now." in html
    assert "Editor may not see “Letters” any more." in html
    assert "Restricted" in html
    assert "Letters" not in client_editor.get(f"{workspace_a.path}collections/").content.decode()
    assert "checked" in client_owner.get(screen).content.decode()
    answer = client_owner.post(screen, {"who": EVERYONE}, follow=True)
    assert "Everyone in this workspace may see “Letters” now." in answer.content.decode()
    with workspace(workspace_a):
        assert not CollectionMember.objects.exists()


def test_who_restricts_is_chosen_beforehand_and_cannot_be_left_out(
    person: Callable[..., Any], sign_in: Callable[[Any], Client], screen: str, workspace_a: Any, letters: Collection
) -> None:
    admin = person("admin", workspace_a)
    client = sign_in(admin)
    form = client.get(screen).context["form"]
    assert form["people"].value() == [number(admin)]
    answer = client.post(screen, {"who": CHOSEN})
    assert answer.status_code == 422
    assert "You would lock yourself out." in answer.content.decode()
    with workspace(workspace_a):
        assert not Collection.objects.get().restricted
    assert client.post(screen, {"who": CHOSEN, "people": [number(admin)]}).status_code == 302
    assert client.get(screen).status_code == 200


def test_somebody_who_is_no_member_is_not_let_in(client_owner: Client, screen: str, viewer: Any, workspace_a: Any) -> None:
    gone = number(viewer)
    Membership.objects.filter(pk=gone).delete()
    answer = client_owner.post(screen, {"who": CHOSEN, "people": [gone]})
    assert answer.status_code == 422
    assert "not a member any more" in answer.content.decode()
    assert client_owner.post(screen, {"who": CHOSEN, "people": ["x"]}).status_code == 422
    assert client_owner.post(screen, {}).status_code == 422


def test_a_new_collection_may_be_restricted_at_once(
    person: Callable[..., Any], sign_in: Callable[[Any], Client], client_editor: Client, workspace_a: Any
) -> None:
    client = sign_in(person("admin", workspace_a))
    answer = client.post(f"{workspace_a.path}collections/create/", {"name": "Board papers", "restricted": "on"})
    with workspace(workspace_a):
        made = Collection.objects.get()
        assert made.restricted
    assert answer["Location"] == f"{workspace_a.path}collections/{made.id}/access/"
    assert client.get(answer["Location"]).status_code == 200
    assert "Board papers" not in client_editor.get(f"{workspace_a.path}collections/").content.decode()


def test_editors_are_not_offered_it(client_editor: Client, workspace_a: Any) -> None:
    assert 'name="restricted"' not in client_editor.get(f"{workspace_a.path}collections/").content.decode()
