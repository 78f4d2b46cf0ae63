"""Runs the self-test and keeps its results: for one workspace, for all, by command, by button and every night.

A check is of one workspace against a few others; a run over the installation has one such check for each workspace. The
database knows what is under way: what a killed worker leaves behind is marked interrupted and run again. Public context.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from tenants import notices, stats
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.errors import Refused
from tenants.jobs import enqueue_public, is_in_flight, job_key
from tenants.keys.providers import KeyUnavailable
from tenants.locks import alone_with
from tenants.models import IsolationCheck, Tenant
from tenants.schemas import is_behind, is_open
from workspace.isolation import canaries
from workspace.isolation.asking import site
from workspace.isolation.canaries import Canary
from workspace.isolation.probes import Findings, try_everything
from workspace.isolation.routes import asked_with_ids, routes

logger = logging.getLogger(__name__)

PER_WORKSPACE = 3  # others that one workspace is compared with in a check, so that n workspaces cost n times that
KEPT = 30  # checks of a workspace, and runs over the installation
MAX_STARTS = 3  # of a workspace's check within a run, or within an hour, when workers die of it
NIGHT_HOUR = 3  # UTC, from which on the nightly run begins
TASK = "workspace.isolation.jobs.check"
TIMEOUT_SECONDS = 3600

SILENCE_SECONDS = 1800  # a command that has not shown progress for so long is not there any more

State, Trigger = IsolationCheck.State, IsolationCheck.Trigger
UNFINISHED = IsolationCheck.UNFINISHED
Progress = Callable[[int, int], None]  # done, of how many


# ---------------------------------------------------------------- which workspaces


def open_workspaces() -> QuerySet[Tenant]:
    """Those that can be entered, in the order of their ids, which is the same every time and follows nothing."""
    active = Tenant.objects.filter(status=Tenant.Status.ACTIVE)
    versions = active.order_by().values_list("schema_version", flat=True).distinct()  # few, however many workspaces
    return active.filter(schema_version__in=[version for version in versions if not is_behind(version)]).order_by("pk")


def compared_with(tenant: Tenant, per_workspace: int, turn: int) -> list[Tenant]:
    """Whom a workspace is compared with: everybody where few are, else the next `per_workspace` in the circle of all.

    The start moves on by as many with every turn, so that after (n - 1) / per_workspace turns each has met each.
    """
    # the circle begins behind the workspace itself; the database walks it, since a night asks for it once per workspace
    circle = open_workspaces().exclude(pk=tenant.pk).alias(comes_round=Q(pk__lt=tenant.pk)).order_by("comes_round", "pk")
    others = circle.count()
    if others <= per_workspace:
        return list(circle)
    begin = turn * per_workspace % others
    found = list(circle[begin : begin + per_workspace])
    return [*found, *circle[: per_workspace - len(found)]]


# ---------------------------------------------------------------- the check of one workspace


def verify_isolation(
    tenants: Iterable[Tenant] | None = None,
    *,
    per_workspace: int = PER_WORKSPACE,
    trigger: IsolationCheck.Trigger = Trigger.COMMAND,
    on_progress: Progress = lambda done, of: None,
) -> IsolationCheck:
    """Check these workspaces, or all, here and now. Returns one workspace's check, or the run that has them as parts."""
    chosen = list(open_workspaces() if tenants is None else tenants)
    if tenants is not None and len(chosen) == 1:
        check = IsolationCheck(tenant=chosen[0], trigger=trigger)
        with alone_with(check.pk):  # before the row can be seen: the worker's sweep takes up what nobody holds
            check.save(force_insert=True)
            run(check.pk, per_workspace=per_workspace, on_progress=on_progress)
        check.refresh_from_db()
        return check
    whole = IsolationCheck(trigger=trigger, state=State.RUNNING, started_at=timezone.now(), steps=len(chosen))
    with alone_with(whole.pk):
        whole.save(force_insert=True)
        for done, tenant in enumerate(chosen, start=1):
            part = IsolationCheck(tenant=tenant, trigger=trigger, part_of=whole)
            with alone_with(part.pk):
                part.save(force_insert=True)
                run(part.pk, per_workspace=per_workspace)
            if not _advance(whole.pk, done):
                break
            on_progress(done, len(chosen))
        _finish_whole(whole.pk)
    whole.refresh_from_db()
    return whole


def run(check_id: UUID, *, per_workspace: int = PER_WORKSPACE, on_progress: Progress = lambda done, of: None) -> None:
    """Bring the check of one workspace to an end. Does nothing when it has ended, or when somebody else is at it."""
    with alone_with(check_id) as alone:
        if not alone:
            return
        waiting = IsolationCheck.objects.filter(pk=check_id, state__in=UNFINISHED, tenant__isnull=False)
        if not waiting.update(state=State.RUNNING, started_at=timezone.now(), seen_at=timezone.now(), steps_done=0):
            return
        check = IsolationCheck.objects.select_related("tenant").get(pk=check_id)
        found, begun = Findings(), time.monotonic()
        try:
            others = _compare(check, found, per_workspace, on_progress)
        except Exception:
            found.control("check", "", False, "the check stopped because of an error on our side")
            _finish(check, found, 0, begun)
            raise
        if others is not None:
            _finish(check, found, others, begun)


def _compare(check: IsolationCheck, found: Findings, per_workspace: int, on_progress: Progress) -> int | None:
    """How many others the workspace was compared with; None when the check was cancelled meanwhile."""
    tenant = check.tenant
    assert tenant is not None
    if not is_open(tenant):
        found.control("check", "", False, "the workspace cannot be entered now")
        return 0
    others = compared_with(tenant, per_workspace, timezone.now().toordinal())
    IsolationCheck.objects.filter(pk=check.pk).update(steps=len(others))
    mine = _canary(tenant, found, "this workspace") if others else None
    if mine is None:
        return 0
    compared = 0
    for done, other in enumerate(others, start=1):
        theirs = _canary(other, found, "another workspace")
        if theirs is not None:
            before = len(found.leaks)
            try_everything(site(), mine, theirs, found)
            compared += 1
            for leak in found.leaks[before:]:
                logger.error("isolation: %s %s: asked in %s for what is %s's", leak["kind"], leak["route"], tenant.pk, other.pk)
        if not _advance(check.pk, done):
            return None
        on_progress(done, len(others))
    return compared


def _canary(tenant: Tenant, found: Findings, whose: str) -> Canary | None:
    try:
        return canaries.ensure(tenant)
    except (Refused, KeyUnavailable) as error:  # one workspace without its key must not end the checks of others
        logger.warning("isolation: no canaries in %s: %s", tenant.pk, error)
        found.control("canaries", "", False, f"the canaries of {whose} could not be made")
        return None


def _advance(check_id: UUID, done: int) -> bool:
    """Show how far it is; False when it is not running any more: cancelled, or its workspace deleted."""
    rows = IsolationCheck.objects.filter(pk=check_id, state=State.RUNNING)
    return bool(rows.update(steps_done=done, seen_at=timezone.now()))


def _verdict(leaks: list[dict[str, str]], controls: list[dict[str, str]], *, compared: bool) -> IsolationCheck.State:
    if leaks:
        return State.LEAKS
    if controls:
        return State.INCONCLUSIVE
    return State.PASSED if compared else State.ALONE


def _finish(check: IsolationCheck, found: Findings, compared: int, begun: float) -> None:
    state = _verdict(found.leaks, found.controls, compared=bool(compared))
    counts = {
        "by_kind": dict(found.attempts),
        "routes": routes_asked(),
        "workspaces": compared,
        "seconds": round(time.monotonic() - begun, 2),
        "controls": found.controls,
    }
    _end(IsolationCheck.objects.filter(pk=check.pk, state=State.RUNNING), state, counts, found.leaks)
    _forget(IsolationCheck.objects.filter(tenant=check.tenant_id))
    tenant = check.tenant
    assert tenant is not None
    stats.mark_due([tenant.pk])  # a leak is the first of all troubles in the staff's list
    if state == State.LEAKS:
        notices.tell_owners(
            tenant,
            f"The isolation check of {tenant.name} found a leak",
            f"Cloister reached from inside the workspace {tenant.name} what belongs to another, or found a difference that it\n"
            "should not find. What it was is under Settings, Isolation; staff of the installation see it too.\n",
        )


def routes_asked() -> int:
    """Patterns a check asks: all inside a workspace, and those outside that take ids."""
    return len(routes(settings.WORKSPACE_URLCONF)) + len(asked_with_ids(settings.ROOT_URLCONF))


def _end(rows: QuerySet[IsolationCheck], state: str, counts: dict[str, object], leaks: list[dict[str, str]]) -> None:
    rows.update(state=state, counts=counts, leaks=leaks, finished_at=timezone.now())


def _forget(rows: QuerySet[IsolationCheck]) -> None:
    """All but the newest."""
    old = list(rows.exclude(state__in=UNFINISHED).order_by("-created_at").values_list("pk", flat=True)[KEPT:])
    IsolationCheck.objects.filter(pk__in=old).delete()


# ---------------------------------------------------------------- a run over the installation


def _finish_whole(whole_id: UUID) -> None:
    """Add its parts up."""
    parts = list(_newest_parts(whole_id).values())
    attempts: Counter[str] = Counter()
    leaks: list[dict[str, str]] = []
    controls: list[dict[str, str]] = []
    for part in parts:
        attempts.update(part.counts.get("by_kind", {}))
        leaks += [leak for leak in part.leaks if leak not in leaks]
        controls += [control for control in part.controls if control not in controls]
        if part.state in (State.INTERRUPTED, State.CANCELLED):
            controls.append({"kind": "check", "route": "", "detail": f"the check of {part.tenant_id} was {part.state}"})
    state = _verdict(leaks, controls, compared=bool(attempts))
    counts: dict[str, object] = {
        "by_kind": dict(attempts),
        "routes": max((part.counts.get("routes", 0) for part in parts), default=routes_asked()),
        "workspaces": len(parts),
        "seconds": round(sum(part.counts.get("seconds", 0) for part in parts), 2),
        "controls": controls,
    }
    _end(IsolationCheck.objects.filter(pk=whole_id, state=State.RUNNING), state, counts, leaks)
    _forget(IsolationCheck.objects.filter(tenant=None))


def _newest_parts(whole_id: UUID) -> dict[UUID, IsolationCheck]:
    """The last check of each workspace in a run."""
    parts = IsolationCheck.objects.filter(part_of=whole_id).order_by("created_at")
    return {part.tenant_id: part for part in parts if part.tenant_id}


def begin_nightly(now: datetime) -> None:
    """Once a day, from NIGHT_HOUR on: a run over the installation, one job after the other."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    begun = IsolationCheck.objects.filter(tenant=None, trigger=Trigger.NIGHTLY, created_at__gte=today)
    if now.hour < NIGHT_HOUR or begun.exists():
        return
    if workspaces := open_workspaces().count():
        whole = IsolationCheck.objects.create(
            trigger=Trigger.NIGHTLY, state=State.RUNNING, created_at=now, started_at=now, steps=workspaces
        )
        go_on(whole)


def go_on(whole: IsolationCheck) -> None:
    """Queue the check of the next workspace of a nightly run, or end the run after the last."""
    with transaction.atomic():
        whole = IsolationCheck.objects.select_for_update().get(pk=whole.pk)
        if whole.state != State.RUNNING or whole.parts.filter(state__in=UNFINISHED).exists():
            return
        last = whole.parts.only("tenant_id", "state").first()
        if last is not None and last.state != State.INTERRUPTED:
            whole.steps_done += 1
        following = _following(whole, last)
        whole.steps = max(whole.steps, whole.steps_done + (following is not None))
        whole.save(update_fields=["steps", "steps_done"])
        if following is None:
            _finish_whole(whole.pk)
            return
        _enqueue(IsolationCheck.objects.create(tenant=following, trigger=whole.trigger, part_of=whole))


def _following(whole: IsolationCheck, last: IsolationCheck | None) -> Tenant | None:
    """The next workspace in the order of ids; behind the last one those that are left: passed by when they could not be
    entered, made since, or interrupted, as long as that was fewer than MAX_STARTS times.
    """
    parts = whole.parts.filter(tenant=OuterRef("pk"))
    ended, died = parts.exclude(state=State.INTERRUPTED), parts.filter(state=State.INTERRUPTED)
    left = open_workspaces().exclude(Exists(ended) | Exists(died[MAX_STARTS - 1 :]))
    if last is not None and (following := left.filter(pk__gt=last.tenant_id).first()) is not None:
        return following
    return left.first()


# ---------------------------------------------------------------- by button


def request_check(tenant: Tenant) -> IsolationCheck:
    """Queue a check of the workspace. Raises Refused while one is under way."""
    with transaction.atomic():
        Tenant.objects.select_for_update(of=("self",)).get(pk=tenant.pk)  # two clicks at once are one check
        if IsolationCheck.objects.filter(tenant=tenant, state__in=UNFINISHED).exists():
            raise Refused("A check of this workspace is under way. Wait for it, or cancel it.")
        check = IsolationCheck.objects.create(tenant=tenant, trigger=Trigger.BUTTON)
        record(Event.ISOLATION_CHECKED, tenant)
        _enqueue(check)
    return check


def cancel(tenant: Tenant) -> bool:
    """Stop what is under way in the workspace before it is compared with the next. False when nothing was."""
    rows = IsolationCheck.objects.filter(tenant=tenant, state__in=UNFINISHED)
    return bool(rows.update(state=State.CANCELLED, finished_at=timezone.now()))


# ---------------------------------------------------------------- what killed workers leave behind


def resume_unfinished() -> None:
    """Whoever held a check that is neither queued nor held has died: it is marked interrupted, and run again."""
    for check in IsolationCheck.objects.filter(state__in=UNFINISHED).order_by("created_at"):
        if check.trigger == Trigger.COMMAND:  # its session may have lost the lock to what the check itself tries
            alive = timezone.now() - check.seen_at < timedelta(seconds=SILENCE_SECONDS)
        else:
            alive = is_in_flight(job_key(_job_id(check)), _queue(check))
        if alive:
            continue
        with alone_with(check.pk) as alone:
            if not alone:
                continue
            if check.tenant_id is None and check.trigger != Trigger.COMMAND:
                go_on(check)
            elif check.state == State.QUEUED and check.trigger != Trigger.COMMAND:
                _enqueue(check)
            else:
                _interrupted(check)


def _interrupted(check: IsolationCheck) -> None:
    rows = IsolationCheck.objects.filter(pk=check.pk, state__in=UNFINISHED)
    if not rows.update(state=State.INTERRUPTED, finished_at=timezone.now()) or check.trigger == Trigger.COMMAND:
        return  # whoever gave the command has seen it end
    if check.part_of is not None:
        go_on(check.part_of)
        return
    lately = timezone.now() - timedelta(hours=1)
    died = IsolationCheck.objects.filter(tenant=check.tenant_id, state=State.INTERRUPTED, created_at__gte=lately).count()
    if died < MAX_STARTS:
        _enqueue(IsolationCheck.objects.create(tenant=check.tenant, trigger=check.trigger))


def check_by_id(check_id: UUID) -> None:
    """What the job does: the check, then the next of the run it belongs to."""
    try:
        run(check_id)
    finally:
        check = IsolationCheck.objects.select_related("part_of").filter(pk=check_id).first()
        if check is not None and check.part_of is not None and not check.is_unfinished:
            go_on(check.part_of)


def _enqueue(check: IsolationCheck) -> None:
    enqueue_public(TASK, check.pk.hex, job_id=_job_id(check), queue=_queue(check), timeout=TIMEOUT_SECONDS)


def _job_id(check: IsolationCheck) -> str:
    return f"isolation-{check.pk.hex}"


def _queue(check: IsolationCheck) -> str:
    """Somebody waits for a button's; a night's takes its turn among the documents."""
    return "default" if check.trigger == Trigger.BUTTON else "ingest"
