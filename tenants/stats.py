"""What staff see of a workspace without entering it: figures kept in the public row WorkspaceStats, and its trouble.

The apps above register what they can count (`@figures`); the worker writes it down when it sweeps. The same rows say
which workspaces need sweeping at all. Refuses to know what a document is.
"""

import time
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from enum import IntEnum
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils import timezone
from django.utils.formats import date_format

from tenants.context import public_context, workspace
from tenants.models import IsolationCheck, Membership, Tenant, WorkspaceStats
from tenants.permissions import Role
from tenants.schemas import head, is_behind, is_open
from tenants.wording import counted

NOTED_SECONDS = 300  # a workspace's activity is written down this often, by each process
RECENT = timedelta(seconds=3 * NOTED_SECONDS)
AT_LEAST_EVERY = timedelta(hours=1)  # every workspace is swept
STUCK_AFTER = timedelta(hours=1)  # the largest text allowed takes half an hour

Figures = Callable[[WorkspaceStats], dict[str, Any]]
_figures: list[Figures] = []
_noted: dict[tuple[UUID, str], float] = {}


def figures(function: Figures) -> Figures:
    """Count inside each workspace: `function` is given what is known, and returns values of fields of WorkspaceStats. What
    it leaves out stays as it was.
    """
    _figures.append(function)
    return function


# ---------------------------------------------------------------- which workspaces the worker looks after


def note_activity(tenant: Tenant) -> None:
    """Write down that somebody is about to work in it, before they do: what is lost afterwards is then looked for."""
    _note(tenant, "last_activity_at")


def note_queued(tenant: Tenant) -> None:
    """The same of a job that was asked for."""
    _note(tenant, "queued_at")


def _note(tenant: Tenant, field: str) -> None:
    noted, moment = _noted.get((tenant.pk, field)), time.monotonic()
    if noted is not None and moment - noted < NOTED_SECONDS:
        return
    with public_context():
        WorkspaceStats.objects.bulk_create(
            [WorkspaceStats(tenant=tenant, **{field: timezone.now()})],
            update_conflicts=True,
            unique_fields=["tenant"],
            update_fields=[field],
        )
    _noted[tenant.pk, field] = moment


def forget_noted() -> None:
    """As in a process that has just started."""
    _noted.clear()


def due() -> list[Tenant]:
    """The active workspaces to sweep: all but those known to be quiet. Of what is unknown or odd, the answer is to look."""
    now = timezone.now()
    quiet = WorkspaceStats.objects.filter(
        Q(last_activity_at=None) | Q(last_activity_at__lt=now - RECENT),
        Q(queued_at=None) | Q(queued_at__lt=now - RECENT),
        unfinished=0,
        runs_unfinished=0,
        refreshed_at__range=(now - AT_LEAST_EVERY, now + AT_LEAST_EVERY),
    )
    return list(Tenant.objects.filter(status=Tenant.Status.ACTIVE).exclude(pk__in=quiet.values("tenant_id")))


def mark_due(tenant_ids: Collection[UUID]) -> None:
    WorkspaceStats.objects.filter(tenant_id__in=tenant_ids).update(refreshed_at=None)


# ---------------------------------------------------------------- the figures


def refresh(tenant: Tenant, *, jobs_failed: int | None = None) -> WorkspaceStats:
    """Count inside the open workspace, judge, and write it down. `jobs_failed` is None when nobody can tell."""
    with public_context():
        stats = WorkspaceStats.objects.filter(tenant=tenant).first() or WorkspaceStats(tenant=tenant)
    counted: dict[str, Any] = {} if jobs_failed is None else {"jobs_failed": jobs_failed}
    with workspace(tenant):
        for count in _figures:
            counted |= count(stats)
    with public_context():
        members = Membership.objects.filter(tenant=tenant).count()
        counted |= {"members": members, "behind": False, "refreshed_at": timezone.now()}
        for name, value in counted.items():
            setattr(stats, name, value)
        stats.trouble, stats.trouble_words = worst(tenant, stats, **_seen_from_outside([tenant])[tenant.pk])
        WorkspaceStats.objects.bulk_create(
            [stats],
            update_conflicts=True,
            unique_fields=["tenant"],
            update_fields=sorted([*counted, "trouble", "trouble_words"]),
        )
    return stats


def refresh_closed() -> int:
    """Judge the workspaces nobody may enter now by what is known of them; their figures stay. Returns how many changed."""
    made = Tenant.objects.filter(status__in=Tenant.MADE).exclude(status=Tenant.Status.ACTIVE, schema_version=head())
    closed = [tenant for tenant in made.select_related("stats") if not is_open(tenant)]
    outside, changed = _seen_from_outside(closed), []
    for tenant in closed:
        stats = getattr(tenant, "stats", None) or WorkspaceStats(tenant=tenant)
        before = (stats.behind, stats.trouble, stats.trouble_words)
        stats.behind = is_behind(tenant.schema_version)
        stats.trouble, stats.trouble_words = worst(tenant, stats, **outside[tenant.pk])
        if (stats.behind, stats.trouble, stats.trouble_words) != before:
            changed.append(stats)
    WorkspaceStats.objects.bulk_create(
        changed,
        update_conflicts=True,
        unique_fields=["tenant"],
        update_fields=["behind", "trouble", "trouble_words"],
    )
    return len(changed)


def _seen_from_outside(tenants: list[Tenant]) -> dict[UUID, dict[str, bool]]:
    """What the public tables tell of each: whether an owner can sign in, and whether its newest check found a leak."""
    owners = Membership.objects.filter(tenant__in=tenants, role=Role.OWNER, user__is_active=True)
    owned = set(owners.values_list("tenant_id", flat=True))
    ended = IsolationCheck.objects.filter(tenant__in=tenants).exclude(state__in=IsolationCheck.UNFINISHED)
    newest = dict(ended.order_by("tenant_id", "-created_at").distinct("tenant_id").values_list("tenant_id", "state"))
    leaks = IsolationCheck.State.LEAKS
    return {each.pk: {"owned": each.pk in owned, "leaks": newest.get(each.pk) == leaks} for each in tenants}


class Trouble(IntEnum):
    """How badly a workspace needs somebody; kept as the number, by which the console sorts."""

    NONE = 0
    DOCUMENTS_FAILED = 10
    TO_BE_DELETED = 20
    SUSPENDED = 30
    QUOTA_USED_UP = 40
    JOBS_FAILED = 50
    STUCK = 60
    NO_OWNER = 70
    PAGES_MISSING = 78
    ENTRIES_MISSING = 79
    UNSEARCHABLE = 80
    BEHIND = 90
    LEAK = 95
    NEVER_MADE = 100  # of a workspace without figures: the console says it

    @property
    def is_serious(self) -> bool:
        """Somebody should look; less is the workspace's own affair, or was decided."""
        return self >= Trouble.JOBS_FAILED


def worst(tenant: Tenant, stats: WorkspaceStats, *, owned: bool = True, leaks: bool = False) -> tuple[Trouble, str]:
    """The worst trouble of a workspace, in one sentence; NONE has none."""
    return max(_troubles(tenant, stats, owned, leaks), default=(Trouble.NONE, ""))


def _troubles(tenant: Tenant, stats: WorkspaceStats, owned: bool, leaks: bool) -> Iterator[tuple[Trouble, str]]:
    if leaks:
        yield Trouble.LEAK, "Its newest isolation check found a leak."
    if stats.behind:
        yield Trouble.BEHIND, "Its tables wait for an upgrade: run upgrade_workspaces."
    if stats.unsearchable:
        yield Trouble.UNSEARCHABLE, f"{counted(stats.unsearchable, 'ready document')} cannot be found by a search."
    if stats.entries != stats.passages:
        entries = counted(stats.entries, "entry", "entries")
        yield Trouble.ENTRIES_MISSING, f"Its index has {entries} for {counted(stats.passages, 'passage')}."
    if stats.pages_missing:
        yield Trouble.PAGES_MISSING, f"{counted(stats.pages_missing, 'page')} of ready documents are missing."
    if not owned:
        yield Trouble.NO_OWNER, "It has no owner."
    waiting_since = stats.oldest_unfinished_at
    if waiting_since is not None and timezone.now() - waiting_since > STUCK_AFTER:
        yield Trouble.STUCK, f"A document has been unfinished since {date_format(waiting_since, 'DATETIME_FORMAT')}."
    if stats.jobs_failed:
        yield Trouble.JOBS_FAILED, f"{counted(stats.jobs_failed, 'job')} failed."
    for used, most, what in (
        (stats.documents, tenant.quota_documents, "documents"),
        (stats.bytes, tenant.quota_bytes, "bytes"),
        (stats.members, tenant.quota_members, "members"),
    ):
        if most is not None and used >= most:
            yield Trouble.QUOTA_USED_UP, f"Its quota of {what} is used up."
    if tenant.status == Tenant.Status.SUSPENDED:
        yield Trouble.SUSPENDED, "It is suspended."
    if tenant.delete_at is not None:
        yield Trouble.TO_BE_DELETED, f"It will be deleted on {date_format(tenant.delete_at)}."
    if stats.failed:
        yield Trouble.DOCUMENTS_FAILED, f"{counted(stats.failed, 'document')} failed."
