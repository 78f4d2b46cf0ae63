"""What a member searched for last: kept for them alone, encrypted, until they clear it or switch it off."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from documents.models import Document
from search import own_searches
from search.models import MemberSearches
from tenants.models import StaffAccess
from tests.factories import CollectionFactory
from tests.search.conftest import Do, member, store

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
ASKED = {"q": "zebra", "collection": "", "mode": "hybrid"}


def asked_by(user: Any) -> list[str]:
    return [each.asked["q"] for each in own_searches.of(member(user)).past]


def test_what_was_asked_is_listed_and_asked_again(do: Do, viewer: Any):
    for question in ("password", "fire drill", "password"):
        do("post", "", {"q": question}, headers=HTMX)
    assert asked_by(viewer) == ["password", "fire drill"]
    page = do("get", "").content.decode()
    listed = re.findall(r'<a href="(/w/alpha/history/[0-9a-f-]{36}/)">([^<]+)</a>', page)
    assert [words for _, words in listed] == ["password", "fire drill"]
    ran = do("get", listed[1][0].removeprefix("/w/alpha/"))
    assert ">Fire drill</a>" in ran.content.decode()
    assert asked_by(viewer) == ["fire drill", "password"], "which is a search like any other"


def test_other_filters_are_another_search_and_other_pages_are_none(do: Do, viewer: Any):
    do("post", "", {"q": "password"})
    do("post", "", {"q": "password", "mode": "words"})
    for number in range(3):  # a second page of results
        store([f"A password, number {number}."], title=f"More {number}", collection=CollectionFactory())
    do("post", "", {"q": "password", "page": "2"})
    assert [each.asked["mode"] for each in own_searches.of(member(viewer)).past] == ["words", "hybrid"]
    do("post", "", {"q": ""})
    assert len(asked_by(viewer)) == 2


def test_the_last_fifty_are_kept(viewer: Any, in_workspace_a: Any):
    for number in range(own_searches.MOST_REMEMBERED + 2):
        own_searches.remember(member(viewer), {**ASKED, "q": f"zebra {number}"})
    assert asked_by(viewer) == [f"zebra {number}" for number in range(51, 1, -1)]


def test_what_two_windows_ask_at_once_is_kept_of_both(viewer: Any, in_workspace_a: Any, monkeypatch: pytest.MonkeyPatch):
    with_, asked = own_searches._with, ["zebra"]

    def meanwhile(newest: Any, searches: Any) -> Any:
        if len(asked) == 1:
            asked.append("yak")
            own_searches.remember(member(viewer), {**ASKED, "q": "yak"})
        return with_(newest, searches)

    own_searches.remember(member(viewer), {**ASKED, "q": "okapi"})
    monkeypatch.setattr(own_searches, "_with", meanwhile)
    own_searches.remember(member(viewer), ASKED)
    assert asked_by(viewer) == ["zebra", "yak", "okapi"]


def test_it_can_be_cleared(do: Do, viewer: Any):
    own_searches.save(member(viewer), "Kept", ASKED)
    do("post", "", {"q": "password"})
    answer = do("post", "history/clear/", follow=True)
    assert "Your search history is cleared." in answer.content.decode()
    assert asked_by(viewer) == []
    do("post", "", {"q": "fire drill"})
    assert asked_by(viewer) == ["fire drill"], "it goes on"
    assert len(own_searches.of(member(viewer)).saved) == 1


def test_switched_off_it_is_gone_and_nothing_is_kept(do: Do, viewer: Any):
    do("post", "", {"q": "password"})
    answer = do("post", "history/", {"keep": "no"}, follow=True).content.decode()
    assert "The list is deleted." in answer
    assert "No list of your searches is kept." in answer
    assert not own_searches.of(member(viewer)).keeps_history
    assert MemberSearches.objects.get().history == {"is_kept": False, "searches": []}
    for path in ("", "settled/"):
        do("post", path, {"q": "fire drill"})
    do("post", "history/clear/")
    assert asked_by(viewer) == []
    assert not own_searches.of(member(viewer)).keeps_history
    do("post", "history/", {"keep": "yes"})
    do("post", "", {"q": "canteen"})
    assert asked_by(viewer) == ["canteen"]


def test_nobody_else_sees_or_changes_it(owner: Any, client_owner: Client, viewer: Any, do: Do):
    do("post", "", {"q": "zebra password"})
    (entry,) = own_searches.of(member(viewer)).past
    assert "zebra" not in do("get", "", client=client_owner).content.decode()
    assert do("get", f"history/{entry.id}/", client=client_owner).status_code == 404
    assert do("get", f"history/{uuid4()}/", client=client_owner).status_code == 404
    do("post", "history/clear/", client=client_owner)
    do("post", "history/", {"keep": "no"}, client=client_owner)
    assert asked_by(viewer) == ["zebra password"]
    assert own_searches.of(member(viewer)).keeps_history
    assert not own_searches.of(member(owner)).keeps_history


@pytest.fixture
def client_staff(
    workspace_a: Any, viewer: Any, owner: Any, person: Callable[..., Any], sign_in: Callable[..., Client]
) -> Client:
    """Of the staff, whom an owner let view."""
    staff = person(None, email="staff@example.org", staff=True)
    now = timezone.now()
    StaffAccess.objects.create(
        tenant=workspace_a, staff=staff, staff_email=staff.email, reason="Asked for help.", minutes=30,
        requested_at=now, lapses_at=now + timedelta(days=1), consented_at=now, consented_by=owner,
    )  # fmt: skip
    return sign_in(staff)


def test_staff_who_view_see_none_and_leave_none(client_staff: Client, viewer: Any, do: Do):
    do("post", "", {"q": "zebra password"})
    saved = own_searches.save(member(viewer), "Striped", ASKED)
    (entry,) = own_searches.of(member(viewer)).past
    page = do("get", "", client=client_staff).content.decode()
    assert "You are viewing Alpha as staff" in page
    for words in ("zebra", "Striped", "Your last searches", "Saved searches"):
        assert words not in page
    for path in ("", "instant/", "settled/"):
        answer = do("post", path, {"q": "fire drill"}, client=client_staff)
        assert answer.status_code in (200, 204)
        assert "Save this search" not in answer.content.decode()
    for path in ("saved/", f"saved/{saved.id}/", f"saved/{saved.id}/rename/", f"history/{entry.id}/"):
        assert do("get", path, client=client_staff).status_code == 403
    for path in ("saved/", f"saved/{saved.id}/delete/", "history/", "history/clear/"):
        assert do("post", path, {**ASKED, "name": "Mine"}, client=client_staff).status_code == 403
    assert [row.pk for row in MemberSearches.objects.all()] == [member(viewer).pk]
    assert asked_by(viewer) == ["zebra password"]


def test_who_sees_no_document_any_more_can_still_clear_it(do: Do, viewer: Any, handbook: dict[str, Document]):
    do("post", "", {"q": "password"})
    collection = handbook["Passwords"].collection
    collection.restricted = True
    collection.save()
    page = do("get", "").content.decode()
    assert "no document that you may see is ready" in page
    assert "Clear history" in page
