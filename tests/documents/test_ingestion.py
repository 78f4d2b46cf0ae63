"""Ingestion ends every document, can be cut off anywhere, and leaves each passage exactly once."""

import gc
import time
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from threading import Event, current_thread
from typing import Any

import numpy as np
import pytest
from django.db import connection, connections
from django.utils import timezone
from redis.exceptions import ConnectionError as RedisConnectionError

from documents import erasing, ingestion, ledger, storage
from documents.extraction.sandbox import SandboxUnavailable
from documents.models import Document, Page, Stage
from documents.reasons import Reason
from search import indexes, indexing
from search.models import FIRST_INDEX, Chunk, IndexEntry, Terms
from search.pool import pool
from search.presentation import described, folded
from search.querying import search
from tenants.keys import presence
from tenants.keys.keyring import keyring
from tenants.keys.providers import Keystore, ProviderUnreachable
from tenants.models import Tenant
from tests.documents import files
from tests.factories import DocumentFactory

pytestmark = pytest.mark.usefixtures("in_workspace_a", "model_dir")
State = Document.State
LONG = "\n\n".join(f"Paragraph {n} tells of subject {n}. " + "It has several sentences with words. " * 20 for n in range(14))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches from a short text."""
    monkeypatch.setattr(ingestion, "BATCH", 4)


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it and clean up."""


def now(document: Document) -> Document:
    return Document.objects.get(pk=document.pk)


def its_time_has_come(document: Document) -> None:
    Document.objects.filter(pk=document.pk).update(retry_at=timezone.now())


def assert_complete(document: Document) -> None:
    """Ready, and each passage stored exactly once, where it says it is."""
    ended = now(document)
    assert (ended.state, ended.reason) == (State.READY, "")
    chunks = list(Chunk.objects.filter(document_id=document.id).order_by("sequence"))
    assert [chunk.sequence for chunk in chunks] == list(range(ended.chunks_total))
    assert ended.chunks_done == ended.chunks_total > 0
    assert IndexEntry.objects.filter(document_id=document.id).count() == ended.chunks_total
    assert Terms.objects.filter(pk=document.id).count() == 1
    texts = {page.number: page.text for page in Page.objects.filter(document=document)}
    assert sorted(texts) == list(range(1, ended.pages + 1))
    for chunk in chunks:
        assert chunk.text == texts[chunk.page][chunk.start : chunk.end]
        assert chunk.id == indexing.passage_id(document.id, chunk.sequence)
        assert 0 < chunk.tokens <= 254


@pytest.mark.parametrize("when", ["before", "after the text"])
def test_while_the_key_service_is_away_it_waits_and_loses_no_attempt(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    document = DocumentFactory(content=LONG.encode())
    there = Keystore.unwrap
    away = [when == "before"]

    def unwrap(*args: Any) -> bytes:
        if away[0]:
            raise ProviderUnreachable("Vault does not answer.")
        return there(*args)

    def leaves(*args: Any) -> None:
        extracted(*args)
        away[0] = True
        keyring.forget()

    extracted = ledger.extracted
    monkeypatch.setattr(Keystore, "unwrap", unwrap)
    keyring.forget()
    if when != "before":
        monkeypatch.setattr(ledger, "extracted", leaves)
        with pytest.raises(ProviderUnreachable):
            ingestion.ingest(document.id)
    for _ in range(ledger.MAX_ATTEMPTS + 1):  # as often as the sweeper brings it back
        ingestion.ingest(document.id)
    assert now(document).is_unfinished
    away[0] = False
    ingestion.ingest(document.id)
    assert_complete(document)


def test_a_document_becomes_ready() -> None:
    document = DocumentFactory(content=files.pdf(["first page", "second page"]), file_name="a.pdf")
    ingestion.ingest(document.id)
    assert_complete(document)
    assert (now(document).format, now(document).pages) == ("pdf", 2)
    assert now(document).finished_at is not None


def test_no_cache_of_the_process_remembers_a_word_of_it(in_workspace_a: Tenant) -> None:
    """A page says after a freeze that words are dropped: what keeps them knows whose they are, and nothing else does."""
    word = "quillfeathers"
    document = DocumentFactory(content=f"{word} of the old library. ".encode() * 40)
    ingestion.ingest(document.id)
    found = search(f"where are the {word}", collections={document.collection_id})
    assert [shown.snippet.words for shown in described(folded(found.hits, {document.collection_id}).passages, word, ())] == [
        (word,)
    ]
    presence._drop(in_workspace_a.pk)
    caches = [each for each in gc.get_objects() if type(each).__name__ == "_lru_cache_wrapper"]
    assert len(caches) > 20
    assert [cache.__qualname__ for cache in caches if word in _texts(gc.get_referents(cache))] == []


def _texts(kept: list[Any], depth: int = 4) -> set[str]:
    """Texts in a cache: keys are texts, or tuples and lists of them."""
    found = {each for each in kept if isinstance(each, str)}
    if depth:
        inside = [each for each in kept if isinstance(each, (dict, tuple, list))]
        found |= _texts(gc.get_referents(*inside), depth - 1) if inside else set()
    return found


def test_running_it_again_changes_nothing() -> None:
    document = DocumentFactory(content=LONG.encode())
    ingestion.ingest(document.id)
    before = list(Chunk.objects.filter(document_id=document.id).order_by("id").values_list("id", "text"))
    ingestion.ingest(document.id)
    assert list(Chunk.objects.filter(document_id=document.id).order_by("id").values_list("id", "text")) == before


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        (b"", "empty.txt", Reason.EMPTY),
        (files.pdf([""]), "scan.pdf", Reason.NO_TEXT),
        (files.pdf(["x"], encrypt=True), "locked.pdf", Reason.ENCRYPTED),
        (files.docx(files.paragraph("x"))[:200], "cut.docx", Reason.DAMAGED),
        (b"\x89PNG\r\n\x1a\n" + bytes(50) + b"x", "picture.png", Reason.DAMAGED),
        ("\U000f0000".encode() * 50, "signs.txt", Reason.EMPTY),
    ],
)
def test_what_cannot_be_read_fails_with_its_reason(content: bytes, name: str, reason: Reason) -> None:
    document = DocumentFactory(content=content, file_name=name)
    ingestion.ingest(document.id)
    assert (now(document).state, now(document).reason) == (State.FAILED, reason)
    assert not Chunk.objects.filter(document_id=document.id).exists()


def test_a_missing_or_changed_file_fails_with_its_reason(listed: Callable[[], list[Any]]) -> None:
    missing, changed = DocumentFactory(), DocumentFactory()
    storage.remove([missing.stored_name])
    (path,) = listed()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    for document in (missing, changed):
        ingestion.ingest(document.id)
        assert now(document).reason == Reason.UNREADABLE


def test_without_a_sandbox_no_document_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def extract(self, *args: Any, **options: Any) -> None:
            raise SandboxUnavailable("no seccomp")

    monkeypatch.setattr(ingestion, "sandbox", Broken)
    document = DocumentFactory()
    ingestion.ingest(document.id)
    assert Stage.objects.get().reason == Reason.NO_SANDBOX
    monkeypatch.undo()
    ingestion.ingest(document.id)
    assert now(document).state == State.QUEUED, "not before its time"
    its_time_has_come(document)
    ingestion.ingest(document.id)
    assert_complete(document)


@pytest.mark.parametrize("error", [OSError(5, "disk"), RedisConnectionError("queue")])
@pytest.mark.parametrize(("owner", "name"), [(storage, "read"), (indexing, "add")])
def test_when_the_disk_or_redis_was_away_it_continues_later(
    owner: Any, name: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: Any, **kwargs: Any) -> None:
        raise error

    document = DocumentFactory(content=LONG.encode())
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, away)
        ingestion.ingest(document.id)
    assert now(document).state == State.QUEUED
    assert Stage.objects.latest("id").reason == Reason.OUTAGE
    its_time_has_come(document)
    ingestion.ingest(document.id)
    assert_complete(document)


def test_a_mistake_of_ours_fails_with_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise KeyError("the words of the document")

    monkeypatch.setattr(indexing, "add", broken)
    document = DocumentFactory()
    ingestion.ingest(document.id)
    failed = now(document)
    assert failed.reason == Reason.INTERNAL
    assert failed.detail.startswith("Reference ")
    assert "words of the document" not in failed.detail


# ---------------------------------------------------------------- cut off

STAGES = ["begin", "read", "extracted", "planned", "embed 1", "embed 3", "add 1", "add 3", "finish", "publish"]


def cut_at(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise Killed on entering the named step, for the numbered time."""
    name, _, count = stage.partition(" ")
    owner: Any = {
        "begin": ledger,
        "read": storage,
        "extracted": ledger,
        "planned": ledger,
        "embed": ingestion.embedder(),
        "add": indexing,
        "finish": ledger,
        "publish": indexing,
    }[name]
    original, calls = getattr(owner, name), [0]

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == int(count or 1):
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, dying)


@pytest.mark.parametrize("stage", STAGES)
def test_cut_off_at_any_stage_it_finishes_later(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    document = DocumentFactory(content=LONG.encode())
    with monkeypatch.context() as patch:
        cut_at(stage, patch)
        with pytest.raises(Killed):
            ingestion.ingest(document.id)
    assert now(document).is_unfinished
    ingestion.ingest(document.id)
    assert_complete(document)


def test_it_continues_after_the_last_committed_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    document = DocumentFactory(content=LONG.encode())
    with monkeypatch.context() as patch:
        cut_at("add 3", patch)
        with pytest.raises(Killed):
            ingestion.ingest(document.id)
    assert len(indexing.stored(document.id)) == 2 * ingestion.BATCH
    embedded: list[str] = []
    original = ingestion.embedder().embed
    monkeypatch.setattr(ingestion.embedder(), "embed", lambda texts: embedded.extend(texts) or original(texts))
    ingestion.ingest(document.id)
    assert_complete(document)
    assert len(embedded) == now(document).chunks_total - 2 * ingestion.BATCH


def test_cut_off_three_times_at_the_same_place_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    document = DocumentFactory()
    for _ in range(3):
        with monkeypatch.context() as patch:
            cut_at("extracted", patch)
            with pytest.raises(Killed):
                ingestion.ingest(document.id)
    ingestion.ingest(document.id)
    assert (now(document).state, now(document).tries) == (State.QUEUED, "2 of 3")
    its_time_has_come(document)
    ingestion.ingest(document.id)
    assert_complete(document)


# ---------------------------------------------------------------- somebody else's hand


@pytest.mark.parametrize("stage", ["extracted", "planned", "embed 1", "embed 3", "finish"])
def test_cancelled_while_running_it_ends_quietly(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    document = DocumentFactory(content=LONG.encode())
    interfere(stage, lambda: ledger.cancel_all([document.id]), monkeypatch)
    ingestion.ingest(document.id)
    assert now(document).state == State.CANCELLED
    assert not Chunk.objects.filter(document_id=document.id).exists()
    assert not Page.objects.filter(document=document).exists()
    monkeypatch.undo()
    ledger.retry_all([document.id])
    ingestion.ingest(document.id)
    assert_complete(document)


@pytest.mark.parametrize("stage", ["read", "extracted", "planned", "embed 1", "embed 3", "finish"])
def test_deleted_while_running_it_ends_quietly(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    document = DocumentFactory(content=LONG.encode())
    interfere(stage, lambda: erasing.erase([document.id]), monkeypatch)
    ingestion.ingest(document.id)
    for model in (Chunk, IndexEntry, Page):
        assert not model.objects.filter(document_id=document.id).exists()
    assert not Document.objects.filter(pk=document.id).exists()
    assert not Terms.objects.filter(pk=document.id).exists()


def test_whoever_is_stopped_does_not_wait_for_the_batch_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the second batch it was found cancelled, while the third is with the model, which does not come back."""
    document = DocumentFactory(content=LONG.encode())
    model, ahead, release, calls = ingestion.embedder(), Event(), Event(), count(1)
    embed, advance = model.embed, ledger.advance

    def stuck(texts: Any) -> Any:
        if next(calls) == 3:
            ahead.set()
            assert release.wait(20)
        return embed(texts)

    def stopped(document_id: Any, **values: Any) -> None:
        if now(document).chunks_done:
            assert ahead.wait(20)
            raise ledger.Stopped
        advance(document_id, **values)

    monkeypatch.setattr(model, "embed", stuck)
    monkeypatch.setattr(ledger, "advance", stopped)
    began = time.monotonic()
    try:
        ingestion.ingest(document.id)
        assert time.monotonic() - began < 10
    finally:
        release.set()
    assert len(indexing.stored(document.id)) == ingestion.BATCH


def test_the_thread_that_embeds_has_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    document = DocumentFactory(content=LONG.encode())
    model, seen = ingestion.embedder(), set()
    embed = model.embed

    def watched(texts: Any) -> Any:
        vectors = embed(texts)
        seen.add((current_thread().name.partition("_")[0], hasattr(connections._connections, "default")))
        return vectors

    monkeypatch.setattr(model, "embed", watched)
    ingestion.ingest(document.id)
    assert_complete(document)
    assert seen == {("embedding", False)}
    assert hasattr(connections._connections, "default")


class InThisThread:
    """An executor for a test that lies in one transaction: another thread, on its own connection, would see nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def shutdown(self, **_: Any) -> None: ...

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args))
        return future


def interfere(stage: str, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something just before the named step runs for the numbered time."""
    name, _, count = stage.partition(" ")
    monkeypatch.setattr(ingestion, "ThreadPoolExecutor", InThisThread)
    owner: Any = {"embed": ingestion.embedder(), "read": storage}.get(name, ledger)
    original, calls = getattr(owner, name), [0]

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == int(count or 1):
            act()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, interrupted)


def test_the_cloak_outlives_a_first_batch_that_is_rolled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else this process would go on to disguise by a rotation that nobody stored."""
    pool().clear()
    document = DocumentFactory(content=LONG.encode())
    add = indexing.add

    def die_after_it(*args: Any) -> None:
        add(*args)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(indexing, "add", die_after_it)
        with pytest.raises(Killed):
            ingestion.ingest(document.id)
    assert not Chunk.objects.exists()
    used = indexes.cloak(FIRST_INDEX).rotation
    pool().clear()
    assert np.array_equal(indexes.cloak(FIRST_INDEX).rotation, used)
    ingestion.ingest(document.id)
    assert_complete(document)


def test_two_workers_never_work_on_one_document() -> None:
    """While another session holds the document's lock, nothing is touched."""
    document = DocumentFactory()
    key = int.from_bytes(document.id.bytes[:8], "big", signed=True)
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s::bigint)", [key])
        ingestion.ingest(document.id)
        assert now(document).state == State.QUEUED
    finally:
        with other.cursor() as cursor:  # a session that ends lets go a moment later
            cursor.execute("SELECT pg_advisory_unlock_all()")
        other.close()
    ingestion.ingest(document.id)
    assert_complete(document)


def test_the_lock_is_given_back() -> None:
    document = DocumentFactory(content=b"")
    ingestion.ingest(document.id)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        assert cursor.fetchone() == (0,)
