"""What searching keeps decrypted in memory: one pool per process, bounded in bytes, per workspace, checked and forgetting.

Refuses to know what it holds: values say how large they are, and whoever asks brings the function that loads them.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast
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


class Pool:
    """Thread-safe. A value is loaded once however many ask. `nbytes` is what is held now."""

    def __init__(self, budget: int, ttl: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget, self.ttl, self._clock = budget, ttl, clock
        self._lock = threading.Lock()
        self._residents: OrderedDict[Key, _Resident[Sized]] = OrderedDict()
        self._loading: dict[Key, threading.Lock] = {}
        self._timer: threading.Timer | None = None
        self.nbytes = 0

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
            value = load(None if old is None else cast(T, old.value))
            self._keep(key, value, generation)
            return value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for key in list(self._residents):
                self._remove(key)

    def forget(self, tenant_id: UUID) -> None:
        """Forget everything of one workspace."""
        with self._lock:
            for key in [key for key in self._residents if key[0] == tenant_id]:
                self._remove(key)

    def expire(self) -> None:
        """Forget what nobody has used for `ttl` seconds. Runs by itself while anything is held."""
        with self._lock:
            self._timer = None
            for key, resident in list(self._residents.items()):
                if self._clock() - resident.used >= self.ttl:
                    self._remove(key)
            self._schedule()

    def _fresh(self, key: Key, generation: int) -> _Resident[Sized] | None:
        with self._lock:
            resident = self._residents.get(key)
            if resident is None or resident.generation < generation:
                return None
            if self._clock() - resident.used >= self.ttl:
                self._remove(key)
                return None
            resident.used = self._clock()
            self._residents.move_to_end(key)
            return resident

    def _keep(self, key: Key, value: Sized, generation: int) -> None:
        size = value.nbytes
        with self._lock:
            self._remove(key)
            if size > self.budget:
                logger.warning("the pool's budget of %d bytes cannot hold one value of %d bytes", self.budget, size)
                return
            while self.nbytes + size > self.budget:
                self._remove(next(iter(self._residents)))
            self._residents[key] = _Resident(value, generation, size, self._clock())
            self.nbytes += size
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
