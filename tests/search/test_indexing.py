"""Storing, publishing and removing passages."""

import os
import threading
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from django.db import connection, transaction

from documents.models import Collection, Document
from search import indexes, indexing, languages
from search.embeddings import Embedder
from search.indexing import IncompleteDocument, OutsideTransaction, Passage, passage_id
from search.loaded import term_index
from search.models import FIRST_INDEX, Chunk, IndexEntry, StoredCloak, Terms, VectorIndex
from search.pool import pool
from search.ranking import Mode
from search.sources import sources
from tests.search.conftest import publish, remove, search, store
from tests.search.paragraphs import PARAGRAPHS

pytestmark = pytest.mark.django_db


def generation() -> int:
    return indexes.live().generation


def test_a_workspace_begins_with_the_live_index(in_workspace_a: Any):
    index = VectorIndex.objects.get(pk=FIRST_INDEX)
    assert (index.model, index.dimension, index.protection) == ("all-MiniLM-L6-v2", 384, "cloaked")


def test_stored_text_and_vector_come_back_and_are_not_in_the_rows(in_workspace_a: Any, model: Embedder):
    document = store(["a secret phrase about elephants"])
    chunk = Chunk.objects.get(document_id=document.id)
    assert chunk.text == "a secret phrase about elephants"
    vector = np.frombuffer(chunk.embedding, dtype="<f2").astype(np.float32)
    assert vector @ model.embed_query("a secret phrase about elephants") > 0.999
    with connection.cursor() as cursor:
        cursor.execute("SELECT text, embedding FROM search_chunk")
        text, embedding = cursor.fetchone()
    assert b"elephants" not in bytes(text)
    assert len(embedding) > 768
    entry = IndexEntry.objects.get(document_id=document.id)
    disguised = np.array(entry.vector, dtype=np.float32)
    assert abs(float(disguised @ vector)) < 0.3


def test_adding_a_batch_twice_stores_it_once(in_workspace_a: Any, model: Embedder):
    document = store(["one", "two"], published=False)
    passages = [Passage(passage_id(document.id, i), i, 1, 0, 3, text, 1) for i, text in enumerate(["one", "two", "six"])]
    indexing.add(document.id, passages, {model.name: model.embed(["one", "two", "six"])})
    assert indexing.stored(document.id) == {0, 1, 2}
    assert IndexEntry.objects.filter(document_id=document.id).count() == 3


def test_adding_nothing_is_allowed(in_workspace_a: Any):
    indexing.add(Document().id, [], {})


def test_what_is_not_published_is_not_found(in_workspace_a: Any, model: Embedder):
    document = store(["elephants in the garden"], published=False)
    assert search("elephants").hits == []
    publish(document)
    assert [hit.document_id for hit in search("elephants").hits] == [document.id]


def test_publishing_needs_every_passage(in_workspace_a: Any, model: Embedder):
    document = store(["zero", "one", "two"], published=False)
    IndexEntry.objects.filter(chunk_id=passage_id(document.id, 1)).delete()
    Chunk.objects.filter(pk=passage_id(document.id, 1)).delete()
    with pytest.raises(IncompleteDocument):
        publish(document)
    assert not Terms.objects.filter(pk=document.id).exists()


def test_publishing_again_moves_to_another_collection(handbook: dict[str, Document]):
    from tests.factories import CollectionFactory

    document, other = handbook["Canteen"], CollectionFactory()
    document.collection = other
    document.save(update_fields=["collection"])
    publish(document)
    found = search("lunch", collections=frozenset({other.id})).hits
    assert [hit.document_id for hit in found] == [document.id]


def test_removing_takes_everything_and_says_how_much(handbook: dict[str, Document]):
    document = handbook["Canteen"]
    before = generation()
    assert search("vegetarian lunch").hits[0].document_id == document.id
    assert remove(document.id) == 1
    assert generation() == before + 1
    for model in (Chunk, IndexEntry, Terms):
        assert not model.objects.filter(document_id=document.id).exists()
    assert document.id not in [hit.document_id for hit in search("vegetarian lunch").hits]
    assert remove(document.id) == 0
    assert generation() == before + 1


@pytest.mark.django_db(transaction=True)
def test_publish_and_remove_refuse_to_act_outside_a_transaction(in_workspace_a: Any, model: Embedder):
    document = store(["one"], published=False)
    with pytest.raises(OutsideTransaction):
        indexing.publish(document.id, document.collection_id)
    with pytest.raises(OutsideTransaction):
        indexing.remove([document.id])


def test_a_rollback_leaves_nothing_found(handbook: dict[str, Document]):
    class Oops(Exception):
        pass

    document = handbook["Canteen"]

    def cut_off() -> None:
        with transaction.atomic():
            indexing.remove([document.id])
            raise Oops

    with pytest.raises(Oops):
        cut_off()
    assert search("vegetarian lunch").hits[0].document_id == document.id


def test_an_update_touches_only_what_changed(handbook: dict[str, Document], monkeypatch: pytest.MonkeyPatch):
    from search import keywords

    term_index()
    read = []
    original = keywords.Entry
    monkeypatch.setattr(keywords, "Entry", lambda *values: read.append(values[0]) or original(*values))
    added = store(["an extra document"])
    remove(handbook["Printer"].id)
    index = term_index()
    assert read == [added.id]
    assert handbook["Printer"].id not in index.places
    assert index.chunks == len(handbook)


def test_what_an_earlier_version_stored_is_found_as_it_was_until_it_is_published_again(
    in_workspace_a: Any, model: Embedder, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as earlier:
        earlier.setattr(languages, "detect", lambda texts: languages.ENGLISH)
        document = store([PARAGRAPHS["de"]])
    store([PARAGRAPHS["de"]], title="Another", collection=Collection.objects.get(pk=document.collection_id))
    everywhere = {hit.document_id for hit in search("Heizkessel", mode=Mode.WORDS).hits}
    assert len(everywhere) == 2
    assert document.id not in {hit.document_id for hit in search("Haus", mode=Mode.WORDS).hits}
    publish(document)
    assert {hit.document_id for hit in search("Haus", mode=Mode.WORDS).hits} == everywhere


@pytest.mark.django_db(transaction=True)
def test_the_cloak_is_made_once_however_many_ask(in_workspace_a: Any, workspace_a: Any):
    from tenants.context import workspace

    assert not StoredCloak.objects.exists()
    rotations, barrier = [], threading.Barrier(4)

    def ask() -> None:
        try:
            barrier.wait()
            with workspace(workspace_a):
                rotations.append(indexes._load_cloak(FIRST_INDEX).to_bytes())
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rotations) == 4
    assert len(set(rotations)) == 1
    assert StoredCloak.objects.count() == 1


def test_no_cloak_is_made_in_a_transaction_that_may_be_rolled_back(in_workspace_a: Any):
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        indexes.cloak(FIRST_INDEX)
    assert not StoredCloak.objects.exists()
    made = indexes.cloak(FIRST_INDEX)
    pool().clear()
    with transaction.atomic():  # read it may be
        np.testing.assert_array_equal(indexes.cloak(FIRST_INDEX).rotation, made.rotation)


def test_one_statement_takes_more_documents_than_parameters(handbook: dict[str, Document]):
    ids = [uuid4() for _ in range(70_000)]
    assert remove(*ids, handbook["Printer"].id) == 1
    assert sources().describe([*ids, handbook["Canteen"].id], sources().everything()).keys() == {handbook["Canteen"].id}


def test_two_workspaces_have_different_cloaks(workspace_b: Any, in_workspace_a: Any):
    from tenants.context import workspace

    first = indexes.cloak(FIRST_INDEX).rotation
    with workspace(workspace_b):
        second = indexes.cloak(FIRST_INDEX).rotation
    assert not np.allclose(first, second)


def test_a_stored_vector_reads_back_as_it_was():
    vector = np.frombuffer(os.urandom(64), dtype=np.uint8).astype(np.float16) / 300
    read = np.array([float(part) for part in indexes.vector_text(vector)[1:-1].split(",")], dtype=np.float16)
    np.testing.assert_array_equal(read, vector)
