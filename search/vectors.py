"""The true vectors of passages, encrypted: float16, by every model that an index is written by.

Hides which of two places they lie in: beside the passages those of the workspace's first model, in a table of their own those
of every other. Refuses to know what indexes make of them.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol
from uuid import UUID, uuid5

import numpy as np
from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet

from search.cloak import HalfVectors
from search.models import Chunk, FurtherVector
from tenants.ciphers import OVERHEAD, Tampered


class Of(Protocol):
    """Whose vectors: an index, of which only the model counts here."""

    @property
    def model(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    @property
    def is_of_first_model(self) -> bool: ...


def vector_id(chunk_id: UUID, model: str) -> UUID:
    """The row of a further model's vector. The vector is encrypted for it: moved to another passage it does not open."""
    return uuid5(chunk_id, model)


def passages(of: Of, alias: str = "passage") -> str:
    """What statements select FROM: id, document_id, sequence and encrypted embedding of the passages that have a vector by
    this model, whose name is the statement's parameter `model`.
    """
    if of.is_of_first_model:
        return f"search_chunk {alias}"
    return (
        "(SELECT c.id, c.document_id, c.sequence, v.embedding FROM search_chunk c "  # noqa: S608  # fixed names
        f"JOIN search_furthervector v ON v.chunk_id = c.id AND v.model = %(model)s) {alias}"
    )


def opened(of: Of, stored: Iterable[tuple[UUID, bytes]]) -> HalfVectors:
    """float16[n, dimension] of passages' ids and encrypted vectors."""
    if of.is_of_first_model:
        read = Chunk._meta.get_field("embedding").reader()
        blob = b"".join([read(chunk_id, embedding) for chunk_id, embedding in stored])
    else:
        read = FurtherVector._meta.get_field("embedding").reader()
        blob = b"".join([read(vector_id(chunk_id, of.model), embedding) for chunk_id, embedding in stored])
    return np.frombuffer(blob, dtype="<f2").reshape(-1, of.dimension)


def unpacked(of: Of, ids: bytes, embeddings: bytes) -> HalfVectors:
    """The same of many in one value each: ids of 16 bytes, and as many encrypted vectors, which have one length.

    Raises Tampered.
    """
    length = of.dimension * np.dtype(np.float16).itemsize + OVERHEAD
    if len(embeddings) * 16 != len(ids) * length:
        raise Tampered(f"an encrypted vector by {of.model} does not have its length")
    if of.is_of_first_model:
        blob = Chunk._meta.get_field("embedding").read_packed(ids, embeddings, length)
        return np.frombuffer(blob, dtype="<f2").reshape(-1, of.dimension)
    places = range(len(ids) // 16)
    held = (embeddings[length * i : length * (i + 1)] for i in places)
    return opened(of, zip((UUID(bytes=ids[16 * i : 16 * i + 16]) for i in places), held, strict=True))


def stored(of: Of, chunk_ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """Encrypted, of those of these passages that have one."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id, embedding FROM {passages(of)} WHERE id = ANY(%(ids)s) AND embedding IS NOT NULL",  # noqa: S608
            {"ids": list(chunk_ids), "model": of.model},
        )
        return dict(cursor.fetchall())


def encrypted(chunk_ids: Sequence[UUID], halves: HalfVectors) -> list[bytes]:
    """As `search_chunk` holds vectors of the first model."""
    write = Chunk._meta.get_field("embedding").writer()
    return [write(chunk_id, half.tobytes()) for chunk_id, half in zip(chunk_ids, halves.astype("<f2"), strict=True)]


def lacking(of: Of) -> QuerySet[Chunk]:
    """The passages that have no vector by this model."""
    if of.is_of_first_model:
        return Chunk.objects.filter(embedding__isnull=True)
    return Chunk.objects.filter(~Exists(FurtherVector.objects.filter(chunk_id=OuterRef("pk"), model=of.model)))


def put(of: Of, chunk_ids: Sequence[UUID], halves: HalfVectors) -> None:
    """Vectors of passages that are stored. One that is there stays, and what is erased meanwhile stays away."""
    if of.is_of_first_model:
        statement = (
            "UPDATE search_chunk SET embedding = e.embedding FROM unnest(%(ids)s::uuid[], %(embeddings)b::bytea[]) "
            "AS e(id, embedding) WHERE search_chunk.id = e.id AND search_chunk.embedding IS NULL"
        )
        rows: dict[str, Any] = {"ids": list(chunk_ids), "embeddings": encrypted(chunk_ids, halves)}
    else:
        write = FurtherVector._meta.get_field("embedding").writer()
        own = [vector_id(chunk_id, of.model) for chunk_id in chunk_ids]
        statement = (
            "INSERT INTO search_furthervector (id, chunk_id, model, document_id, embedding) "
            "SELECT e.own, c.id, %(model)s, c.document_id, e.embedding "
            "FROM unnest(%(own)s::uuid[], %(ids)s::uuid[], %(embeddings)b::bytea[]) AS e(own, id, embedding) "
            "JOIN search_chunk c ON c.id = e.id ON CONFLICT DO NOTHING"
        )
        made = [write(row, half.tobytes()) for row, half in zip(own, halves.astype("<f2"), strict=True)]
        rows = {"own": own, "ids": list(chunk_ids), "embeddings": made, "model": of.model}
    with connection.cursor() as cursor:
        cursor.execute(statement, rows)


def remove(of: Of, amount: int) -> int:
    """So many vectors by this model; the passages stay. Returns how many there were."""
    if of.is_of_first_model:
        statement = (
            "UPDATE search_chunk SET embedding = NULL "
            "WHERE id IN (SELECT id FROM search_chunk WHERE embedding IS NOT NULL LIMIT %(amount)s)"
        )
    else:
        statement = (
            "DELETE FROM search_furthervector "
            "WHERE id IN (SELECT id FROM search_furthervector WHERE model = %(model)s LIMIT %(amount)s)"
        )
    with connection.cursor() as cursor:
        cursor.execute(statement, {"amount": amount, "model": of.model})
        removed: int = cursor.rowcount
    return removed
