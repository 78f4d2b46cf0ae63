"""A workspace's passages without embedding each: some are, and others lie between two of them, as their texts do.

Stored and published through the search's own verbs. Knows nothing of what is measured.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from secrets import token_hex
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import numpy.typing as npt
from django.db import connections, transaction
from django.test import override_settings

from documents.models import Collection, Document, Page
from search import indexes, indexing
from search.building import BUILD_MEMORY
from search.embeddings import embedder
from search.indexing import Passage, passage_id
from search.models import FIRST_INDEX
from tenants.context import current_tenant
from workspace.benchmarks import material

EMBEDDED, EACH, DOCUMENT = 1000, 20_000, 20
NOISE = 0.3  # length of what is added to a vector of length 1
GRAPH = f"search_indexentry_hnsw_{FIRST_INDEX}"

Matrix = npt.NDArray[np.float32]
Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Made:
    """float32[n, 384] of unit length, and between which two of the embedded passages each lies."""

    vectors: Matrix
    between: Pairs
    embedded: int  # passages that are

    def texts(self) -> list[str]:
        """Of each the beginning of the one passage and the end of the other."""
        base, _ = _embedded(self.embedded)
        return [base[a][: len(base[a]) // 2] + base[b][len(base[b]) // 2 :] for a, b in self.between.tolist()]


def make(size: int, noise: float = NOISE) -> Made:
    """The same for every call: the embedded passages themselves first."""
    rng = np.random.default_rng(0)
    number = min(size, EMBEDDED)
    texts, base = _embedded(number)
    vectors, pairs = [base], [np.arange(len(base))[:, None].repeat(2, axis=1)]
    while (missing := size - sum(map(len, vectors))) > 0:
        one, other = rng.integers(len(texts), size=(2, min(missing, EACH)))
        apart = rng.normal(size=(len(one), base.shape[1]))
        apart *= noise / np.linalg.norm(apart, axis=1, keepdims=True)
        mixed = base[one] + rng.random((len(one), 1)) * (base[other] - base[one]) + apart
        vectors.append((mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32))
        pairs.append(np.stack([one, other], axis=1))
    return Made(np.concatenate(vectors), np.concatenate(pairs), number)


@cache
def _embedded(number: int) -> tuple[list[str], Matrix]:
    texts = material.passages(number)
    return texts, embedder().embed(texts)


def store(
    vectors: Matrix, texts: list[str] | None, protection: str, say: Callable[[str], None] = lambda _: None
) -> dict[tuple[Any, int], int]:
    """Into the current workspace, which is empty, as documents of some passages each, at that level of protection.

    Without texts each passage is a word. Returns which vector each passage is.
    """
    with override_settings(DEFAULT_PROTECTION=protection):
        indexes.prepare()
    operator: Any = connections["operator"]
    schema = current_tenant().schema_name
    with operator.cursor() as cursor:  # the graph is made at the end, as search.building does: entering one by one takes long
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE schemaname = %s AND indexname = %s", [schema, GRAPH])
        (graph,) = cursor.fetchone()
        cursor.execute(f'DROP INDEX "{schema}".{GRAPH}')
    collection = Collection.objects.create(id=uuid4(), name="Benchmark", name_digest=token_hex(16).encode())
    places: dict[tuple[Any, int], int] = {}
    for start in range(0, len(vectors), DOCUMENT):
        some = slice(start, start + DOCUMENT)
        number = len(vectors[some])
        document = _publish(collection, vectors[some], [f"word{start}"] * number if texts is None else texts[some])
        places |= {(document, i): start + i for i in range(number)}
        if texts is not None and start and start % 10_000 == 0:
            say(f"{start} of {len(vectors)} passages stored")
    with operator.cursor() as cursor:
        cursor.execute(f"SET maintenance_work_mem = '{BUILD_MEMORY}'")
        cursor.execute(graph)
        for table in ("chunk", "indexentry", "terms", "sealedvectors"):  # as autovacuum does in time
            cursor.execute(f'VACUUM ANALYZE "{schema}".search_{table}')
    return places


def _publish(collection: Collection, vectors: Matrix, texts: list[str]) -> UUID:
    title = texts[0][:60]
    document = Document(
        id=uuid4(), collection=collection, file_name="x.txt", format="txt", size=1, stored_name=uuid4().hex, title=title,
        state=Document.State.READY, pages=1, chunks_total=len(texts), chunks_done=len(texts),
    )  # fmt: skip
    with transaction.atomic():
        document.save(force_insert=True)
        Page.objects.create(id=Page.identity(document.id, 1), document=document, number=1, label="Page 1", text=texts[0])
        passages = [
            Passage(passage_id(document.id, i), i, 1, 0, len(text), text, len(text) // 4) for i, text in enumerate(texts)
        ]
        indexing.add(document.id, passages, {embedder().name: vectors})
        indexing.publish(document.id, collection.id)
    return document.id
