"""What searching keeps in a process: dropped there when its workspace is closed in another one."""

from uuid import uuid4

import pytest

from search import embeddings, memory
from search.pool import pool
from tenants import lifecycle
from tenants.keys import presence
from tenants.keys.keyring import keyring
from tests.search.test_pool import put

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def filled(workspace_a, workspace_b, model):
    """Words, a key and a question of both workspaces are in the memory of this process."""
    model.forget_queries()
    for tenant in (workspace_a, workspace_b):
        put(pool(), tenant.pk)
        keyring.subkey(tenant.pk, 1, "terms")
        model.embed_query("who sealed the cask", tenant.pk.bytes)
    yield
    for tenant in (workspace_a, workspace_b):
        model.forget_queries(tenant.pk.bytes)


def held() -> tuple[set, set, set]:
    return pool().tenants(), keyring.tenants(), embeddings.scopes_of_queries()


def test_it_keeps_what_belongs_to_open_workspaces(filled, workspace_a, workspace_b):
    presence.Presence("web").look()
    assert memory.tenants() == {workspace_a.pk, workspace_b.pk}


def test_what_belongs_to_a_suspended_workspace_is_dropped_with_the_next_beat(filled, workspace_a, workspace_b):
    mine = presence.Presence("web")
    mine.look()
    lifecycle.suspend(workspace_a, "The invoice of March is open")
    assert workspace_a.pk in memory.tenants(), "suspended by another process, which cannot reach this one's memory"
    mine._beaten_at -= presence.BEAT_SECONDS + 1
    mine.look()
    assert held() == ({workspace_b.pk}, {workspace_b.pk}, {workspace_b.pk.bytes})


def test_what_a_request_that_was_under_way_keeps_is_found_by_the_next_beat(workspace_a):
    lifecycle.suspend(workspace_a, "The invoice of March is open")
    for _ in range(2):
        put(pool(), workspace_a.pk)
        presence.Presence("web").look()
        assert memory.tenants() == set()


def test_what_belongs_to_an_erased_workspace_is_dropped():
    put(pool(), uuid4())
    presence.Presence("web").look()
    assert memory.tenants() == set()


def test_it_asks_the_database_nothing_when_nothing_is_held(db, django_assert_num_queries):
    embeddings.forget_queries(b"")
    keyring.forget()
    with django_assert_num_queries(0):
        presence._drop_closed()
