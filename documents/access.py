"""Who may see which collection, and so which document: the one place that decides, and the one that changes it.

Everybody sees a collection that is not restricted; a restricted one is for owners and the members it names. Nobody sees
the canaries of the isolation self-test. Refuses to know how a page shows it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.text import get_text_list

from documents.models import Collection, CollectionMember, Document
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.context import current_tenant
from tenants.errors import Refused
from tenants.models import Membership, Person
from tenants.permissions import Role


def every_collection() -> QuerySet[Collection]:
    """For commands, which ask nobody for permission: all but the canaries."""
    return Collection.objects.filter(is_canary=False)


def visible_collections(membership: Membership) -> QuerySet[Collection]:
    """Those the member may see."""
    if membership.role == Role.OWNER:
        return every_collection()
    named = CollectionMember.objects.filter(membership_id=membership.pk).values("collection_id")
    return every_collection().filter(Q(restricted=False) | Q(pk__in=named))


# `visible_collections` as SQL, for what is on the way of every search: of collections under the alias c, with the parameters
# `visible_parameters` gives. One changes with the other; tests/documents/test_access.py holds them together.
VISIBLE = (
    "NOT c.is_canary AND (%(sees_all)s OR NOT c.restricted OR c.id IN "
    "(SELECT collection_id FROM documents_collectionmember WHERE membership_id = %(membership)s))"
)


def visible_parameters(membership: Membership) -> dict[str, Any]:
    return {"sees_all": membership.role == Role.OWNER, "membership": membership.pk}


def visible_collection_ids(membership: Membership) -> frozenset[UUID]:
    return frozenset(visible_collections(membership).values_list("id", flat=True))


def visible_documents(membership: Membership) -> QuerySet[Document]:
    """Those the member may see: what is in the trash is nowhere but there."""
    return Document.objects.filter(collection__in=visible_collections(membership), trashed_at=None)


def visible_trash(membership: Membership) -> QuerySet[Document]:
    """What is in the trash of the collections the member may see."""
    return Document.objects.filter(collection__in=visible_collections(membership), trashed_at__isnull=False)


def visible_by_name(membership: Membership) -> dict[UUID, str]:
    """The names of those the member may see, in alphabetical order; sorted here: the database cannot read them."""
    read = Collection._meta.get_field("name").reader()  # on the way of every search: no model for each row
    names = {pk: read(pk, name) for pk, name in visible_collections(membership).order_by().values_list("id", "name")}
    return dict(sorted(names.items(), key=lambda pair: pair[1].casefold()))


# ---------------------------------------------------------------- restricting


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member who sees a restricted collection only when it names them."""

    membership: Membership
    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Change:
    """What saving changed: who sees the collection now and did not before, and who sees it no more, by name."""

    restricted: bool
    was_restricted: bool
    gained: list[str]
    lost: list[str]

    def in_words(self, name: str) -> str:
        if self.restricted == self.was_restricted and not self.gained and not self.lost:
            return f"Nothing changed: who may see “{name}” is as it was."
        if not self.restricted:
            return f"Everyone in this workspace may see “{name}” now."
        said = [f"Only owners and the people chosen may see “{name}” now."] if not self.was_restricted else []
        said += [f"{get_text_list(self.gained, 'and')} may see “{name}” now."] if self.gained else []
        said += [f"{get_text_list(self.lost, 'and')} may not see “{name}” any more."] if self.lost else []
        return " ".join(said)


def candidates() -> list[Candidate]:
    """Every member but the owners, who see all collections; by name."""
    memberships = list(Membership.objects.filter(tenant=current_tenant()).exclude(role=Role.OWNER))
    people = Person.objects.in_bulk([membership.user_id for membership in memberships])
    named = [
        Candidate(each, str(person), person.email) for each in memberships if (person := people.get(each.user_id)) is not None
    ]
    return sorted(named, key=lambda each: each.name.casefold())


def named_in(collection: Collection) -> set[int]:
    """The memberships the collection names."""
    return set(collection.members.values_list("membership_id", flat=True))


@transaction.atomic
def set_access(collection: Collection, by: Membership, *, restricted: bool, chosen: Iterable[int] = ()) -> Change:
    """Open a collection to everyone, or to owners and the `chosen` memberships alone.

    Raises Refused when `by` would not see it afterwards, or does not see it any more.
    """
    held = visible_collections(by).select_for_update(of=("self",)).filter(pk=collection.pk).first()
    if held is None:
        raise Refused("The collection is not there any more.")
    people = {each.membership.pk: each.name for each in candidates()}
    wanted = set(chosen) & people.keys() if restricted else set()
    if restricted and by.role != Role.OWNER and by.pk not in wanted:
        raise Refused("You would lock yourself out. Choose yourself as well, or let everyone see the collection.")
    before = named_in(held)
    saw, see = (before if held.restricted else people.keys()) & people.keys(), wanted if restricted else people.keys()
    change = Change(restricted, held.restricted, sorted(people[pk] for pk in see - saw), sorted(people[pk] for pk in saw - see))
    held.members.exclude(membership_id__in=wanted).delete()  # who left the workspace goes too
    CollectionMember.objects.bulk_create(CollectionMember(collection=held, membership_id=pk) for pk in wanted - before)
    held.restricted = restricted
    held.save(update_fields=["restricted"])
    if change.gained or change.lost or change.restricted != change.was_restricted:
        record(Event.COLLECTION_ACCESS, collection=str(held.pk), restricted=restricted, people=len(wanted))
    return change


def forget_former_members() -> int:
    """Remove what names memberships that have ended. They open nothing: whoever joins again has a new membership."""
    present = Membership.objects.filter(tenant=current_tenant()).values_list("pk", flat=True)
    return CollectionMember.objects.exclude(membership_id__in=list(present)).delete()[0]
