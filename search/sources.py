"""Names for what was found: the app that owns documents registers itself here, so that search need not know it."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from django.conf import settings
from django.urls import reverse

from tenants.models import Membership

NO_ID = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Source:
    """A document as a person knows it; `url` leads to its page."""

    id: UUID
    title: str
    url: str
    collection_id: UUID
    collection_name: str
    format: str


@dataclass(frozen=True, slots=True)
class Quote:
    """A passage as it is stored, and where it stands; `label` is its page's, such as "Page 3"."""

    source: Source
    page: int
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class FieldName:
    """A field that documents can be filtered by. `kind`: text, keyword, integer, number, date or boolean.

    The search knows dates by their ordinal day and booleans as the texts "yes" and "no".
    """

    id: UUID
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class CollectionName:
    id: UUID
    name: str
    fields: tuple[FieldName, ...] = ()


@dataclass(frozen=True, slots=True)
class CorpusText:
    """A text to become a document, under the name another system knows it by (in a BEIR corpus: `_id`, `title`, `text`)."""

    reference: str
    title: str
    text: str


class Sources(Protocol):
    """Whoever asks says which collections they may see; nothing here means "all" by default."""

    def collections(self, membership: Membership) -> list[CollectionName]:
        """Those the member may see, by name, each with the fields it can be filtered by."""
        ...

    def visible(self, membership: Membership) -> frozenset[UUID]:
        """The collections the member may see."""
        ...

    def everything(self) -> frozenset[UUID]:
        """All collections but what the isolation self-test keeps for itself: for commands."""
        ...

    def describe(self, ids: Iterable[UUID], collections: Collection[UUID]) -> dict[UUID, Source]:
        """The documents among `ids` that exist in these collections, in a fixed number of queries."""
        ...

    def added(self, ids: Iterable[UUID]) -> dict[UUID, datetime]:
        """When each of these documents was added."""
        ...

    def hidden(self, ids: Iterable[UUID], collections: Collection[UUID]) -> set[UUID]:
        """The documents among `ids` that exist, but in none of these collections."""
        ...

    def quotes(self, passages: Iterable[UUID], collections: Collection[UUID]) -> dict[UUID, Quote]:
        """The passages of these ids whose document exists in these collections, in one query."""
        ...

    def references(self, collections: Collection[UUID]) -> dict[str, UUID]:
        """Every name a judgment may use for a ready document of these: its id or that of another version of it, external
        reference, file name, title.

        The id of another version means the one in use. A name that could mean two documents is left out.
        """
        ...

    def import_texts(self, texts: Iterable[CorpusText], collection_name: str, membership: Membership) -> int:
        """Queue texts as documents of a collection the member may see; returns how many were not there yet.

        Raises Refused.
        """
        ...


class NoSources(RuntimeError):
    """No app has registered the documents: a programming error."""


_registered: Sources | None = None


def register(sources: Sources) -> None:
    """Called once, by the app that owns documents, when Django starts."""
    global _registered
    _registered = sources


def sources() -> Sources:
    if _registered is None:
        raise NoSources("no app registered with search.sources")
    return _registered


def addresses(view: str) -> Callable[[UUID], str]:
    """Of a workspace's view that takes an id, for many ids: the patterns are looked through once."""
    before, _, after = reverse(view, urlconf=settings.WORKSPACE_URLCONF, args=[NO_ID]).partition(str(NO_ID))
    return lambda pk: f"{before}{pk}{after}"
