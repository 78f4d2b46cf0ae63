"""Rows that grant access are authenticated: what somebody plants, changes or brings back by SQL grants nothing.

A seal is a version and an HMAC under a key of the installation over table, scope, version and named columns. There are two
kinds of scope: the *roster* of a workspace (its own row, memberships, hostnames, open invitations, open accesses of staff,
that it is a library, and its subscriptions to libraries) and a *person* (their row, and all their addresses, second factors
and identities together). Each change verifies the scope under a lock, so that what was planted before is never sealed by
what follows, and seals the whole scope with the next version; after the commit the version is kept outside the database
(tenants.witness). What fits and is not older than that stands. Rows that grant nothing any more (accepted, ended) keep
their last seal, which is too old.

Refuses to know who may change what. Not protected from whoever holds the installation's key or writes to the witness.
"""

import hmac
import struct
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.db import connections, models, router, transaction
from django.utils import timezone

from tenants import alarms, witness
from tenants.acting import actor
from tenants.audit import recording
from tenants.audit.events import Event
from tenants.keys.keyring import derive, provider
from tenants.keys.providers.base import length_prefixed
from tenants.models import Alarm, Domain, Invitation, Library, Membership, StaffAccess, Subscription, Tenant, User
from tenants.models.sealed import Sealed, SealedQuerySet

SHEETS: dict[Any, tuple[str, ...]] = {
    Tenant: ("id", "slug", "schema_name", "db_role", "status", "require_mfa", "delete_at", "legal_hold"),
    Membership: ("user_id", "tenant_id", "role"),
    Domain: ("domain", "tenant_id"),
    Invitation: ("id", "tenant_id", "email", "role", "invited_by_id", "created_at", "expires_at", "accepted_at"),
    StaffAccess: (
        "id", "tenant_id", "staff_id", "minutes", "requested_at", "usable_from", "lapses_at", "consented_at", "refused_at",
        "began_at", "ends_at", "ended_at",
    ),
    Library: ("id", "tenant_id"),
    Subscription: ("id", "tenant_id", "library_id"),
    User: ("id", "email", "password", "is_active", "is_staff", "is_superuser"),
}  # fmt: skip
ROSTER = (Membership, Domain, Invitation, StaffAccess, Library, Subscription)  # with the workspace's own row
GRANTING: dict[Any, dict[str, Any]] = {  # of these only such rows; the others have had their time
    Invitation: {"accepted_at": None},
    StaffAccess: {"refused_at": None, "ended_at": None},
}
# Tables of allauth, without a column of ours: all rows of a person together are sealed in the person's `ways_seal`.
WAYS: dict[Any, tuple[str, ...]] = {
    EmailAddress: ("email", "verified", "primary"),
    Authenticator: ("type", "data"),
    SocialAccount: ("provider", "uid"),
}
MARK = "sealed"  # in the witness: since when a row without a seal is worthless
BEGUN = "sealing"  # there before the first row is sealed
VERSION = struct.Struct(">Q")
KEY_SECONDS = 15 * 60

Name = tuple[str, Any]  # of a scope: "roster" and a workspace's id, or "person" and a user's
Place = tuple[Any, Any]  # a model and a key


# ---------------------------------------------------------------- seals

_key: tuple[str, float, bytes] = ("", 0.0, b"")


def _access_key() -> bytes:
    global _key
    where, until, key = _key
    if where != str(settings.KEYS_DIR) or until < time.monotonic():
        key = derive(provider().installation_key(), b"access")
        _key = (str(settings.KEYS_DIR), time.monotonic() + KEY_SECONDS, key)
    return key


def _encoded(value: Any) -> bytes:
    """Unlike values are unlike bytes, whatever their type."""
    if value is None:
        return b""
    if isinstance(value, bool):
        return b"b1" if value else b"b0"
    if isinstance(value, int):
        return b"i%d" % value
    if isinstance(value, str):
        return b"s" + value.encode()
    if isinstance(value, UUID):
        return b"u" + value.bytes
    if isinstance(value, datetime):
        return b"t" + value.astimezone(UTC).isoformat(timespec="microseconds").encode()
    raise TypeError(f"{type(value).__name__} cannot be sealed")


def _seal(table: str, name: Name, version: int, columns: Iterable[str], values: Iterable[Any]) -> bytes:
    said = [part for column, value in zip(columns, values, strict=True) for part in (column.encode(), _encoded(value))]
    packed = VERSION.pack(version)
    message = length_prefixed(b"cloister/seal/v1", table.encode(), _path(name).encode(), packed, *said)
    return packed + hmac.digest(_access_key(), message, "sha256")


def _version_of(seal: bytes) -> int:
    return int(VERSION.unpack(seal[: VERSION.size])[0]) if len(seal) >= VERSION.size else 0


def _fits(model: Any, name: Name, values: Iterable[Any], seal: bytes) -> bool:
    return hmac.compare_digest(seal, _seal(model._meta.db_table, name, _version_of(seal), SHEETS[model], values))


def _path(name: Name) -> str:
    return f"{name[0]}/{name[1]}"


def _name_of(row: Any) -> Name:
    if isinstance(row, User):
        return ("person", row.pk)
    if isinstance(row, Tenant):
        return ("roster", row.pk)
    return ("roster", row.tenant_id) if row._meta.model in SHEETS else ("person", row.user_id)


def _values(row: Any) -> tuple[Any, ...]:
    return tuple(getattr(row, column) for column in SHEETS[row._meta.model])


# ---------------------------------------------------------------- reading: what stands


def stands(row: Any) -> bool:
    """Whether Cloister wrote this row as it is, and nothing was brought back. Otherwise an alarm is raised.

    Somebody may have changed the scope since the row was read: it is read once more before it is judged, and follows.
    """
    name = _name_of(row)
    floor = witness.number(_path(name))
    if _is_good(row, name, floor):
        return True
    model = row._meta.model
    fresh = model._base_manager.using(row._state.db).filter(pk=row.pk).first()
    if fresh is None:
        return False  # gone meanwhile
    row.follow(fresh)
    if _is_good(row, _name_of(row), floor):
        return True
    alarms.raise_alarm(Alarm.Kind.ROW, subject(model, row.pk), _tenant_of(row))
    return False


def standing(rows: Iterable[Any]) -> list[Any]:
    """Of memberships, those that stand in a workspace that does; of other rows, those that stand."""
    return [row for row in rows if stands(row) and (not isinstance(row, Membership) or stands(row.tenant))]


def ways_stand(user: User) -> bool:
    """The same for a person's addresses, second factors and identities: one query."""
    return standing_ways(user) is not None


def standing_ways(user: User) -> Collection[tuple[str, int]] | None:
    """Table and key of each of them; None when they do not stand."""
    name: Name = ("person", user.pk)
    floor = witness.number(_path(name))
    seal, ways = _ways(user.pk, user._state.db or "default")
    if _ways_fit(name, ways, seal) and _version_of(seal) >= floor:
        return ways.keys()
    alarms.raise_alarm(Alarm.Kind.ROW, subject(User, user.pk, "ways to sign in"))
    return None


def person_stands(user: User) -> bool:
    return stands(user) and ways_stand(user)


def subject(model: Any, pk: Any, more: str = "") -> str:
    """How an alarm names a row."""
    return f"{model._meta.db_table} {pk}" + (f", {more}" if more else "")


def _is_good(row: Any, name: Name, floor: int) -> bool:
    seal = bytes(row.seal)
    version = _version_of(seal)
    if version < floor or not _fits(row._meta.model, name, _values(row), seal):
        return False
    if version > floor and not connections[row._state.db or "default"].in_atomic_block:
        witness.raise_number(_path(name), version)  # whoever wrote it was killed after the commit
    return True


def _tenant_of(row: Any) -> UUID | None:
    name = _name_of(row)
    return name[1] if name[0] == "roster" else None


def _ways(user_id: int, alias: str) -> tuple[bytes, dict[tuple[str, int], str]]:
    """A person's seal of their ways, and the ways as text, as they are at one moment."""
    parts = ["SELECT '', 0, encode(ways_seal, 'hex') FROM public.tenants_user WHERE id = %s"]
    for model, columns in WAYS.items():
        table, listed = model._meta.db_table, ", ".join(f'"{column}"' for column in columns)
        parts.append(f"SELECT '{table}', id, jsonb_build_array({listed})::text FROM public.{table} WHERE user_id = %s")  # noqa: S608 - names of models
    with connections[alias].cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts), [user_id] * len(parts))
        rows = cursor.fetchall()
    seal = next((bytes.fromhex(text) for table, _, text in rows if not table), b"")
    return seal, {(table, pk): text for table, pk, text in rows if table}


def _ways_seal(name: Name, version: int, ways: dict[tuple[str, int], str]) -> bytes:
    said = sorted(ways.items())
    columns = [f"{table} {pk}" for (table, pk), _ in said]
    return _seal("ways", name, version, columns, [text for _, text in said])


def _ways_fit(name: Name, ways: dict[tuple[str, int], str], seal: bytes) -> bool:
    return hmac.compare_digest(seal, _ways_seal(name, _version_of(seal), ways))


# ---------------------------------------------------------------- writing: verify, change, seal


@dataclass
class Scope:
    """What is to be sealed together, from its lock to its new seals. `trusting`: what is there counts as ours."""

    name: Name
    alias: str
    trusting: bool = False
    new: bool = False  # a person who has just been made: nothing can have been there
    good: dict[Place, tuple[Any, ...]] = field(default_factory=dict)  # values by row, as verified under the lock
    seals: dict[Place, bytes] = field(default_factory=dict)
    bad: set[Place] = field(default_factory=set)
    written: set[Place] = field(default_factory=set)
    removed: set[Place] = field(default_factory=set)
    ways: dict[tuple[str, int], str] = field(default_factory=dict)
    ways_good: bool = True
    version: int = 0

    def begin(self) -> None:
        floor = witness.number(_path(self.name))
        self.version = floor
        if self.new:
            return
        owner: Any = Tenant if self.name[0] == "roster" else User
        locked = owner._base_manager.using(self.alias).select_for_update(no_key=True, of=("self",)).filter(pk=self.name[1])
        if not locked.values_list("pk", flat=True).first():
            return
        for place, values, seal in self._rows():
            self.seals[place] = seal
            if self.trusting or (_version_of(seal) >= floor and _fits(place[0], self.name, values, seal)):
                self.good[place] = values
                self.version = max(self.version, _version_of(seal) if len(seal) > VERSION.size and not self.trusting else 0)
            else:
                self._alarm(*place)
        if self.name[0] == "person":
            seal, self.ways = _ways(self.name[1], self.alias)
            self.ways_good = self.trusting or (_version_of(seal) >= floor and _ways_fit(self.name, self.ways, seal))
            if not self.ways_good:
                alarms.raise_alarm(Alarm.Kind.ROW, subject(User, self.name[1], "ways to sign in"))

    def _alarm(self, model: Any, pk: Any) -> None:
        self.bad.add((model, pk))
        alarms.raise_alarm(
            Alarm.Kind.ROW, subject(model, pk), self.name[1] if self.name[0] == "roster" and model is not Tenant else None
        )

    def _rows(self, only: Collection[Place] | None = None) -> Iterator[tuple[Place, tuple[Any, ...], bytes]]:
        """Every row of the scope that may grant something, or those of `only`."""
        kind, key = self.name
        for model in (Tenant, *ROSTER) if kind == "roster" else (User,):
            rows: Any = model._base_manager.using(self.alias).filter(**GRANTING.get(model, {}))
            rows = rows.filter(pk=key) if model in (Tenant, User) else rows.filter(tenant_id=key)
            if only is not None:
                wanted = [pk for found, pk in only if found is model]
                if not wanted:
                    continue
                rows = rows.filter(pk__in=wanted)
            for pk, seal, *values in rows.values_list("pk", "seal", *SHEETS[model]):
                yield (model, pk), tuple(values), bytes(seal)

    def end(self) -> None:
        """Seal what is ours, if something has changed."""
        sealed = {place: values for place, values in self.good.items() if place not in self.written | self.removed}
        changed = self.trusting or any(place in self.good for place in self.removed)
        mine = {place for place in self.written if place not in self.bad and place[0] in SHEETS}
        found = set()
        for place, values, seal in self._rows(mine) if mine else ():
            found.add(place)
            sealed[place] = values
            changed = changed or self.good.get(place) != values or self.seals[place] != seal
        changed = changed or any(place in self.good for place in mine - found)
        ways = self._ways_now() if self.name[0] == "person" else None
        if ways is not None and ways != self.ways:
            changed = True
        if not changed:
            return
        self.version += 1
        by_model: dict[Any, tuple[list[Any], list[bytes]]] = {}
        for (model, pk), values in sealed.items():
            keys, seals = by_model.setdefault(model, ([], []))
            keys.append(pk)
            seals.append(_seal(model._meta.db_table, self.name, self.version, SHEETS[model], values))
        with connections[self.alias].cursor() as cursor:
            for model, (keys, seals) in by_model.items():
                kind = "uuid" if isinstance(keys[0], UUID) else "bigint"
                table, many = model._meta.db_table, f"unnest(%s::{kind}[], %s::bytea[]) AS new (id, seal)"
                change = f"UPDATE public.{table} row SET seal = new.seal FROM {many} WHERE row.id = new.id"  # noqa: S608 - same
                cursor.execute(change, [keys, seals])
            if ways is not None:
                new = _ways_seal(self.name, self.version, ways)
                cursor.execute("UPDATE public.tenants_user SET ways_seal = %s WHERE id = %s", [new, self.name[1]])
        transaction.on_commit(partial(witness.raise_number, _path(self.name), self.version), using=self.alias)

    def _ways_now(self) -> dict[tuple[str, int], str] | None:
        """The person's ways, if they are what was verified and what we wrote since; None: somebody else wrote too."""
        if not self.ways_good:
            return None
        _, now = _ways(self.name[1], self.alias)
        ours = {(model._meta.db_table, pk) for model, pk in self.written | self.removed if model in WAYS}
        theirs = {way for way in now.keys() | self.ways.keys() if way not in ours and now.get(way) != self.ways.get(way)}
        if theirs:
            alarms.raise_alarm(Alarm.Kind.ROW, subject(User, self.name[1], "ways to sign in"))
            return None
        return now


@contextmanager
def opened(alias: str, *names: Name, trusting: bool = False, new: bool = False) -> Iterator[list[Scope]]:
    """Lock and verify scopes, people first; seal them at the end of the outermost block that asked for them.

    In public context, and one transaction: a change without its seal does not happen.
    """
    with transaction.atomic(using=alias):
        held: dict[Name, Scope] = connections[alias].__dict__.setdefault("scopes_being_sealed", {})
        ours = []
        try:
            for name in sorted(set(names), key=_path):
                if name not in held:
                    scope = Scope(name, alias, trusting, new)
                    scope.begin()
                    held[name] = scope
                    ours.append(scope)
            yield [held[name] for name in names]
            for scope in ours:
                scope.end()
        finally:
            for scope in ours:
                del held[scope.name]


def concerns(model: Any, fields: Iterable[str]) -> bool:
    """Whether one of these fields is sealed."""
    columns = SHEETS.get(model) or (*WAYS.get(model, ()), "user_id")
    sealed = {*columns, *(column.removesuffix("_id") for column in columns)}
    return not sealed.isdisjoint(fields)


@contextmanager
def changing(row: Any, using: str | None, update_fields: Iterable[str] | None) -> Iterator[None]:
    """Around the saving of a row."""
    model = type(row)
    if update_fields is not None and not concerns(model, update_fields := set(update_fields)):
        yield
        return
    alias = using or row._state.db or router.db_for_write(model, instance=row)
    if model is User and row._state.adding:
        with transaction.atomic(using=alias):
            yield
            with opened(alias, ("person", row.pk), new=True) as [scope]:
                scope.written.add((User, row.pk))
            _follow(row, alias)
        return
    names = [_name_of(row)]
    if not row._state.adding and model not in (User, Tenant):
        attribute = "user_id" if model in WAYS else "tenant_id"
        before = model._base_manager.using(alias).filter(pk=row.pk).values_list(attribute, flat=True).first()
        if before is not None and before != names[0][1]:
            names.append((names[0][0], before))  # it leaves another scope
    with transaction.atomic(using=alias):
        with opened(alias, *names) as scopes:
            yield
            for scope in scopes:
                scope.written.add((model, row.pk))
        _follow(row, alias)


def _follow(row: Any, alias: str) -> None:
    """An instance that is saved again shall not bring its former seal back."""
    columns = [name for name in ("seal", "ways_seal") if hasattr(row, name)] if isinstance(row, Sealed) else []
    if columns:
        now = type(row)._base_manager.using(alias).filter(pk=row.pk).values_list(*columns).first()
        for name, value in zip(columns, now or (), strict=False):
            setattr(row, name, value)


@contextmanager
def changing_many(rows: Any) -> Iterator[None]:
    """Around `rows.update()`. Rows that did not stand before are changed too, and still do not stand."""
    model, alias = rows.model, rows.db
    chosen = list(rows.order_by())
    with opened(alias, *{_name_of(row) for row in chosen}) as scopes:
        yield
        for scope in scopes:
            scope.written |= {place for row in chosen if (place := (model, row.pk)) in scope.good or model in WAYS}


@contextmanager
def making_many(rows: list[Any], alias: str) -> Iterator[None]:
    """Around the making of many rows, which have their keys afterwards."""
    if rows and isinstance(rows[0], User):
        raise NotImplementedError("people are made one by one: `create_user`")
    with opened(alias, *{_name_of(row) for row in rows}) as scopes:
        yield
        for scope in scopes:
            scope.written |= {(type(row), row.pk) for row in rows if _name_of(row) == scope.name}


@contextmanager
def deleting(model: Any, rows: Iterable[Any], using: str | None = None) -> Iterator[None]:
    """Around the deletion of rows. What goes with a workspace or a person is never again good for anything."""
    chosen = list(rows)
    alias = using or (chosen[0]._state.db if chosen else None) or "default"
    with transaction.atomic(using=alias):
        if model in (Tenant, User):
            last = {_name_of(row): _version_of(bytes(row.seal)) for row in chosen}  # deleted rows have no key any more
            people = [] if model is Tenant else [row.pk for row in chosen]
            memberships = Membership.objects.using(alias).filter(user__in=people).values_list("pk", flat=True)
            gone = {(Membership, pk) for pk in memberships}  # by the cascade
            with opened(alias, *_rosters_naming(people, alias)) as scopes:
                yield
                for scope in scopes:
                    scope.removed |= {place for place in gone if place in scope.good}
                    scope.written |= {place for place in scope.good if place[0] in (Invitation, StaffAccess)}
            for name, version in last.items():
                beyond = max(witness.number(_path(name)), version) + 1
                transaction.on_commit(partial(witness.raise_number, _path(name), beyond), using=alias)
            return
        with opened(alias, *{_name_of(row) for row in chosen}) as scopes:
            places = {(model, row.pk) for row in chosen}
            yield
            for scope in scopes:
                scope.removed |= places


def _rosters_naming(people: list[int], alias: str) -> list[Name]:
    """Of workspaces that these people belong to, or where something open names one of them, who are then named no more."""
    found: set[UUID] = set()
    found |= set(
        Invitation.objects.using(alias).filter(invited_by__in=people, accepted_at=None).values_list("tenant_id", flat=True)
    )
    found |= set(Membership.objects.using(alias).filter(user__in=people).values_list("tenant_id", flat=True))
    staff = StaffAccess.objects.using(alias).filter(staff__in=people, **GRANTING[StaffAccess])
    found |= set(staff.values_list("tenant_id", flat=True))
    return [("roster", tenant) for tenant in found]


# ---------------------------------------------------------------- the first seal, and a database that was brought back


def names(alias: str = "default") -> Iterator[Name]:
    """Every scope there is."""
    for tenant in list(Tenant.objects.using(alias).values_list("pk", flat=True)):
        yield ("roster", tenant)
    for user in list(User.objects.using(alias).values_list("pk", flat=True)):
        yield ("person", user)


def differing(alias: str = "default") -> dict[str, int]:
    """How many rows of each table do not stand. Raises no alarm."""
    found: dict[str, int] = {}
    for name in names(alias):
        scope, floor = Scope(name, alias), witness.number(_path(name))
        for (model, _), values, seal in scope._rows():
            if _version_of(seal) < floor or not _fits(model, name, values, seal):
                found[model._meta.db_table] = found.get(model._meta.db_table, 0) + 1
        if name[0] == "person":
            seal, ways = _ways(name[1], alias)
            if _version_of(seal) < floor or not _ways_fit(name, ways, seal):
                found["ways to sign in"] = found.get("ways to sign in", 0) + 1
    return found


def seal_everything(alias: str = "default") -> int:
    """Take what is there for ours, scope by scope. How many scopes."""
    every = list(names(alias))
    for name in every:
        with opened(alias, name, trusting=True):
            pass
    return len(every)


def begin(alias: str = "default") -> bool:
    """Seal an installation that has never been, once: from then on a row without a seal is worthless. Whether it was now.

    Only where no row at all is sealed, or all are by a process that was killed before it could say so: anything else is a
    database that does not belong to its witness, which is lost or another's.
    """
    if witness.exists(MARK):
        return False
    if any(User.objects.using(alias).exclude(seal=b"")[:1]) or any(Tenant.objects.using(alias).exclude(seal=b"")[:1]):
        if not witness.exists(BEGUN) or differing(alias):
            alarms.raise_alarm(Alarm.Kind.OLD_DATABASE, OLD)
            return False
    else:
        witness.keep(BEGUN, {})
        with transaction.atomic(using=alias):
            seal_everything(alias)
    witness.keep(MARK, {"since": datetime.now(UTC).isoformat()})
    return True


def accept(reason: str, alias: str = "default") -> int:
    """Take what is there for ours after staff have decided so; each workspace's log says why. How many scopes."""
    with transaction.atomic(using=alias):
        number = seal_everything(alias)
        for tenant in Tenant.objects.using(alias).filter(status__in=Tenant.MADE):
            recording.record(Event.RESTORE_ACCEPTED, tenant, by=replace(actor(), reason=reason))
        settled = {"settled_at": timezone.now(), "settled_because": f"Restore accepted: {reason}"[:500]}
        Alarm.objects.using(alias).filter(kind__in=(Alarm.Kind.ROW, Alarm.Kind.OLD_DATABASE), settled_at=None).update(**settled)
    witness.keep(MARK, {"since": datetime.now(UTC).isoformat()})
    return number


OLD = "the database is older than its witness, or the witness is missing"


def is_old(alias: str = "default") -> bool:
    """Whether the database was brought back: a workspace or a person that was sealed, and since then anew."""
    for model in (Tenant, User):
        for row in model._base_manager.using(alias).exclude(seal=b""):
            name, seal = _name_of(row), bytes(row.seal)
            if _version_of(seal) < witness.number(_path(name)) and _fits(model, name, _values(row), seal):
                return True
    return not witness.exists(MARK)


# ---------------------------------------------------------------- allauth's models


def watch() -> None:
    """Have allauth's own changes sealed: it knows nothing of seals, and saves outside of transactions."""
    for model in WAYS:
        _watch(model)


def _watch(model: Any) -> None:
    save, delete = model.save, model.delete

    def sealed_save(row: models.Model, *args: Any, **kwargs: Any) -> None:
        with changing(row, kwargs.get("using"), kwargs.get("update_fields")):
            save(row, *args, **kwargs)

    def sealed_delete(row: models.Model, *args: Any, **kwargs: Any) -> Any:
        with deleting(model, [row], kwargs.get("using")):
            return delete(row, *args, **kwargs)

    model.save, model.delete = sealed_save, sealed_delete
    manager = model._default_manager
    manager.__class__ = type(type(manager).__name__, (type(manager),), {"_queryset_class": SealedQuerySet})
