"""The only way passages enter and leave the search: stored while a document is embedded, found once it is published.

Knows documents by id. Every change of what may be found raises the generation under the lock of its row, in the
transaction that makes the change, so that no process goes on with an older view. What is stored goes into every index that
is written (search.indexes); `publish` makes sure that none lacks any of it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet, Sum

from search import indexes, keywords, vectors
from search.cloak import HalfVectors, Vectors
from search.embeddings import embedder
from search.facts import Value
from search.indexes import Live
from search.models import FIRST_INDEX, Chunk, Facts, FurtherVector, IndexEntry, Protection, SealedVectors, Terms, VectorIndex

READ_BATCH = 1000  # passages decrypted at a time when a document is published
EMBED_BATCH = 64  # passages embedded at a time for an index by another model


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


@dataclass(frozen=True, slots=True)
class Removed:
    """What the search had: passages, their vectors in every index and by further models, rows of documents' words, rows of
    what filters them.
    """

    passages: int = 0
    vectors: int = 0
    terms: int = 0
    facts: int = 0

    def __add__(self, more: "Removed") -> "Removed":
        return Removed(
            self.passages + more.passages, self.vectors + more.vectors, self.terms + more.terms, self.facts + more.facts
        )


_VARIANT_AND_VERSION, _VARIANT_5 = 0xC000 << 48 | 0xF000 << 64, 0x8000 << 48 | 5 << 76  # bits of a UUID, RFC 9562


def passage_id(document_id: UUID, sequence: int) -> UUID:
    """The same for the same place in the same document, so that a repeated batch stores nothing twice."""
    digest = hashlib.sha1(document_id.bytes + b"%d" % sequence, usedforsecurity=False).digest()  # uuid5, in a third of its time
    return UUID(int=int.from_bytes(digest[:16]) & ~_VARIANT_AND_VERSION | _VARIANT_5)


def stored(document_id: UUID) -> set[int]:
    """Sequences already committed."""
    return set(Chunk.objects.filter(document_id=document_id).values_list("sequence", flat=True))


def embedded(texts: Sequence[str], models: Iterable[str]) -> dict[str, Vectors]:
    """By the name of each of these models: float32[n, d] of the texts. Raises EmbeddingModelMissing."""
    return {name: embedder(name).embed(texts) for name in models}


def same_texts(document_id: UUID) -> dict[bytes, UUID]:
    """The stored passages of a document by a digest of their text, for `recalled`."""
    return {text_digest(text): passage_id(document_id, sequence) for sequence, text in enumerate(_texts(document_id))}


def text_digest(text: str) -> bytes:
    """In memory alone."""
    return hashlib.sha256(text.encode()).digest()


def recalled(ids: Sequence[UUID]) -> dict[str, Vectors] | None:
    """What `embedded` would give for these stored passages, by every model of `indexes.models()`; None where one lacks any."""
    found: dict[str, Vectors] = {}
    for index in indexes.written():
        if index.model not in found:
            there = vectors.stored(index, list(set(ids)))
            if any(pk not in there for pk in ids):
                return None
            found[index.model] = vectors.opened(index, ((pk, there[pk]) for pk in ids)).astype(np.float32)
    return found


def add(document_id: UUID, passages: Sequence[Passage], embeddings: Mapping[str, Vectors]) -> None:
    """Store a batch and its vectors in one transaction; what is already there stays as it is.

    `embeddings` by model, float32[n, d] in the order of `passages`, as `embedded` gives them for `indexes.models()`. An index
    by a model that is not among them, begun meanwhile, is completed with the document. The passages are not found before
    `publish`.
    """
    if not passages:
        return
    text = Chunk._meta.get_field("text").writer()
    ids = [passage.id for passage in passages]
    halves = {name: made.astype("<f2") for name, made in embeddings.items()}
    written = [index for index in indexes.written() if index.model in halves]
    beside = next((index.model for index in written if index.is_of_first_model), None)
    further = {index.model: index for index in written if not index.is_of_first_model}
    entries = [(index.id, indexes.stored_form(index, halves[index.model].astype(np.float32), ids)) for index in written]
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
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
                [text(passage.id, passage.text) for passage in passages],
                [None] * len(ids) if beside is None else vectors.encrypted(ids, halves[beside]),
            ],
        )
        for name, index in further.items():
            vectors.put(index, ids, halves[name])
        for index_id, held in entries:
            if held is not None:
                _enter(index_id, [document_id] * len(ids), ids, held)


def _enter(index_id: int, document_ids: Sequence[UUID], chunk_ids: Sequence[UUID], held: list[str]) -> None:
    """What is there already stays."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO search_indexentry (chunk_id, index_id, document_id, vector) "
            "SELECT e.id, %s, e.document, e.vector::halfvec "
            "FROM unnest(%s::uuid[], %s::uuid[], %s::text[]) AS e(id, document, vector) "
            "ON CONFLICT (chunk_id, index_id) DO NOTHING",
            [index_id, list(chunk_ids), list(document_ids), held],
        )


def embed_rest(document_id: UUID) -> None:
    """Before `publish`, which would do it under the lock: what was stored before an index by another model was begun."""
    for index in indexes.written():
        while embed_missing(index, document_id):
            pass


def publish(document_id: UUID, collection_id: UUID, values: Mapping[UUID, Value] | None = None) -> None:
    """From the commit of the caller's transaction on the document is found, in that collection, and by these values.

    Raises IncompleteDocument when a passage between the first and the last is missing.
    """
    _require_transaction()
    payload = keywords.collect(_texts(document_id))
    generation = raise_generation()
    for index in indexes.written():  # under the lock: from here on none comes or goes
        complete(index, document_id)
    row = Terms(document_id=document_id, collection_id=collection_id, generation=generation, payload=payload)
    Terms.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["document_id"],
        update_fields=["collection_id", "generation", "payload"],
    )
    if values:
        _describe({document_id: values}, generation)


def describe(documents: Mapping[UUID, Mapping[UUID, Value]]) -> None:
    """From the commit of the caller's transaction on these documents, which must be published, are filtered by these values.

    By the id of their field; they take the place of all values a document had here.
    """
    _require_transaction()
    if documents:
        _describe(documents, raise_generation())


def _describe(documents: Mapping[UUID, Mapping[UUID, Value]], generation: int) -> None:
    """A document without values keeps a row: that it changed is known by its generation."""
    write = Facts._meta.get_field("payload").writer()
    sealed = [write(pk, {str(which): value for which, value in values.items()}) for pk, values in documents.items()]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO search_facts (document_id, generation, payload) "
            "SELECT f.id, %s, f.payload FROM unnest(%s::uuid[], %b::bytea[]) AS f(id, payload) "
            "ON CONFLICT (document_id) DO UPDATE SET generation = excluded.generation, payload = excluded.payload",
            [generation, list(documents), sealed],
        )


def complete(index: VectorIndex, document_id: UUID) -> int:
    """Put into an index what it lacks of a document: batches stored before anybody knew of it. Returns how many passages.

    Under `lock`, so that the document is not erased meanwhile.
    """
    if index.is_sealed:
        return seal(index, [document_id])
    done = 0
    while batch := enter_missing(index, document_id):
        done += len(batch)
    return done


def enter_missing(index: VectorIndex, document_id: UUID | None = None, after: UUID | None = None) -> list[UUID]:
    """A batch of passages, of one document or of any that is found, that an index lacks, by id from `after` on. Their ids.
    Under `lock`.
    """
    missing = Chunk.objects.filter(~Exists(IndexEntry.objects.filter(chunk_id=OuterRef("pk"), index_id=index.id)))
    if document_id is None:  # what is not found, as a version that is not in use, comes in when it is published
        missing = missing.filter(document_id__in=Terms.objects.values("document_id"))
    batch = _batch(missing, document_id, after, READ_BATCH)
    if not batch:
        return []
    ids = [chunk_id for chunk_id, _ in batch]
    held = indexes.stored_form(index, _true_vectors(index, ids).astype(np.float32), ids)
    if held is None:
        return []
    _enter(index.id, [document for _, document in batch], ids, held)
    return ids


def embed_missing(index: VectorIndex, document_id: UUID | None = None, after: UUID | None = None) -> list[UUID]:
    """A batch of passages, of one document or of any, that have no vector by the index's model, by id from `after` on. Their
    ids. Takes `lock` only to store. Raises EmbeddingModelMissing.
    """
    batch = _batch(vectors.lacking(index), document_id, after, EMBED_BATCH)
    ids = [chunk_id for chunk_id, _ in batch]
    if ids:
        _embed(index, ids)
    return ids


def _batch(passages: QuerySet[Chunk], document_id: UUID | None, after: UUID | None, amount: int) -> list[tuple[UUID, UUID]]:
    """Passages and their documents, by id."""
    if document_id is not None:
        passages = passages.filter(document_id=document_id)
    if after is not None:
        passages = passages.filter(pk__gt=after)
    return list(passages.order_by("pk").values_list("id", "document_id")[:amount])


def _embed(index: VectorIndex, ids: Sequence[UUID]) -> None:
    """Their texts, by the index's model."""
    read = Chunk._meta.get_field("text").reader()
    texts = dict(Chunk.objects.filter(pk__in=ids).values_list("id", "text"))
    made = embedder(index.model).embed([read(chunk_id, text) for chunk_id, text in texts.items()])
    with transaction.atomic():
        lock()  # what is erased meanwhile is gone, and stays so
        vectors.put(index, list(texts), made.astype(np.float16))


def _true_vectors(index: VectorIndex, ids: Sequence[UUID]) -> HalfVectors:
    """float16[n, d] of passages that are stored, in this order. Those stored before anybody knew of the model are embedded."""
    found = vectors.stored(index, ids)
    if lacking := [chunk_id for chunk_id in ids if chunk_id not in found]:
        _embed(index, lacking)
        found |= vectors.stored(index, lacking)
    return vectors.opened(index, ((chunk_id, found[chunk_id]) for chunk_id in ids))


def seal(index: VectorIndex, document_ids: Sequence[UUID]) -> int:
    """The vectors of each document that lacks it, in the order of its passages, encrypted as one. Returns how many passages.

    A sealed index by a further model reads the vectors of passages themselves: of each document those that lack one get it.
    Under `lock`.
    """
    if not index.is_of_first_model:
        done = 0
        for document_id in document_ids:
            while batch := embed_missing(index, document_id):
                done += len(batch)
        return done
    there = set(SealedVectors.objects.filter(pk__in=document_ids).values_list("pk", flat=True))
    rows = []
    for document_id in document_ids:
        if document_id not in there:
            ids = list(Chunk.objects.filter(document_id=document_id).order_by("sequence").values_list("id", flat=True))
            payload = _true_vectors(index, ids).tobytes()
            rows.append(SealedVectors(document_id=document_id, passages=len(ids), payload=payload))
    SealedVectors.objects.bulk_create(rows)
    return sum(row.passages for row in rows)


def unpublish(document_ids: Iterable[UUID]) -> int:
    """From the commit of the caller's transaction on these are not found; their passages stay. Returns how many were.

    What they can be filtered by goes, as their words do.

    `publish` brings one back.
    """
    _require_transaction()
    published = Terms.objects.filter(document_id__in=list(document_ids))
    if not published.exists():
        return 0
    raise_generation()
    Facts.objects.filter(document_id__in=published.values("document_id")).delete()
    return published.delete()[0]


def withdraw(document_ids: Sequence[UUID]) -> None:
    """As `unpublish`, and out of the indexes that the database holds: what may stay away for good is in nobody's way there.

    `publish` puts it back from the true vectors, in the same disguise.
    """
    unpublish(document_ids)
    IndexEntry.objects.filter(document_id__in=document_ids).delete()


def published(document_ids: Iterable[UUID]) -> set[UUID]:
    """Those of them that are found."""
    return set(Terms.objects.filter(document_id__in=list(document_ids)).values_list("document_id", flat=True))


def count(document_ids: Sequence[UUID]) -> Removed:
    """What the search has of these documents."""
    sealed = SealedVectors.objects.filter(document_id__in=document_ids).aggregate(vectors=Sum("passages"))["vectors"] or 0
    further = FurtherVector.objects.filter(document_id__in=document_ids).count()
    return Removed(
        passages=Chunk.objects.filter(document_id__in=document_ids).count(),
        vectors=IndexEntry.objects.filter(document_id__in=document_ids).count() + sealed + further,
        terms=Terms.objects.filter(document_id__in=document_ids).count(),
        facts=Facts.objects.filter(document_id__in=document_ids).count(),
    )


def held(index: Live, document_ids: QuerySet[Any]) -> int:
    """How many passages of these documents an index holds the vectors of."""
    if index.protection != Protection.SEALED:
        return IndexEntry.objects.filter(index_id=index.id, document_id__in=document_ids).count()
    if not index.is_of_first_model:
        return FurtherVector.objects.filter(model=index.model, document_id__in=document_ids).count()
    sealed = SealedVectors.objects.filter(document_id__in=document_ids)
    return sealed.aggregate(passages=Sum("passages"))["passages"] or 0


def remove(document_ids: Iterable[UUID]) -> Removed:
    """Delete everything the search has of these documents; returns what that was."""
    _require_transaction()
    ids = list(document_ids)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM search_chunk WHERE document_id = ANY(%s)) "
            "OR EXISTS (SELECT FROM search_terms WHERE document_id = ANY(%s)) "
            "OR EXISTS (SELECT FROM search_facts WHERE document_id = ANY(%s))",
            [ids, ids, ids],
        )
        if cursor.fetchone() == (False,):
            return Removed()
        raise_generation()
        cursor.execute(
            "WITH gone AS (DELETE FROM search_sealedvectors WHERE document_id = ANY(%s) RETURNING passages) "
            "SELECT coalesce(sum(passages), 0) FROM gone",
            [ids],
        )
        (sealed,) = cursor.fetchone()
        gone = []
        for table in ("search_terms", "search_facts", "search_indexentry", "search_furthervector", "search_chunk"):
            cursor.execute(f"DELETE FROM {table} WHERE document_id = ANY(%s)", [ids])  # noqa: S608  # fixed names
            gone.append(cursor.rowcount)
        terms, facts, entries, further, passages = gone
        return Removed(passages, entries + further + int(sealed), terms, facts)


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


def lock() -> None:
    """Nothing becomes found, or is found no more, before our transaction ends."""
    _require_transaction()
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM search_vectorindex WHERE id = %s FOR UPDATE", [FIRST_INDEX])


def raise_generation() -> int:
    """Takes the lock, which its transaction holds to its end."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE search_vectorindex SET generation = generation + 1 WHERE id = %s RETURNING generation", [FIRST_INDEX]
        )
        row = cursor.fetchone()
        assert row is not None, "the migration makes the row"
        return int(row[0])


def _require_transaction() -> None:
    if not connection.in_atomic_block:
        raise OutsideTransaction("publish and remove belong into the caller's transaction")
