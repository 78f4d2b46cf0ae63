"""The processes that hold keys in memory: each says that it runs, hears of a freeze, drops what it holds, and answers.

A thread of its own, started by a web process and by a worker; asks the witness twice a second, and the database every five
seconds whether what is held belongs to a workspace that was suspended or erased. Commands are not listed: they ask the
witness whenever they take a key. Knows no app: who keeps something decrypted registers how it is dropped.
"""

import atexit
import logging
import os
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, close_old_connections
from django.db.models.functions import Now
from django.utils import timezone

from tenants import witness
from tenants.database import connection
from tenants.keys.keyring import keyring
from tenants.models import Freeze, FreezeAnswer, Process, Tenant
from tenants.privacy import describe_exception

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
BEAT_SECONDS = 5.0
WATCH_SECONDS = 60.0
SILENT_SECONDS = 3 * BEAT_SECONDS  # after which a process counts as not seen any more
GONE_SECONDS = 60  # after which one whose process id is nobody's here is taken off the list
FORGOTTEN = timedelta(days=1)  # one that fell silent elsewhere


@dataclass(frozen=True)
class Kept:
    """Something this process keeps decrypted: of which workspaces, and how it drops one."""

    tenants: Callable[[], set[UUID]]
    forget: Callable[[UUID], object]


_kept = [Kept(keyring.tenants, keyring.forget)]
_report: Callable[[], object] = dict
_watches: list[Callable[[], Any]] = []

_in_use: Counter[UUID] = Counter()
_in_use_lock = threading.Lock()


def drops(tenants: Callable[[], set[UUID]], forget: Callable[[UUID], object]) -> None:
    """In each process, have `forget` drop what was decrypted: of a workspace that is frozen for as long as it is, and of
    one in `tenants` that was suspended or erased.
    """
    _kept.append(Kept(tenants, forget))


def reports(report: Callable[[], object]) -> None:
    """With each beat, write down for staff what `report` returns of this process's memory: JSON, of ids and numbers alone."""
    global _report
    _report = report


def watches(function: Callable[[], Any]) -> Callable[[], Any]:
    """In each process, have `function` called once a minute, outside of workspaces, in a thread that may be kept waiting."""
    _watches.append(function)
    return function


def _drop(tenant: UUID) -> None:
    for kept in _kept:
        kept.forget(tenant)


def _drop_closed() -> None:
    """A request or job that had begun before may keep something after: the next look finds it."""
    held = set[UUID]().union(*(kept.tenants() for kept in _kept))
    active = Tenant.objects.filter(pk__in=held, status=Tenant.Status.ACTIVE)  # asks nothing when nothing is held
    for tenant in held.difference(active.values_list("pk", flat=True)):
        _drop(tenant)


@contextmanager
def using(tenant: UUID) -> Iterator[None]:
    """Around work that may hold keys of a workspace: until it has ended, this process does not answer."""
    begin_using(tenant)
    try:
        yield
    finally:
        end_using(tenant)


def begin_using(tenant: UUID) -> None:
    with _in_use_lock:
        _in_use[tenant] += 1


def end_using(tenant: UUID) -> None:
    with _in_use_lock:
        _in_use[tenant] -= 1
        if not _in_use[tenant]:
            del _in_use[tenant]


def is_in_use(tenant: UUID) -> bool:
    with _in_use_lock:
        return tenant in _in_use


class Presence:
    """This process among the others."""

    def __init__(self, kind: str) -> None:
        self.id, self.kind, self.host, self.pid = uuid.uuid4(), kind, socket.gethostname()[:100], os.getpid()
        self._answered: set[str] = set()
        self._beaten_at = 0.0

    def listen(self, over: threading.Event) -> None:
        """Until the end of the process; what fails is tried again at the next look."""
        while True:
            try:
                self.look()
            except Exception as error:
                logger.warning("listening for a freeze: %s", describe_exception(error))
                connection.close()
            if over.wait(LOOK_SECONDS):
                return

    def look(self) -> None:
        names = witness.names("frozen")
        for name in names:
            _drop(UUID(name.rpartition("/")[2]))  # each time: what had begun before may have kept something after
        if time.monotonic() - self._beaten_at > BEAT_SECONDS:
            self._beat()
        for name in names:
            found = witness.record(name)
            if found and found["freeze"] not in self._answered and not is_in_use(UUID(name.rpartition("/")[2])):
                self._answer(found["freeze"])

    def leave(self) -> None:
        """It ends in order: nobody has to wait for its answer."""
        with suppress(DatabaseError):
            Process.objects.filter(pk=self.id).delete()

    def _answer(self, freeze: str) -> None:
        if Freeze.objects.filter(pk=freeze).exists():
            FreezeAnswer.objects.get_or_create(freeze_id=freeze, process_id=self.id, defaults={"at": Now()})
            self._answered.add(freeze)

    def _beat(self) -> None:
        close_old_connections()
        connection.set_schema_to_public()
        _drop_closed()
        memory = _report()
        if not Process.objects.filter(pk=self.id).update(seen_at=Now(), memory=memory):
            Process.objects.create(pk=self.id, kind=self.kind, host=self.host, pid=self.pid, memory=memory)
        self._beaten_at = time.monotonic()
        for process in Process.objects.filter(host=self.host, seen_at__lt=timezone.now() - timedelta(seconds=GONE_SECONDS)):
            if not _is_running(process.pid):
                process.delete()
        Process.objects.filter(seen_at__lt=timezone.now() - FORGOTTEN).delete()


def watch() -> None:
    """What is registered, once. The connection is closed after it: a process needs none for this in between."""
    for function in _watches:
        try:
            connection.set_schema_to_public()
            function()
        except Exception as error:
            logger.warning("%s: %s", function.__qualname__, describe_exception(error))
        finally:
            connection.close()


def _watch_until(over: threading.Event) -> None:
    while not over.wait(WATCH_SECONDS):
        watch()


def start(kind: str) -> Callable[[], None]:
    """`kind`: "web" or "worker". Call it once in each process, after the fork. Returns what ends it; the process' end does."""
    presence, over = Presence(kind), threading.Event()
    with suppress(DatabaseError):  # at once, so that a freeze right after knows of it
        presence._beat()
    thread = threading.Thread(target=presence.listen, args=(over,), daemon=True, name="freeze")
    thread.start()
    threading.Thread(target=_watch_until, args=(over,), daemon=True, name="watch").start()

    def end() -> None:
        over.set()
        thread.join(2)
        presence.leave()

    atexit.register(end)
    return end


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
