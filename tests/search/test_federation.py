"""One question to several workspaces: who is asked, what becomes of those that hang or fail, and whose result is first."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection, connections, transaction

from documents.receiving import create_collection
from search import federation
from search.embeddings import Embedder
from search.federation import Federated, State, ask
from search.pool import pool
from tenants import libraries, lifecycle, limits, logins, people, roles
from tenants.acting import acting
from tenants.acting import person as acting_person
from tenants.audit.models import Entry
from tenants.context import current_tenant, workspace
from tenants.keys import freezing, presence
from tenants.keys.keyring import KeysFrozen
from tenants.models import Library, Membership, Subscription, Tenant, User
from tenants.provisioning import create_workspace
from tests.search.conftest import TOPICS, store

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])

AMPLE = 30.0  # seconds in which everything answers that does
MANY = 20
QUESTION = "How long must a password be?"
RELEVANT = "Choose a password of at least twelve characters and never share it with a colleague."


@pytest.fixture
def both(workspace_a: Tenant, workspace_b: Tenant, model: Embedder) -> tuple[Tenant, Tenant]:
    """Two workspaces: the first answers the question, the second has nothing to say to it."""
    with workspace(workspace_a):
        for title, text in TOPICS.items():
            store([text], title=title)
    with workspace(workspace_b):
        for number in range(8):
            store([f"Recipe {number}: bake the bread with flour and water."], title=f"Recipe {number}")
        store(["How long must the dough rest?"], title="Dough")
    return workspace_a, workspace_b


@pytest.fixture
def member(person: Callable[..., Any], both: tuple[Tenant, Tenant]) -> Any:
    """A viewer of both."""
    made = person("viewer", both[0])
    Membership.objects.create(user=made, tenant=both[1], role="viewer")
    return made


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Afterwards no thread, no connection, no place taken and no workspace in use."""
    before = _connections()
    yield
    for thread in threading.enumerate():
        if thread.name == "federated search":
            thread.join(AMPLE)
            assert not thread.is_alive()
    until = time.monotonic() + AMPLE  # PostgreSQL ends a process a moment after its client has gone
    while _connections() != before and time.monotonic() < until:
        time.sleep(0.05)
    assert _connections() == before
    assert federation._places._value == federation.IN_ALL
    assert not presence._in_use


def _connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename <> %s",
            [roles.login_name("operator")],
        )
        return int(cursor.fetchone()[0])


def states(answer: Federated) -> dict[str, State]:
    return {source.workspace.slug: source.state for source in answer.sources}


def titles(answer: Federated) -> list[str]:
    return [found.shown.source.title for found in answer.results]


def everywhere(person: Any, text: str = QUESTION, **options: Any) -> Federated:
    """Asked of every workspace there is, as somebody would who tries ids."""
    options = {"deadline_seconds": AMPLE, "limit": 20, **options}
    with acting(acting_person(person)):
        return ask(person, text, Tenant.objects.values_list("pk", flat=True), **options)


@contextmanager
def locked(tenant: Tenant) -> Iterator[None]:
    """Somebody else holds a table that every search of this workspace reads."""
    with transaction.atomic(using="operator"), connections["operator"].cursor() as cursor:
        cursor.execute(f'LOCK TABLE "{tenant.schema_name}".search_vectorindex IN ACCESS EXCLUSIVE MODE')
        yield


def spoil(tenant: Tenant) -> None:
    """Its word lists do not open any more."""
    with connections["operator"].cursor() as cursor:
        cursor.execute(f'UPDATE "{tenant.schema_name}".search_terms SET payload = %s', [b"spoilt"])
    pool().clear()


# ---------------------------------------------------------------- twenty workspaces


def test_one_hangs_and_one_fails_and_the_others_answer(
    model: Embedder, person: Callable[..., Any], nothing_left: None, caplog: pytest.LogCaptureFixture
) -> None:
    somebody = person(None)
    tenants = [create_workspace(f"Workspace {n:02}", f"many-{n:02}", somebody)[0] for n in range(MANY)]
    for tenant in tenants:
        with workspace(tenant):
            store([f"{RELEVANT} Says {tenant.name}."], title=tenant.name)
    hung, failing, *others = tenants
    spoil(failing)
    with locked(hung), caplog.at_level(logging.DEBUG):
        answer = everywhere(somebody, deadline_seconds=5, limit=50)
    assert states(answer) == {
        hung.slug: State.LATE,
        failing.slug: State.FAILED,
        **{tenant.slug: State.ANSWERED for tenant in others},
    }
    assert sorted(titles(answer)) == [tenant.name for tenant in others]
    for found in answer.results:
        assert found.shown.url.startswith(f"/w/{found.workspace.slug}/documents/")
    assert str(failing.pk) in caplog.text
    assert "password" not in caplog.text


def test_a_thread_that_hangs_ends_by_itself(both: tuple[Tenant, Tenant], member: Any, nothing_left: None) -> None:
    with locked(both[0]):
        answer = everywhere(member, deadline_seconds=1)
        assert states(answer)[both[0].slug] is State.LATE
        for thread in threading.enumerate():
            if thread.name == "federated search":
                thread.join(AMPLE)
                assert not thread.is_alive()


def test_what_no_thread_has_taken_up_is_late_and_not_asked_afterwards(both: tuple[Tenant, Tenant], member: Any) -> None:
    for _ in range(federation.IN_ALL):
        federation._places.acquire()
    try:
        answer = everywhere(member, deadline_seconds=0.1)
    finally:
        federation._places.release(federation.IN_ALL)
    assert states(answer) == {"alpha": State.LATE, "beta": State.LATE}
    assert answer.results == []
    assert not searched_by(member, both[0])


# ---------------------------------------------------------------- who is asked


def searched_by(somebody: Any, tenant: Tenant) -> list[Any]:
    with workspace(tenant):
        found = Entry.objects.filter(event="search.searched", person_id=somebody.pk)
        return [entry.details["about"] for entry in found]


def test_each_workspace_is_asked_as_its_own_page_asks_it(
    both: tuple[Tenant, Tenant], member: Any, nothing_left: None, monkeypatch: pytest.MonkeyPatch, model: Embedder
) -> None:
    inferred: list[int] = []
    real = model._infer
    monkeypatch.setattr(model, "_infer", lambda ids: inferred.append(len(ids)) or real(ids))
    answer = everywhere(member)
    assert states(answer) == {"alpha": State.ANSWERED, "beta": State.ANSWERED}
    assert [source.searched for source in answer.sources] == [8, 9]
    assert inferred == [1]
    for tenant in both:
        (about,) = searched_by(member, tenant)
        assert about.keys() == {"results", "collection"}  # nothing of where else was searched
    for scope in (b"", *(tenant.pk.bytes for tenant in both)):
        model.forget_queries(scope)
    assert not [scope for scope, _ in model._cache if scope in {tenant.pk.bytes for tenant in both}]


@pytest.fixture
def tenant_logins(settings: LazySettings, db: None) -> Iterator[None]:
    settings.TENANT_LOGINS = True
    logins.sync(connections["operator"])
    yield
    connection.close()
    settings.TENANT_LOGINS = False
    logins.sync(connections["operator"])


def test_each_is_entered_with_its_own_login_where_it_has_one(
    both: tuple[Tenant, Tenant], member: Any, tenant_logins: None, nothing_left: None
) -> None:
    answer = everywhere(member)
    assert states(answer) == {"alpha": State.ANSWERED, "beta": State.ANSWERED}
    assert titles(answer)[0] == "Passwords"


def test_a_question_is_in_the_memory_of_those_it_was_asked_of_alone(
    both: tuple[Tenant, Tenant], member: Any, model: Embedder
) -> None:
    for tenant in both:
        model.forget_queries(tenant.pk.bytes)
    ask(member, "asked of one alone", [both[0].pk], deadline_seconds=AMPLE, limit=5)
    scopes = {scope for scope, _ in model._cache}
    assert both[0].pk.bytes in scopes
    assert both[1].pk.bytes not in scopes


def test_who_was_removed_gets_nothing_and_is_not_told_that_it_exists(
    both: tuple[Tenant, Tenant], member: Any, person: Callable[..., Any]
) -> None:
    assert "Passwords" in titles(everywhere(member))
    owner = person("owner", both[0])
    people.remove(both[0], member.pk, by=owner.pk)
    answer = everywhere(member)
    assert states(answer) == {"beta": State.ANSWERED}
    assert "Passwords" not in titles(answer)


def test_who_is_removed_while_it_waits_gets_nothing(
    both: tuple[Tenant, Tenant], member: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    real = federation.searchable

    def removed_after_the_first_look(*args: Any) -> Any:
        found = real(*args)
        if not looked:
            Membership.objects.filter(user=member, tenant=both[0]).delete()
        looked.append(1)
        return found

    monkeypatch.setattr(federation, "searchable", removed_after_the_first_look)
    assert states(everywhere(member)) == {"beta": State.ANSWERED}


def test_a_planted_membership_gives_nothing(both: tuple[Tenant, Tenant], person: Callable[..., Any]) -> None:
    stranger = person(None)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO tenants_membership (user_id, tenant_id, role) VALUES (%s, %s, 'owner')", [stranger.pk, both[0].pk]
        )
    answer = everywhere(stranger)
    assert (answer.sources, answer.results) == ([], [])
    assert searched_by(stranger, both[0]) == []


def test_a_restricted_collection_of_one_workspace_stays_hidden(
    both: tuple[Tenant, Tenant], member: Any, person: Callable[..., Any]
) -> None:
    with workspace(both[0]):
        board = create_collection("Board papers", restricted=True)
        store(["Choose the password of the vault: at least forty characters."], title="Vault", collection=board)
    owner = person("owner", both[0])
    assert "Vault" in titles(everywhere(owner))
    answer = everywhere(member)
    assert "Vault" not in titles(answer)
    assert [source.searched for source in answer.sources] == [8, 9]


def test_a_workspace_that_is_not_open_is_named_and_not_entered(both: tuple[Tenant, Tenant], member: Any) -> None:
    lifecycle.suspend(both[0], "Unpaid")
    assert states(everywhere(member)) == {"alpha": State.CLOSED, "beta": State.ANSWERED}
    lifecycle.resume(both[0])
    Tenant.objects.filter(pk=both[0].pk).update(schema_version="")
    assert states(everywhere(member))["alpha"] is State.CLOSED
    Tenant.objects.filter(pk=both[0].pk).update(schema_version=both[0].schema_version)
    freezing.freeze(both[0], "Somebody may be in it", acting_person(member))
    assert states(everywhere(member))["alpha"] is State.CLOSED
    assert searched_by(member, both[1])


def test_frozen_while_it_is_asked_is_closed(
    both: tuple[Tenant, Tenant], member: Any, monkeypatch: pytest.MonkeyPatch, nothing_left: None
) -> None:
    real = federation.search

    def frozen_first(*args: Any, **options: Any) -> Any:
        if current_tenant() == both[0]:
            raise KeysFrozen("while it was under way")
        return real(*args, **options)

    monkeypatch.setattr(federation, "search", frozen_first)
    assert states(everywhere(member)) == {"alpha": State.CLOSED, "beta": State.ANSWERED}


def test_a_required_second_factor_is_asked_for(both: tuple[Tenant, Tenant], member: Any) -> None:
    lifecycle.require_second_factor(both[0], True)
    answer = everywhere(member)
    assert states(answer) == {"alpha": State.SECOND_FACTOR, "beta": State.ANSWERED}
    assert searched_by(member, both[0]) == []
    assert states(everywhere(member, has_second_factor=True))["alpha"] is State.ANSWERED


def test_the_limit_of_searches_is_each_workspaces_own(both: tuple[Tenant, Tenant], member: Any, settings: LazySettings) -> None:
    settings.RATE_SEARCH = (2, 3600)
    with workspace(both[0]):
        limits.take("search", member.pk, settings.RATE_SEARCH)
    assert set(states(everywhere(member)).values()) == {State.ANSWERED}
    assert states(everywhere(member)) == {"alpha": State.TOO_OFTEN, "beta": State.ANSWERED}


# ---------------------------------------------------------------- libraries


@pytest.fixture
def reader(person: Callable[..., Any], both: tuple[Tenant, Tenant]) -> Any:
    """A viewer of the second, which subscribes to the first as a library."""
    curator = person("owner", both[0], email="curator@example.org")
    User.objects.filter(pk=curator.pk).update(is_staff=True)
    libraries.make(both[0], "Rules of the house.", "Everybody asks for them.")
    libraries.subscribe(both[1], Library.objects.get(), person("owner", both[1]))
    return person("viewer", both[1])


def test_a_library_is_asked_with_the_own_workspaces_in_one_order(both: tuple[Tenant, Tenant], reader: Any) -> None:
    answer = everywhere(reader)
    assert states(answer) == {"beta": State.ANSWERED, "alpha": State.ANSWERED}
    assert titles(answer)[0] == "Passwords"
    assert {found.is_library for found in answer.results if found.workspace == both[0]} == {True}
    assert {found.is_library for found in answer.results if found.workspace == both[1]} == {False}
    with workspace(both[0]):
        (entry,) = Entry.objects.filter(event="search.searched")
        assert entry.details["who"] == "somebody of Beta"
        assert entry.details["about"].keys() == {"results", "collection"}
        assert reader.email not in str(entry.details)
    assert searched_by(reader, both[1])


def test_what_a_library_restricts_stays_hidden(both: tuple[Tenant, Tenant], reader: Any) -> None:
    with workspace(both[0]):
        board = create_collection("Board papers", restricted=True)
        store(["Choose the password of the vault: at least forty characters."], title="Vault", collection=board)
    assert "Vault" not in titles(everywhere(reader))


def test_a_library_that_hangs_or_fails_is_named_and_the_own_workspace_answers(
    both: tuple[Tenant, Tenant], reader: Any, nothing_left: None
) -> None:
    with locked(both[0]):
        answer = everywhere(reader, deadline_seconds=2)
    assert states(answer) == {"alpha": State.LATE, "beta": State.ANSWERED}
    spoil(both[0])
    assert states(everywhere(reader)) == {"alpha": State.FAILED, "beta": State.ANSWERED}


def test_a_library_counts_searches_of_each_reader(both: tuple[Tenant, Tenant], reader: Any, settings: LazySettings) -> None:
    settings.RATE_SEARCH = (1, 3600)
    with workspace(both[0]):
        limits.take("search", reader.pk, settings.RATE_SEARCH)
    assert states(everywhere(reader)) == {"alpha": State.TOO_OFTEN, "beta": State.ANSWERED}


def test_a_library_asks_for_the_second_factor_of_either_side(both: tuple[Tenant, Tenant], reader: Any) -> None:
    lifecycle.require_second_factor(both[1], True)
    assert set(states(everywhere(reader)).values()) == {State.SECOND_FACTOR}
    assert states(everywhere(reader, has_second_factor=True))["alpha"] is State.ANSWERED


@pytest.mark.parametrize("end", ["withdrawn", "undone", "suspended", "frozen", "removed", "planted"])
def test_a_library_that_may_not_be_read_any_more_is_not_even_named(
    end: str, both: tuple[Tenant, Tenant], reader: Any, person: Callable[..., Any]
) -> None:
    alpha, beta = both
    assert "alpha" in states(everywhere(reader))
    match end:
        case "withdrawn":
            libraries.withdraw(beta, Library.objects.get(), reader)
        case "undone":
            libraries.undo(alpha, "Out of date")
        case "suspended":
            lifecycle.suspend(alpha, "Unpaid")
        case "frozen":
            freezing.freeze(alpha, "Somebody may be in it", acting_person(reader))
        case "removed":
            Membership.objects.filter(user=reader).delete()
        case "planted":
            with connection.cursor() as cursor:
                cursor.execute("UPDATE tenants_subscription SET seal = (SELECT seal FROM tenants_library)")
    answer = everywhere(reader)
    assert states(answer) == ({} if end == "removed" else {"beta": State.ANSWERED})
    assert "Passwords" not in titles(answer)


def test_a_subscription_withdrawn_while_it_waits_gives_nothing(
    both: tuple[Tenant, Tenant], reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    real = libraries.readable

    def withdrawn_after_the_first_look(*args: Any) -> Any:
        found = real(*args)
        if not looked:
            Subscription.objects.all().delete()
        looked.append(1)
        return found

    monkeypatch.setattr(libraries, "readable", withdrawn_after_the_first_look)
    assert states(everywhere(reader)) == {"beta": State.ANSWERED}


# ---------------------------------------------------------------- one order


def test_the_best_of_a_workspace_that_knows_nothing_is_not_on_top(both: tuple[Tenant, Tenant], member: Any) -> None:
    """Within its workspace "Dough" stands out further than "Passwords" does within its own: by two words of the question."""
    answer = everywhere(member, limit=17)
    assert titles(answer)[0] == "Passwords"
    found = {each.shown.source.title: each for each in answer.results}
    right, best_of_others = found["Passwords"], found["Dough"]
    assert best_of_others.shown.hit.rank == right.shown.hit.rank == 1
    assert best_of_others.shown.hit.score > right.shown.hit.score  # what each workspace's own order goes by
    assert right.score > best_of_others.score
    assert [each.score for each in answer.results] == sorted((each.score for each in answer.results), reverse=True)
