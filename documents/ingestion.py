"""From an encrypted file to searchable passages: extract, chunk, embed in batches, publish.

Safe to run again at any point, by any worker: pages are committed at once, passages batch by batch under ids that follow
from the document, and a lock in the database keeps two workers from one document. What ends the process leaves the last
committed batch, from which the next run continues.
"""

import functools
import logging
import secrets
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction
from redis.exceptions import RedisError

from documents import ledger, queueing, storage, unpacking, versions
from documents.chunking import Chunker
from documents.extraction.members import ZIP
from documents.extraction.pages import Extraction
from documents.extraction.progress import Told
from documents.extraction.sandbox import LARGEST_BYTES, Sandbox, SandboxUnavailable
from documents.models import Document, Page
from documents.reasons import Reason, Unreadable
from search import indexes, indexing
from search.embeddings import EmbeddingModelMissing, Vectors, embedder
from search.indexing import Passage
from tenants.ciphers import Tampered
from tenants.context import current_tenant
from tenants.keys.keyring import keyring
from tenants.keys.providers import KeyUnavailable
from tenants.locks import alone_with
from tenants.privacy import describe_exception

logger = logging.getLogger(__name__)

BATCH = 32
# Formats whose text has "# " headings and lists to cut at.
HEADED = frozenset({"markdown", "docx", "doc", "odt", "html", "epub"})
_SECONDS_BETWEEN_LOOKS = 1.0  # while pages are read
_PAGES_BETWEEN_LOOKS = 200  # pages chunked between two looks at whether the document was cancelled


def ingest(document_id: UUID) -> bool:
    """Bring a document to an end: ready, or failed with its reason; or back into the queue for later, when it can heal.

    False when it was left alone, since another worker has it, the queue is paused or a key is away: what waits behind it
    would fare no better now. Raises only when the database or a key goes away; the sweeper then queues the document again.
    """
    with alone_with(document_id) as alone:
        if not alone or queueing.is_paused() or not _has_keys(document_id):
            return False
        document = ledger.begin(document_id)
        if document is None:
            return True
        try:
            if document.state == Document.State.EXTRACTING:
                extraction = _extract(document)
                ledger.extracted(document_id, extraction)
                document.format = extraction.format
            _embed(document_id, headed=document.format in HEADED)
            indexing.embed_rest(document_id)
            ledger.finish(document_id)
        except ledger.Stopped:
            pass
        except unpacking.TurnIsOver:
            with suppress(ledger.Stopped):
                ledger.put_back(document_id)
        except Unreadable as unreadable:
            logger.info("document %s: %s %s", document_id, unreadable.reason.value, unreadable.detail)
            ledger.fail(document_id, unreadable.reason, format_name=unreadable.format)
        except EmbeddingModelMissing as error:
            logger.error("%s", error)
            ledger.fail(document_id, Reason.NO_MODEL)
        except (OperationalError, InterfaceError, KeyUnavailable):
            raise
        except Exception as error:
            reference = secrets.token_hex(4)
            logger.error("document %s, reference %s: %s", document_id, reference, describe_exception(error))
            reason = Reason.OUTAGE if isinstance(error, OSError | RedisError) else Reason.INTERNAL
            ledger.fail(document_id, reason, f"Reference {reference}.")
        return True


def _has_keys(document_id: UUID) -> bool:
    """Asked before it is begun: a key service that is away costs no attempt, and the sweeper brings the document back."""
    tenant = current_tenant().id
    try:
        for purpose in ("file", "text"):
            keyring.subkey(tenant, keyring.current_version(tenant), purpose)
    except KeyUnavailable as error:
        logger.warning("document %s waits for its key: %s", document_id, error)
        return False
    return True


def _extract(document: Document) -> Extraction:
    if document.size > LARGEST_BYTES:
        raise Unreadable(Reason.TOO_LARGE, "file")
    extension = document.file_name.rpartition(".")[2] if "." in document.file_name else ""
    try:
        stored = storage.read(document.id, document.stored_name)
        extraction = sandbox().extract(stored, extension, progress=_noted_now_and_then(document.id))
        return unpacking.unpack(document, sandbox()) if extraction.format == ZIP else extraction
    except (storage.FileMissing, Tampered) as error:
        raise Unreadable(Reason.UNREADABLE, type(error).__name__) from None
    except SandboxUnavailable as error:
        logger.error("%s", error)
        raise Unreadable(Reason.NO_SANDBOX) from None


def _noted_now_and_then(document_id: UUID) -> Told:
    """Writes down how many pages are read, and looks whether somebody cancelled: once a second, not with every page."""
    noted = time.monotonic()

    def note(done: int, total: int) -> None:
        nonlocal noted
        if time.monotonic() - noted >= _SECONDS_BETWEEN_LOOKS:
            ledger.reading(document_id, done=done, total=total)
            noted = time.monotonic()

    return note


def _embed(document_id: UUID, *, headed: bool) -> None:
    passages = list(_passages(document_id, headed))
    if not passages:
        raise Unreadable(Reason.EMPTY, "passages")
    stored = indexing.stored(document_id)
    ledger.planned(document_id, total=len(passages), done=len(stored))
    indexes.prepare()  # not within a batch's transaction, which may be undone
    missing = _add_unchanged(document_id, [passage for passage in passages if passage.sequence not in stored])
    models = indexes.models()  # once: what an index begun meanwhile lacks, `embed_rest` adds
    for batch, vectors in _embedded(missing, models):
        with transaction.atomic():
            ledger.advance(document_id, done=len(batch))
            indexing.add(document_id, batch, vectors)


def _add_unchanged(document_id: UUID, passages: list[Passage]) -> list[Passage]:
    """Store those whose text the version before has, with its vectors. Returns those to embed."""
    before = versions.predecessor(document_id)
    if before is None or not passages:
        return passages
    try:
        known = indexing.same_texts(before)
    except (indexing.IncompleteDocument, Tampered):  # it was erased meanwhile, or is damaged: this one is whole
        return passages
    same = [(passage, known[key]) for passage in passages if (key := indexing.text_digest(passage.text)) in known]
    stored: set[int] = set()
    for start in range(0, len(same), BATCH):
        batch = same[start : start + BATCH]
        try:
            made = indexing.recalled([pk for _, pk in batch])
        except Tampered:
            made = None
        if made is None:
            continue
        with transaction.atomic():
            ledger.advance(document_id, done=len(batch))
            indexing.add(document_id, [passage for passage, _ in batch], made)
        stored.update(passage.sequence for passage, _ in batch)
    return [passage for passage in passages if passage.sequence not in stored]


def _embedded(passages: Iterable[Passage], models: list[str]) -> Iterator[tuple[list[Passage], dict[str, Vectors]]]:
    """Batches and their vectors by each of these models. It works on the next batch while the database stores this one.

    By length, since a batch is padded to its longest: their order does not matter before they are published.
    The thread gets texts and returns vectors; the database's connection is this thread's alone.
    """
    waiting = iter(sorted(passages, key=lambda passage: passage.tokens))
    ahead = ThreadPoolExecutor(1, thread_name_prefix="embedding")

    def begin() -> tuple[list[Passage], Future[dict[str, Vectors]]]:
        batch = list(islice(waiting, BATCH))
        return batch, ahead.submit(indexing.embedded, [passage.text for passage in batch], models)

    try:
        batch, vectors = begin()
        while batch:
            following = begin()
            yield batch, vectors.result()
            batch, vectors = following
    finally:
        ahead.shutdown(wait=False, cancel_futures=True)  # who was stopped does not wait for vectors nobody wants


def _passages(document_id: UUID, headed: bool) -> Iterator[Passage]:
    """The same passages in the same order every time: their ids follow from it."""
    chunks = chunker()
    read = Page._meta.get_field("text").reader()
    sequence = 0
    pages = Page.objects.filter(document_id=document_id).order_by("number").values_list("number", "text")
    try:
        for seen, (number, text) in enumerate(pages.iterator(chunk_size=_PAGES_BETWEEN_LOOKS)):
            if seen % _PAGES_BETWEEN_LOOKS == 0:
                ledger.still_working(document_id)
            for piece in chunks.pieces(read(Page.identity(document_id, number), text), markdown=headed):
                identity = indexing.passage_id(document_id, sequence)
                yield Passage(identity, sequence, number, piece.start, piece.end, piece.text, piece.tokens)
                sequence += 1
    finally:
        chunks.forget()


@functools.cache
def sandbox() -> Sandbox:
    """The process's one sandbox."""
    return Sandbox(languages=settings.OCR_LANGUAGES)


@functools.cache
def chunker() -> Chunker:
    """The process's one chunker, which counts as the embedding model does."""
    model = embedder()
    return Chunker(model.tokenizer, model.max_tokens)
