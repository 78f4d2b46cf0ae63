"""Counts encryptions under each version of a workspace's key: random nonces allow 2^32 for one key (NIST SP 800-38D).

Set aside in blocks that grow with use, a block for each process at a time, so that the database hears of one encryption in
thousands; what a process leaves of its block counts as used. The count is over all purposes, though each has a key of its
own: it errs on the safe side. Files do not count: each has a key of its own, and its segments are numbered, not random.
"""

import threading
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from tenants.errors import Refused
from tenants.models import TenantKey

BLOCKS = (2**8, 2**12, 2**16)  # the first small: a command that runs every minute must not use a key up
MOST = 2**32
CHANGE_AT = 2**31
LOCK_SECONDS = 5


class KeyWornOut(Refused):
    """A key version has encrypted as much as it may."""


class Allowance:
    """What this process may still encrypt before it asks the database again, by workspace and key version."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: dict[tuple[UUID, int], int] = {}
        self._blocks: dict[tuple[UUID, int], int] = {}  # how many were set aside

    def take(self, tenant: UUID, version: int, messages: int = 1) -> None:
        """So many messages, of which a block holds any number up to 256. Raises KeyWornOut at 2^32."""
        name = (tenant, version)
        with self._lock:
            if (left := self._left.get(name, 0)) >= messages:
                self._left[name] = left - messages
                return
            block = BLOCKS[min(self._blocks.get(name, 0), len(BLOCKS) - 1)]
        set_aside(tenant, version, block)
        with self._lock:
            self._left[name] = self._left.get(name, 0) + block - messages
            self._blocks[name] = self._blocks.get(name, 0) + 1

    def forget(self) -> None:
        with self._lock:
            self._left.clear()
            self._blocks.clear()


allowance = Allowance()


def set_aside(tenant: UUID, version: int, block: int) -> None:
    """A block of encryptions, for this process alone. Notes the use, too.

    On a connection of its own: in our transaction the count might be rolled back, and so be too low; and we may be in the
    middle of a statement, whose parameters are being encrypted and whose cursor is in the workspace already.
    """
    found: list[int | BaseException] = []
    thread = threading.Thread(target=_count_apart, args=(tenant, version, block, found), name="set-aside")
    thread.start()
    thread.join()
    if isinstance(taken := found[0], BaseException):
        raise taken
    if not taken:
        raise KeyWornOut(
            "This workspace's key has encrypted as much as it safely may. Its owner changes the key; until then nothing new "
            "can be written."
        )


def _count(tenant: UUID, version: int, block: int) -> int:
    room = TenantKey.objects.filter(tenant_id=tenant, version=version, messages__lte=MOST - block)
    return room.update(messages=F("messages") + block, used_at=timezone.now())


def _count_apart(tenant: UUID, version: int, block: int, found: list[int | BaseException]) -> None:
    try:
        connection.set_schema_to_public()  # type: ignore[attr-defined]
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")  # our own transaction may hold the row
            found.append(_count(tenant, version, block))
    except Exception as error:
        found.append(error)
    finally:
        connection.close()


def needs_rotation(tenant: UUID) -> bool:
    """Whether the key that new data is encrypted under has done half of what it may."""
    active = TenantKey.objects.filter(tenant_id=tenant, state=TenantKey.State.ACTIVE).order_by("-version")
    return (active.values_list("messages", flat=True).first() or 0) >= CHANGE_AT
