"""What searching keeps decrypted in memory: one pool per process, bounded in bytes, per workspace, checked and forgettable.

Refuses to know what it holds: values say how large they are, and whoever asks brings the function that loads them.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar, cast
from uuid import UUID

logger = logging.getLogger(__name__)


class Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)
Key = tuple[UUID, str]  # workspace, part ("terms", "cloak")


@dataclass(frozen=True)
class Statistics:
    """Counters since the process started; `bytes` and `entries` are what is held now."""

    hits: int = 0
    misses: int = 0
    loads: int = 0
    refreshes: int = 0
    evictions: int = 0
    expirations: int = 0
    bytes: int = 0
    entries: int = 0


@dataclass
class _Resident(Generic[T]):
    value: T
    generation: int
    nbytes: int
    used: float


class Pool:
    """Thread-safe. A value is loaded once however many ask, and nothing loaded before a `drop` survives it."""

    def __init__(self, budget: int, ttl: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget, self.ttl, self._clock = budget, ttl, clock
        self._lock = threading.Lock()
        self._residents: OrderedDict[Key, _Resident[Sized]] = OrderedDict()
        self._loading: dict[Key, threading.Lock] = {}
        self._drops: dict[UUID, int] = {}
        self._timer: threading.Timer | None = None
        self._statistics = Statistics()

    def get(self, tenant_id: UUID, part: str, generation: int, load: Callable[[T | None], T]) -> T:
        """The workspace's value of at least this generation.

        `load` is called with None, or with the value of an older generation to bring up to date; it must read what was
        committed after `generation` was read, so that a value is never older than it claims.
        """
        key = (tenant_id, part)
        resident = self._fresh(key, generation)
        if resident is not None:
            return cast(T, resident.value)
        with self._lock:
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:
            resident = self._fresh(key, generation)  # loaded while we waited
            if resident is not None:
                return cast(T, resident.value)
            with self._lock:
                old = self._residents.get(key)
                drops = self._drops.get(tenant_id, 0)
                self._count(misses=1, loads=int(old is None), refreshes=int(old is not None))
            value = load(None if old is None else cast(T, old.value))
            self._keep(key, value, generation, drops)
            return value

    def drop(self, tenant_id: UUID) -> None:
        """Forget everything of a workspace, also what is being loaded right now."""
        with self._lock:
            self._drops[tenant_id] = self._drops.get(tenant_id, 0) + 1
            for key in [key for key in self._residents if key[0] == tenant_id]:
                self._remove(key)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for tenant_id in {key[0] for key in self._loading}:
                self._drops[tenant_id] = self._drops.get(tenant_id, 0) + 1
            for key in list(self._residents):
                self._remove(key)

    def expire(self) -> None:
        """Forget what nobody has used for `ttl` seconds. Runs by itself while anything is held."""
        with self._lock:
            self._timer = None
            for key, resident in list(self._residents.items()):
                if self._clock() - resident.used >= self.ttl:
                    self._remove(key)
                    self._count(expirations=1)
            self._schedule()

    def statistics(self) -> Statistics:
        with self._lock:
            return replace(
                self._statistics, bytes=sum(r.nbytes for r in self._residents.values()), entries=len(self._residents)
            )

    def _fresh(self, key: Key, generation: int) -> _Resident[Sized] | None:
        with self._lock:
            resident = self._residents.get(key)
            if resident is None or resident.generation < generation:
                return None
            if self._clock() - resident.used >= self.ttl:
                self._remove(key)
                self._count(expirations=1)
                return None
            resident.used = self._clock()
            self._residents.move_to_end(key)
            self._count(hits=1)
            return resident

    def _keep(self, key: Key, value: Sized, generation: int, drops: int) -> None:
        size = value.nbytes
        with self._lock:
            if self._drops.get(key[0], 0) != drops:
                return
            self._remove(key)
            if size > self.budget:
                logger.warning("the pool's budget of %d bytes cannot hold one value of %d bytes", self.budget, size)
                return
            held = sum(r.nbytes for r in self._residents.values())
            while held + size > self.budget:
                oldest = next(iter(self._residents))
                held -= self._residents[oldest].nbytes
                self._remove(oldest)
                self._count(evictions=1)
            self._residents[key] = _Resident(value, generation, size, self._clock())
            self._schedule()

    def _remove(self, key: Key) -> None:
        self._residents.pop(key, None)

    def _count(self, **more: int) -> None:
        self._statistics = replace(self._statistics, **{name: getattr(self._statistics, name) + n for name, n in more.items()})

    def _schedule(self) -> None:
        if self._timer is None and self._residents:
            oldest = min(resident.used for resident in self._residents.values())
            self._timer = threading.Timer(max(1.0, oldest + self.ttl - self._clock()), self.expire)
            self._timer.daemon = True
            self._timer.start()


_pool: Pool | None = None
_pool_lock = threading.Lock()


def pool() -> Pool:
    """The process's one pool, as large as settings.POOL_BYTES and as patient as settings.POOL_TTL_SECONDS."""
    global _pool
    if _pool is None:
        with _pool_lock:
            if _pool is None:
                from django.conf import settings

                _pool = Pool(settings.POOL_BYTES, settings.POOL_TTL_SECONDS)
    return _pool


def drop(tenant_id: UUID) -> None:
    """Forget everything this process holds of a workspace: on freeze, suspension and erasure."""
    if _pool is not None:
        _pool.drop(tenant_id)
