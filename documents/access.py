"""Who may see which collection, and so which document: the one place that decides.

Everybody sees a collection that is not restricted; a restricted one is for owners and the members it names. Nobody sees
the canaries of the isolation self-test. Refuses to know how a page shows it.
"""

from uuid import UUID

from django.db.models import Q, QuerySet

from documents.models import Collection, CollectionMember, Document
from tenants.models import Membership
from tenants.permissions import Role


def visible_collections(membership: Membership) -> QuerySet[Collection]:
    """Those the member may see."""
    found = Collection.objects.filter(is_canary=False)
    if membership.role == Role.OWNER:
        return found
    named = CollectionMember.objects.filter(user_id=membership.user_id).values("collection_id")
    return found.filter(Q(restricted=False) | Q(pk__in=named))


def visible_collection_ids(membership: Membership) -> frozenset[UUID]:
    return frozenset(visible_collections(membership).values_list("id", flat=True))


def visible_documents(membership: Membership) -> QuerySet[Document]:
    """Those the member may see."""
    return Document.objects.filter(collection__in=visible_collections(membership))
