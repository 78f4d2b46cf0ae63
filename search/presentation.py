"""Turns hits into what a page shows: names, page labels, highlighted passages. A fixed number of queries per page."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from search import highlighting
from search.highlighting import Snippet
from search.models import Chunk
from search.querying import Hit
from search.questions import Phrase
from search.sources import Source, sources
from tenants.database import connection


@dataclass(frozen=True)
class Passage:
    """A document's best passage as it is stored; `same` are the documents whose best passage says the same, after it."""

    hit: Hit
    page: int
    text: str
    same: tuple["Passage", ...] = ()

    def url(self, source: Source) -> str:
        return _url(source, self.page, self.hit.chunk_id)


@dataclass(frozen=True)
class Folded:
    """A page of passages that say different things; it is the nearest there is to the one asked for."""

    passages: list[Passage]
    page: int
    pages: int
    total: int


@dataclass(frozen=True)
class Link:
    title: str
    url: str


@dataclass(frozen=True)
class Shown:
    """One result on a page; `url` leads to the passage in its document, `words` are those of the question in it."""

    hit: Hit
    source: Source
    page: int
    page_label: str
    snippet: Snippet
    words: tuple[str, ...]
    url: str
    same: tuple[Link, ...]


def link_to(chunk_id: UUID, document_id: UUID, page: int, collections: Collection[UUID]) -> Link | None:
    """To a passage, named by its document and page: "Handbook, Page 3"; None when the document has gone meanwhile."""
    source = sources().describe([document_id], collections).get(document_id)
    if source is None:
        return None
    label = sources().page_labels([(document_id, page)]).get((document_id, page), "")
    return Link(f"{source.title}, {label}" if label else source.title, _url(source, page, chunk_id))


def _url(source: Source, page: int, chunk_id: UUID) -> str:
    return f"{source.url}?page={page}&passage={chunk_id}#passage-{chunk_id}"


def folded(hits: Sequence[Hit], page: int = 1, size: int | None = None) -> Folded:
    """A page of the hits with their texts, in their order; those that say the same, but for case and blanks, are one.

    What says the same has as many words and scores alike by them: of other hits only those on the page are read.
    """
    size = size or max(1, len(hits))
    alike = Counter((hit.keyword, hit.length) for hit in hits)
    doubtful = [hit for hit in hits if alike[hit.keyword, hit.length] > 1]
    first = (page - 1) * size
    stored = _stored({*doubtful, *hits[first : first + size + len(doubtful)]})
    said: dict[str | UUID, list[Hit]] = {}
    for hit in hits:
        is_read = alike[hit.keyword, hit.length] > 1 and hit.chunk_id in stored
        what = " ".join(stored[hit.chunk_id].text.casefold().split()) if is_read else hit.chunk_id
        said.setdefault(what, []).append(hit)
    pages = -(-len(said) // size)
    nearest = min(max(1, page), max(1, pages))
    groups = list(said.values())[(nearest - 1) * size : nearest * size]
    if nearest != page:
        stored |= _stored(hit for group in groups for hit in group)
    read = ([stored[hit.chunk_id] for hit in group if hit.chunk_id in stored] for group in groups)
    passages = [replace(group[0], same=tuple(group[1:])) for group in read if group]
    return Folded(passages, nearest, pages, len(said))


def _stored(hits: Iterable[Hit]) -> dict[UUID, Passage]:
    """By their ids; what has gone meanwhile is missing."""
    wanted = {hit.chunk_id: hit for hit in hits}
    read = Chunk._meta.get_field("text").reader()
    with connection.cursor() as cursor:  # as everything on the way of a search: the ORM takes twice as long
        cursor.execute("SELECT id, page, text FROM search_chunk WHERE id = ANY(%s)", [list(wanted)])
        return {chunk_id: Passage(wanted[chunk_id], page, read(chunk_id, text)) for chunk_id, page, text in cursor.fetchall()}


def described(
    passages: Sequence[Passage], asked: str, phrases: Collection[Phrase], collections: Collection[UUID]
) -> list[Shown]:
    """Passages as they are shown; documents that are in none of these collections any more are left out.

    The words of what was `asked` are marked as the search knew them in each; each phrase stands in every passage.
    """
    everywhere = [one for passage in passages for one in (passage, *passage.same)]
    documents = sources().describe((one.hit.document_id for one in everywhere), collections)
    labels = sources().page_labels((passage.hit.document_id, passage.page) for passage in passages)
    wanted = {language: highlighting.stems(asked, language) for language in {passage.hit.language for passage in passages}}
    shown = []
    for passage in passages:
        source = documents.get(passage.hit.document_id)
        if source is None:
            continue
        text = highlighting.readable(passage.text, source.format)
        stems, language = wanted[passage.hit.language], passage.hit.language
        others = [(one, documents.get(one.hit.document_id)) for one in passage.same]
        shown.append(
            Shown(
                hit=passage.hit,
                source=source,
                page=passage.page,
                page_label=labels.get((passage.hit.document_id, passage.page), ""),
                snippet=highlighting.snippet(text, stems, phrases, language),
                words=highlighting.standing(text, stems, language),
                url=passage.url(source),
                same=tuple(Link(other.title, one.url(other)) for one, other in others if other is not None),
            )
        )
    return shown
