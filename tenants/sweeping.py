"""The sweep: between jobs the worker looks, in every workspace that is due, for what was lost, and counts.

Each app registers what is to be looked for; the database says in which workspaces (tenants/stats.py). Refuses to know
what is found.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.core.cache import cache
from django.db import InterfaceError, OperationalError, close_old_connections
from rq.exceptions import StopRequested

from tenants import stats
from tenants.context import workspace
from tenants.database import connection
from tenants.failed_jobs import failed_by_workspace
from tenants.models import Tenant
from tenants.privacy import describe_exception
from tenants.schemas import is_open

logger = logging.getLogger(__name__)

Sweeper = Callable[[], Any]

_sweepers: list[Sweeper] = []
_public_sweepers: list[Sweeper] = []
_after_provisioning: list[Sweeper] = []


def sweeper(function: Sweeper) -> Sweeper:
    """Run `function` inside every active workspace when a worker starts and once an hour, and every half minute inside
    those in which there is unfinished work, or was somebody lately (tenants/stats.py).
    """
    _sweepers.append(function)
    return function


def public_sweeper(function: Sweeper) -> Sweeper:
    """The same for what belongs to the installation: runs once, in public context."""
    _public_sweepers.append(function)
    return function


def every(seconds: int, name: str) -> bool:
    """For a sweeper, whether it is time: true once in so many seconds, whichever worker asks; each workspace has its own."""
    return bool(cache.add(f"swept:{name}", 1, seconds))


def after_provisioning(function: Sweeper) -> Sweeper:
    """Run `function` inside each workspace that has just been made, to queue what it needs; a sweeper makes up for failures."""
    _after_provisioning.append(function)
    return function


def provisioned(tenant: Tenant) -> None:
    with workspace(tenant):
        for function in _after_provisioning:
            _guarded(function)


def sweep(*, everything: bool = False) -> None:
    """Run the registered sweepers: public ones once, the others in each workspace that is due, whose figures are taken
    then, or in `everything` that is active, at a worker's start. One failing stops no other, nor one workspace another.
    """
    try:
        close_old_connections()
        connection.set_schema_to_public()
        for each in _public_sweepers:
            with _apart("the installation"):
                _guarded(each)
        failed, due = failed_by_workspace(), {tenant.id: tenant for tenant in stats.due()}
        swept = list(Tenant.objects.filter(status=Tenant.Status.ACTIVE)) if everything else list(due.values())
        for tenant in filter(is_open, swept):
            with _apart(str(tenant.pk)):
                with workspace(tenant):
                    for each in _sweepers:
                        _guarded(each)
                if tenant.id in due:
                    jobs_failed = None if failed is None else failed[tenant.id]
                    _guarded(partial(stats.refresh, tenant, jobs_failed=jobs_failed))
            close_old_connections()  # one that has touched many workspaces has grown
        _guarded(stats.refresh_closed)
    except (OperationalError, InterfaceError) as error:  # the database is away: the next sweep finds it again
        logger.error("sweep ended: %s", describe_exception(error))
    finally:
        connection.return_to_public()


@contextmanager
def _apart(part: str) -> Iterator[None]:
    """A cancelled statement or a refused login ends this part of a sweep; only a database that is away ends all of it."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        logger.error("sweeping %s ended: %s", part, describe_exception(error))
        connection.close()
        connection.set_schema_to_public()
        Tenant.objects.exists()


def _guarded(function: Sweeper) -> None:
    try:
        function()
    except (OperationalError, InterfaceError, StopRequested):
        raise
    except Exception as error:
        name = getattr(function, "func", function).__qualname__
        logger.error("%s failed: %s", name, describe_exception(error))
