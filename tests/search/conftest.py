"""What tests of the search share: documents whose passages are indexed as ingestion would, without its pipeline."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from django.conf import LazySettings
from django.db import connections, transaction
from django.test import Client

from documents.models import Collection, Document, Page
from search import building, indexes, indexing, querying
from search.embeddings import MODEL_NAME, Embedder, embedder
from search.indexing import Passage, passage_id
from search.models import VectorIndex
from search.pool import pool
from search.querying import Results
from search.sources import sources
from tenants.context import public_context, workspace
from tenants.models import Membership, Tenant
from tests.factories import CollectionFactory

Do = Callable[..., Any]

ROOT = Path(__file__).resolve().parent.parent.parent

TOPICS = {
    "Notice periods": "Employees may end their contract with four weeks of notice to the end of a month.",
    "Travel costs": "Train tickets and hotel nights are refunded when receipts are handed in within thirty days.",
    "Fire drill": "When the alarm sounds, leave the building by the nearest staircase and meet at the car park.",
    "Passwords": "Choose a password of at least twelve characters and never share it with a colleague.",
    "Canteen": "Lunch is served between half past eleven and two; vegetarian dishes are marked in green.",
    "Printer": "If paper jams in the printer, open the rear door and pull the sheet out slowly.",
    "Parental leave": "Parents may stay at home for up to three years after the birth of a child.",
    "Bicycles": "Bikes can be parked in the cellar; the key is kept at the reception desk.",
}


@pytest.fixture(autouse=True)
def _empty_pool() -> Iterator[None]:
    pool().clear()
    yield
    pool().clear()


@pytest.fixture(autouse=True)
def _files(settings: LazySettings, tmp_path: Path) -> None:
    settings.FILES_DIR = tmp_path / "files"


@pytest.fixture
def model(model_dir: Path) -> Embedder:
    return embedder()


def store(
    texts: Sequence[str],
    *,
    title: str = "A document",
    collection: Collection | None = None,
    vectors: np.ndarray | None = None,
    reference: str = "",
    published: bool = True,
) -> Document:
    """A ready document of one passage a page, indexed through the public verbs."""
    document = Document(
        id=uuid4(), collection=collection or CollectionFactory(), file_name=f"{title}.txt", format="txt", size=1,
        stored_name=uuid4().hex, title=title, reference=reference,
        state=Document.State.READY if published else Document.State.EMBEDDING, pages=len(texts),
    )  # fmt: skip
    document.save(force_insert=True)
    for number, text in enumerate(texts, start=1):
        Page.objects.create(
            id=Page.identity(document.id, number), document=document, number=number, label=f"Page {number}", text=text
        )
    passages = [
        Passage(passage_id(document.id, i), i, i + 1, 0, len(text), text, 5 + len(text) // 5) for i, text in enumerate(texts)
    ]
    made = {name: _embedded(name, tuple(texts)) for name in indexes.models()} if vectors is None else {MODEL_NAME: vectors}
    indexing.add(document.id, passages, made)
    if published:
        publish(document)
    return document


@cache
def _embedded(model: str, texts: tuple[str, ...]) -> np.ndarray:
    """Once for the whole run: most tests store the same texts, and the model is the slowest part of that."""
    made = embedder(model).embed(texts)
    made.setflags(write=False)
    return made


def search(text: str, **options: Any) -> Results:
    """In every collection but the canaries', unless a test names others: the product always says which."""
    if "collections" not in options:
        options["collections"] = sources().everything()
    return querying.search(text, **options)


def publish(document: Document) -> None:
    with transaction.atomic():
        indexing.publish(document.id, document.collection_id)


def remove(*ids: UUID) -> int:
    with transaction.atomic():
        return indexing.remove(ids).passages


@pytest.fixture
def handbook(in_workspace_a: Any, model: Embedder) -> dict[str, Document]:
    """Eight documents of one passage each, by title."""
    collection = CollectionFactory(name="Handbook")
    return {title: store([text], title=title, collection=collection) for title, text in TOPICS.items()}


@pytest.fixture
def crowd(in_workspace_a: Any, model: Embedder) -> Callable[..., list[Document]]:
    """Many passages at once, with made-up clustered vectors: for tests of the index, where meaning does not matter."""

    def make(passages: int, each: int = 100, collection: Collection | None = None, seed: int = 0) -> list[Document]:
        rng = np.random.default_rng(seed)
        topics = rng.normal(size=(40, 384))
        vectors = topics[rng.integers(40, size=passages)] / 20 + 0.045 * rng.normal(size=(passages, 384))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        where = collection or CollectionFactory()
        return [
            store(
                [f"filler {seed} {i}" for i in range(start, min(start + each, passages))],
                title=f"Crowd {seed} {start}",
                collection=where,
                vectors=vectors[start : start + each],
            )
            for start in range(0, passages, each)
        ]

    return make


def jsonl(*items: Any) -> bytes:
    return "\n".join(json.dumps(item) for item in items).encode()


@pytest.fixture
def graphs(workspace_a: Tenant) -> Iterator[None]:
    """What DDL made is not put back with the rows."""
    make_graph = building._make_graph
    yield
    operator: Any = connections["operator"]
    with operator.cursor() as cursor:
        cursor.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = %s AND indexname ~ '_hnsw_[0-9]+$' "
            "AND indexname <> 'search_indexentry_hnsw_1'",
            [workspace_a.schema_name],
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP INDEX "{workspace_a.schema_name}"."{name}"')
    with workspace(workspace_a):
        make_graph(VectorIndex(id=1, dimension=384, metric="cosine", m=16, ef_construction=64))
    operator.close()


@pytest.fixture
def do(workspace_a: Any, client_viewer: Client, handbook: dict[str, Document]) -> Do:
    """`do("get", "saved/")` as a viewer of workspace a, from within it."""

    def ask(method: str, path: str, *args: Any, client: Client = client_viewer, **options: Any) -> Any:
        with public_context():
            return getattr(client, method)(workspace_a.path + path, *args, **options)

    return ask


def member(user: Any) -> Membership:
    return Membership.objects.get(user=user)
