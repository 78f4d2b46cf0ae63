"""Turns hits into what a page shows: names, page labels, highlighted passages. One query for a page, two past the last."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from uuid import UUID

from search import highlighting
from search.highlighting import Snippet
from search.querying import Hit
from search.questions import Phrase
from search.sources import Quote, Source, addresses, sources
from tenants.wording import counted

ROUNDING = 0.02  # of cosines: in another batch the model's bfloat16 yields another vector of a text (docs/benchmarks.md)


@dataclass(frozen=True)
class Passage:
    """A document's best passage as it is stored; `same` are the documents whose best passage says the same, after it."""

    hit: Hit
    chunk_id: UUID
    quote: Quote
    same: tuple["Passage", ...] = ()

    @property
    def url(self) -> str:
        return _url(self.quote, self.chunk_id)


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
    """One result on a page; `url` leads to the passage in its document, `alike_url` to what is like it."""

    hit: Hit
    chunk_id: UUID
    source: Source
    page: int
    page_label: str
    snippet: Snippet
    url: str
    alike_url: str
    same: tuple[Link, ...]

    @property
    def cited(self) -> str:
        """Where it stands, in words."""
        return ", ".join(filter(None, (self.source.title, self.page_label, self.source.collection_name)))

    @property
    def others(self) -> str:
        """How many more passages of the document there were; nothing when there were none."""
        if not self.hit.more:
            return ""
        passages = counted(self.hit.more, "more passage")
        return f"{passages} of this document {'is' if self.hit.more == 1 else 'are'} among the candidates."

    @property
    def by_meaning(self) -> str:
        if not self.hit.dense_rank:
            return "not compared"
        return f"rank {self.hit.dense_rank:,} among the candidates, cosine {self.hit.dense:.3f}"

    @property
    def by_words(self) -> str:
        if not self.hit.keyword_rank:
            return "no word of the question occurs"
        return f"rank {self.hit.keyword_rank:,}, BM25 {self.hit.keyword:.2f}"


def link_to(chunk_id: UUID, collections: Collection[UUID]) -> Link | None:
    """To a passage, named by its document and page: "Handbook, Page 3"; None when the document has gone meanwhile."""
    quote = sources().quotes([chunk_id], collections).get(chunk_id)
    if quote is None:
        return None
    return Link(", ".join(filter(None, (quote.source.title, quote.label))), _url(quote, chunk_id))


def _url(quote: Quote, chunk_id: UUID) -> str:
    return f"{quote.source.url}?page={quote.page}&passage={chunk_id}#passage-{chunk_id}"


def folded(hits: Sequence[Hit], collections: Collection[UUID], page: int = 1, size: int | None = None) -> Folded:
    """A page of the hits with their texts, in their order; those that say the same, but for case and blanks, are one.

    What is in none of these collections any more is left out. Of hits that cannot say the same as another only those on the
    page are read.
    """
    size = size or max(1, len(hits))
    doubtful = _doubtful(hits)
    first = (page - 1) * size
    likely = {hit.document_id: hit for hit in hits[first : first + size + len(doubtful)]}
    stored = _stored(doubtful | likely, collections)
    said: dict[str | UUID, list[Hit]] = {}
    for hit in hits:
        is_read = hit.document_id in doubtful and hit.document_id in stored
        what = " ".join(stored[hit.document_id].quote.text.casefold().split()) if is_read else hit.document_id
        said.setdefault(what, []).append(hit)
    pages = -(-len(said) // size)
    nearest = min(max(1, page), max(1, pages))
    groups = list(said.values())[(nearest - 1) * size : nearest * size]
    if nearest != page:
        stored |= _stored({hit.document_id: hit for group in groups for hit in group}, collections)
    read = ([stored[hit.document_id] for hit in group if hit.document_id in stored] for group in groups)
    passages = [replace(group[0], same=tuple(group[1:])) for group in read if group]
    return Folded(passages, nearest, pages, len(said))


def _doubtful(hits: Sequence[Hit]) -> dict[UUID, Hit]:
    """By their documents, those that may say the same as another: what does has as many words, scores alike by them, and is
    as near to the question but for rounding, since the model does not tell upper from lower case.
    """
    found: dict[UUID, Hit] = {}
    for one, other in pairwise(sorted(hits, key=lambda hit: (hit.keyword, hit.length, hit.dense))):
        if (one.keyword, one.length) == (other.keyword, other.length) and other.dense - one.dense < ROUNDING:
            found |= {one.document_id: one, other.document_id: other}
    return found


def _stored(hits: Mapping[UUID, Hit], collections: Collection[UUID]) -> dict[UUID, Passage]:
    """By their documents, as they are given; what has gone meanwhile is missing."""
    wanted = {hit.chunk_id: hit for hit in hits.values()}
    quotes = sources().quotes(wanted, collections)
    return {wanted[pk].document_id: Passage(wanted[pk], pk, quote) for pk, quote in quotes.items()}


def described(passages: Sequence[Passage], asked: str, phrases: Collection[Phrase]) -> list[Shown]:
    """Passages as they are shown.

    The words of what was `asked` are marked as the search knew them in each; each phrase stands in every passage.
    """
    alike_url = addresses("search-like")
    wanted = {language: highlighting.stems(asked, language) for language in {passage.hit.language for passage in passages}}
    shown = []
    for passage in passages:
        quote, language = passage.quote, passage.hit.language
        text = highlighting.readable(quote.text, quote.source.format)
        shown.append(
            Shown(
                hit=passage.hit,
                chunk_id=passage.chunk_id,
                source=quote.source,
                page=quote.page,
                page_label=quote.label,
                snippet=highlighting.snippet(text, wanted[language], phrases, language),
                url=passage.url,
                alike_url=alike_url(passage.chunk_id),
                same=tuple(Link(other.quote.source.title, other.url) for other in passage.same),
            )
        )
    return shown
