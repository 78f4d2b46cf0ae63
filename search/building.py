"""Changes how a workspace's vectors are held, or the model they are made by: builds an index beside the live one, measures it,
cuts over, keeps the other to go back to, removes it.

Search goes on through the live index meanwhile; what is uploaded goes into both. Killed anywhere, a job goes on where it was:
what an index lacks is seen in the tables. DDL runs as the operator, whom only workers hold. Asks nobody for permission.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID, uuid5

from django.conf import settings
from django.db import connection, connections, transaction
from django.db.models import Exists, F, Max, OuterRef, Sum
from django.utils import timezone

from search import candidates, indexes, indexing, vectors
from search.embeddings import EmbeddingModelMissing, embedder, models
from search.indexes import Agreed
from search.models import Chunk, FurtherVector, IndexEntry, Protection, SealedVectors, StoredCloak, Terms, VectorIndex
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.context import current_tenant
from tenants.errors import Refused
from tenants.jobs import enqueue, in_flight, task
from tenants.locks import alone_with
from tenants.privacy import describe_exception
from tenants.schemas import is_still_open
from tenants.sweeping import sweeper

logger = logging.getLogger(__name__)

State = VectorIndex.State

REMOVED_BATCH = 5000  # vectors that are removed under one hold of the lock
SEALED_BATCH = 50  # documents whose vectors are encrypted under one hold of the lock
LEAST_M, MOST_M = 4, 64  # links of a passage in the graph
LEAST_EF, MOST_EF = 16, 1000  # passages looked at to find them
RECALL_AT_LEAST = 0.95  # of the exact ten best; below it an index is not used
MORE_LINKS = "More links (m) or a larger ef_construction find more."
MAX_ATTEMPTS = 3
BUILD_MEMORY = "256MB"  # in which pgvector builds a graph; one that does not fit takes longer
TIMEOUT_SECONDS = 6 * 3600
LOCK_SECONDS = 10  # whoever searches waits no longer than that behind one who waits for a lock


class BadSetting(Refused):
    """A setting that no index can have; `name` says which."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Stopped(Exception):
    """Cancelled, or the workspace was closed or frozen: end quietly, a sweeper brings back what is to go on."""


# ---------------------------------------------------------------- verbs


def begin(
    protection: str | None = None,
    *,
    model: str | None = None,
    metric: str | None = None,
    m: int | None = None,
    ef_construction: int | None = None,
    by: int | None = None,
) -> VectorIndex:
    """Build an index beside the live one, and use it once it is ready. What is not given stays as it is. Raises Refused."""
    with transaction.atomic():
        live = _free_to_build()
        wanted = _checked(live.protection if protection is None else protection)
        if wanted == Protection.SEALED and any(setting is not None for setting in (metric, m, ef_construction)):
            raise Refused("A sealed index is compared in memory: it has no settings.")
        index = _like(live, by)
        index.protection = wanted.value
        if model is not None:
            index.model, index.dimension = model, _installed(model)
        if metric is not None:
            index.metric = metric
        if m is not None:
            index.m = m
        if ef_construction is not None:
            index.ef_construction = ef_construction
        _require_possible(index)
        if _differ_in_disguise_alone(live, index):
            raise Refused(
                f"The workspace is {wanted.label.lower()} already."
                if protection is not None
                else f"The workspace is searched by {model} already."
                if model is not None
                else "The index in use has these settings already."
            )
        _begin(index, live)
    _queue(index)
    return index


def draw_new_disguise(by: int | None = None) -> VectorIndex:
    """Build a cloaked index as the live one is, turned by a new secret rotation; the one before is removed. Raises Refused."""
    with transaction.atomic():
        live = _free_to_build()
        if _checked(live.protection) != Protection.CLOAKED:
            raise Refused(f"The workspace is {live.get_protection_display().lower()}: only cloaked vectors are disguised.")
        index = _like(live, by)
        _begin(index, live)
    _queue(index)
    return index


def _free_to_build() -> VectorIndex:
    """The live index, once nothing else can begin. Raises Refused."""
    indexing.lock()
    if VectorIndex.objects.filter(state=State.BUILDING).exists():
        raise Refused("An index is being built already. Wait for it, or cancel it.")
    return VectorIndex.objects.get(state=State.LIVE)


def _like(live: VectorIndex, by: int | None) -> VectorIndex:
    """The next index, not saved."""
    return VectorIndex(
        id=1 + VectorIndex.objects.aggregate(newest=Max("id"))["newest"],
        model=live.model, dimension=live.dimension, metric=live.metric, m=live.m, ef_construction=live.ef_construction,
        protection=live.protection, state=State.BUILDING, created_by_id=by,
        total=Chunk.objects.filter(document_id__in=Terms.objects.values("document_id")).count(),
    )  # fmt: skip


def _installed(name: str) -> int:
    """The dimension of a model that can be changed to. Raises BadSetting."""
    installed = models()
    model = installed.get(name)
    if model is None:
        raise BadSetting("model", f"The embedding model {name} is not installed: choose from {', '.join(installed)}.")
    if model.max_tokens < (least := embedder().max_tokens):
        raise BadSetting(
            "model",
            f"{name} reads {model.max_tokens} word pieces of a text, and passages have up to {least}: it would not read all.",
        )
    return model.dimension


def _require_possible(index: VectorIndex) -> None:
    """Raises BadSetting."""
    if index.metric not in indexes.METRICS:
        raise BadSetting("metric", f"{index.metric!r} is no comparison: choose from {', '.join(indexes.METRICS)}.")
    if not LEAST_M <= index.m <= MOST_M:
        raise BadSetting("m", f"m is {LEAST_M} to {MOST_M}, not {index.m}.")
    if not LEAST_EF <= index.ef_construction <= MOST_EF:
        raise BadSetting("ef_construction", f"ef_construction is {LEAST_EF} to {MOST_EF:,}, not {index.ef_construction}.")
    if index.ef_construction < 2 * index.m:  # pgvector's own limit
        raise BadSetting("ef_construction", f"ef_construction is at least twice m: {2 * index.m} or more where m is {index.m}.")


def _begin(index: VectorIndex, live: VectorIndex) -> None:
    index.save(force_insert=True)
    wanted, before = Protection(index.protection), indexes.agreed().least
    if wanted == Protection.CLOAKED:
        indexes.make_cloak(index)
    least = min(before, wanted, key=lambda level: level.rank)
    graph: dict[str, Any] = {"metric": index.metric, "m": index.m, "ef_construction": index.ef_construction}
    about = {} if index.is_sealed else graph
    if index.model != live.model:
        about["model"] = index.model
    record(Event.INDEX_BEGUN, index=index.id, protection=index.protection, instead_of=live.protection, **about)
    indexes.agree(Agreed(least, wanted, before))  # before the index can be seen: whoever stores asks


def cancel() -> None:
    """Stop what is being built; the live index stays. Raises Refused."""
    with transaction.atomic():
        indexing.lock()
        if not VectorIndex.objects.filter(state=State.BUILDING).update(state=State.RETIRING, finished_at=timezone.now()):
            raise Refused("Nothing is being built.")
        _as_before()
    _queue_removal()


def go_back() -> VectorIndex:
    """Use the newest index that is kept instead of the live one, at once, which is kept in its place. Raises Refused."""
    with transaction.atomic():
        indexing.lock()
        kept = VectorIndex.objects.filter(state=State.STANDBY).order_by("-finished_at", "-id").first()
        if kept is None:
            raise Refused("There is no index to go back to.")
        _checked(kept.protection)
        if kept.model not in models():
            raise Refused(f"The embedding model {kept.model} of the index that is kept is not installed.")
        if not indexes.is_agreed(kept):
            raise Refused("The index that is kept is not what was agreed to: it cannot be used.")
        _replace_live(kept)
    return kept


def remove_kept() -> None:
    """Remove what is kept to go back to. Raises Refused."""
    with transaction.atomic():
        indexing.lock()
        if not VectorIndex.objects.filter(state=State.STANDBY).update(state=State.RETIRING):
            raise Refused("No index is kept.")
    _queue_removal()


def levels() -> list[tuple[Protection, bool]]:
    """Every level, and whether the installation allows it."""
    return [(level, level.rank >= Protection(settings.PROTECTION_FLOOR).rank) for level in Protection]


def _checked(protection: str) -> Protection:
    """Raises Refused for what is no level, or one below the installation's floor."""
    try:
        wanted = Protection(protection)
    except ValueError:
        raise Refused(f"{protection!r} is no level of protection: choose from {', '.join(Protection.values)}.") from None
    if wanted.rank < Protection(settings.PROTECTION_FLOOR).rank:
        raise Refused(f"This installation allows no level below {settings.PROTECTION_FLOOR}.")
    return wanted


# ---------------------------------------------------------------- jobs


def _queue(index: VectorIndex) -> None:
    enqueue("search.building.work", index.id, job_id=f"index-{index.id}", timeout=TIMEOUT_SECONDS)


def _queue_removal() -> None:
    enqueue("search.building.remove_retired", job_id="indexes-removed", timeout=TIMEOUT_SECONDS)


@sweeper
def resume() -> None:
    """Queue again what no worker has. A workspace below the installation's floor is brought up to it, and one that is less
    protected than its owners agreed to (an older backup was restored, or somebody wrote to the database) up to that.
    """
    with transaction.atomic():
        indexing.lock()  # who begins one agrees to it before it can be seen
        building = VectorIndex.objects.filter(state=State.BUILDING).first()
        live = VectorIndex.objects.get(state=State.LIVE)
        if building is None and (wanted := indexes.agreed().wanted):  # killed between a commit and what is agreed to then
            indexes.agree(Agreed(wanted)) if live.protection == wanted else _as_before()
    if building is not None and not in_flight(f"index-{building.id}", "default"):
        _queue(building)
    if VectorIndex.objects.filter(state=State.RETIRING).exists() and not in_flight("indexes-removed", "default"):
        _queue_removal()
    least = max(Protection(settings.PROTECTION_FLOOR), indexes.agreed().least, key=lambda level: level.rank)
    if building is None and Protection(live.protection).rank < least.rank:
        begin(least)


@task
def work(index_id: int) -> None:
    """Build it and cut over to it. Does nothing when it is built, cancelled, or another process is at it."""
    with alone_with(uuid5(current_tenant().pk, f"index {index_id}")) as alone:
        claimed = VectorIndex.objects.filter(pk=index_id, state=State.BUILDING)
        if not alone or not claimed.update(attempts=F("attempts") + 1):
            return
        index = claimed.get()
        try:
            _build(index)
        except Stopped:
            claimed.update(attempts=F("attempts") - 1)
        except EmbeddingModelMissing:
            _fail(index, f"The embedding model {index.model} is not installed any more. What was in use stays in use.")
        except Exception as error:
            if index.attempts >= MAX_ATTEMPTS:
                _fail(index, f"It could not be built ({describe_exception(error)[:120]}). What was in use stays in use.")
            raise


def _build(index: VectorIndex) -> None:
    if indexes.agreed().wanted != index.protection:
        _fail(index, "Its row was changed outside Cloister. What was in use stays in use.")
        return
    _embed(index)
    index.done = max(index.done, _held(index))
    batch = _batches(index)
    while _fill(index, batch):
        pass
    if not index.is_sealed:
        _make_graph(index)
    index.recall = candidates.recall(indexes.as_live(index))
    if index.recall is not None and index.recall < RECALL_AT_LEAST:
        _fail(index, f"It would find {index.recall:.1%} of the ten best passages. What was in use stays in use. {MORE_LINKS}")
        return
    with transaction.atomic():
        indexing.lock()
        if not VectorIndex.objects.filter(pk=index.pk, state=State.BUILDING).exists():
            raise Stopped
        batch = _batches(index)  # from the first again: what was stored by transactions that ended after the last look
        while batch():
            pass
        _replace_live(index)
    if VectorIndex.objects.filter(state=State.RETIRING).exists():
        _queue_removal()


def _embed(index: VectorIndex) -> None:
    """Give every passage a vector by the index's model that has none, which takes longest. Raises Stopped."""
    if lacking := vectors.lacking(index).count():
        index.done = max(0, index.total - lacking)
    last, batch = UUID(int=0), [UUID(int=0)]
    while batch:
        if not is_still_open():
            raise Stopped
        with transaction.atomic():  # of which only the end is locked
            batch = indexing.embed_missing(index, after=last)
            _advance(index, len(batch))
        last = batch[-1] if batch else last


def _fill(index: VectorIndex, batch: Callable[[], int]) -> bool:
    """One batch of what it lacks, in a transaction. Whether there was any. Raises Stopped."""
    if not is_still_open():
        raise Stopped
    with transaction.atomic():
        indexing.lock()
        entered = batch()
        _advance(index, entered)
    return entered > 0


def _advance(index: VectorIndex, passages: int) -> None:
    """In the transaction that stores them. Raises Stopped."""
    index.done = min(index.done + passages, index.total)
    if not VectorIndex.objects.filter(pk=index.pk, state=State.BUILDING).update(done=index.done):
        raise Stopped


def _batches(index: VectorIndex) -> Callable[[], int]:
    """Each call enters some of what the index lacks, and says how many passages; 0: there was nothing left."""
    last = UUID(int=0)
    # sealed, and by a further model, it reads the vectors of passages themselves
    lacking = indexing.embed_missing if index.is_sealed else indexing.enter_missing

    def enter() -> int:
        nonlocal last
        entered = lacking(index, after=last)
        last = entered[-1] if entered else last
        return len(entered)

    def seal() -> int:
        sealed = SealedVectors.objects.filter(document_id=OuterRef("document_id"))
        lacking = Terms.objects.filter(~Exists(sealed)).values_list("document_id", flat=True)[:SEALED_BATCH]
        return indexing.seal(index, list(lacking))

    return seal if index.is_sealed and index.is_of_first_model else enter


def _held(index: VectorIndex) -> int:
    if index.is_sealed and not index.is_of_first_model:
        return FurtherVector.objects.filter(model=index.model).count()
    if index.is_sealed:
        return SealedVectors.objects.aggregate(passages=Sum("passages"))["passages"] or 0
    return IndexEntry.objects.filter(index=index).count()


def _replace_live(index: VectorIndex) -> None:
    """Under `indexing.lock`. The index before is kept to go back to, where that does no harm."""
    now = timezone.now()
    before = VectorIndex.objects.get(state=State.LIVE)
    VectorIndex.objects.filter(pk=before.pk).update(state=State.STANDBY)
    changes: dict[str, Any] = {"state": State.LIVE, "recall": index.recall, "finished_at": index.finished_at or now}
    VectorIndex.objects.filter(pk=index.pk).update(**changes)
    transaction.on_commit(partial(indexes.agree, Agreed(Protection(index.protection))))
    for kept in VectorIndex.objects.filter(state=State.STANDBY):
        if kept.pk != before.pk or not _may_stay_beside(kept, index):  # one is kept
            VectorIndex.objects.filter(pk=kept.pk).update(state=State.RETIRING)
    indexing.raise_generation()
    record(Event.INDEX_CHANGED, index=index.id, protection=index.protection, instead_of=before.protection)


def _may_stay_beside(kept: VectorIndex, live: VectorIndex) -> bool:
    """Not what is less protected: it would take back what the change is for. Nor a cloaked one beside an open one: the same
    vectors as they are and disguised give the disguise away, and with it all that it would hide later. Nor the one before
    when nothing but the disguise is new: it was drawn because the other may be known, and whoever knows one of two works
    out the other from the rows of both.

    Two cloaked ones with other settings may: the noise is the same (`indexes.make_cloak`), so each is the other turned by a
    random rotation, which whoever holds one can draw for himself. Both say no more than either does.
    """
    if live.protection == Protection.OPEN and kept.protection == Protection.CLOAKED:
        return False
    if live.protection == Protection.CLOAKED and _differ_in_disguise_alone(kept, live):
        return False
    return Protection(kept.protection).rank >= Protection(live.protection).rank


def _differ_in_disguise_alone(one: VectorIndex, other: VectorIndex) -> bool:
    """Or in nothing, where there is no disguise."""
    settings_of_one = ("protection", "model", "metric", "m", "ef_construction")
    return all(getattr(one, name) == getattr(other, name) for name in settings_of_one)


def _as_before() -> None:
    """What was agreed to before a change that comes to nothing."""
    known = indexes.agreed()
    indexes.agree(Agreed(known.before or known.least))


def _fail(index: VectorIndex, detail: str) -> None:
    failed = VectorIndex.objects.filter(pk=index.pk, state=State.BUILDING)
    if failed.update(state=State.RETIRING, detail=detail[:200], recall=index.recall, finished_at=timezone.now()):
        _as_before()
        _queue_removal()


# ---------------------------------------------------------------- as the operator


def _graph(index: VectorIndex) -> tuple[str, str]:
    """The name of its HNSW index, and that with its schema, quoted."""
    name = f"search_indexentry_hnsw_{index.id}"
    return name, f'"{current_tenant().schema_name}"."{name}"'


def _make_graph(index: VectorIndex) -> None:
    """Without keeping anybody from writing. One that a killed job left unfinished is made anew."""
    schema = current_tenant().schema_name
    name, qualified = _graph(index)
    operator: Any = connections["operator"]
    with operator.cursor() as cursor:
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [qualified])
        if (there := cursor.fetchone()) is not None:
            if there[0]:
                return
            cursor.execute(f"DROP INDEX CONCURRENTLY {qualified}")
        cursor.execute(f"SET maintenance_work_mem = '{BUILD_MEMORY}'")
        _, operator_class = indexes.METRICS[index.metric]
        cursor.execute(
            f'CREATE INDEX CONCURRENTLY "{name}" ON "{schema}".search_indexentry '
            f"USING hnsw ((vector::halfvec({index.dimension})) {operator_class}) "
            f"WITH (m = {index.m}, ef_construction = {index.ef_construction}) WHERE index_id = {index.id}"
        )
        cursor.execute("RESET maintenance_work_mem")


@task
def remove_retired() -> None:
    """Take what retired indexes held out of the tables, and their storage with it where nothing else lies there."""
    with alone_with(uuid5(current_tenant().pk, "indexes removed")) as alone:
        if not alone:
            return
        for index in VectorIndex.objects.filter(state=State.RETIRING):
            if not is_still_open():
                return
            with suppress(Stopped):
                _remove(index)


def _remove(index: VectorIndex) -> None:
    """Raises Stopped."""
    schema = current_tenant().schema_name
    operator: Any = connections["operator"]
    with operator.cursor() as cursor:
        cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {_graph(index)[1]}")
    with transaction.atomic():
        indexing.lock()  # none of it is written from here on: whoever is under way ends first
        alike = VectorIndex.objects.filter(state__in=VectorIndex.WRITTEN, protection=Protection.SEALED, model=index.model)
        if index.is_sealed and index.is_of_first_model and not alike.exists():
            SealedVectors.objects.all().delete()
        StoredCloak.objects.filter(index=index).delete()
        with connection.cursor() as entries:
            entries.execute("DELETE FROM search_indexentry WHERE index_id = %s", [index.id])
    tables = ["search_indexentry", "search_sealedvectors", "search_cloak"]
    if _remove_vectors(index):
        tables.append("search_chunk" if index.is_of_first_model else "search_furthervector")
    for table in tables:
        _free(operator, f'"{schema}".{table}')
    ended = State.FAILED if index.detail else State.RETIRED
    VectorIndex.objects.filter(pk=index.pk).update(state=ended)


def _remove_vectors(index: VectorIndex) -> bool:
    """The true vectors by its model, where no index is written by it any more. Whether there were any. Raises Stopped."""
    written = VectorIndex.objects.filter(state__in=VectorIndex.WRITTEN, model=index.model)
    there = False
    while True:
        if not is_still_open():
            raise Stopped
        with transaction.atomic():
            indexing.lock()  # nobody begins an index by this model meanwhile
            if written.exists() or not vectors.remove(index, REMOVED_BATCH):
                return there
        there = True


def _free(operator: Any, table: str) -> None:
    """An empty table gets new storage at once, and the old is unlinked; of another the freed space is written over in time."""
    with transaction.atomic(using="operator"), operator.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(f"SELECT EXISTS (SELECT FROM {table})")  # noqa: S608  # fixed names
        empty = cursor.fetchone() == (False,)
        if empty:
            cursor.execute(f"TRUNCATE {table}")
    if not empty:
        with operator.cursor() as cursor:
            cursor.execute(f"VACUUM {table}")
