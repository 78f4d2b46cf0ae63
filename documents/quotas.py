"""How many documents and bytes a workspace holds, how many it may hold, and taking and giving back places.

A place is taken under the lock of the row that counts, in the transaction that writes the document: two uploads never
share the last one. Canaries of the isolation self-test do not count. Refuses to know where files lie.
"""

from dataclasses import dataclass

from django.db import transaction
from django.db.models import Count, F, Sum
from django.db.models.functions import Coalesce, Greatest

from documents.models import Document, Usage
from tenants import wording
from tenants.context import current_tenant
from tenants.errors import Refused
from tenants.models import Tenant

COUNTED = 1  # the row of Usage
TIGHT, NEARLY_FULL = 0.5, 0.9  # shares of a limit from which the documents page shows it, and warns
WHAT_TO_DO = "Delete documents you no longer need, or ask the administrator of this installation for more room."


@dataclass(frozen=True, slots=True)
class Bar:
    """One limit as a page shows it."""

    name: str
    words: str
    used: int
    limit: int

    @property
    def share(self) -> float:
        return self.used / self.limit if self.limit else 1.0

    @property
    def is_tight(self) -> bool:
        return self.share >= TIGHT

    @property
    def is_nearly_full(self) -> bool:
        return self.share >= NEARLY_FULL


@dataclass(frozen=True, slots=True)
class Held:
    """What the workspace holds, and what it may hold at most; None: as much as there is."""

    documents: int
    bytes: int
    documents_limit: int | None
    bytes_limit: int | None

    @property
    def is_limited(self) -> bool:
        return self.documents_limit is not None or self.bytes_limit is not None

    def refusal(self, documents: int, size: int) -> str:
        """Why so many more documents of `size` bytes together do not fit, and what to do; empty when they fit."""
        if self.documents_limit is not None and self.documents + documents > self.documents_limit:
            more = "one more does not fit" if documents == 1 else f"{documents:,} more do not fit"
            holds = f"{self.documents:,} of the {self.documents_limit:,} documents it may have"
            return f"This workspace holds {holds}; {more}. {WHAT_TO_DO}"
        if self.bytes_limit is not None and self.bytes + size > self.bytes_limit:
            holds = f"{in_words(self.bytes)} of the {in_words(self.bytes_limit)} it may have"
            left = in_words(max(0, self.bytes_limit - self.bytes))  # `size` may be only what has arrived so far
            return f"This workspace holds {holds}; what is left, {left}, is not enough. {WHAT_TO_DO}"
        return ""


def held() -> Held:
    """As it is now, without a lock: to say so, and to refuse what cannot fit before any work is done."""
    return _held(Usage.objects.get(pk=COUNTED))


def reserve(size: int) -> None:
    """Take the place of one document, within the transaction that writes it. Raises Refused when there is none."""
    if refusal := _held(Usage.objects.select_for_update().get(pk=COUNTED)).refusal(1, size):
        raise Refused(refusal)
    Usage.objects.filter(pk=COUNTED).update(documents=F("documents") + 1, bytes=F("bytes") + size)


def give_back(documents: int, size: int) -> None:
    """Within the transaction that deletes them, after every other lock; without any, none is taken."""
    if not documents:
        return
    Usage.objects.filter(pk=COUNTED).update(
        documents=Greatest(F("documents") - documents, 0), bytes=Greatest(F("bytes") - size, 0)
    )


@transaction.atomic
def recount() -> None:
    """Set what is counted to what is there. Under the row's lock: whoever adds or deletes meanwhile does it after."""
    Usage.objects.select_for_update().get(pk=COUNTED)
    there = Document.objects.filter(collection__is_canary=False).aggregate(
        documents=Count("id"), bytes=Coalesce(Sum("size"), 0)
    )
    Usage.objects.filter(pk=COUNTED).update(**there)


def bars() -> list[Bar]:
    """The workspace's limits on documents and bytes and how much of them is used; none where there is no limit.

    The limits are those with which the workspace was entered: for pages, which enter it with each request.
    """
    tenant, found = current_tenant(), []
    if tenant.quota_documents is None and tenant.quota_bytes is None:
        return []
    usage = Usage.objects.get(pk=COUNTED)
    now = Held(usage.documents, usage.bytes, tenant.quota_documents, tenant.quota_bytes)
    if now.documents_limit is not None:
        words = f"{now.documents:,} of {wording.counted(now.documents_limit, 'document')}"
        found.append(Bar("Documents", words, now.documents, now.documents_limit))
    if now.bytes_limit is not None:
        used, limit = in_words(now.bytes), in_words(now.bytes_limit)
        number, unit = used.split()
        words = f"{number if limit.endswith(unit) else used} of {limit}"
        found.append(Bar("Size of all files", words, now.bytes, now.bytes_limit))
    return found


def in_words(size: int) -> str:
    """Bytes as a limit is said, which mostly is a round number: 900 bytes, 3.1 GB, 10 GB."""
    return wording.size(size).replace(".0\N{NO-BREAK SPACE}", "\N{NO-BREAK SPACE}")


def members_bar(members: int) -> list[Bar]:
    """The limit on members beside how many there are (tenants.people enforces it); empty where there is none."""
    places = current_tenant().quota_members
    return [] if places is None else [Bar("Members", f"{members:,} of {wording.counted(places, 'member')}", members, places)]


def _held(usage: Usage) -> Held:
    """With the limits as they are now, not as they were when a long job began."""
    limits = Tenant.objects.filter(pk=current_tenant().pk).values_list("quota_documents", "quota_bytes").get()
    return Held(usage.documents, usage.bytes, *limits)
