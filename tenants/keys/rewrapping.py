"""New wrapping keys for every workspace, at the configured provider: keys wrapped anew, then the old wrapping keys destroyed.

Encrypts no content anew. Killed anywhere, every workspace stays readable and the next run goes on: a wrapped key is
replaced only by one that was seen to open, and an old wrapping key goes only when no row needs it any more.
"""

import hmac
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction

from tenants import witness
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.context import public_context
from tenants.errors import Refused
from tenants.keys.keyring import keyring, wrap_binding
from tenants.keys.providers import NAMES, Header, KeyProvider, KeyUnavailable, ProviderUnreachable, named, remote, set_up
from tenants.models import Tenant, TenantKey

PROGRESS = (
    "rewrapping"  # in the witness: lines {"run", "to"}, then {"run", "tenant"} for each that is done, then {"run", "end"}
)

Tell = Callable[[int, int], None]


@dataclass
class Report:
    """What a run did: how many workspaces, those it could not do (address and why), and whether it took up an earlier run."""

    provider: str
    workspaces: int = 0
    keys: int = 0
    resumed: bool = False
    failed: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def rewrap_all(moved_from: str | None = None, on_progress: Tell | None = None) -> Report:
    """Give each workspace a new wrapping key at settings.KEY_PROVIDER; with `moved_from`, only those wrapped by that provider.

    A run that was cut off is taken up where it ended. Raises Refused when the provider to move from is none, or the same.
    """
    if moved_from is not None and moved_from not in NAMES:
        raise Refused(f"There is no key provider {moved_from}: the providers are {', '.join(NAMES)}.")
    if moved_from == settings.KEY_PROVIDER:
        raise Refused(f"The keys are to move away from {moved_from}, but KEY_PROVIDER is {moved_from}: set it to the new one.")
    with public_context(), witness.alone(f"{PROGRESS}-running/one"):
        report, (run, done) = Report(settings.KEY_PROVIDER), _begun(moved_from)
        report.resumed = bool(done)
        if moved_from:
            _move_installation_key(named(moved_from), named(settings.KEY_PROVIDER))
        made = Tenant.objects.filter(status__in=Tenant.MADE).order_by("created_at").values_list("pk", "slug")
        waiting = [(pk, slug) for pk, slug in made if pk not in done and (not moved_from or _is_at(pk, moved_from))]
        for number, (tenant_id, slug) in enumerate(waiting, 1):
            try:
                report.keys += _rewrap(tenant_id)
            except KeyUnavailable as error:
                report.failed[slug] = str(error)
            else:
                report.workspaces += 1
                witness.append(PROGRESS, {"run": run, "tenant": str(tenant_id)})
            if on_progress:
                on_progress(number, len(waiting))
        if not report.failed:
            witness.append(PROGRESS, {"run": run, "end": int(time.time())})
    return report


def rewrap(tenant_id: UUID) -> None:
    """A new wrapping key for one workspace; the one before, with all it ever wrapped, goes. Raises KeyUnavailable."""
    with nothing_is_rewrapped():
        _rewrap(tenant_id)


@contextmanager
def nothing_is_rewrapped() -> Iterator[None]:
    """While a further key is wrapped: its row, not committed yet, would not be seen by what prunes wrapping keys."""
    with witness.alone(f"{PROGRESS}-running/one"):
        yield


def _begun(moved_from: str | None) -> tuple[str, set[UUID]]:
    """The run to go on with, and the workspaces it has done; a new run when the last one ended or had another aim."""
    aim = {"to": settings.KEY_PROVIDER, "from": moved_from}
    run, done = "", set[UUID]()
    for line in witness.lines(PROGRESS):
        if "to" in line:
            same = {"to": line["to"], "from": line.get("from")} == aim
            run, done = (line["run"] if same else ""), set()
        elif line.get("run") == run and "tenant" in line:
            done.add(UUID(line["tenant"]))
        elif line.get("run") == run and "end" in line:
            run, done = "", set()
    if not run:
        run = uuid4().hex
        witness.append(PROGRESS, {"run": run, **aim})
    return run, done


def _is_at(tenant_id: UUID, name: str) -> bool:
    """Whether the provider wraps a key of the workspace, or still holds its wrapping key after a run that was cut off."""
    rows = TenantKey.objects.filter(tenant_id=tenant_id, provider=name).exclude(state=TenantKey.State.DESTROYED)
    return rows.exists() or named(name).holds(tenant_id)


def _move_installation_key(source: KeyProvider, target: KeyProvider) -> None:
    """The same key: sessions, second factors and signatures stay valid. The old copy goes when the new one was read."""
    try:
        target.installation_key()
    except ProviderUnreachable:
        raise
    except KeyUnavailable:
        target.create_installation_key(source.installation_key())
    try:
        old = source.installation_key()
    except ProviderUnreachable:
        raise
    except KeyUnavailable:
        return  # an earlier run, cut off, has moved it
    remote.forget()
    if not hmac.compare_digest(target.installation_key(), old):
        raise KeyUnavailable(f"{target.name} holds another installation key than {source.name}: nothing was changed.")
    source.destroy_installation_key()


def _rewrap(tenant_id: UUID) -> int:
    """One workspace. Each step finds out what an earlier run, cut off, has done already."""
    target = named(settings.KEY_PROVIDER)
    rows = TenantKey.objects.filter(tenant_id=tenant_id).exclude(state=TenantKey.State.DESTROYED).order_by("version")
    there = target.versions(tenant_id)
    wrapped_here = rows.filter(provider=target.name).exists()
    if not there:
        if wrapped_here:
            raise KeyUnavailable(f"{target.name} lacks the wrapping key of {tenant_id}: restore it. It is never made anew.")
        target.create(tenant_id)
    elif len(there) == 1 and wrapped_here and not rows.exclude(provider=target.name).exists():
        target.rotate(tenant_id)  # else an earlier run has made the new one
    newest, count = target.versions(tenant_id)[-1], 0
    for pk, version, name, wrapped in rows.values_list("pk", "version", "provider", "wrapped"):
        if name == target.name and _version(bytes(wrapped)) == newest:
            continue
        bound = wrap_binding(tenant_id, version)
        key = named(name).unwrap(tenant_id, bytes(wrapped), bound)
        anew = target.wrap(tenant_id, key, bound)
        if not hmac.compare_digest(target.unwrap(tenant_id, anew, bound), key):
            raise KeyUnavailable(f"{target.name} does not give back what it wrapped for {tenant_id}: nothing was changed.")
        with transaction.atomic():  # only what was read is replaced: the row may be destroyed meanwhile
            count += rows.filter(pk=pk, wrapped=wrapped).update(wrapped=anew, provider=target.name)
    _destroy_old(tenant_id)
    target.activate(tenant_id)
    keyring.forget(tenant_id)
    if count:
        record(Event.REWRAPPED, Tenant.objects.get(pk=tenant_id), provider=target.name)
    return count


def _destroy_old(tenant_id: UUID) -> None:
    """Wrapping keys that no row needs: earlier versions at the provider in use, and whatever another provider holds."""
    target = named(settings.KEY_PROVIDER)
    newest = target.versions(tenant_id)[-1]
    left = TenantKey.objects.filter(tenant_id=tenant_id).exclude(state=TenantKey.State.DESTROYED)
    needed = [(name, _version(bytes(wrapped))) for name, wrapped in left.values_list("provider", "wrapped")]
    if any(name != target.name or version != newest for name, version in needed):
        raise KeyUnavailable(f"A key of {tenant_id} was added meanwhile: run the command again.")
    target.prune(tenant_id)
    for other in set_up():  # one that is not has wrapped nothing that is left
        if other.name != target.name and other.holds(tenant_id):
            other.destroy(tenant_id)


def _version(wrapped: bytes) -> int:
    """Of the wrapping key."""
    if len(wrapped) == Header.HEADERLESS_BYTES:
        return 1
    return int(Header.LAYOUT.unpack(wrapped[: Header.LAYOUT.size])[2])
