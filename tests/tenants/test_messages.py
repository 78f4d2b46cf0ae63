"""No key encrypts more than 2^32 messages, whatever becomes of the transactions around them."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from documents.models import Document
from tenants.ciphers import cipher
from tenants.context import workspace
from tenants.keys.messages import BLOCKS, CHANGE_AT, MOST, KeyWornOut, allowance, needs_rotation
from tenants.models import Tenant, TenantKey
from tests.factories import CollectionFactory, DocumentFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nothing_set_aside(workspace_a: Tenant) -> None:
    allowance.forget()
    TenantKey.objects.update(messages=0, used_at=None)


def counted(tenant: Tenant) -> int:
    return TenantKey.objects.values_list("messages", flat=True).get(tenant=tenant)


def encrypt(tenant: Tenant, times: int = 1) -> None:
    with workspace(tenant):
        sealing = cipher("text")
        for _ in range(times):
            sealing.encrypt(("table", "column", "row"), b"x")


def test_blocks_are_set_aside_and_grow(workspace_a: Tenant, workspace_b: Tenant) -> None:
    encrypt(workspace_a)
    assert counted(workspace_a) == BLOCKS[0]
    assert TenantKey.objects.get(tenant=workspace_a).used_at is not None
    encrypt(workspace_a, BLOCKS[0] - 1)
    assert counted(workspace_a) == BLOCKS[0]
    encrypt(workspace_a)
    assert counted(workspace_a) == BLOCKS[0] + BLOCKS[1]
    assert counted(workspace_b) == 0


def test_a_rolled_back_transaction_takes_no_count_back(workspace_a: Tenant) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
        encrypt(workspace_a)
        raise ZeroDivisionError
    assert counted(workspace_a) == BLOCKS[0]
    assert not connection.in_atomic_block


def test_threads_never_use_more_than_was_set_aside(workspace_a: Tenant) -> None:
    def work(_: int) -> None:
        try:
            for _ in range(500):
                allowance.take(workspace_a.id, 1)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert counted(workspace_a) - sum(allowance._left.values()) == 4000


def test_at_the_bound_nothing_more_is_encrypted_and_all_is_read(workspace_a: Tenant) -> None:
    with workspace(workspace_a):
        blob = cipher("text").encrypt(("t", "c", "r"), b"kept")
    allowance.forget()
    TenantKey.objects.filter(tenant=workspace_a).update(messages=MOST - BLOCKS[0] + 1)
    with pytest.raises(KeyWornOut, match="changes the key"):
        encrypt(workspace_a)
    with workspace(workspace_a):
        assert cipher("text").decrypt(("t", "c", "r"), blob) == b"kept"


def test_half_way_a_new_key_is_wanted(workspace_a: Tenant) -> None:
    TenantKey.objects.filter(tenant=workspace_a).update(messages=CHANGE_AT - 1)
    assert not needs_rotation(workspace_a.id)
    TenantKey.objects.filter(tenant=workspace_a).update(messages=CHANGE_AT)
    assert needs_rotation(workspace_a.id)


def test_the_first_value_of_a_block_is_saved_into_the_workspace(workspace_a: Tenant) -> None:
    """It may be encrypted while its statement is put together, whose cursor is in the workspace already."""
    with workspace(workspace_a):
        collection = CollectionFactory()
        allowance.forget()
        made = DocumentFactory(collection=collection, title="First")
        allowance.forget()
        made.title = "Second"
        made.save()
        assert Document.objects.get(pk=made.pk).title == "Second"
