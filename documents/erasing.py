"""Erasing documents, for good: rows, pages, passages, vectors, words, files and jobs; every deletion goes through here.

What is erased is written into a list outside the database (tenants.erasures) before the erasure is committed. So an older
backup brings nothing back: its database has not followed the list, the workspace stays shut until `catch_up` has erased
it again. Killed anywhere, it is finished the same way. A receipt is issued once nothing is found any more.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID, uuid4, uuid5

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from redis.exceptions import RedisError

from documents import arrivals, quotas, series, storage
from documents.models import Collection, Document, Page, Stage, Value
from search import indexing
from search.pool import pool
from tenants import erasures, jobs, receipts, witness
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.context import current_tenant, workspace
from tenants.errors import Refused
from tenants.models import Receipt, Tenant
from tenants.privacy import describe_exception
from tenants.schemas import is_behind
from tenants.sweeping import public_sweeper

logger = logging.getLogger(__name__)

BATCH = 5000  # ids of a statement; PostgreSQL takes at most 65,535 parameters


class NotErased(Exception):
    """Something is still there after everything was erased: no receipt is issued, and it is tried again."""


@dataclass(frozen=True, slots=True)
class Erased:
    """How many documents went, each with its versions, and the id of the receipt; None where nothing went."""

    documents: int
    receipt: UUID | None


@dataclass
class _Gone:
    """What a transaction removed, and what is needed to finish once it is committed."""

    ids: list[UUID]
    files: dict[UUID, str]
    series: set[UUID] = field(default_factory=set)
    bytes: int = 0
    pages: int = 0
    values: int = 0
    stages: int = 0
    search: indexing.Removed = field(default_factory=indexing.Removed)

    def counts(self) -> dict[str, int]:
        return {
            "documents": len(self.files),
            "bytes": self.bytes,
            "files": len(self.files),
            "pages": self.pages,
            "metadata values": self.values,
            "stages of work": self.stages,
            "passages": self.search.passages,
            "vectors": self.search.vectors,
            "term entries": self.search.terms,
            "filter entries": self.search.facts,
        }


@dataclass(frozen=True)
class _Followed:
    """Lines of the list whose rows are gone, and where the last of them ends."""

    lines: list[dict[str, Any]]
    end: int


@dataclass(frozen=True)
class _Interrupted:
    """What others began and did not end, and how many documents of it were still there."""

    followed: _Followed
    documents: int


# ---------------------------------------------------------------- the verbs


def erase(ids: Iterable[UUID], **still: object) -> Erased:
    """Erase these documents and all versions of each, all or none. A worker on one notices before its next commit.

    `still`: what has to be true of a document when its turn comes; one of which it is not any more is left as it is.

    Not within a transaction of the caller's, whose end would come too late. Raises Refused under a legal hold.
    """
    refuse_on_hold()
    keys = receipts.key_fingerprints(current_tenant().pk)  # before anything is locked: the provider may be far away
    with transaction.atomic(durable=True):  # nothing takes a line of the list back
        before = _take_over()
        ids = series.with_all(ids)
        gone = _remove(_still(ids, still) if still else ids)
        followed = _write_down(gone, keys, before)
    return _after_commit(followed, len(gone.series))


def erase_collection(collection: Collection) -> Erased:
    """Erase a collection with all its documents, those in the trash too. Raises Refused under a legal hold."""
    refuse_on_hold()
    keys = receipts.key_fingerprints(current_tenant().pk)
    with transaction.atomic(durable=True):  # nothing takes a line of the list back
        _wait_for_others()
        locked = Collection.objects.select_for_update().filter(pk=collection.pk)  # no document arrives while it goes
        if locked.first() is None:
            return Erased(0, None)
        before = _take_over()
        gone = _remove(collection.documents.values_list("id", flat=True))
        for arrival in collection.arrivals.all():
            arrivals.drop(arrival)
        locked.get().delete()
        record(Event.COLLECTION_DELETED, collection=str(collection.pk), documents=len(gone.files))
        followed = _write_down(gone, keys, before)
    return _after_commit(followed, len(gone.series))


def discard(collection: Collection) -> None:
    """Remove a collection of canaries: nobody's documents, which need no receipt, and which a backup may bring back."""
    if not collection.is_canary:
        raise ValueError("documents of people are erased")
    with transaction.atomic():
        _discard(collection.documents.values_list("id", flat=True))
        collection.delete()


@transaction.atomic
def discard_documents(canaries: QuerySet[Document]) -> None:
    """Single documents of canaries, as `discard` does."""
    _discard(canaries.filter(collection__is_canary=True).values_list("id", flat=True))


def _discard(ids: Iterable[UUID]) -> None:
    gone = _remove(ids)
    transaction.on_commit(lambda: storage.remove(gone.files.values()))


def catch_up() -> int:
    """Erase in the current workspace what its list says and this database has not followed. Returns how many documents.

    After an older backup was restored, and after an erasure that was interrupted. Safe to repeat.
    """
    with transaction.atomic(durable=True):  # nothing takes a line of the list back
        before = _take_over()
        _record_interrupted(before)
    _finish(before.followed)
    return before.documents


@public_sweeper
def catch_up_everywhere() -> dict[str, int]:
    """Every workspace that has not followed its list; those that wait for an upgrade do it after that. By address."""
    done = {}
    for tenant in erasures.behind():
        if is_behind(tenant.schema_version):
            continue
        try:
            with workspace(tenant):
                done[tenant.slug] = catch_up()
        except Exception as error:  # one workspace's trouble is not the others'
            logger.error("erasing again in %s failed, to be tried again: %s", tenant.pk, describe_exception(error))
    return done


def look_for_returned() -> int:
    """Erased documents that are back although the database says it has followed its list. Returns how many there are.

    Somebody restored single tables, or put rows back by SQL. The workspace is shut until `catch_up` has erased them.
    """
    with transaction.atomic():
        _wait_for_others()  # what is being erased at this moment is not back
        found = sum(Document.objects.filter(pk__in=batch).count() for batch in batches(erased_ids()))
    if found:
        logger.error("%d erased documents are back in %s: to be erased again", found, current_tenant().pk)
        erasures.begin_anew(current_tenant())
    return found


def erased_ids() -> Iterator[UUID]:
    """Every document that this workspace erased: none of these ids may ever be a document's again."""
    return (UUID(each) for line in witness.lines(erasures.list_of(current_tenant().pk)) for each in line["documents"])


# ---------------------------------------------------------------- within the transaction


def refuse_on_hold() -> None:
    """Raises Refused where the workspace must be kept."""
    held = Tenant.objects.filter(pk=current_tenant().pk).values_list("legal_hold", flat=True).first()
    if held:
        raise Refused(f"Nothing can be erased: this workspace must be kept ({held}) until the administrators release it.")


def _wait_for_others() -> None:
    """One erasure at a time: what stands in the list before ours is committed, or was interrupted and is ours to repeat."""
    key = int.from_bytes(uuid5(current_tenant().pk, "erasing").bytes[:8], "big", signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s::bigint)", [key])


def _take_over() -> _Interrupted:
    """What the list has that this database has not followed: its rows go now."""
    _wait_for_others()
    end = witness.size(erasures.list_of(current_tenant().pk))
    lines = list(erasures.waiting(current_tenant()))
    gone = _remove(UUID(each) for line in lines for each in line["documents"])
    return _Interrupted(_Followed(lines, end), len(gone.files))


def _record_interrupted(before: _Interrupted) -> None:
    """Whoever began it did not come to that. Last, as every entry: it locks the log until the transaction ends."""
    if before.documents:
        record(Event.ERASED, documents=before.documents, again=True)


def _still(ids: Iterable[UUID], conditions: dict[str, object]) -> Iterator[UUID]:
    """Those of which it is true, locked."""
    for batch in batches(sorted(ids)):
        rows = Document.objects.select_for_update(of=("self",)).filter(pk__in=batch, **conditions)
        yield from rows.order_by("pk").values_list("pk", flat=True)


def _remove(ids: Iterable[UUID]) -> _Gone:
    gone = _Gone(sorted(ids), {})
    sizes: list[int] = []
    # Every row before the first `remove`, which locks the index: whoever finishes a document locks them in this order too.
    for batch in batches(gone.ids):
        rows = Document.objects.select_for_update(of=("self",)).filter(pk__in=batch).order_by("pk")
        columns = ("id", "series", "stored_name", "size", "collection__is_canary")
        for pk, first, name, size, is_canary in rows.values_list(*columns):
            gone.files[pk] = name
            gone.series.add(first or pk)
            gone.bytes += size
            sizes += [] if is_canary else [size]
    for batch in batches(gone.ids):  # also what has no row any more: an older backup may hold half of it
        gone.search += indexing.remove(batch)
        with connection.cursor() as cursor:  # the ORM would read every page first, to see what refers to it
            cursor.execute("DELETE FROM documents_page WHERE document_id = ANY(%s)", [batch])
            gone.pages += cursor.rowcount
            cursor.execute("DELETE FROM documents_value WHERE document_id = ANY(%s)", [batch])
            gone.values += cursor.rowcount
            cursor.execute("DELETE FROM documents_stage WHERE document_id = ANY(%s)", [batch])
            gone.stages += cursor.rowcount
            cursor.execute("DELETE FROM documents_document WHERE id = ANY(%s)", [batch])
    quotas.give_back(len(sizes), sum(sizes))  # last, as everywhere: whoever holds this row waits for no other
    return gone


def _write_down(gone: _Gone, keys: list[dict[str, Any]], before: _Interrupted) -> _Followed | None:
    """Into the log and the list; the list last, since nothing takes a line back. None: there was nothing to erase.

    Lines before ours whose erasure was interrupted are ours to follow: their rows went in this transaction.
    """
    _record_interrupted(before)
    if not gone.files:
        return before.followed if before.followed.lines else None
    receipt = uuid4()
    only = str(next(iter(gone.files))) if len(gone.files) == 1 else None
    record(Event.ERASED, document=only, documents=len(gone.files), receipt=str(receipt))
    own = {
        "at": timezone.now().isoformat(),
        "receipt": str(receipt),
        "documents": [str(pk) for pk in gone.files],
        "files": list(gone.files.values()),
        "counts": gone.counts(),
        "keys": keys,
    }
    return _Followed([*before.followed.lines, own], witness.append(erasures.list_of(current_tenant().pk), own))


# ---------------------------------------------------------------- once it is committed


def _after_commit(followed: _Followed | None, documents: int) -> Erased:
    if followed is None:
        return Erased(0, None)
    _finish(followed)
    if not documents:
        return Erased(0, None)
    return Erased(documents, UUID(followed.lines[-1]["receipt"]))


def _finish(followed: _Followed) -> None:
    """Files, jobs and memory; then look whether anything is left, issue the receipts, and say that the list was followed."""
    tenant, lines = current_tenant(), followed.lines
    storage.remove(name for line in lines for name in line["files"])
    pool().forget(tenant.pk)
    for line in lines:
        ids = [UUID(each) for each in line["documents"]]
        removed = _forget_jobs(ids)
        verified = _left(ids, line["files"])
        if left := {name: number for name, number in verified.items() if number}:
            raise NotErased(f"of the erasure {line['receipt']} there is left: {json.dumps(left)}")
        receipts.issue(
            UUID(line["receipt"]),
            Receipt.Kind.DOCUMENTS,
            tenant.pk,
            tenant.name,
            what=ids,
            erased_at=line["at"],
            counts={**line["counts"], "jobs": removed},
            keys=line["keys"],
            cannot_reach=cannot_reach(),
            verified=verified,
        )
    erasures.followed(tenant, followed.end)


def _forget_jobs(ids: list[UUID]) -> int:
    try:
        return jobs.forget([f"ingest-{pk}" for pk in ids])
    except RedisError as error:  # a job of a document that is gone does nothing, and holds no more than its id
        logger.warning("jobs of erased documents stay: %s", describe_exception(error))
        return 0


def _left(ids: list[UUID], files: list[str]) -> dict[str, int]:
    """What can still be found of these documents."""
    names = ("documents", "pages", "metadata values", "stages of work", "passages", "vectors", "term entries", "filter entries")
    found = dict.fromkeys(names, 0)
    for batch in batches(ids):
        search = indexing.count(batch)
        found["documents"] += Document.objects.filter(pk__in=batch).count()
        found["pages"] += Page.objects.filter(document_id__in=batch).count()
        found["metadata values"] += Value.objects.filter(document_id__in=batch).count()
        found["stages of work"] += Stage.objects.filter(document_id__in=batch).count()
        found["passages"] += search.passages
        found["vectors"] += search.vectors
        found["term entries"] += search.terms
        found["filter entries"] += search.facts
    return found | {"files": sum(storage.is_there(name) for name in files)}


def cannot_reach() -> list[str]:
    """What erasing a document does not reach: said on its receipt, and before it is erased."""
    return [
        "Copies that people downloaded, exported or sent.",
        "ZIP archives which hold the same file, and, of an archive, the documents that came out of it: each until it is erased "
        "itself.",
        f"Backups of the database and of the files made before, {receipts.backups_in_words()}. They hold it encrypted "
        "under the workspace's key, which lives on. Cloister erases it again before it serves a database restored from one.",
        "Disk blocks and the write-ahead log of the database: freed, and encrypted, until they are written over.",
        "Evaluation results, and shared, saved and past searches, which name documents by id or by the words somebody typed; "
        "judgments keep the names that were typed into them.",
        "The audit log, which names documents by id.",
        "Memory of other running processes: its words, as digests, the metadata it was filtered by, and, except at the "
        "level open, its vectors. They are found no more from the next search on, and dropped when the list is put together "
        "anew or has not been used for some minutes.",
    ]


def batches(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    remaining = iter(ids)
    while batch := list(islice(remaining, BATCH)):
        yield batch
