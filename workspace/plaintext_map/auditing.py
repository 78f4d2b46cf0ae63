"""Tests what the catalogue claims: plants words in a workspace and looks for them in every store that can be read.

A word found, a value that is not encrypted where it should be, and a column nobody classified are failures. Each look has
a control, something that must be found; when it is not, the check is inconclusive. Runs in public context.
"""

import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from search import indexes
from search.models import Protection
from tenants.alarms import raise_alarm
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.context import workspace
from tenants.errors import Refused
from tenants.jobs import enqueue_public, is_in_flight, job_key
from tenants.keys.providers import KeyUnavailable
from tenants.locks import alone_with
from tenants.models import Alarm, IsolationCheck, PlaintextCheck, Tenant, TenantKey
from tenants.schemas import is_open
from tenants.wording import counted
from workspace.isolation import canaries
from workspace.isolation.verifying import open_workspaces
from workspace.plaintext_map import looking
from workspace.plaintext_map.columns import PUBLIC, Kind, Table, tables_at
from workspace.plaintext_map.forms import Needles
from workspace.plaintext_map.looking import Looked, TableLooked
from workspace.plaintext_map.planting import new_word, planted
from workspace.plaintext_map.stores import stores

logger = logging.getLogger(__name__)

TASK = "workspace.plaintext_map.jobs.check"
KEPT = 30  # checks of a workspace
NIGHT_HOUR, PER_NIGHT = 4, 20  # UTC, from which on; so many workspaces, those first that waited longest
TIMEOUT_SECONDS = 3600
REST = 0.25  # of the time spent, so that people are not disturbed
STAGES = (
    "planting words", "tables of the workspace", "tables of the installation", "files", "keystore, witness and settings",
    "Redis", "logs", "temporary files", "a dump of the database", "the database's files",
)  # fmt: skip
SHORTEST_WORD = 6

State, Trigger = PlaintextCheck.State, PlaintextCheck.Trigger
UNFINISHED = PlaintextCheck.UNFINISHED
Progress = Callable[[str], None]


class Cancelled(Exception):
    """Somebody called the check off, or its workspace is gone."""


@dataclass
class Report:
    """What a check looked at and found: tables by name, other stores by name, columns unknown, controls that failed."""

    tables: dict[str, TableLooked] = field(default_factory=dict)
    places: dict[str, Looked] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    controls: list[str] = field(default_factory=list)
    level: str = Protection.CLOAKED  # at which vectors were held then
    seconds: float = 0

    @property
    def found(self) -> int:
        tables = sum(sum(each.found.values()) + sum(each.wrong.values()) for each in self.tables.values())
        return tables + sum(len(each.found) for each in self.places.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "tables": {
                name: {"rows": each.rows, "found": dict(each.found), "wrong": dict(each.wrong)}
                for name, each in self.tables.items()
            },
            "places": {name: each.as_json() for name, each in self.places.items()},
            "unknown": self.unknown,
            "controls": self.controls,
            "level": self.level,
            "seconds": round(self.seconds, 1),
        }


# ---------------------------------------------------------------- one check


def audit(
    tenant: Tenant, *, trigger: IsolationCheck.Trigger = Trigger.COMMAND, words: Collection[str] = (),
    on_progress: Progress = lambda stage: None,
) -> PlaintextCheck:  # fmt: skip
    """Check the workspace here and now. `words` are looked for as well. Raises Refused for words that are too short."""
    if any(len(word) < SHORTEST_WORD for word in words):
        raise Refused(f"A word to look for needs at least {SHORTEST_WORD} characters: a shorter one is found by chance.")
    check = PlaintextCheck(tenant=tenant, trigger=trigger)
    with alone_with(check.pk):  # before the row can be seen: the sweep takes up what nobody holds
        check.save(force_insert=True)
        run(check.pk, words=words, on_progress=on_progress)
    check.refresh_from_db()
    return check


def run(check_id: UUID, *, words: Collection[str] = (), on_progress: Progress = lambda stage: None) -> None:
    """Bring a check to its end. Does nothing when it has ended, or when somebody else is at it."""
    with alone_with(check_id) as alone:
        waiting = PlaintextCheck.objects.filter(pk=check_id, state__in=UNFINISHED)
        now = timezone.now()
        if not alone or not waiting.update(state=State.RUNNING, started_at=now, seen_at=now, steps=len(STAGES), steps_done=0):
            return
        check = PlaintextCheck.objects.select_related("tenant").get(pk=check_id)
        report, begun = Report(), time.monotonic()
        try:
            _look(check, report, words, on_progress)
        except Cancelled:
            return
        except (Refused, KeyUnavailable) as error:
            logger.warning("plaintext: %s cannot be checked: %s", check.tenant_id, error)
            report.controls.append("nothing could be planted in the workspace")
        except BaseException as error:
            end = State.INCONCLUSIVE if isinstance(error, Exception) else State.CANCELLED
            report.controls.append("the check stopped because of an error on our side")
            waiting.update(state=end, report=report.as_json(), finished_at=timezone.now())
            raise
        report.seconds = time.monotonic() - begun
        _finish(check, report)


def _look(check: PlaintextCheck, report: Report, words: Collection[str], on_progress: Progress) -> None:
    tenant, pace = check.tenant, _Pace(check.pk)
    if not is_open(tenant):
        raise Refused("The workspace cannot be entered now.")

    def stage(number: int) -> None:
        rows = PlaintextCheck.objects.filter(pk=check.pk, state=State.RUNNING)
        if not rows.update(stage=STAGES[number], steps_done=number, seen_at=timezone.now()):
            raise Cancelled
        on_progress(f"{number} of {len(STAGES)}: {STAGES[number]}")

    stage(0)
    with workspace(tenant):
        report.level = indexes.least_held()
    versions = list(TenantKey.objects.filter(tenant=tenant).values_list("version", flat=True))
    versions.append(max(versions, default=0) + 1)  # one that a change of the key may bring while this looks
    mark = new_word()
    known = tenant.schema_name.encode()  # stands in the clear in tables, dump and files
    with planted(canaries.ensure(tenant)) as own, looking.operator() as database:
        needles, control = Needles([*own, *words]), Needles([mark])
        there = looking.columns_there(database, ["public", tenant.schema_name])
        report.unknown = looking.unclassified(there)
        for number, chosen in ((1, tenant.schema_name), (2, "public")):
            stage(number)
            for (schema, table), columns in there.items():
                if schema == chosen:
                    name = table if schema != "public" else f"public.{table}"
                    report.tables[name] = looking.look_at_table(
                        database, schema, table, columns, needles, versions, known, pace
                    )  # fmt: skip
        if not report.tables["public.tenants_tenant"].control:
            report.controls.append("the tables: the schema's name was not found where it stands in the clear")
        stage(3)
        report.places["files"] = looking.look_at_stored_files(settings.FILES_DIR / tenant.id.hex, needles, pace)
        stage(4)
        _installation(report, needles, control, mark, pace)
        stage(5)
        report.places["redis"] = looking.look_at_redis(needles, control, mark, pace)
        _look_at_queue_file(report, needles, pace)
        stage(6)
        report.places["logs"] = _logs(needles, pace)
        stage(7)
        _temporary(report, needles, pace)
        stage(8)
        report.places["dump"] = looking.look_at_dump(tenant.schema_name, needles, known, pace)
        stage(9)
        report.places["data"] = looking.look_at_data(needles, known, pace)
    for name, each in report.places.items():
        if each.control is False:
            report.controls.append(f"{name}: what was put there to be found was not found")


def _installation(report: Report, needles: Needles, control: Needles, mark: str, pace: "_Pace") -> None:
    """Keystore, witness, and the rest of var/; there a file is written for the length of the look, to be found."""
    for name, directory in (("keystore", Path(settings.KEYS_DIR)), ("witness", Path(settings.WITNESS_DIR))):
        report.places[name] = looking.look_at_files(looking.files_below(directory), needles, pace, below=directory)
    var = Path(settings.VAR_DIR)
    apart = (settings.FILES_DIR, settings.MODEL_DIR, settings.MODELS_DIR, settings.STATIC_ROOT)
    elsewhere = [*map(Path, apart), var / "services"]
    scratch = var / f".plaintext-control-{mark[:8]}"
    try:
        with suppress(OSError):  # the control fails then
            var.mkdir(mode=0o711, parents=True, exist_ok=True)
            scratch.write_bytes(mark.title().encode("utf-16-le").hex().encode())
        paths = [path for path in looking.files_below(var) if not any(each in path.parents for each in elsewhere)]
        report.places["var"] = looking.look_at_files(paths, needles, pace, below=var)
        report.places["var"].control = scratch in paths and scratch.exists() and control.within(scratch.read_bytes())
    finally:
        scratch.unlink(missing_ok=True)


def _look_at_queue_file(report: Report, needles: Needles, pace: "_Pace") -> None:
    directory, redis = looking.redis_directory(), report.places["redis"]
    if directory is None:
        redis.checked += "; not looked at: its file"
        return
    written = looking.look_at_files(looking.files_below(directory), needles, pace, below=directory)
    redis.found += written.found
    redis.checked += f"; its file: {written.checked}"


def _logs(needles: Needles, pace: "_Pace") -> Looked:
    directories = {Path(settings.VAR_DIR) / "services" / "log"}
    if data := looking.data_directory():
        directories.add(data.parent / "log")
    paths = [path for directory in directories for path in looking.files_below(directory)]
    if not paths:
        return Looked("not looked at: the logs go to whoever started the processes", unseen=True)
    looked = looking.look_at_files(paths, needles, pace)
    looked.checked += " (" + ", ".join(sorted({path.name for path in paths})) + ")"
    return looked


def _temporary(report: Report, needles: Needles, pace: "_Pace") -> None:
    data = looking.data_directory()
    ours = [Path(settings.VAR_DIR), Path(settings.KEYS_DIR), *([data.parent] if data else [])]
    paths, all_ = looking.temporary_files(ours)
    report.places["temporary"] = looking.look_at_files(paths, needles, pace)
    if not all_:
        report.places["temporary"].checked += "; the newest, not all of them"


class _Pace:
    """Called between pieces: rests a little, and once a second asks whether the check is still wanted."""

    def __init__(self, check_id: UUID) -> None:
        self._check_id, self._worked, self._asked = check_id, time.monotonic(), time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        time.sleep(min(0.5, (now - self._worked) * REST))
        self._worked = time.monotonic()
        if now - self._asked > 1:
            self._asked = now
            rows = PlaintextCheck.objects.filter(pk=self._check_id, state=State.RUNNING)
            if not rows.update(seen_at=timezone.now()):
                raise Cancelled


def _finish(check: PlaintextCheck, report: Report) -> None:
    state = State.CLEAN
    if report.found:
        state = State.FOUND
    elif report.unknown:
        state = State.UNCLASSIFIED
    elif report.controls:
        state = State.INCONCLUSIVE
    rows = PlaintextCheck.objects.filter(pk=check.pk, state=State.RUNNING)
    ended = rows.update(
        state=state, found=report.found, unknown=len(report.unknown), report=report.as_json(), steps_done=len(STAGES),
        stage="", finished_at=timezone.now(),
    )  # fmt: skip
    if not ended:
        return
    if report.found or report.unknown:
        logger.error("plaintext: %s places and %s unknown columns in %s", report.found, len(report.unknown), check.tenant_id)
    if report.found:
        raise_alarm(Alarm.Kind.PLAINTEXT, f"workspace {check.tenant_id}", tenant=check.tenant)
    record(Event.PLAINTEXT_AUDITED, tenant=check.tenant, found=report.found, unknown=len(report.unknown))
    old = PlaintextCheck.objects.filter(tenant=check.tenant).exclude(state__in=UNFINISHED)
    kept = list(old.values_list("pk", flat=True)[:KEPT])
    old.exclude(pk__in=kept).delete()


# ---------------------------------------------------------------- by button and by night


def request_check(tenant: Tenant, trigger: IsolationCheck.Trigger = Trigger.BUTTON) -> PlaintextCheck:
    """Queue a check. Raises Refused while one is under way."""
    if PlaintextCheck.objects.filter(tenant=tenant, state__in=UNFINISHED).exists():
        raise Refused("A look at this workspace is under way. Wait for it, or cancel it.")
    check = PlaintextCheck.objects.create(tenant=tenant, trigger=trigger)
    enqueue_public(TASK, check.pk.hex, job_id=_job_id(check), queue=_queue(check), timeout=TIMEOUT_SECONDS)
    return check


def cancel(tenant: Tenant) -> bool:
    """Stop what is under way. False when nothing was."""
    rows = PlaintextCheck.objects.filter(tenant=tenant, state__in=UNFINISHED)
    return bool(rows.update(state=State.CANCELLED, finished_at=timezone.now()))


def mark_interrupted() -> None:
    """Whoever held a check that is neither queued nor held has died."""
    for check in PlaintextCheck.objects.filter(state__in=UNFINISHED):
        if check.trigger != Trigger.COMMAND and is_in_flight(job_key(_job_id(check)), _queue(check)):
            continue
        with alone_with(check.pk) as alone:
            if alone:
                rows = PlaintextCheck.objects.filter(pk=check.pk, state__in=UNFINISHED)
                rows.update(state=State.INTERRUPTED, finished_at=timezone.now())


def begin_nightly(now: datetime) -> None:
    """From NIGHT_HOUR on, one after the other, those workspaces that have waited longest. One made today waits for the
    next night: its first documents are not to wait behind a look.
    """
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    nightly = PlaintextCheck.objects.filter(trigger=Trigger.NIGHTLY)
    if now.hour < NIGHT_HOUR or nightly.filter(state__in=UNFINISHED).exists():
        return
    if nightly.filter(created_at__gte=today).count() >= PER_NIGHT:
        return
    done = PlaintextCheck.objects.filter(created_at__gte=today, finished_at__isnull=False).values("tenant_id")
    waiting = list(open_workspaces().filter(created_at__lt=today).exclude(pk__in=done))
    latest = dict(nightly.order_by("created_at").values_list("tenant_id", "created_at"))
    waiting.sort(key=lambda tenant: (tenant.pk in latest, latest.get(tenant.pk)))
    for tenant in waiting:
        if not PlaintextCheck.objects.filter(tenant=tenant, state__in=UNFINISHED).exists():
            request_check(tenant, Trigger.NIGHTLY)
            return


def _job_id(check: PlaintextCheck) -> str:
    return f"plaintext-{check.pk.hex}"


def _queue(check: PlaintextCheck) -> str:
    return "default" if check.trigger == Trigger.BUTTON else "ingest"


# ---------------------------------------------------------------- catalogue and result together


def described(check: PlaintextCheck | None, level: str = "") -> list[dict[str, Any]]:
    """Every store with its claim and, of the check, where it was looked and what was found.

    `level`: how vectors are held now; left out, as they were when it was looked.
    """
    report = check.report if check else {}
    level = level or level_of(check)
    found = []
    for scope, tables in (("", tables_at(level)), ("public.", PUBLIC)):
        for name, table in tables.items():
            found += _columns(f"{scope}{name}", table, report.get("tables", {}).get(f"{scope}{name}"))
    for column in report.get("unknown", []):
        found.append({"name": column, "kind": Kind.UNKNOWN.value, "claim": "nobody has said", "held": "",
                      "checked": "the database's catalogue", "found": 0})  # fmt: skip
    for store in stores(level):
        looked = report.get("places", {}).get(store.name)
        checked = looked["checked"] if looked else (f"not looked at: {store.unseen}" if store.unseen else "")
        if store.name.startswith("index.") and report.get("places"):
            checked = "with the database's files: " + report["places"].get("data", {}).get("checked", "")
        found.append({"name": store.name, "kind": store.kind.value, "claim": store.holds, "held": store.learns,
                      "checked": checked, "found": looked["times"] if looked else 0,
                      "where": looked["found"] if looked else []})  # fmt: skip
    return found


def level_of(check: PlaintextCheck | None) -> str:
    """At which level of protection vectors were held when it was looked."""
    return str((check.report if check else {}).get("level", Protection.CLOAKED))


def _columns(name: str, table: Table, looked: dict[str, Any] | None) -> list[dict[str, Any]]:
    rows: int | None = looked["rows"] if looked else None
    return [
        {
            "name": f"{name}.{column}", "kind": kind.value, "claim": what,
            "held": "" if rows is None else f"{rows:,} rows",
            "checked": "" if rows is None else f"{counted(rows, 'row')} read",
            "found": looked["found"].get(column, 0) + looked["wrong"].get(column, 0) if looked else 0,
        }
        for column, kind, what in table.columns()
    ]  # fmt: skip
