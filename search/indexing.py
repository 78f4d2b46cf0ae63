"""The only way passages enter and leave the search: stored while a document is embedded, found once it is published.

Knows documents by id. Every change of what may be found raises the index's generation under the index row's lock, in
the transaction that makes the change, so that no process goes on with an older view.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

import numpy as np
from django.db import connection, transaction

from search import keywords
from search.cloak import Cloak, HalfVectors, Vectors
from search.models import LIVE_INDEX, Chunk, StoredCloak, Terms, VectorIndex
from search.pool import pool
from tenants.ciphers import seed
from tenants.context import current_tenant

READ_BATCH = 1000  # passages decrypted at a time when a document is published


class IncompleteDocument(Exception):
    """A document cannot be published: passages between its first and its last are not stored."""


class OutsideTransaction(RuntimeError):
    """What is found changes only together with the caller's own rows: a programming error."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage to store; start and end are code-point offsets into the page's text."""

    id: UUID
    sequence: int
    page: int
    start: int
    end: int
    text: str
    tokens: int


def passage_id(document_id: UUID, sequence: int) -> UUID:
    """The same for the same place in the same document, so that a repeated batch stores nothing twice."""
    return uuid5(document_id, str(sequence))


def stored(document_id: UUID) -> set[int]:
    """Sequences already committed."""
    return set(Chunk.objects.filter(document_id=document_id).values_list("sequence", flat=True))


def add(document_id: UUID, passages: Sequence[Passage], embeddings: Vectors) -> None:
    """Store a batch and its vectors in one transaction; what is already there stays as it is.

    `embeddings` is float32[n, 384] in the order of `passages`. The passages are not found before `publish`.
    """
    if not passages:
        return
    text, vector = Chunk._meta.get_field("text").writer(), Chunk._meta.get_field("embedding").writer()
    ids = [passage.id for passage in passages]
    halves = embeddings.astype("<f2")
    # Noise follows what is stored: the same float16 vector always gets the same noise.
    disguised = live_cloak().disguise(halves.astype(np.float32), ids)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            'INSERT INTO search_chunk (id, document_id, sequence, page, start, "end", tokens, text, embedding) '
            "SELECT p.id, %s, p.sequence, p.page, p.start, p.stop, p.tokens, p.text, p.embedding FROM unnest("
            "%s::uuid[], %s::int[], %s::int[], %s::int[], %s::int[], %s::int[], %b::bytea[], %b::bytea[]"
            ") AS p(id, sequence, page, start, stop, tokens, text, embedding) ON CONFLICT (id) DO NOTHING",
            [
                document_id,
                ids,
                [passage.sequence for passage in passages],
                [passage.page for passage in passages],
                [passage.start for passage in passages],
                [passage.end for passage in passages],
                [passage.tokens for passage in passages],
                [bytes(text(passage.id, passage.text)) for passage in passages],
                [bytes(vector(p.id, half.tobytes())) for p, half in zip(passages, halves, strict=True)],
            ],
        )
        cursor.execute(
            "INSERT INTO search_indexentry (chunk_id, index_id, document_id, vector) "
            "SELECT e.id, %s, %s, e.vector::halfvec FROM unnest(%s::uuid[], %s::text[]) AS e(id, vector) "
            "ON CONFLICT (chunk_id, index_id) DO NOTHING",
            [LIVE_INDEX, document_id, ids, [vector_text(row) for row in disguised]],
        )


def publish(document_id: UUID, collection_id: UUID) -> None:
    """From the commit of the caller's transaction on the document is found, in that collection.

    Raises IncompleteDocument when a passage between the first and the last is missing.
    """
    _require_transaction()
    payload = keywords.collect(_texts(document_id))
    generation = _raise_generation()
    row = Terms(document_id=document_id, collection_id=collection_id, generation=generation, payload=payload)
    Terms.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["document_id"],
        update_fields=["collection_id", "generation", "payload"],
    )


def remove(document_ids: Iterable[UUID]) -> int:
    """Delete everything the search has of these documents; returns how many passages that were."""
    _require_transaction()
    ids = list(document_ids)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM search_chunk WHERE document_id = ANY(%s)) "
            "OR EXISTS (SELECT FROM search_terms WHERE document_id = ANY(%s))",
            [ids, ids],
        )
        if cursor.fetchone() == (False,):
            return 0
        _raise_generation()
        for table in ("search_terms", "search_indexentry", "search_chunk"):
            cursor.execute(f"DELETE FROM {table} WHERE document_id = ANY(%s)", [ids])  # noqa: S608  # fixed names
        return cursor.rowcount


def live_cloak() -> Cloak:
    """The current workspace's cloak, kept in the pool. Made on first use, which must not be inside a transaction."""
    return pool().get(current_tenant().id, "cloak", 0, lambda old: _load_cloak())


def vector_text(vector: HalfVectors) -> str:
    """A vector as PostgreSQL reads a halfvec; five digits tell every float16 apart."""
    return ("[" + "%.5g," * (len(vector) - 1) + "%.5g]") % tuple(vector.tolist())


def _load_cloak() -> Cloak:
    kept = StoredCloak.objects.filter(index_id=LIVE_INDEX).first()
    if kept is None:
        # Durable: rolled back with somebody's transaction it would live on in the pool and disguise what nobody can undo.
        with transaction.atomic(durable=True):
            index = VectorIndex.objects.select_for_update().get(pk=LIVE_INDEX)
            kept = StoredCloak.objects.filter(index=index).first()
            if kept is None:
                made = Cloak.create(index.dimension, seed("cloak", "noise", str(index.pk)))
                kept = StoredCloak.objects.create(index=index, rotation=made.to_bytes())
    return Cloak.from_bytes(kept.rotation)


def _texts(document_id: UUID) -> Iterator[str]:
    """A document's passages in sequence, decrypted a batch at a time."""
    read = Chunk._meta.get_field("text").reader()
    rows = Chunk.objects.filter(document_id=document_id).order_by("sequence").values_list("sequence", "text")
    expected = 0
    while batch := list(rows.filter(sequence__gte=expected)[:READ_BATCH]):
        for sequence, text in batch:
            if sequence != expected:
                raise IncompleteDocument(f"passage {expected} of document {document_id} is not stored")
            expected += 1
            yield read(passage_id(document_id, sequence), text)  # a row moved here from elsewhere does not open
        if len(batch) < READ_BATCH:
            return


def _raise_generation() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE search_vectorindex SET generation = generation + 1 WHERE id = %s RETURNING generation", [LIVE_INDEX]
        )
        row = cursor.fetchone()
        assert row is not None, "the migration makes the row"
        return int(row[0])


def _require_transaction() -> None:
    if not connection.in_atomic_block:
        raise OutsideTransaction("publish and remove belong into the caller's transaction")
