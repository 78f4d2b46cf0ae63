"""What searching keeps decrypted in memory: one pool per process, bounded in bytes, per workspace, checked and forgetting.

Refuses to know what it holds: values say how large they are, and whoever asks brings the function that loads them.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar, cast
from uuid import UUID

logger = logging.getLogger(__name__)


class Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)
Key = tuple[UUID, str]  # workspace, part ("terms", "cloak")


@dataclass
class _Resident(Generic[T]):
    value: T
    generation: int
    nbytes: int
    used: float


@dataclass
class _Turn:
    """Whose turn it is to load a key. There for as long as a thread wants to."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    threads: int = 0
    forgotten: bool = False  # since the load began


@dataclass
class _Counts:
    hits: int = 0  # answered with a value that was there, or that another thread had just loaded
    loads: int = 0  # of a value that was not there
    updates: int = 0  # of an older value that was there
    evictions: int = 0  # of values the budget pushed out
    expirations: int = 0
    too_large: int = 0  # larger than the whole budget: loaded anew for each who asks


@dataclass(frozen=True)
class Held:
    """One value in the pool. `idle` is in seconds since it was used."""

    tenant_id: UUID
    part: str
    nbytes: int
    generation: int
    idle: float


@dataclass(frozen=True)
class Statistics:
    """What the pool did since the process began, and what it holds now, the largest first."""

    budget: int
    nbytes: int
    highest_nbytes: int
    hits: int
    loads: int
    updates: int
    evictions: int
    expirations: int
    too_large: int
    held: tuple[Held, ...]

    @property
    def misses(self) -> int:
        return self.loads + self.updates

    @property
    def hit_rate(self) -> float | None:
        """In per cent; None when nothing was asked."""
        asked = self.hits + self.misses
        return 100 * self.hits / asked if asked else None


class Pool:
    """Thread-safe. A value is loaded once however many ask. `nbytes` is what is held now."""

    def __init__(self, budget: int, ttl: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget, self.ttl, self._clock = budget, ttl, clock
        self._lock = threading.Lock()
        self._residents: OrderedDict[Key, _Resident[Sized]] = OrderedDict()
        self._loading: dict[Key, _Turn] = {}
        self._timer: threading.Timer | None = None
        self._counts = _Counts()
        self.nbytes = self._highest_nbytes = 0

    def get(self, tenant_id: UUID, part: str, generation: int, load: Callable[[T | None], T]) -> T:
        """The workspace's value of at least this generation.

        `load` is called with None, or with the value of an older generation to bring up to date; it must read what was
        committed after `generation` was read, so that a value is never older than it claims.
        """
        key = (tenant_id, part)
        with self._lock:
            resident = self._fresh(key, generation)
            if resident is not None:
                return cast(T, resident.value)
            turn = self._loading.setdefault(key, _Turn())
            turn.threads += 1
        try:
            with turn.lock:
                return self._load(key, generation, load, turn)
        finally:
            with self._lock:
                turn.threads -= 1
                if not turn.threads:
                    del self._loading[key]

    def held(self, tenant_id: UUID, part: str) -> Any:
        """The workspace's value, of whatever generation; None when there is none. Loads nothing."""
        with self._lock:
            resident = self._residents.get((tenant_id, part))
        return None if resident is None else resident.value

    def clear(self) -> None:
        """Forget everything."""
        self._forget(lambda key: True)

    def forget(self, tenant_id: UUID) -> None:
        """Forget everything of one workspace. What is being loaded goes to those who asked, and is not kept."""
        self._forget(lambda key: key[0] == tenant_id)

    def tenants(self) -> set[UUID]:
        """The workspaces of which anything is held."""
        with self._lock:
            return {tenant_id for tenant_id, _ in self._residents}

    def statistics(self) -> Statistics:
        with self._lock:
            counts, nbytes, highest = replace(self._counts), self.nbytes, self._highest_nbytes
            residents = list(self._residents.items())
        now = self._clock()
        held = [Held(*key, each.nbytes, each.generation, max(0.0, now - each.used)) for key, each in residents]
        held.sort(key=lambda each: each.nbytes, reverse=True)
        return Statistics(self.budget, nbytes, highest, **vars(counts), held=tuple(held))

    def expire(self) -> None:
        """Forget what nobody has used for `ttl` seconds. Runs by itself while anything is held."""
        with self._lock:
            self._timer = None
            for key, resident in list(self._residents.items()):
                if self._has_expired(resident):
                    self._remove(key)
                    self._counts.expirations += 1
            self._schedule()

    def _load(self, key: Key, generation: int, load: Callable[[T | None], T], turn: _Turn) -> T:
        with self._lock:
            resident = self._fresh(key, generation)  # loaded while we waited
            if resident is not None:
                return cast(T, resident.value)
            old = self._residents.get(key)
            turn.forgotten = False
        value = load(None if old is None else cast(T, old.value))
        size = value.nbytes
        with self._lock:
            if old is None:
                self._counts.loads += 1
            else:
                self._counts.updates += 1
            if not turn.forgotten:
                self._keep(key, value, generation, size)
        return value

    def _forget(self, whether: Callable[[Key], bool]) -> None:
        with self._lock:
            for key in filter(whether, list(self._residents)):
                self._remove(key)
            for key in filter(whether, self._loading):
                self._loading[key].forgotten = True

    def _fresh(self, key: Key, generation: int) -> _Resident[Sized] | None:
        """Under the lock, like all that follows."""
        resident = self._residents.get(key)
        if resident is None:
            return None
        if self._has_expired(resident):
            self._remove(key)
            self._counts.expirations += 1
            return None
        if resident.generation < generation:
            return None
        resident.used = self._clock()
        self._residents.move_to_end(key)
        self._counts.hits += 1
        return resident

    def _has_expired(self, resident: _Resident[Sized]) -> bool:
        return self._clock() - resident.used >= self.ttl

    def _keep(self, key: Key, value: Sized, generation: int, size: int) -> None:
        self._remove(key)
        if size > self.budget:
            self._counts.too_large += 1
            logger.warning("the pool's budget of %d bytes cannot hold one value of %d bytes", self.budget, size)
            return
        while self.nbytes + size > self.budget:
            self._remove(next(iter(self._residents)))
            self._counts.evictions += 1
        self._residents[key] = _Resident(value, generation, size, self._clock())
        self.nbytes += size
        self._highest_nbytes = max(self._highest_nbytes, self.nbytes)
        self._schedule()

    def _remove(self, key: Key) -> None:
        resident = self._residents.pop(key, None)
        if resident is not None:
            self.nbytes -= resident.nbytes

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
