"""A member's own searches: those saved under a name, and the last ones. Nobody else sees them, whatever their role.

All is kept in one encrypted row for each membership (models.MemberSearches). Staff who view a workspace have no membership
that is stored: for them nothing is read and nothing is kept. Refuses to know what is found.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

from django.db import transaction
from django.utils import timezone

from search.models import MemberSearches, empty_history
from tenants.context import current_tenant
from tenants.database import connection
from tenants.errors import Refused
from tenants.models import Membership
from tenants.sweeping import every, sweeper

MOST_SAVED = 100
MOST_REMEMBERED = 50
MAX_NAME = 120
FORGET_SECONDS = 24 * 3600

Asked = Mapping[str, str]  # a search as a form sends it: SearchForm.asked


class NotKept(LookupError):
    """The member keeps no search of this id."""


@dataclass(frozen=True, slots=True)
class Saved:
    id: UUID
    name: str
    asked: Asked


@dataclass(frozen=True, slots=True)
class Past:
    id: UUID
    asked: Asked
    at: datetime


Kept = TypeVar("Kept", Saved, Past)


@dataclass(frozen=True, slots=True)
class OwnSearches:
    """By name, and the newest first."""

    saved: list[Saved]
    past: list[Past]
    keeps_history: bool


def of(membership: Membership) -> OwnSearches:
    """In one query."""
    row = MemberSearches.objects.filter(pk=membership.pk).first() or MemberSearches(membership_id=membership.pk)
    return OwnSearches(
        sorted(map(_saved, row.saved), key=lambda each: each.name.casefold()),
        [Past(UUID(each["id"]), each["asked"], datetime.fromisoformat(each["at"])) for each in row.history["searches"]],
        row.history["is_kept"],
    )


# ---------------------------------------------------------------- saved under a name


def save(membership: Membership, name: str, asked: Asked) -> Saved:
    """Raises Refused when there are too many, or one of that name."""
    with _changing(membership) as row:
        if len(row.saved) >= MOST_SAVED:
            raise Refused(f"You keep {MOST_SAVED} searches, which is as many as there may be. Delete one first.")
        made = {"id": str(uuid4()), "name": _free(row, name), "asked": dict(asked)}
        row.saved = [*row.saved, made]
        row.save(update_fields=["saved"])
    return _saved(made)


def saved(membership: Membership, saved_id: UUID) -> Saved:
    """Raises NotKept."""
    return _one(of(membership).saved, saved_id)


def rename(membership: Membership, saved_id: UUID, name: str) -> Saved:
    """Raises NotKept, and Refused when another has that name."""
    with _changing(membership) as row:
        before = _one(map(_saved, row.saved), saved_id)
        given = _free(row, name, besides=before)
        row.saved = [{**each, "name": given} if each["id"] == str(saved_id) else each for each in row.saved]
        row.save(update_fields=["saved"])
    return Saved(before.id, given, before.asked)


def delete(membership: Membership, saved_id: UUID) -> Saved:
    """Raises NotKept."""
    with _changing(membership) as row:
        gone = _one(map(_saved, row.saved), saved_id)
        row.saved = [each for each in row.saved if each["id"] != str(saved_id)]
        row.save(update_fields=["saved"])
    return gone


# ---------------------------------------------------------------- the history


def remember(membership: Membership, asked: Asked) -> None:
    """Put it in front of the member's last searches, unless they keep none. What was asked before moves up."""
    if membership.pk is None:  # staff's
        return
    history = MemberSearches._meta.get_field("history")
    with connection.cursor() as cursor:  # on the way of every search: past the ORM, without a transaction and a lock
        is_written = False
        while not is_written:  # in another window something was changed meanwhile: it begins anew
            cursor.execute("SELECT history FROM search_membersearches WHERE membership_id = %s", [membership.pk])
            found = cursor.fetchone()
            if found is None:
                _make_row(membership)
                continue
            (before,) = found
            kept = history.open(membership.pk, before)
            if not kept["is_kept"]:
                return
            after = history.seal(membership.pk, {"is_kept": True, "searches": _with(asked, kept["searches"])})
            cursor.execute(
                "UPDATE search_membersearches SET history = %s WHERE membership_id = %s AND history = %s",
                [bytes(after), membership.pk, before],  # no two encryptions are the same
            )
            is_written = cursor.rowcount > 0


def _with(asked: Asked, searches: list[Any]) -> list[Any]:
    same = next((each for each in searches if each["asked"] == asked), {"id": str(uuid4()), "asked": dict(asked)})
    others = [each for each in searches if each["asked"] != asked]
    return [{**same, "at": timezone.now().isoformat()}, *others][:MOST_REMEMBERED]


def past(membership: Membership, entry_id: UUID) -> Past:
    """Raises NotKept."""
    return _one(of(membership).past, entry_id)


def keep_history(membership: Membership, keeps: bool) -> None:
    """From now on, or no more: then what was kept is gone."""
    with _changing(membership) as row:
        searches = row.history["searches"] if keeps else []
        row.history = {"is_kept": keeps, "searches": searches}
        row.save(update_fields=["history"])


def clear_history(membership: Membership) -> None:
    with _changing(membership) as row:
        row.history = {**empty_history(), "is_kept": row.history["is_kept"]}
        row.save(update_fields=["history"])


# ---------------------------------------------------------------- whose membership has ended


@sweeper
def forget_former_members_daily() -> None:
    if every(FORGET_SECONDS, "own-searches"):
        forget_former_members()


def forget_former_members() -> int:
    """Erase what nobody can see any more: who joins again has a new membership. Returns of how many members."""
    present = Membership.objects.filter(tenant=current_tenant()).values_list("pk", flat=True)
    return MemberSearches.objects.exclude(pk__in=list(present)).delete()[0]


# ---------------------------------------------------------------- the row


@contextmanager
def _changing(membership: Membership) -> Iterator[MemberSearches]:
    """The member's row, made when there is none, locked until the change is committed."""
    if membership.pk is None:
        raise Refused("Only members keep searches.")
    with transaction.atomic():
        locked = MemberSearches.objects.select_for_update().filter(pk=membership.pk)
        row = locked.first()
        if row is None:
            _make_row(membership)
            row = locked.get()
        yield row


def _make_row(membership: Membership) -> None:
    MemberSearches.objects.bulk_create([MemberSearches(membership_id=membership.pk)], ignore_conflicts=True)


def _saved(kept: Any) -> Saved:
    return Saved(UUID(kept["id"]), kept["name"], kept["asked"])


def _one(among: Iterable[Kept], wanted: UUID) -> Kept:
    found = next((each for each in among if each.id == wanted), None)
    if found is None:
        raise NotKept(str(wanted))
    return found


def _free(row: MemberSearches, name: str, besides: Saved | None = None) -> str:
    taken = (each.name.casefold() for each in map(_saved, row.saved) if besides is None or each.id != besides.id)
    if name.casefold() in taken:
        raise Refused(f"You have saved a search as “{name}” already. Choose another name.")
    return name
