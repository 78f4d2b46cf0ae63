"""Changing how vectors are held: built beside the live index, cut over, gone back from, removed, killed in between."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from django.conf import LazySettings
from django.db import connection, transaction

from documents.models import Document
from search import building, candidates, indexes, indexing
from search.embeddings import Embedder
from search.models import Chunk, IndexEntry, Metric, Protection, SealedVectors, StoredCloak, VectorIndex
from tenants.context import public_context, workspace
from tenants.errors import Refused
from tenants.models import Alarm, Tenant
from tests.factories import CollectionFactory
from tests.search.conftest import publish, remove, search, store

pytestmark = [pytest.mark.django_db(transaction=True, databases=["default", "operator"]), pytest.mark.usefixtures("graphs")]

State = VectorIndex.State
Crowd = Callable[..., list[Document]]


def change(protection: str | None, **options: Any) -> VectorIndex:
    """Begun and done, as a worker would."""
    index = building.begin(protection, **options)
    building.work(index.id)
    building.remove_retired()
    index.refresh_from_db()
    return index


def hits(question: str) -> list[tuple[Any, int]]:
    return [(hit.document_id, hit.sequence) for hit in search(question, limit=10).hits]


def states() -> dict[int, str]:
    return dict(VectorIndex.objects.order_by("id").values_list("id", "state"))


@pytest.mark.parametrize("level", ["open", "sealed"])
def test_every_level_finds_the_same(handbook: dict[str, Document], level: str):
    before = hits("How do I quit my job?")
    changed = change(level)
    assert changed.state == State.LIVE
    assert hits("How do I quit my job?") == before
    added = store(["The cellar is flooded."], title="Cellar")
    remove(handbook["Printer"].id)
    assert search("flooded cellar").hits[0].document_id == added.id
    assert handbook["Printer"].id not in [hit.document_id for hit in search("paper jam").hits]


def test_what_is_erased_counts_its_vectors_at_every_level(in_workspace_a: Any, model: Embedder):
    document = store(["one", "two", "three"])
    building.begin("sealed")
    building.work(2)
    assert indexing.count([document.id]) == indexing.Removed(3, 3 + 3, 1)  # the index before is being removed
    building.remove_retired()
    with transaction.atomic():
        assert indexing.remove([document.id]) == indexing.Removed(3, 3, 1)
    assert indexing.count([document.id]) == indexing.Removed()


def test_there_and_back_nothing_is_lost_or_doubled(handbook: dict[str, Document]):
    before = hits("password rules")
    for level in ("open", "sealed", "cloaked", "open", "cloaked"):
        change(level)
        assert hits("password rules") == before
    live = VectorIndex.objects.get(state=State.LIVE)
    assert IndexEntry.objects.filter(index=live).count() == Chunk.objects.count() == len(handbook)


def test_what_is_not_found_comes_in_once_it_is(handbook: dict[str, Document]):
    """A version that is not in use, or a document in the trash."""
    away = handbook["Printer"]
    before = hits("paper jam")
    with transaction.atomic():
        indexing.withdraw([away.id])
    changed = change("cloaked", m=24)
    assert (changed.state, changed.done, changed.total) == (State.LIVE, len(handbook) - 1, len(handbook) - 1)
    assert not IndexEntry.objects.filter(document_id=away.id).exists()
    publish(away)
    assert hits("paper jam") == before
    assert IndexEntry.objects.filter(document_id=away.id).count() == 2, "in the live one and the one that is kept"


def test_what_is_less_protected_is_not_kept(handbook: dict[str, Document]):
    change("open")
    assert states() == {1: State.RETIRED, 2: State.LIVE}, "beside open vectors a disguise gives itself away"
    assert not StoredCloak.objects.exists()
    change("sealed")
    assert states() == {1: State.RETIRED, 2: State.RETIRED, 3: State.LIVE}
    assert not IndexEntry.objects.exists()
    assert not StoredCloak.objects.exists()
    assert SealedVectors.objects.count() == len(handbook)
    with pytest.raises(Refused, match="no index to go back to"):
        building.go_back()
    change("cloaked")
    assert states()[3] == State.STANDBY  # more protected than what came after
    building.remove_kept()
    building.remove_retired()
    assert not SealedVectors.objects.exists()


def test_after_sealing_no_vector_lies_in_the_tables_files(handbook: dict[str, Document]):
    """What was there is not only deleted: an empty table has new storage."""
    change("sealed")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_size('search_indexentry')")
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT count(*) FROM pg_indexes WHERE indexname ~ '_hnsw_' AND schemaname = current_schema()")
        assert cursor.fetchone() == (0,)


def test_one_goes_back_at_once_and_finds_what_came_meanwhile(handbook: dict[str, Document]):
    change("cloaked", m=24, ef_construction=100)
    added = store(["The cellar is flooded."], title="Cellar")
    generation = indexes.live().generation
    assert building.go_back().m == 16
    assert indexes.live().generation > generation
    assert states() == {1: State.LIVE, 2: State.STANDBY}
    assert search("flooded cellar").hits[0].document_id == added.id
    assert building.go_back().m == 24
    assert search("flooded cellar").hits[0].document_id == added.id


def test_what_is_uploaded_while_it_is_built_is_in_both(handbook: dict[str, Document], monkeypatch: pytest.MonkeyPatch):
    """One stored before the build is known and published in the middle of it, one in between, one erased meanwhile."""
    early = store(["The cellar is flooded."], title="Cellar", published=False)
    index = building.begin("open")
    late: list[Document] = []
    fill = building._fill

    def meanwhile(wanted: VectorIndex, batch: Callable[[], int]) -> bool:
        entered = fill(wanted, batch)
        if not late:
            IndexEntry.objects.filter(index=wanted, document_id=early.id).delete()  # as if stored without knowing of it
            late.append(store(["The attic is dusty."], title="Attic"))
            remove(handbook["Printer"].id)
        publish(early)
        return entered

    monkeypatch.setattr(building, "_fill", meanwhile)
    building.work(index.id)
    assert states()[index.id] == State.LIVE
    for question, document in (("flooded cellar", early), ("dusty attic", late[0])):
        assert search(question).hits[0].document_id == document.id
    for each in (1, index.id):  # until what it held is removed, the index before goes with it
        assert IndexEntry.objects.filter(index_id=each).count() == Chunk.objects.count()


@pytest.mark.parametrize("where", ["_fill", "_make_graph", "_replace_live"])
def test_stopped_anywhere_it_goes_on(handbook: dict[str, Document], monkeypatch: pytest.MonkeyPatch, where: str):
    before = hits("password rules")
    index = building.begin("open")
    original = getattr(building, where)

    def breaks(*arguments: Any) -> Any:
        original(*arguments)
        raise ConnectionError("the power is gone")

    monkeypatch.setattr(building, where, breaks)
    with pytest.raises(ConnectionError):
        building.work(index.id)
    assert hits("password rules") == before
    monkeypatch.setattr(building, where, original)
    building.work(index.id)
    assert states() == {1: State.RETIRING, 2: State.LIVE}
    assert hits("password rules") == before


def test_what_fails_again_and_again_is_given_up_and_says_so(handbook: dict[str, Document], monkeypatch: pytest.MonkeyPatch):
    index = building.begin("open")

    def breaks(wanted: VectorIndex) -> None:
        raise ConnectionError("no")

    monkeypatch.setattr(building, "_make_graph", breaks)
    for _ in range(building.MAX_ATTEMPTS):
        with pytest.raises(ConnectionError):
            building.work(index.id)
    building.remove_retired()
    index.refresh_from_db()
    assert (index.state, states()[1]) == (State.FAILED, State.LIVE)
    assert "could not be built" in index.detail
    assert not IndexEntry.objects.filter(index=index).exists()


def test_an_index_that_finds_too_little_is_not_used(handbook: dict[str, Document], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(candidates, "recall", lambda index: 0.4)
    assert change("open").state == State.FAILED
    assert "40.0%" in VectorIndex.objects.get(state=State.FAILED).detail
    assert indexes.live().protection == "cloaked"


def test_the_same_text_many_times_is_found(in_workspace_a: Any, model: Embedder):
    """Of passages that are alike, any ten are the ten best."""
    store(["The harvest committee met again."] * 40, title="Minutes")
    assert [change(level).recall for level in ("sealed", "cloaked")] == [1.0, 1.0]


def test_cancelled_it_leaves_nothing(handbook: dict[str, Document], monkeypatch: pytest.MonkeyPatch):
    index = building.begin("sealed")
    monkeypatch.setattr(building, "_make_graph", lambda wanted: None)
    fill = building._fill

    def cancelled(wanted: VectorIndex, batch: Callable[[], int]) -> bool:
        fill(wanted, batch)
        building.cancel()
        return False

    monkeypatch.setattr(building, "_fill", cancelled)
    building.work(index.id)
    building.remove_retired()
    assert states() == {1: State.LIVE, 2: State.RETIRED}
    assert not SealedVectors.objects.exists()
    with pytest.raises(Refused, match="Nothing is being built"):
        building.cancel()


@pytest.mark.parametrize("state", ["live", "retired"])
def test_who_writes_to_the_database_cannot_have_vectors_stored_less_protected(
    handbook: dict[str, Document], run_jobs: Any, state: str
):
    """Neither the live index called open, nor an index from before called live; it is noticed and mended."""
    change("sealed")
    if state == "live":
        VectorIndex.objects.filter(state=State.LIVE).update(protection="open")
    else:
        VectorIndex.objects.filter(state=State.LIVE).update(state=State.RETIRED)
        VectorIndex.objects.filter(pk=1).update(state=State.LIVE)
        indexes.cloak(1)
    added = store(["The cellar is flooded."], title="Cellar")
    assert not IndexEntry.objects.exists()
    with public_context():
        assert Alarm.objects.filter(subject__contains="search_vectorindex").exists()
    building.resume()
    run_jobs()
    assert indexes.live().protection == "sealed"
    assert not IndexEntry.objects.exists()
    assert search("flooded cellar").hits[0].document_id == added.id


def test_a_row_that_was_changed_while_it_is_built_comes_to_nothing(handbook: dict[str, Document]):
    index = building.begin("sealed")
    VectorIndex.objects.filter(pk=index.pk).update(protection="open")
    building.work(index.pk)
    building.remove_retired()
    assert states() == {1: State.LIVE, 2: State.FAILED}
    assert not IndexEntry.objects.filter(index_id=2).exists()
    assert indexes.agreed() == indexes.Agreed(Protection.CLOAKED)


def test_what_cannot_be_asked_for_is_refused(in_workspace_a: Any, settings: LazySettings):
    with pytest.raises(Refused, match="no level of protection"):
        building.begin("secret")
    with pytest.raises(Refused, match="cloaked already"):
        building.begin("cloaked")
    with pytest.raises(Refused, match="ef_construction"):
        building.begin("cloaked", m=64, ef_construction=64)
    settings.PROTECTION_FLOOR = "cloaked"
    with pytest.raises(Refused, match="no level below cloaked"):
        building.begin("open")
    building.begin("sealed")
    with pytest.raises(Refused, match="built already"):
        building.begin("sealed")


def test_a_workspace_below_the_floor_is_brought_up_to_it(handbook: dict[str, Document], settings: LazySettings, run_jobs: Any):
    change("open")
    settings.PROTECTION_FLOOR = "cloaked"
    with pytest.raises(Refused):  # the open one that is kept by then is none to go back to
        building.begin("open")
    building.resume()
    run_jobs()
    assert indexes.live().protection == "cloaked"


def test_a_new_workspace_begins_as_the_installation_says(in_workspace_a: Any, settings: LazySettings, model: Embedder):
    settings.DEFAULT_PROTECTION = "sealed"
    indexes.prepare()
    document = store(["The cellar is flooded."])
    assert indexes.live().protection == "sealed"
    assert not IndexEntry.objects.exists()
    assert search("flooded cellar").hits[0].document_id == document.id
    settings.DEFAULT_PROTECTION = "open"
    indexes.prepare()
    assert indexes.live().protection == "sealed"  # it holds something: nobody changes that by the way


def test_other_settings_of_the_graph_are_built_and_used(crowd: Crowd):
    crowd(900)
    changed = change("cloaked", m=24, ef_construction=100)
    assert changed.recall is not None
    assert changed.recall > 0.95
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'search_indexentry_hnsw_2'")
        (definition,) = cursor.fetchone()
        assert "m='24', ef_construction='100'" in definition
        query = "[" + ",".join(["0.05"] * 384) + "]"
        cursor.execute(
            "EXPLAIN (COSTS OFF) " + candidates.nearest(indexes.live()),
            {"index": 2, "query": query, "amount": 200},
        )
        assert "Index Scan using search_indexentry_hnsw_2" in "\n".join(row[0] for row in cursor.fetchall())


def test_a_sealed_workspace_of_many_passages_agrees_with_the_exact_scan(crowd: Crowd):
    crowd(1200)
    assert change("sealed").recall == 1.0
    for number in range(10):
        question = f"filler 0 {number * 100}"
        assert hits(question) == [(hit.document_id, hit.sequence) for hit in search(question, exact=True, limit=10).hits]


def test_a_sealed_workspace_keeps_to_the_filter(crowd: Crowd):
    crowd(900)
    few = CollectionFactory(name="Few")
    crowd(7, each=1, collection=few, seed=5)
    change("sealed")
    found = search("anything", collections=frozenset({few.id}), limit=10).hits
    assert len(found) == 7


def test_search_never_fails_while_levels_change(workspace_a: Tenant, handbook: dict[str, Document]):
    """Several threads ask all the time; each finds everything each time."""
    wrong: list[str] = []
    over = threading.Event()

    def ask() -> None:
        try:
            while not over.is_set():
                with workspace(workspace_a):
                    found = search("password rules", limit=20).hits
                if len(found) != len(handbook) or found[0].document_id != handbook["Passwords"].id:
                    wrong.append(f"{len(found)} found")
        except Exception as error:
            wrong.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for level in ("open", "sealed", "open", "cloaked"):
            change(level)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert wrong == []


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("level", ["open", "cloaked"])
def test_every_metric_finds_what_comparing_with_everything_finds(crowd: Crowd, level: str, metric: Metric):
    crowd(1500)
    if level == "open":
        change("open")
    made = change(level, metric=metric, m=20, ef_construction=100)
    assert (made.state, made.metric) == (State.LIVE, metric)
    assert made.recall is not None
    assert made.recall >= 0.98
    through = candidates.recall(indexes.live())
    assert through is not None
    assert through >= 0.98
    with connection.cursor() as cursor:
        query = "[" + ",".join(["0.05"] * 384) + "]"
        cursor.execute(
            "EXPLAIN (COSTS OFF) " + candidates.nearest(indexes.live()),
            {"index": made.id, "query": query, "amount": 200},
        )
        assert f"Index Scan using search_indexentry_hnsw_{made.id}" in "\n".join(row[0] for row in cursor.fetchall())
    for number in range(5):
        question = f"filler 0 {number * 100}"
        found, exact = search(question, limit=10), search(question, exact=True)
        assert found.way == "index"
        true = {hit.chunk_id: hit.dense for hit in exact.hits}
        same = {hit.chunk_id: hit.dense for hit in found.hits if hit.chunk_id in true}
        assert len(same) > 5
        assert same == pytest.approx({chunk: true[chunk] for chunk in same}, abs=1e-4), "exact, whatever the index compares"


@pytest.mark.parametrize("metric", Metric)
def test_disguised_vectors_are_ordered_the_same_by_every_metric(handbook: dict[str, Document], metric: Metric):
    """By cosine lengths do not count; by the others their noise would."""
    made = change("cloaked", metric=metric, m=20)
    lengths = [np.linalg.norm(entry.vector) for entry in IndexEntry.objects.filter(index=made)]
    assert (np.ptp(lengths) < 1e-3) == (metric != Metric.COSINE)


def test_what_is_not_given_stays_as_it_is(handbook: dict[str, Document]):
    change(None, metric="l2", m=24, ef_construction=100)
    for level in ("sealed", "open"):
        made = change(level)
        assert (made.metric, made.m, made.ef_construction) == ("l2", 24, 100)
    assert change(None, m=8).ef_construction == 100


@pytest.mark.parametrize(
    ("asked", "name", "says"),
    [
        ({"metric": "hamming"}, "metric", "choose from cosine, inner product, l2"),
        ({"m": 3}, "m", "4 to 64, not 3"),
        ({"m": 65}, "m", "4 to 64, not 65"),
        ({"m": 4, "ef_construction": 15}, "ef_construction", "16 to 1,000, not 15"),
        ({"ef_construction": 1001}, "ef_construction", "16 to 1,000, not 1001"),
        ({"m": 40}, "ef_construction", "80 or more where m is 40"),
    ],
)
def test_settings_no_index_can_have_are_refused(in_workspace_a: Any, asked: dict[str, Any], name: str, says: str):
    with pytest.raises(building.BadSetting, match=says) as refused:
        building.begin(**asked)
    assert refused.value.name == name
    assert states() == {1: State.LIVE}


def test_a_sealed_index_has_no_settings(handbook: dict[str, Document]):
    change("sealed")
    with pytest.raises(Refused, match="no settings"):
        building.begin(m=24)
    with pytest.raises(Refused, match="only cloaked vectors are disguised"):
        building.draw_new_disguise()
    with pytest.raises(Refused, match="these settings already"):
        building.begin()


# ---------------------------------------------------------------- the disguise


def rows_of(index_id: int) -> np.ndarray:
    entries = IndexEntry.objects.filter(index_id=index_id).order_by("chunk_id")
    return np.stack([entry.vector for entry in entries]).astype(np.float32)


def test_the_noise_is_the_same_in_every_cloaked_index(handbook: dict[str, Document]):
    """So that one index is the other turned, and both together say no more than either."""
    change("cloaked", m=24, ef_construction=100)
    first, second = indexes.cloak(1), indexes.cloak(2)
    assert first.noise_key == second.noise_key
    assert not np.allclose(first.rotation, second.rotation)
    old, new = rows_of(1), rows_of(2)
    np.testing.assert_allclose(new @ new.T, old @ old.T, atol=5e-3)


def test_a_new_disguise_takes_the_place_of_the_one_before(handbook: dict[str, Document]):
    before, old, rotation = hits("password rules"), rows_of(1), indexes.cloak(1).rotation
    made = building.draw_new_disguise()
    building.work(made.id)
    assert states() == {1: State.RETIRING, 2: State.LIVE}, "it is not kept: whoever knows it would know the new one"
    with pytest.raises(Refused, match="no index to go back to"):
        building.go_back()
    building.remove_retired()
    assert states() == {1: State.RETIRED, 2: State.LIVE}
    assert list(StoredCloak.objects.values_list("index_id", flat=True)) == [2]
    assert not IndexEntry.objects.filter(index_id=1).exists()
    assert hits("password rules") == before
    new, drawn = rows_of(2), indexes.cloak(2).rotation
    np.testing.assert_allclose(drawn @ drawn.T, np.eye(384), atol=1e-5)
    assert np.abs((rotation * drawn).sum() / 384) < 0.02, "nothing in common"
    assert np.abs((old * new).sum(axis=1)).max() < 0.5, "no row is like its former self"
    true = np.stack([np.frombuffer(chunk.embedding, dtype="<f2") for chunk in Chunk.objects.order_by("id")])
    assert ((old @ rotation.T) * true).sum(axis=1).min() > 0.7
    assert np.abs(((new @ rotation.T) * true).sum(axis=1)).max() < 0.4, "the rotation before does not open the new one"


def test_whoever_copied_the_rows_before_works_out_the_new_disguise(crowd: Crowd):
    """What a new disguise does not do, and what the page says of it: rows of both give the way from one to the other."""
    crowd(384)
    old, rotation = rows_of(1), indexes.cloak(1).rotation
    building.work(building.draw_new_disguise().id)
    left, _, right = np.linalg.svd(old.T @ rows_of(2))
    guessed = rotation @ (left @ right)
    assert (guessed * indexes.cloak(2).rotation).sum() / 384 > 0.99


def test_a_disguise_drawn_anew_after_other_settings_leaves_none_before_it(handbook: dict[str, Document]):
    change(None, m=24)
    assert states() == {1: State.STANDBY, 2: State.LIVE}
    building.work(building.draw_new_disguise().id)
    building.remove_retired()
    assert states() == {1: State.RETIRED, 2: State.RETIRED, 3: State.LIVE}
    assert list(StoredCloak.objects.values_list("index_id", flat=True)) == [3]


def test_what_is_uploaded_while_a_disguise_is_drawn_is_in_both(handbook: dict[str, Document], monkeypatch: pytest.MonkeyPatch):
    index = building.draw_new_disguise()
    fill, late = building._fill, list[Document]()

    def meanwhile(wanted: VectorIndex, batch: Callable[[], int]) -> bool:
        entered = fill(wanted, batch)
        if not late:
            late.append(store(["The attic is dusty."], title="Attic"))
            assert search("dusty attic").hits[0].document_id == late[0].id
        return entered

    monkeypatch.setattr(building, "_fill", meanwhile)
    building.work(index.id)
    assert states()[index.id] == State.LIVE
    assert search("dusty attic").hits[0].document_id == late[0].id
    for each in (1, index.id):
        assert IndexEntry.objects.filter(index_id=each).count() == Chunk.objects.count() == len(handbook) + 1
