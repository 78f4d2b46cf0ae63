"""Searches that a member saved: theirs alone, encrypted, and gone with their membership."""

import html
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client

from search import own_searches
from search.models import MemberSearches
from tenants import people
from tenants.ciphers import Tampered
from tenants.context import workspace
from tenants.errors import Refused
from tests.factories import CollectionFactory
from tests.search.conftest import Do, member

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
ASKED = {"q": "zebra password", "collection": "", "mode": "words"}


def words(answer: Any) -> str:
    return html.unescape(answer.content.decode())


def test_a_search_is_saved_under_a_name_and_asked_again(do: Do, viewer: Any):
    answer = do("post", "saved/", {**ASKED, "name": "Striped"}, headers=HTMX)
    assert answer.status_code == 200
    assert "Saved as “Striped”" in words(answer)
    (saved,) = own_searches.of(member(viewer)).saved
    assert (saved.name, saved.asked) == ("Striped", ASKED)
    assert "Striped" in words(do("get", ""))
    listed = words(do("get", "saved/"))
    assert "Striped" in listed
    assert "zebra password" in listed
    ran = words(do("get", f"saved/{saved.id}/"))
    assert ran.count("<article") == 1
    assert '<option value="words" selected>' in ran
    assert 'value="zebra password"' in ran
    assert "Saved as “Striped”" in ran


def test_without_javascript_the_list_answers(do: Do):
    answer = do("post", "saved/", {**ASKED, "name": "Striped"}, follow=True)
    assert answer.redirect_chain == [("/w/alpha/saved/", 302)]
    assert "“Striped” is saved." in words(answer)


@pytest.mark.parametrize("headers", [HTMX, {}])
def test_a_name_that_is_missing_taken_or_too_long_is_asked_for_again(do: Do, viewer: Any, headers: dict[str, str]):
    own_searches.save(member(viewer), "Striped", ASKED)
    for name, said in (
        ("", "Give the search a name."),
        ("striped", "You have saved a search as “striped” already. Choose another name."),
        ("n" * 121, "Use at most 120 characters."),
    ):
        answer = do("post", "saved/", {**ASKED, "name": name}, headers=headers)
        assert answer.status_code == 422
        assert said in words(answer)
        assert 'name="q" value="zebra password"' in words(answer), "nothing is lost"
        assert ("<html" in words(answer)) == (headers == {})
    assert len(own_searches.of(member(viewer)).saved) == 1


def test_what_cannot_be_asked_is_not_saved(do: Do, viewer: Any):
    for asked in ({"q": ""}, {"q": "-zebra"}, {"q": "zebra", "collection": str(uuid4())}):
        assert do("post", "saved/", {**asked, "name": "Striped"}, headers=HTMX).status_code == 422
    assert own_searches.of(member(viewer)).saved == []


def test_it_is_renamed_and_deleted(do: Do, viewer: Any):
    saved = own_searches.save(member(viewer), "Striped", ASKED)
    own_searches.save(member(viewer), "Spotted", ASKED)
    assert 'value="Striped"' in words(do("get", f"saved/{saved.id}/rename/"))
    assert do("post", f"saved/{saved.id}/rename/", {"name": "spotted"}).status_code == 422
    assert do("post", f"saved/{saved.id}/rename/", {"name": "STRIPED"}).status_code == 302
    assert own_searches.saved(member(viewer), saved.id).name == "STRIPED"
    assert "This cannot be undone" in words(do("get", f"saved/{saved.id}/delete/"))
    assert "“STRIPED” is deleted." in words(do("post", f"saved/{saved.id}/delete/", follow=True))
    assert [each.name for each in own_searches.of(member(viewer)).saved] == ["Spotted"]
    for path in ("", "rename/", "delete/"):
        assert do("get", f"saved/{saved.id}/{path}").status_code == 404
    assert do("post", f"saved/{saved.id}/delete/").status_code == 404


def test_there_are_a_hundred_at_most(do: Do, viewer: Any):
    for number in range(own_searches.MOST_SAVED):
        own_searches.save(member(viewer), f"Number {number}", ASKED)
    with pytest.raises(Refused, match="You keep 100 searches"):
        own_searches.save(member(viewer), "One more", ASKED)
    assert "Delete one first" in words(do("post", "saved/", {**ASKED, "name": "One more"}, headers=HTMX))


def test_others_neither_see_nor_change_it(owner: Any, client_owner: Client, viewer: Any, do: Do):
    saved = own_searches.save(member(viewer), "Striped", ASKED)
    for path in ("", "saved/"):
        assert "Striped" not in words(do("get", path, client=client_owner))
    for method, path in (
        ("get", ""), ("get", "rename/"), ("get", "delete/"), ("post", "rename/"), ("post", "delete/"),
    ):  # fmt: skip
        theirs, nobodys = (
            do(method, f"saved/{each}/{path}", {"name": "Mine"} if method == "post" else {}, client=client_owner)
            for each in (saved.id, uuid4())
        )
        assert theirs.status_code == nobodys.status_code == 404
    assert own_searches.saved(member(viewer), saved.id) == saved
    assert own_searches.of(member(owner)).saved == []


def test_one_of_a_collection_that_is_hidden_now_says_no_more_than_of_one_that_is_gone(do: Do, viewer: Any):
    collection = CollectionFactory(name="Board papers")
    saved = own_searches.save(member(viewer), "Striped", {**ASKED, "collection": str(collection.id)})
    collection.restricted = True
    collection.save()
    answer = do("get", f"saved/{saved.id}/")
    assert answer.status_code == 422
    assert "This collection does not exist any more. Choose another." in words(answer)
    assert "Board papers" not in words(answer)
    assert 'value="zebra password"' in words(answer)


def test_the_database_holds_no_word_of_it(viewer: Any, in_workspace_a: Any):
    own_searches.save(member(viewer), "Striped", ASKED)
    own_searches.remember(member(viewer), ASKED)
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(t)::text FROM search_membersearches t")
        (row,) = [row for (row,) in cursor.fetchall()]
    for word in ("Striped", "zebra", "words", "is_kept"):
        assert word not in row
        assert word.encode().hex() not in row


def test_a_row_handed_to_somebody_else_does_not_open(viewer: Any, owner: Any, in_workspace_a: Any):
    """As who can only write to the database might try."""
    own_searches.save(member(viewer), "Striped", ASKED)
    MemberSearches.objects.update(membership_id=member(owner).pk)
    with pytest.raises(Tampered):
        own_searches.of(member(owner))


def test_who_is_removed_and_comes_back_finds_nothing(viewer: Any, owner: Any, workspace_a: Any):
    before = member(viewer)
    with workspace(workspace_a):
        own_searches.save(before, "Striped", ASKED)
        own_searches.remember(before, ASKED)
        own_searches.save(member(owner), "Mine", ASKED)
    people.remove(workspace_a, viewer.pk, by=owner.pk)
    again = people.accept(people.invite(workspace_a, viewer.email, "viewer", owner), viewer)
    with workspace(workspace_a):
        found = own_searches.of(again)
        assert (found.saved, found.past) == ([], [])
        assert own_searches.forget_former_members() == 1
        assert own_searches.forget_former_members() == 0
        assert [row.pk for row in MemberSearches.objects.all()] == [member(owner).pk]
