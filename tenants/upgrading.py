"""Brings the schemas of existing workspaces to the migrations of this code, while the site goes on answering.

Each workspace is a transaction of its own: killed anywhere, the next run goes on with those that are left. One that
fails is reported and left as it was. Runs as the operator; see schemas for how statements come about.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db import DatabaseError, connections, transaction

from tenants import roles, schemas
from tenants.context import workspace
from tenants.models import Tenant
from tenants.privacy import describe_exception

BATCH = 100  # workspaces a connection upgrades before it is made anew: a backend remembers every table it has touched
# An ALTER TABLE waits for readers of the table, and whoever comes after waits behind it: give way, and try again later.
LOCK_TIMEOUT = "2s"
ROUNDS = 5
PAUSE_SECONDS = 1.0  # between rounds
LOCK_NOT_AVAILABLE = "55P03"


@dataclass
class Report:
    """What an upgrade did: addresses of workspaces."""

    head: str
    workspaces: int
    at_head: int
    upgraded: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def upgrade_workspaces(on_progress: Callable[[int, int], None] | None = None, only: Collection[str] | None = None) -> Report:
    """Upgrade every workspace that is not at head, or those at the addresses `only`; one query tells which.

    Tells progress as (done, total).
    """
    made = Tenant.objects.filter(status__in=Tenant.MADE, **({} if only is None else {"slug__in": only}))
    behind = list(made.exclude(schema_version=schemas.head()).order_by("created_at").values_list("id", "slug"))
    total = made.count()
    report = Report(schemas.head(), total, total - len(behind))
    waiting, done = behind, 0
    for last_round in [*[False] * (ROUNDS - 1), True]:
        again = []
        for batch in _batches(waiting):
            for tenant_id, slug in batch:
                try:
                    _upgrade_one(tenant_id)
                except Exception as error:
                    if _had_to_give_way(error) and not last_round:
                        again.append((tenant_id, slug))
                        continue
                    report.failed[slug] = _in_words(error)
                else:
                    report.upgraded.append(slug)
                done += 1
                if on_progress:
                    on_progress(done, len(behind))
            connections["operator"].close()
        waiting = again
        if not waiting:
            break
        time.sleep(PAUSE_SECONDS)
    return report


def _upgrade_one(tenant_id: UUID) -> None:
    operator = connections["operator"]
    with transaction.atomic(using="operator"):
        tenant = Tenant.objects.using("operator").select_for_update().get(pk=tenant_id)
        if tenant.status not in Tenant.MADE or tenant.schema_version == schemas.head():
            return  # erased, or upgraded by somebody else, in the meantime
        with operator.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        with workspace(tenant):  # data steps open and seal under the workspace's key
            schemas.upgrade(operator, tenant.schema_name)
        with operator.cursor() as cursor:  # new tables may be for less than what a workspace's role gets by default
            for statement in roles.tenant_statements(operator.settings_dict["NAME"], tenant.schema_name, role_exists=True):
                cursor.execute(statement)
        Tenant.objects.using("operator").filter(pk=tenant_id).update(schema_version=schemas.head())


def _batches(waiting: Sequence[tuple[UUID, str]]) -> Iterator[Sequence[tuple[UUID, str]]]:
    for first in range(0, len(waiting), BATCH):
        yield waiting[first : first + BATCH]


def _had_to_give_way(error: Exception) -> bool:
    return isinstance(error, DatabaseError) and getattr(error.__cause__, "sqlstate", "") == LOCK_NOT_AVAILABLE


def _in_words(error: Exception) -> str:
    """PostgreSQL's own sentence about a statement, which names tables and columns; of other errors only type and place."""
    diagnosis = getattr(error.__cause__, "diag", None)
    if isinstance(error, DatabaseError) and diagnosis is not None and diagnosis.message_primary:
        return str(diagnosis.message_primary)
    return describe_exception(error)
