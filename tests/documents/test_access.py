"""Who may see a collection: the rule, and that every address keeps it for who is not named."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from documents import access, receiving
from documents.models import Collection, CollectionMember, Document
from documents.receiving import create_collection
from search.sources import sources
from tenants import people
from tenants.context import public_context, workspace
from tenants.errors import Refused
from tenants.models import Membership
from tests.documents.routes import ROLES, ROUTES, made_ready, path_of, without_reference
from tests.factories import DocumentFactory

State = Document.State
UNKNOWN = Document(id=UUID(int=1), collection_id=UUID(int=2))


@pytest.fixture
def secret(workspace_a: Any) -> Document:
    """The only document of a restricted collection that names nobody."""
    with workspace(workspace_a):
        return DocumentFactory(collection=create_collection("Board papers", restricted=True), file_name="merger.txt")


def membership(user: Any, tenant: Any) -> Membership:
    return Membership.objects.get(user=user, tenant=tenant)


def name(collection: Collection, who: Membership) -> None:
    CollectionMember.objects.create(collection=collection, membership_id=who.pk)


# ---------------------------------------------------------------- the rule


def searched(who: Membership) -> set[UUID]:
    """What a search offers them, which has the rule in SQL of its own."""
    found = {each.id for each in sources().collections(who)}
    assert found == access.visible_collection_ids(who)
    return found


@pytest.mark.parametrize("role", ROLES)
def test_a_restricted_collection_is_for_owners_and_those_it_names(
    role: str, secret: Document, workspace_a: Any, person: Callable[..., Any]
) -> None:
    who = membership(person(role, workspace_a), workspace_a)
    with workspace(workspace_a):
        assert access.visible_documents(who).exists() is (role == "owner")
        assert (secret.collection_id in searched(who)) is (role == "owner")
        name(secret.collection, who)
        assert list(access.visible_documents(who)) == [secret]
        assert access.visible_by_name(who) == {secret.collection_id: "Board papers"}
        assert searched(who) == {secret.collection_id}
        assert searched(Membership(role=role)) == (searched(who) if role == "owner" else set())  # a guest's, never stored


def test_canaries_are_nobodys(workspace_a: Any, owner: Any) -> None:
    who = membership(owner, workspace_a)
    with workspace(workspace_a):
        canary = Collection.objects.create(name="Canary", name_digest=b"x" * 32, is_canary=True)
        name(canary, who)
        DocumentFactory(collection=canary)
        assert searched(who) == set()
        assert not access.visible_documents(who).exists()
        assert not access.every_collection().exists()


def test_a_removed_member_who_is_invited_again_is_not_named_any_more(
    secret: Document, workspace_a: Any, owner: Any, viewer: Any
) -> None:
    before = membership(viewer, workspace_a)
    with workspace(workspace_a):
        name(secret.collection, before)
    people.remove(workspace_a, viewer.pk, by=viewer.pk)
    again = people.accept(people.invite(workspace_a, viewer.email, "viewer", owner), viewer)
    with workspace(workspace_a):
        assert CollectionMember.objects.count() == 1
        assert not access.visible_documents(again).exists()
        assert access.forget_former_members() == 1
        assert access.forget_former_members() == 0


def test_a_name_that_is_taken_by_a_hidden_collection_gives_no_way_in(secret: Document, workspace_a: Any, editor: Any) -> None:
    who = membership(editor, workspace_a)
    with workspace(workspace_a):
        with pytest.raises(Refused, match="not open to you"):
            receiving.collection_open_to(who, "board papers")
        assert receiving.collection_open_to(who, "Letters").name == "Letters"


# ---------------------------------------------------------------- changing it


def test_restricting_says_who_gained_and_lost(workspace_a: Any, person: Callable[..., Any]) -> None:
    owner, admin, viewer = (membership(person(role, workspace_a), workspace_a) for role in ("owner", "admin", "viewer"))
    with workspace(workspace_a):
        made = create_collection("Letters")
        change = access.set_access(made, owner, restricted=True, chosen=[viewer.pk, 999_999])
        assert (change.gained, change.lost) == ([], ["Admin"])
        assert "Admin may not see “Letters” any more." in change.in_words("Letters")
        assert access.named_in(made) == {viewer.pk}
        change = access.set_access(made, owner, restricted=True, chosen=[admin.pk])
        assert (change.gained, change.lost) == (["Admin"], ["Viewer"])
        assert (
            access.set_access(made, owner, restricted=True, chosen=[admin.pk]).in_words("Letters").startswith("Nothing changed")
        )
        change = access.set_access(made, admin, restricted=False)
        assert "Everyone in this workspace may see “Letters” now." in change.in_words("Letters")
        assert access.named_in(made) == set(), "restricted again, it begins with nobody"


def test_an_admin_cannot_lock_themselves_out(workspace_a: Any, person: Callable[..., Any]) -> None:
    admin = membership(person("admin", workspace_a), workspace_a)
    with workspace(workspace_a):
        made = create_collection("Letters")
        with pytest.raises(Refused, match="lock yourself out"):
            access.set_access(made, admin, restricted=True, chosen=[])
        made.refresh_from_db()
        assert not made.restricted


def test_who_does_not_see_it_cannot_change_it(secret: Document, workspace_a: Any, person: Callable[..., Any]) -> None:
    admin = membership(person("admin", workspace_a), workspace_a)
    with workspace(workspace_a), pytest.raises(Refused):
        access.set_access(secret.collection, admin, restricted=False)


def test_restricted_from_the_start_names_its_maker(workspace_a: Any, person: Callable[..., Any]) -> None:
    admin = membership(person("admin", workspace_a), workspace_a)
    with workspace(workspace_a):
        made = create_collection("Board papers", by=admin, restricted=True)
        assert made.restricted
        assert access.named_in(made) == {admin.pk}


# ---------------------------------------------------------------- every address


@pytest.mark.parametrize(("route", "method", "least"), [one for one in ROUTES if "{" in one[0]])
def test_what_one_may_not_see_is_answered_like_what_does_not_exist(
    route: str,
    method: str,
    least: str,
    secret: Document,
    workspace_a: Any,
    person: Callable[..., Any],
    sign_in: Callable[..., Client],
) -> None:
    client = sign_in(person("admin", workspace_a))  # may do all of it elsewhere
    with workspace(workspace_a):
        made_ready(secret, route)
    hidden = getattr(client, method)(workspace_a.path + path_of(route, secret))
    unknown = getattr(client, method)(workspace_a.path + path_of(route, UNKNOWN))
    assert hidden.status_code == unknown.status_code == 404
    assert without_reference(hidden) == without_reference(unknown)
    with workspace(workspace_a):
        secret.refresh_from_db()
        assert secret.state == State.QUEUED


def test_lists_filters_and_counts_leave_it_out(secret: Document, workspace_a: Any, client_editor: Client) -> None:
    at = workspace_a.path
    for address in (
        "documents/",
        "documents/rows/",
        "documents/upload/",
        "collections/",
        f"documents/?collection={secret.collection_id}",
    ):
        page = client_editor.get(at + address).content.decode()
        for word in ("Board papers", "merger", str(secret.id), str(secret.collection_id)):
            assert word not in page, address
    assert "No documents yet" in client_editor.get(at + "documents/").content.decode()
    assert "No collections yet" in client_editor.get(at + "collections/").content.decode()


def test_an_upload_into_it_is_refused_as_into_none(
    secret: Document, workspace_a: Any, client_editor: Client, listed: Callable[[], list[Any]]
) -> None:
    before = len(listed())
    answers = [
        client_editor.post(
            f"{workspace_a.path}documents/upload/",
            {"files": SimpleUploadedFile("a.txt", b"words"), "collection": str(target)},
            headers={"Accept": "application/json"},
        )
        for target in (secret.collection_id, UNKNOWN.collection_id)
    ]
    assert [answer.status_code for answer in answers] == [422, 422]
    assert answers[0].json() == answers[1].json()
    assert len(listed()) == before


def test_a_restricted_default_collection_takes_nothing_from_others(
    workspace_a: Any, client_editor: Client, listed: Callable[[], list[Any]]
) -> None:
    with workspace(workspace_a):
        create_collection("Documents", restricted=True)
    answer = client_editor.post(
        f"{workspace_a.path}documents/upload/",
        {"files": SimpleUploadedFile("a.txt", b"words")},
        headers={"Accept": "application/json"},
    )
    assert answer.status_code == 422
    assert "not open to you" in answer.json()["errors"][0]["message"]
    assert listed() == []


def test_who_is_named_works_with_it_as_ever(secret: Document, workspace_a: Any, editor: Any, client_editor: Client) -> None:
    with workspace(workspace_a):
        with public_context():
            who = membership(editor, workspace_a)
        name(secret.collection, who)
    assert "merger" in client_editor.get(f"{workspace_a.path}documents/").content.decode()
    assert client_editor.get(f"{workspace_a.path}documents/{secret.id}/").status_code == 200
    assert client_editor.post(f"{workspace_a.path}documents/{secret.id}/cancel/").status_code == 302
