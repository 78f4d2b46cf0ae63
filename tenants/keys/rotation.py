"""Changes a workspace's key: a new version for what is written from now on, and everything there encrypted anew by jobs.

Killed anywhere, it goes on after its last batch: what is still under an earlier version is seen in each value's header.
The old version ends when a look at every header has found none of it: it is kept for as long as backups need it, then
destroyed. Runs in public context but for the work itself; asks nobody for permission.
"""

import logging
import secrets
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from tenants import jobs, witness
from tenants.acting import Actor, actor
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.ciphers import Tampered
from tenants.context import current_tenant, public_context, workspace
from tenants.errors import Refused
from tenants.keys import reencryption, rewrapping
from tenants.keys.keyring import keyring, provider, seal_seeds, version_name, wrap_binding
from tenants.keys.providers import KEY_BYTES
from tenants.locks import alone_with
from tenants.models import KeyRotation, Tenant, TenantKey, User
from tenants.privacy import describe_exception
from tenants.schemas import is_open, is_still_open
from tenants.sweeping import every, public_sweeper, sweeper

logger = logging.getLogger(__name__)

QUEUE = "ingest"
# A job works for so long, then queues itself behind whatever waits, so that documents uploaded meanwhile get their turn.
TURN_SECONDS = 5.0
TURN_LIMIT = 3600  # for the hung; one file is never cut in two
PAUSE_AT_MOST = 2.0  # seconds; after each batch it rests for as long as that took: half of the worker at most
# Between two looks that both find nothing: a request that took the key just before the change has ended by then.
QUIET_SECONDS = 5.0
LEFT_SECONDS = 3600
LOOK_SECONDS = 24 * 3600  # a version that is kept is looked for again, before it can be destroyed
KEPT_DAYS_AT_LEAST = 1

CHECKING = "checking"


class Stopped(Exception):
    """Paused, ended by somebody else, or the workspace was closed or frozen: end quietly, a sweeper brings it back."""


# ---------------------------------------------------------------- verbs


def begin(tenant: Tenant, by: User | None = None) -> KeyRotation:
    """Make the next version of the workspace's key, used from now on, and queue the work. Raises Refused."""
    if not is_open(tenant):
        raise Refused(f"{tenant.name} is not open: its key cannot be changed now.")
    with rewrapping.nothing_is_rewrapped(), transaction.atomic():
        if unfinished(tenant, lock=True) is not None:
            raise Refused("The key is being changed already.")
        newest = TenantKey.objects.filter(tenant=tenant).order_by("-version").first()
        assert newest is not None, "provisioning makes the first"
        key, version = secrets.token_bytes(KEY_BYTES), newest.version + 1
        TenantKey.objects.create(
            tenant=tenant,
            version=version,
            wrapped=provider().wrap(tenant.pk, key, wrap_binding(tenant.pk, version)),
            seeds=seal_seeds(tenant.pk, version, key, keyring.seed_roots(tenant.pk)),
            provider=provider().name,
        )
        rotation = KeyRotation.objects.create(tenant=tenant, to_version=version, asked_by=by)
        transaction.on_commit(partial(_announce, tenant, version))  # before what is recorded is added to the log
        record(Event.ROTATION_BEGUN, tenant, version=version)
    _queue(tenant, rotation)
    return rotation


def unfinished(tenant: Tenant, *, lock: bool = False) -> KeyRotation | None:
    """What is under way, paused, or stopped by something that does not open."""
    if lock:
        Tenant.objects.select_for_update().get(pk=tenant.pk)
    return KeyRotation.objects.filter(tenant=tenant).exclude(state=KeyRotation.State.DONE).first()


def pause(tenant: Tenant) -> None:
    """Raises Refused when nothing is under way."""
    running = KeyRotation.objects.filter(tenant=tenant, state=KeyRotation.State.RUNNING)
    if not running.update(state=KeyRotation.State.PAUSED):
        raise Refused("Nothing is under way that could be paused.")


def resume(tenant: Tenant) -> None:
    """Go on with what was paused, or stopped by something that did not open. Raises Refused."""
    with transaction.atomic():
        rotation = unfinished(tenant, lock=True)
        if rotation is None or rotation.state == KeyRotation.State.RUNNING:
            raise Refused("Nothing is paused.")
        if rotation.state == KeyRotation.State.FAILED:
            rotation.stage = rotation.cursor = rotation.detail = ""
        rotation.state, rotation.seen_at = KeyRotation.State.RUNNING, timezone.now()
        rotation.save()
    _queue(tenant, rotation)


def _announce(tenant: Tenant, version: int) -> None:
    """From here on no process takes an earlier version for something new."""
    witness.raise_number(version_name(tenant.pk), version)


# ---------------------------------------------------------------- the work


def _job_name(rotation: KeyRotation) -> str:
    return f"rotate-{rotation.pk.hex}-"


def _queue(tenant: Tenant, rotation: KeyRotation) -> None:
    with workspace(tenant):
        jobs.enqueue(
            "tenants.keys.rotation.work",
            str(rotation.pk),
            job_id=_job_name(rotation) + secrets.token_hex(4),  # the turn that queues the next one has its own still
            queue=QUEUE,
            timeout=TURN_LIMIT,
        )


@sweeper
def queue_lost() -> None:
    """Queue again what runs and no worker has. Of a version that is kept, look daily whether something came to it late."""
    tenant = current_tenant()
    with public_context():
        under_way = unfinished(tenant)
        kept = TenantKey.objects.filter(tenant=tenant, state=TenantKey.State.RETIRED).exists()
    if under_way is not None and under_way.state == KeyRotation.State.RUNNING:
        name = _job_name(under_way)
        if not any(held.startswith(name) for held in jobs.held(QUEUE)):
            _queue(tenant, under_way)
    elif kept and under_way is None and every(LOOK_SECONDS, "late-under-old-key"):
        renew_all(keyring.current_version(tenant.pk))


@jobs.task
def work(rotation_id: str) -> None:
    """One turn: some batches or a file, then behind whatever waits."""
    tenant, identity = current_tenant(), UUID(rotation_id)
    with alone_with(identity) as alone:
        if not alone:
            return
        with public_context():
            rotation = KeyRotation.objects.filter(pk=identity, tenant=tenant, state=KeyRotation.State.RUNNING).first()
        if rotation is None:
            return
        _announce(tenant, rotation.to_version)  # killed between the commit and this
        try:
            if _Turn(rotation).go_on():
                return
        except Stopped:
            return
    _queue(tenant, rotation)


class _Turn:
    """A rotation's next few seconds."""

    def __init__(self, rotation: KeyRotation) -> None:
        self.rotation, self.current = rotation, rotation.to_version
        self._until = time.monotonic() + TURN_SECONDS
        self._began = time.monotonic()

    def go_on(self) -> bool:
        """Whether it has ended."""
        if self.rotation.stage == CHECKING:
            return self._check()
        if not self.rotation.total:
            self.rotation.total = reencryption.outdated(self.current)
        stages = [table.name for table in reencryption.tables()] + [files.name for files in reencryption.all_files()]
        first = stages.index(self.rotation.stage) if self.rotation.stage in stages else 0
        if self.rotation.stage not in stages:
            self.rotation.cursor = ""
        for stage in stages[first:]:
            if self.rotation.stage != stage:
                self.rotation.stage, self.rotation.cursor = stage, ""
            if not self._through(stage):
                return False
        self.rotation.stage = CHECKING
        self.rotation.cursor = ""
        self._keep(0)
        return False

    def _through(self, stage: str) -> bool:
        """Whether the stage was ended before the turn was over."""
        for table in reencryption.tables():
            if table.name == stage:
                while batch := reencryption.renew_batch(table, self.current, self.rotation.cursor):
                    self.rotation.cursor = batch.last
                    if not self._rest(batch.rows):
                        return False
        for files in reencryption.all_files():
            if files.name == stage:
                for which in files.outdated(self.current):
                    try:
                        files.renew(which, lambda: self._keep(0))
                    except Tampered:
                        continue  # named when everything else is done
                    self.rotation.cursor = which
                    if not self._rest(1):
                        return False
        return True

    def _rest(self, done: int) -> bool:
        """Note the progress and give way for as long as it took; whether the turn goes on. Raises Stopped."""
        self._keep(done)
        now = time.monotonic()
        if now > self._until:
            return False
        time.sleep(min(now - self._began, PAUSE_AT_MOST))
        self._began = time.monotonic()
        return True

    def _keep(self, done: int) -> None:
        """Raises Stopped."""
        if not is_still_open():
            raise Stopped
        rotation = self.rotation
        rotation.done = min(rotation.done + done, max(rotation.total, 1))
        changes = {
            "stage": rotation.stage, "cursor": rotation.cursor, "total": rotation.total, "done": rotation.done,
            "seen_at": timezone.now(),
        }  # fmt: skip
        with public_context():
            if not KeyRotation.objects.filter(pk=rotation.pk, state=KeyRotation.State.RUNNING).update(**changes):
                raise Stopped

    # -- the end

    def _check(self) -> bool:
        """Look at every header until two looks in a row, some time apart, find nothing of an earlier version."""
        clean_since = datetime.fromisoformat(self.rotation.cursor) if self.rotation.cursor else None
        if clean_since is not None and (waits := QUIET_SECONDS - (timezone.now() - clean_since).total_seconds()) > 0:
            time.sleep(min(waits, 1.0))
            self._keep(0)
            return False
        if reencryption.arriving(self.current):  # before the look: what gets its row in between is seen by that
            self.rotation.cursor = ""
            self._keep(0)
            raise Stopped  # an upload takes its time, and one that was cut off hours: the sweeper looks again
        unopened = renew_all(self.current, lambda: self._keep(0))
        left = reencryption.outdated(self.current)
        if not left:
            if clean_since is not None:
                self._end()
                return True
            self.rotation.cursor = timezone.now().isoformat()
        elif unopened and len(unopened) >= left:
            self._fail(left, unopened[0])
            return True
        else:  # held by somebody while we were there
            self.rotation.cursor = ""
            time.sleep(0.2)
        self._keep(0)
        return False

    def _end(self) -> None:
        rotation, now = self.rotation, timezone.now()
        kept = timedelta(days=max(settings.BACKUP_DAYS, KEPT_DAYS_AT_LEAST))
        with public_context(), transaction.atomic():
            row = KeyRotation.objects.select_for_update().get(pk=rotation.pk)
            if row.state != KeyRotation.State.RUNNING:
                raise Stopped
            earlier = TenantKey.objects.filter(tenant_id=rotation.tenant_id, version__lt=rotation.to_version)
            earlier.filter(state=TenantKey.State.ACTIVE).update(
                state=TenantKey.State.RETIRED, retired_at=now, destroy_at=now + kept
            )
            row.state, row.stage, row.cursor, row.finished_at, row.seen_at = KeyRotation.State.DONE, "", "", now, now
            row.done = row.total
            row.save()
            record(Event.ROTATION_ENDED, row.tenant, by=_who(row), version=rotation.to_version)

    def _fail(self, left: int, where: str) -> None:
        detail = f"{left} {'value does' if left == 1 else 'values do'} not open, the first in {where}"[:200]
        with public_context():
            KeyRotation.objects.filter(pk=self.rotation.pk, state=KeyRotation.State.RUNNING).update(
                state=KeyRotation.State.FAILED, detail=detail, seen_at=timezone.now()
            )
        logger.error("the key of %s cannot be changed: %s", self.rotation.tenant_id, detail)


def _who(rotation: KeyRotation) -> Actor:
    asked_by = rotation.asked_by
    return Actor(asked_by.email, "job", asked_by.pk) if asked_by else actor()


def renew_all(current: int, breathe: Callable[[], None] = lambda: None) -> list[str]:
    """One pass over everything in the current workspace that is under another version. Returns what did not open."""
    unopened: list[str] = []
    for table in reencryption.tables():
        last = ""
        while batch := reencryption.renew_batch(table, current, last):
            last = batch.last
            unopened += [table.name] * batch.unopened
            breathe()
    for files in reencryption.all_files():
        for which in files.outdated(current):
            try:
                files.renew(which, breathe)
            except Tampered:
                unopened.append(f"{files.name}: {which}")
    return unopened


# ---------------------------------------------------------------- the end of an old version


@public_sweeper
def destroy_due() -> None:
    """Destroy the versions whose last backup is gone, where nothing needs them any more."""
    due = TenantKey.objects.filter(state=TenantKey.State.RETIRED, destroy_at__lte=timezone.now()).select_related("tenant")
    for key in due:
        if not is_open(key.tenant):
            continue
        try:
            destroy(key)
        except Refused as refused:
            logger.error("%s", refused)
        except Exception as error:
            logger.error("destroying key %s of %s failed: %s", key.version, key.tenant_id, describe_exception(error))
    if every(LEFT_SECONDS, "wrapping-keys-left"):  # killed between the two
        for tenant in Tenant.objects.filter(keys__state=TenantKey.State.DESTROYED, status__in=Tenant.MADE).distinct():
            if len(provider().versions(tenant.pk)) > 1:
                _retire_wrapping_key(tenant)


def destroy(key: TenantKey) -> None:
    """Empty a version, and change what wraps the others, so that a copy of its wrapped form does not open either.

    Raises Refused while anything in the workspace is still encrypted under it.
    """
    tenant = key.tenant
    if unfinished(tenant) is not None:
        raise Refused(f"The key of {tenant.pk} is being changed: version {key.version} is kept until that has ended.")
    with workspace(tenant):
        current = keyring.current_version(tenant.pk)
        renew_all(current)
        left = reencryption.arriving(current) + reencryption.outdated(current)
    if left or key.version == current:
        raise Refused(f"Version {key.version} of the key of {tenant.pk} is needed still, for {left} values: it is kept.")
    with transaction.atomic():
        row = TenantKey.objects.select_for_update().get(pk=key.pk)
        if row.state != TenantKey.State.RETIRED:
            return
        row.wrapped, row.seeds, row.state = b"", b"", TenantKey.State.DESTROYED
        row.save()
        record(Event.KEY_DESTROYED, tenant, version=key.version)
    keyring.forget(tenant.pk)
    _retire_wrapping_key(tenant)


def _retire_wrapping_key(tenant: Tenant) -> None:
    """A new wrapping key at the provider for the versions that are left: what wrapped the destroyed one goes."""
    rewrapping.rewrap(tenant.pk)
