"""Erases a workspace: its wrapping key first, so that nothing it ever encrypted opens again, then everything else.

Killed anywhere, it goes on at the worker's next sweep: the row, which says that it is being erased, goes last. A record
outside the database (tenants.erasures) is written before anything: a workspace that an older backup brings back is not let
in, and is erased again.
"""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.core.cache import caches
from django.db import connections, transaction
from django.db.models import Q
from django.utils import timezone

from search.pool import pool
from tenants import erasures, jobs, lifecycle, notices, receipts, seals, witness
from tenants.errors import Refused
from tenants.keys.keyring import keyring
from tenants.keys.providers import set_up
from tenants.locks import alone_with
from tenants.models import Membership, Receipt, Tenant, TenantKey
from tenants.privacy import describe_exception
from tenants.sweeping import public_sweeper

logger = logging.getLogger(__name__)


# What a receipt counts: a name, the table, and what is counted of it.
COUNTED = (
    ("documents", "documents_usage", "coalesce(sum(documents), 0)"),
    ("bytes", "documents_usage", "coalesce(sum(bytes), 0)"),
    ("pages", "documents_page", "count(*)"),
    ("metadata values", "documents_value", "count(*)"),
    ("stages of work", "documents_stage", "count(*)"),
    ("unfinished uploads", "documents_arrival", "count(*)"),
    ("passages", "search_chunk", "count(*)"),
    ("vectors", "search_indexentry", "count(*)"),
    ("sealed vectors", "search_sealedvectors", "coalesce(sum(passages), 0)"),
    ("vectors by further models", "search_furthervector", "count(*)"),
    ("term entries", "search_terms", "count(*)"),
    ("filter entries", "search_facts", "count(*)"),
    ("judgments", "search_judgment", "count(*)"),
    ("log entries", "audit_entry", "count(*)"),
)
KEPT = ("erased", "receipts")  # in the witness: that it is erased, and the proof


class NotErased(Exception):
    """Something is still there after everything was erased: no receipt is issued, and it is tried again."""


@dataclass(frozen=True)
class Erased:
    """What went: numbers of documents' files, tables, and jobs; and the receipt, as it is handed out."""

    slug: str
    files: int
    tables: int
    jobs: int
    receipt: dict[str, Any]


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
    known = _begin(tenant, because_due)
    for held_by in set_up():
        if held_by.name == settings.KEY_PROVIDER or held_by.holds(tenant.pk):
            held_by.destroy(tenant.pk)
    keyring.forget(tenant.pk)
    pool().forget(tenant.pk)
    TenantKey.objects.filter(tenant=tenant).delete()
    tables = _drop_schema(tenant)
    files = _remove_files(tenant)
    removed = jobs.forget_workspace(tenant.pk)
    _clear_cache(tenant)
    receipt = _issue(tenant, known)
    _tell(tenant, receipt)
    witness.forget_everywhere(str(tenant.pk), but=KEPT)
    Tenant.objects.filter(pk=tenant.pk).delete()  # with memberships, invitations and hostnames
    _settle(tenant, receipt)
    return Erased(tenant.slug, files, tables, removed, receipt.document)


def _begin(tenant: Tenant, because_due: bool) -> dict[str, Any]:
    """Close it for good, and write down outside the database that it is erased, with what only can be told before."""
    known = witness.record(erasures.record_of(tenant.pk))
    if known is not None:  # begun before, or brought back by an older backup: nothing forbids it any more
        Tenant.objects.filter(pk=tenant.pk).update(status=Tenant.Status.ERASING)
        return known
    if tenant.status != Tenant.Status.ERASING:
        lifecycle.begin_erasure(tenant, because_due=because_due)
    elif not seals.stands(tenant):  # begun by SQL is nobody's wish
        raise Refused(f"{tenant.name} was marked as being erased past Cloister. See the alarm before you do anything with it.")
    known = {
        "at": timezone.now().isoformat(),
        "receipt": str(uuid4()),
        "counts": _count(tenant),
        "keys": receipts.key_fingerprints(tenant.pk),
    }
    witness.keep(erasures.record_of(tenant.pk), known)
    return known


@public_sweeper
def erase_due() -> None:
    """What a killed erasure left, what an older backup brought back, and workspaces whose day has come."""
    due = Tenant.objects.filter(status__in=Tenant.MADE, delete_at__lte=timezone.now(), legal_hold="")
    for tenant in [*_begun(), *filter(seals.stands, due)]:  # a day that was set by SQL is nobody's wish
        try:
            erase(tenant, because_due=True)
        except Refused:
            continue  # kept or held since it was looked up, or erased by another worker
        except Exception as error:
            logger.error("erasing %s failed, to be tried again: %s", tenant.pk, describe_exception(error))


def erase_again() -> list[str]:
    """Go on with what was begun, or was brought back by an older backup. The addresses. Raises what keeps it from going."""
    return [erase(tenant, because_due=True).slug for tenant in _begun()]


def _begun() -> list[Tenant]:
    erased = [UUID(name.rpartition("/")[2]) for name in witness.names("erased")]
    return list(Tenant.objects.filter(Q(status=Tenant.Status.ERASING) | Q(pk__in=erased)))


# ---------------------------------------------------------------- the receipt


def _count(tenant: Tenant) -> dict[str, int]:
    """What there is, before any of it goes."""
    counts: dict[str, int] = {}
    operator: Any = connections["operator"]
    with operator.cursor() as cursor:
        for name, table, what in COUNTED:
            cursor.execute("SELECT to_regclass(%s)", [f'"{tenant.schema_name}".{table}'])
            if cursor.fetchone()[0] is None:  # never made, or older than the table
                continue
            cursor.execute(f'SELECT {what} FROM "{tenant.schema_name}".{table}')  # noqa: S608  # fixed names
            counts[name] = int(cursor.fetchone()[0])
        cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = %s", [tenant.schema_name])
        counts["tables"] = int(cursor.fetchone()[0])
    return counts | {
        "files": len(_files(tenant)),
        "jobs": jobs.count_workspace(tenant.pk),
        "cache entries": len(_cache_keys(tenant)),
        "members": Membership.objects.filter(tenant=tenant).count(),
    }


def _issue(tenant: Tenant, known: dict[str, Any]) -> Receipt:
    verified = _left(tenant)
    if left := {name: number for name, number in verified.items() if number}:
        raise NotErased(f"of {tenant.pk} there is left: {json.dumps(left)}")
    return receipts.issue(
        UUID(known["receipt"]),
        Receipt.Kind.WORKSPACE,
        tenant.pk,
        tenant.name,
        what=(),
        erased_at=known["at"],
        counts=known.get("counts", {}),
        keys=known.get("keys", []),
        cannot_reach=cannot_reach(),
        verified=verified,
    )


def _left(tenant: Tenant) -> dict[str, int]:
    """What can still be found of it, the row and its memberships apart, which go when the receipt is there."""
    operator: Any = connections["operator"]
    with operator.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", [tenant.schema_name])
        (schemas,) = cursor.fetchone()
        cursor.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s", [tenant.db_role])
        (roles,) = cursor.fetchone()
    return {
        "wrapping keys": sum(held_by.holds(tenant.pk) for held_by in set_up()),
        "wrapped keys": TenantKey.objects.filter(tenant=tenant).count(),
        "schemas": int(schemas),
        "database roles": int(roles),
        "files": len(_files(tenant)),
        "jobs": jobs.count_workspace(tenant.pk),
        "cache entries": len(_cache_keys(tenant)),
    }


def cannot_reach() -> list[str]:
    """What erasing a workspace does not reach: said on its receipt, and before it is erased."""
    return [
        *(held_by.beyond_destruction() for held_by in set_up()),
        "Copies that people downloaded, exported or sent, and mail.",
        f"Backups of the database and of the files made before, {receipts.backups_in_words()}. Without the key that was "
        "destroyed they cannot be opened; a database restored from one is not served and is erased again.",
        "Disk blocks and the write-ahead log of the database: freed, and encrypted under the key that was destroyed.",
        "Accounts of its members, which may belong to other workspaces too.",
    ]


def _tell(tenant: Tenant, receipt: Receipt) -> None:
    """Once: what is erased again because an older backup brought it back was told of before."""
    known = witness.record(erasures.record_of(tenant.pk)) or {}
    if known.get("told"):
        return
    notices.tell_owners(
        tenant,
        f"{tenant.name} is deleted",
        f"The workspace {tenant.name} has been deleted. The receipt is attached: keep it. It says what was erased, what could "
        "not be reached, and it can be checked without Cloister.\n"
        f"It is signed by the key with the fingerprint {receipts.signing_key()['fingerprint']}.\n",
        (f"receipt-{receipt.pk}.json", receipts.as_file(receipt.document)),
    )
    witness.keep(erasures.record_of(tenant.pk), {**known, "told": True})


def _settle(tenant: Tenant, receipt: Receipt) -> None:
    """That it is erased stays written down, so that no backup brings it back; what was counted stands in the receipt."""
    known = witness.record(erasures.record_of(tenant.pk)) or {}
    kept = {"at": known.get("at", receipt.issued_at.isoformat()), "receipt": str(receipt.pk), "told": True}
    witness.keep(erasures.record_of(tenant.pk), kept)


# ---------------------------------------------------------------- the steps


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
    files, directory = len(_files(tenant)), Path(settings.FILES_DIR) / tenant.pk.hex
    if directory.exists():
        shutil.rmtree(directory)
    return files


def _files(tenant: Tenant) -> list[Path]:
    return list((Path(settings.FILES_DIR) / tenant.pk.hex).glob("??/*"))


def _clear_cache(tenant: Tenant) -> None:
    if keys := _cache_keys(tenant):
        _cache().delete(*keys)


def _cache_keys(tenant: Tenant) -> list[bytes]:
    """The keys of a workspace carry its schema's name (django_tenants.cache.make_key)."""
    return list(_cache().scan_iter(match=f"*{tenant.schema_name}*", count=1000))


def _cache() -> Any:
    return caches["default"]._cache.get_client(write=True)  # type: ignore[attr-defined]
