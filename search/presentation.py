"""Turns hits into what a page shows: names, page labels, highlighted passages. A fixed number of queries per page."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from search import highlighting
from search.highlighting import Snippet
from search.models import Chunk
from search.querying import Hit
from search.sources import Source, sources
from tenants.database import connection


@dataclass(frozen=True)
class Shown:
    """One result on a page; `url` leads to the passage in its document."""

    hit: Hit
    source: Source
    page: int
    page_label: str
    snippet: Snippet
    url: str


def passages(hits: Sequence[Hit], question: str, collections: Collection[UUID]) -> list[Shown]:
    """The hits with their texts; those whose document is in none of these collections any more are left out."""
    chunks = [hit.chunk_id for hit in hits]
    read = Chunk._meta.get_field("text").reader()
    with connection.cursor() as cursor:  # as everything on the way of a search: the ORM takes twice as long
        cursor.execute("SELECT id, document_id, page, text FROM search_chunk WHERE id = ANY(%s)", [chunks])
        rows = cursor.fetchall()
    texts = {chunk_id: (document_id, page, read(chunk_id, text)) for chunk_id, document_id, page, text in rows}
    described = sources().describe((hit.document_id for hit in hits), collections)
    labels = sources().page_labels((document_id, page) for document_id, page, _ in texts.values())
    wanted = highlighting.stems(question)
    shown = []
    for hit in hits:
        source, found = described.get(hit.document_id), texts.get(hit.chunk_id)
        if source is None or found is None:
            continue
        document_id, page, text = found
        shown.append(
            Shown(
                hit=hit,
                source=source,
                page=page,
                page_label=labels.get((document_id, page), ""),
                snippet=highlighting.snippet(highlighting.readable(text, source.format), wanted),
                url=f"{source.url}?page={page}&passage={hit.chunk_id}#passage-{hit.chunk_id}",
            )
        )
    return shown
