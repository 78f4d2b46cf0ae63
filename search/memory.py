"""What searching keeps decrypted in each process: dropped when a workspace is closed, and told to staff in ids and numbers.

Words, cloak, vectors of passages and of questions. Refuses to know when a workspace is closed: tenants.keys.presence does.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from search import embeddings
from search.pool import Held, Statistics, pool
from tenants.keys import presence
from tenants.models import Process, Tenant

LARGEST = 20  # values that each process tells of, and that are shown of all


def connect() -> None:
    presence.drops(tenants, forget)
    presence.reports(report)


def tenants() -> set[UUID]:
    """The workspaces of which this process keeps anything."""
    return pool().tenants() | {UUID(bytes=scope) for scope in embeddings.scopes_of_queries() if scope}


def forget(tenant_id: UUID) -> None:
    pool().forget(tenant_id)
    embeddings.forget_queries(tenant_id.bytes)


# ---------------------------------------------------------------- what the processes tell


@dataclass(frozen=True)
class ProcessMemory:
    """What a process told of its pool when it was last seen. Of the values it holds, only the largest are told."""

    process: Process
    pool: Statistics
    workspaces: int


@dataclass(frozen=True)
class Large:
    """One of the largest values, in one process. `workspace` is None when it has been erased since."""

    process: Process
    held: Held
    workspace: Tenant | None

    @property
    def used_at(self) -> datetime:
        return self.process.seen_at - timedelta(seconds=self.held.idle)


@dataclass(frozen=True)
class Seen:
    processes: list[ProcessMemory]
    largest: list[Large]

    @property
    def evictions(self) -> int:
        return sum(each.pool.evictions for each in self.processes)

    @property
    def too_large(self) -> int:
        return sum(each.pool.too_large for each in self.processes)


def report() -> dict[str, Any]:
    """Of this process, as JSON."""
    now = pool().statistics()
    workspaces = len({each.tenant_id for each in now.held})
    return {"workspaces": workspaces, "pool": asdict(replace(now, held=now.held[:LARGEST]))}


def look() -> Seen:
    """Of every process that was seen lately, the web processes first. In public context."""
    since = timezone.now() - timedelta(seconds=presence.SILENT_SECONDS)
    processes = list(_read(Process.objects.filter(seen_at__gt=since).order_by("kind", "started_at", "pid")))
    held = [(each.process, value) for each in processes for value in each.pool.held]
    largest = sorted(held, key=lambda found: found[1].nbytes, reverse=True)[:LARGEST]
    workspaces = Tenant.objects.in_bulk({value.tenant_id for _, value in largest})
    return Seen(processes, [Large(process, value, workspaces.get(value.tenant_id)) for process, value in largest])


def _read(processes: Iterable[Process]) -> Iterator[ProcessMemory]:
    """Leaves out who tells something else: during an upgrade, processes of another version."""
    for process in processes:
        told = process.memory or {}
        try:
            held = tuple(Held(**{**each, "tenant_id": UUID(each["tenant_id"])}) for each in told["pool"]["held"])
            yield ProcessMemory(process, Statistics(**{**told["pool"], "held": held}), told["workspaces"])
        except (KeyError, TypeError, ValueError):
            continue
