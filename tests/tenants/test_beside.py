"""Work done beside a request: whose it is, when it is done, and what becomes of its mistakes."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection, transaction

from search.models import MemberSearches
from tenants import beside as module
from tenants.acting import Actor, acting, actor
from tenants.beside import PLACES, beside
from tenants.context import current_tenant, workspace

pytestmark = pytest.mark.django_db(transaction=True)
ME = Actor("me@example.com", "web", 1)


@pytest.fixture
def done(in_workspace_a: Any) -> Iterator[list[Any]]:
    """Thread, workspace, role in the database, and actor of everything done beside."""
    with acting(ME):
        yield []


def note(done: list[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        (role,) = cursor.fetchone()
    done.append((threading.current_thread(), current_tenant().pk, role, actor()))


def test_another_thread_does_it_in_the_same_workspace_as_the_same_person(workspace_a: Any, done: list[Any]):
    note(done)
    with beside(lambda: note(done)):
        pass
    own, other = done
    assert other[0] is not own[0]
    assert other[1:] == own[1:]
    assert workspace_a.schema_name in own[2]


def test_without_a_thread_this_one_does_it(done: list[Any], monkeypatch: pytest.MonkeyPatch):
    ended = ThreadPoolExecutor(1)
    ended.shutdown()
    monkeypatch.setattr(module, "_threads", ended)
    for _ in range(PLACES + 1):  # each gives its place back
        with beside(lambda: note(done)):
            pass
    assert {thread for thread, *_ in done} == {threading.current_thread()}
    assert len(done) == PLACES + 1
    assert module._places.acquire(blocking=False)
    module._places.release()


def test_the_next_one_is_in_its_own_workspace(workspace_a: Any, workspace_b: Any, done: list[Any]):
    for tenant in (workspace_a, workspace_b, workspace_a):
        for _ in range(PLACES):
            with workspace(tenant), beside(lambda: note(done)):
                pass
    assert [tenant for _, tenant, *_ in done] == [t.pk for t in (workspace_a, workspace_b, workspace_a) for _ in range(PLACES)]
    assert len({(tenant, role) for _, tenant, role, _ in done}) == 2


def test_it_is_done_while_the_block_runs_and_awaited_after_it(done: list[Any]):
    begun, goes_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert goes_on.wait(10)
        note(done)

    with beside(work):
        assert begun.wait(10)
        assert not done
        goes_on.set()
    assert len(done) == 1


def test_its_mistake_is_the_requests(done: list[Any]):
    reached = []
    with pytest.raises(ZeroDivisionError), beside(lambda: 1 // 0):
        reached.append(True)
    assert reached
    with beside(lambda: note(done)):  # its place is free again
        pass
    assert done[0][0] is not threading.current_thread()


def test_in_a_transaction_it_belongs_to_it(in_workspace_a: Any):
    with transaction.atomic():
        with beside(lambda: MemberSearches.objects.create(membership_id=1)):
            assert MemberSearches.objects.exists()
        transaction.set_rollback(True)
    assert not MemberSearches.objects.exists()


def test_with_a_login_for_each_workspace_no_other_connection_is_opened(settings: LazySettings, done: list[Any]):
    settings.TENANT_LOGINS = True
    with beside(lambda: done.append(threading.current_thread())):
        assert done == [threading.current_thread()]


def test_while_all_places_are_taken_it_is_done_at_once(done: list[Any]):
    goes_on = threading.Event()

    def nested(places: int) -> None:
        if not places:
            with beside(lambda: note(done)):
                assert done[0][0] is threading.current_thread()
            goes_on.set()
            return
        with beside(lambda: goes_on.wait(10)):
            nested(places - 1)

    nested(PLACES)
    assert len(done) == 1
