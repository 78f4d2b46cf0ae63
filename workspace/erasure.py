"""Erases a workspace: its wrapping key first, so that nothing it ever encrypted opens again, then everything else.

Killed anywhere, it goes on at the worker's next sweep: the row, which says that it is being erased, goes last.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.db import connections, transaction
from django.utils import timezone

from search.pool import pool
from tenants import jobs, lifecycle, notices
from tenants.errors import Refused
from tenants.keys.keyring import keyring, provider
from tenants.locks import alone_with
from tenants.models import Tenant
from tenants.privacy import describe_exception
from tenants.sweeping import public_sweeper

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Erased:
    """What went: numbers of documents' files, tables, and jobs."""

    slug: str
    files: int
    tables: int
    jobs: int


def erase(tenant: Tenant, *, because_due: bool = False) -> Erased:
    """Erase it now, or because its day has come. Safe to repeat.

    Raises Refused where a legal hold forbids it, it is not due any more, or another process is at it.
    """
    if "operator" not in connections.settings:  # before the key is destroyed: the rest could not follow
        raise Refused("DB_PASSWORD_OPERATOR: is not set. Set it: erasing a workspace drops its tables and its role.")
    with alone_with(tenant.pk) as alone:
        if not alone:
            raise Refused(f"{tenant.name} is being erased already.")
        return _erase(tenant, because_due)


def _erase(tenant: Tenant, because_due: bool) -> Erased:
    if tenant.status != Tenant.Status.ERASING:
        lifecycle.begin_erasure(tenant, because_due=because_due)
        notices.tell_owners(tenant, f"{tenant.name} is deleted", f"The workspace {tenant.name} has been deleted.\n")
    provider().destroy(tenant.pk)
    keyring.forget(tenant.pk)
    pool().forget(tenant.pk)
    tables = _drop_schema(tenant)
    files = _remove_files(tenant)
    removed = jobs.forget_workspace(tenant.pk)
    _clear_cache(tenant)
    Tenant.objects.filter(pk=tenant.pk).delete()  # with memberships, invitations, hostnames and wrapped keys
    return Erased(tenant.slug, files, tables, removed)


@public_sweeper
def erase_due() -> None:
    """What a killed erasure left, and workspaces whose day has come."""
    due = Tenant.objects.filter(status__in=Tenant.MADE, delete_at__lte=timezone.now(), legal_hold="")
    for tenant in [*Tenant.objects.filter(status=Tenant.Status.ERASING), *due]:
        try:
            erase(tenant, because_due=True)
        except Refused:
            continue  # kept or held since it was looked up, or erased by another worker
        except Exception as error:
            logger.error("erasing %s failed, to be tried again: %s", tenant.pk, describe_exception(error))


def _drop_schema(tenant: Tenant) -> int:
    """As the operator. How many tables there were."""
    operator: Any = connections["operator"]
    with transaction.atomic(using="operator"), operator.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = %s", [tenant.schema_name])
        (tables,) = cursor.fetchone()
        cursor.execute(f'DROP SCHEMA IF EXISTS "{tenant.schema_name}" CASCADE')
        cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [tenant.db_role])
        if cursor.fetchone() is not None:
            # raw SQL in the workspace may have left default privileges of its role, which would keep it from going
            cursor.execute(f'GRANT "{tenant.db_role}" TO current_user WITH INHERIT TRUE')
            cursor.execute(f'DROP OWNED BY "{tenant.db_role}"')
            cursor.execute(f'DROP ROLE "{tenant.db_role}"')
    return int(tables)


def _remove_files(tenant: Tenant) -> int:
    directory = Path(settings.FILES_DIR) / tenant.pk.hex
    files = sum(1 for path in directory.glob("??/*"))
    if directory.exists():
        shutil.rmtree(directory)
    return files


def _clear_cache(tenant: Tenant) -> None:
    """The keys of a workspace carry its schema's name (django_tenants.cache.make_key)."""
    client = caches["default"]._cache.get_client(write=True)  # type: ignore[attr-defined]
    for key in client.scan_iter(match=f"*{tenant.schema_name}*", count=1000):
        client.delete(key)
