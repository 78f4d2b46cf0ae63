"""Work that has to be done before a request is answered and that nothing on the way there needs: done by another thread
meanwhile, in the same workspace and by the same actor, on a connection of that thread's own.

Knows nothing of what is done.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import BoundedSemaphore

from django.conf import settings
from django.db import close_old_connections

from tenants import alarms
from tenants.acting import Actor, acting, actor
from tenants.context import current_tenant, workspace
from tenants.database import connection
from tenants.models import Tenant

PLACES = 2  # of a process, each with a connection: who waits alone gains most, and many at once keep all cores busy anyway
_places = BoundedSemaphore(PLACES)
_threads = ThreadPoolExecutor(PLACES, thread_name_prefix="beside")


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Have `work` done while the block runs. After the block it is done too, and what it raises is raised.

    It is done before the block, by this thread, where it belongs to an open transaction; where a workspace has a login of its
    own (TENANT_LOGINS), since the thread would open a connection first; while PLACES others are under way; and when there is
    no thread to be had, as while the process ends.
    """
    if connection.in_atomic_block or settings.TENANT_LOGINS or not _places.acquire(blocking=False):
        work()
        yield
        return
    doing: Future[None] = Future()
    try:
        _threads.submit(_do, doing, current_tenant(), actor(), work)
    except BaseException as error:
        if doing.cancel():  # else it was queued before that, and another thread does it
            _places.release()
            if not isinstance(error, RuntimeError):
                raise
    if doing.cancelled():
        work()
        yield
        return
    try:
        yield
    finally:
        doing.result()


def _do(doing: Future[None], tenant: Tenant, by: Actor, work: Callable[[], object]) -> None:
    if not doing.set_running_or_notify_cancel():
        return
    try:
        _work(tenant, by, work)
    except BaseException as error:
        doing.set_exception(error)
    else:
        doing.set_result(None)


def _work(tenant: Tenant, by: Actor, work: Callable[[], object]) -> None:
    try:
        close_old_connections()
        with acting(by), workspace(tenant):
            work()
    finally:
        try:
            connection.return_to_public()
            alarms.flush()
            close_old_connections()
        finally:
            _places.release()
