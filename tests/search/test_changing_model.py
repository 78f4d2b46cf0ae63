"""Another embedding model: built beside the live one, found by, gone back from, removed, killed in between, missing."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client

from documents.models import Document
from search import building, candidates, embeddings, indexes, indexing, vectors
from search.cloak import Cloak
from search.embeddings import MANIFEST, MODEL_NAME, EmbeddingModelMissing, embedder
from search.federation import State as Answered
from search.federation import ask
from search.indexing import Passage, passage_id
from search.models import Chunk, FurtherVector, IndexEntry, SealedVectors, StoredCloak, VectorIndex
from search.pool import pool
from search.querying import like
from search.ranking import Mode
from search.sources import sources
from tenants.ciphers import Tampered
from tenants.context import public_context, workspace
from tenants.errors import Refused
from tests.factories import CollectionFactory
from tests.search.conftest import TOPICS, publish, remove, search, store
from tests.search.test_building import Crowd, change, states
from workspace import doctor

pytestmark = [pytest.mark.django_db(transaction=True, databases=["default", "operator"]), pytest.mark.usefixtures("graphs")]

State = VectorIndex.State
QUESTIONS = {"How do I quit my job?": "Notice periods", "paper jam": "Printer", "where is my bike": "Bicycles"}


def titles(question: str, **options: Any) -> list[str]:
    of = {document.id: document.title for document in Document.objects.all()}
    return [of[hit.document_id] for hit in search(question, **options).hits]


def finds() -> bool:
    return all(titles(question)[0] == title for question, title in QUESTIONS.items())


def uninstall(settings: LazySettings, model: str, tmp_path: Path) -> None:
    settings.MODELS_DIR = tmp_path / "nothing"
    embeddings._loaded.pop(model, None)


@pytest.fixture
def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "EMBED_BATCH", 3)


@pytest.mark.usefixtures("few_at_a_time")
@pytest.mark.parametrize("level", ["open", "cloaked", "sealed"])
def test_a_workspace_changes_its_model_at_every_level_and_goes_back(handbook: dict[str, Document], two_models: str, level: str):
    if level != "cloaked":
        change(level)
    made = change(None, model=two_models)
    live = indexes.live()
    assert (made.state, live.model, live.dimension, live.protection) == (State.LIVE, two_models, 256, level)
    assert made.done == made.total == len(handbook)
    assert finds()
    added = store(["The cellar is flooded."], title="Cellar")
    assert titles("flooded cellar")[0] == "Cellar"
    through, exact = search("How do I quit my job?"), search("How do I quit my job?", exact=True)
    assert {hit.document_id: hit.dense for hit in through.hits} == pytest.approx(
        {hit.document_id: hit.dense for hit in exact.hits}, abs=1e-3
    )
    assert like(passage_id(added.id, 0), collections=sources().everything()).results.hits
    building.go_back()
    assert indexes.live().model == MODEL_NAME
    assert finds()
    assert titles("flooded cellar")[0] == "Cellar"
    later = store(["The attic is dusty."], title="Attic")
    assert titles("dusty attic")[0] == "Attic"
    building.go_back()
    assert titles("dusty attic")[0] == "Attic"
    remove(later.id)
    assert "Attic" not in titles("dusty attic")
    assert FurtherVector.objects.count() == len(handbook) + 1


@pytest.mark.parametrize("level", ["open", "cloaked", "sealed"])
def test_the_index_of_many_passages_finds_what_comparing_with_everything_finds(
    crowd: Crowd, two_models: str, level: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(candidates, "SCAN_BELOW", 100)
    crowd(500)
    if level != "cloaked":
        change(level)
    made = change(None, model=two_models)
    assert made.recall is not None
    assert made.recall >= building.RECALL_AT_LEAST  # these texts are hardly told apart by a disguised vector
    assert indexing.held(indexes.live(), Document.objects.values("pk")) == 500
    through, exact = search("filler 0 7", limit=10), search("filler 0 7", exact=True)
    assert through.way == "index"
    sure = 1 if level == "cloaked" else 3  # what has both words of the question is a candidate in any case
    assert [hit.chunk_id for hit in through.hits[:sure]] == [hit.chunk_id for hit in exact.hits[:sure]]
    assert len(search('"filler 0 7"').hits) == 1


def test_the_vectors_of_a_model_that_is_used_no_more_are_removed(handbook: dict[str, Document], two_models: str):
    change(None, model=two_models)
    building.remove_kept()
    building.remove_retired()
    assert not Chunk.objects.filter(embedding__isnull=False).exists()
    assert not IndexEntry.objects.exclude(index=indexes.live().id).exists()
    assert FurtherVector.objects.count() == len(handbook)
    assert finds()
    store(["The cellar is flooded."], title="Cellar")
    assert not Chunk.objects.filter(embedding__isnull=False).exists()
    assert titles("flooded cellar")[0] == "Cellar"
    change(None, model=MODEL_NAME)
    building.remove_kept()
    building.remove_retired()
    assert not FurtherVector.objects.exists()
    assert not Chunk.objects.filter(embedding__isnull=True).exists()
    assert finds()
    assert titles("flooded cellar")[0] == "Cellar"


def test_sealed_by_the_first_model_nothing_of_it_is_left_either(handbook: dict[str, Document], two_models: str):
    change("sealed")
    change(None, model=two_models)
    assert SealedVectors.objects.count() == len(handbook)
    building.remove_kept()
    building.remove_retired()
    assert not SealedVectors.objects.exists()
    assert finds()
    change("cloaked")  # less protected: the sealed one is kept, and both are by the further model
    assert FurtherVector.objects.count() == IndexEntry.objects.count() == len(handbook)
    assert finds()


@pytest.mark.usefixtures("few_at_a_time")
@pytest.mark.parametrize("where", ["_advance", "_fill", "_make_graph", "_replace_live"])
def test_stopped_anywhere_it_goes_on(
    handbook: dict[str, Document], two_models: str, monkeypatch: pytest.MonkeyPatch, where: str
):
    index = building.begin(model=two_models)
    original: Callable[..., Any] = getattr(building, where)

    def breaks(*arguments: Any) -> Any:
        original(*arguments)
        monkeypatch.setattr(building, where, original)
        raise ConnectionError("the power is gone")

    monkeypatch.setattr(building, where, breaks)
    with pytest.raises(ConnectionError):
        building.work(index.id)
    assert indexes.live().model == MODEL_NAME
    assert finds()
    building.work(index.id)
    assert states() == {1: State.STANDBY, 2: State.LIVE}
    assert FurtherVector.objects.count() == IndexEntry.objects.filter(index=index).count() == len(handbook)
    assert finds()


@pytest.mark.usefixtures("few_at_a_time")
@pytest.mark.parametrize("level", ["cloaked", "sealed"])
def test_what_is_uploaded_and_erased_meanwhile(
    handbook: dict[str, Document], two_models: str, monkeypatch: pytest.MonkeyPatch, level: str
):
    """One stored before the build is known and published in the middle of it, one in between, one erased meanwhile."""
    if level != "cloaked":
        change(level)
    early = store(["The cellar is flooded."], title="Cellar", published=False)
    index = building.begin(model=two_models)
    advance = building._advance
    done: list[Document] = []

    def meanwhile(wanted: VectorIndex, passages: int) -> None:
        advance(wanted, passages)
        if not done:
            done.append(store(["The attic is dusty."], title="Attic"))
            # as by a batch that was embedded before the index was begun
            late = Document(
                id=uuid4(), collection=CollectionFactory(), file_name="x.txt", format="txt", size=1, stored_name="x",
                title="Late", state=Document.State.READY, pages=1,
            )  # fmt: skip
            late.save(force_insert=True)
            text = "The lift is out of order."
            one = Passage(passage_id(late.id, 0), 0, 1, 0, len(text), text, 9)
            indexing.add(late.id, [one], {MODEL_NAME: embedder().embed([text])})
            publish(late)
            publish(early)
            done.append(late)

    monkeypatch.setattr(building, "_advance", meanwhile)
    building.work(index.id)
    assert indexes.live().model == two_models
    for question, title in (("flooded cellar", "Cellar"), ("dusty attic", "Attic"), ("broken lift", "Late")):
        assert titles(question)[0] == title
    assert FurtherVector.objects.count() == Chunk.objects.count()
    building.go_back()
    for question, title in (("flooded cellar", "Cellar"), ("dusty attic", "Attic"), ("broken lift", "Late")):
        assert titles(question)[0] == title


def test_erased_while_it_is_embedded_a_passage_stays_away(
    handbook: dict[str, Document], two_models: str, monkeypatch: pytest.MonkeyPatch
):
    index = building.begin(model=two_models)
    put = vectors.put

    def after_erasing(*arguments: Any) -> None:
        remove(handbook["Printer"].id)
        put(*arguments)

    monkeypatch.setattr(vectors, "put", after_erasing)
    building.work(index.id)
    assert FurtherVector.objects.count() == len(handbook) - 1
    assert "Printer" not in titles("paper jam")


def test_cancelled_it_leaves_no_vector(handbook: dict[str, Document], two_models: str, monkeypatch: pytest.MonkeyPatch):
    index = building.begin(model=two_models)
    advance = building._advance

    def cancelled(wanted: VectorIndex, passages: int) -> None:
        advance(wanted, passages)
        building.cancel()

    monkeypatch.setattr(building, "_advance", cancelled)
    building.work(index.id)
    building.remove_retired()
    assert states() == {1: State.LIVE, 2: State.RETIRED}
    assert not FurtherVector.objects.exists()
    assert finds()


def test_what_is_erased_is_erased_of_every_model_and_counted(in_workspace_a: Any, two_models: str):
    document = store(["one", "two", "three"])
    change(None, model=two_models)
    both = indexing.Removed(3, 3 + 3 + 3, 1)  # an entry in each index, and a vector by the further model
    assert indexing.count([document.id]) == both
    with transaction.atomic():
        assert indexing.remove([document.id]) == both
    assert not FurtherVector.objects.exists()


def test_a_vector_that_was_moved_to_another_passage_does_not_open(handbook: dict[str, Document], two_models: str):
    change("sealed", model=two_models)
    building.remove_retired()
    one, other = FurtherVector.objects.order_by("id")[:2]
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM search_furthervector WHERE id = %s", [other.pk])
        cursor.execute(
            "UPDATE search_furthervector SET chunk_id = %s, document_id = %s WHERE id = %s",
            [other.chunk_id, other.document_id, one.pk],
        )
    pool().clear()
    with pytest.raises(Tampered):
        search("anything")


def test_the_noise_of_two_models_is_not_the_same(handbook: dict[str, Document], two_models: str):
    change(None, model=two_models)
    change(None, metric="l2")
    first, further, other_settings = (Cloak.from_bytes(kept.rotation) for kept in _cloaks(two_models))
    assert first.noise_key != further.noise_key
    assert other_settings.noise_key == further.noise_key


def _cloaks(model: str) -> list[StoredCloak]:
    """Of an index by the first model, whose own went with it; of the further model the one kept and the one in use."""
    first = VectorIndex(id=99, model=MODEL_NAME, dimension=384, metric="cosine", protection="cloaked", state=State.FAILED)
    first.m, first.ef_construction = 16, 64
    first.save(force_insert=True)
    return [indexes.make_cloak(first), *StoredCloak.objects.filter(index__model=model).order_by("index_id")]


# ---------------------------------------------------------------- what is refused, and a model that is missing


def test_what_cannot_be_asked_for_is_refused(
    handbook: dict[str, Document], two_models: str, settings: LazySettings, tmp_path: Path
):
    with pytest.raises(Refused, match=f"not installed: choose from {MODEL_NAME}, {two_models}"):
        building.begin(model="another")
    with pytest.raises(Refused, match=f"searched by {MODEL_NAME} already"):
        building.begin(model=MODEL_NAME)
    short = tmp_path / "models" / "short"
    short.mkdir(parents=True)
    (short / MANIFEST).write_text(json.dumps({"name": "short", "dimension": 64, "max_tokens": 126}))
    settings.MODELS_DIR = short.parent
    with pytest.raises(Refused, match="short reads 126 word pieces of a text, and passages have up to 254"):
        building.begin(model="short")
    assert states() == {1: State.LIVE}


def test_a_build_whose_model_goes_missing_fails_and_says_so(
    handbook: dict[str, Document], two_models: str, settings: LazySettings, tmp_path: Path
):
    index = building.begin(model=two_models)
    uninstall(settings, two_models, tmp_path)
    building.work(index.id)
    building.remove_retired()
    index.refresh_from_db()
    assert index.state == State.FAILED
    assert index.detail.startswith(f"The embedding model {two_models} is not installed any more.")
    assert indexes.live().model == MODEL_NAME
    assert finds()


def test_a_workspace_whose_model_is_missing_says_so_and_finds_by_words(
    client_owner: Client, handbook: dict[str, Document], two_models: str, settings: LazySettings, tmp_path: Path
):
    change(None, model=two_models)
    uninstall(settings, two_models, tmp_path)
    pool().clear()
    with pytest.raises(EmbeddingModelMissing, match=f"{two_models} is not installed. Put it below"):
        search("paper jam")
    assert titles("paper jam", mode=Mode.WORDS) == ["Printer"]
    with pytest.raises(EmbeddingModelMissing):
        indexing.embedded(["text"], indexes.models())
    with public_context():
        client_owner.raise_request_exception = False
        answer = client_owner.post("/w/alpha/", {"q": "paper jam"})
        assert answer.status_code == 503
        assert f"The model {two_models} by which this workspace is searched is not on this server" in answer.content.decode()
        assert f"The model {two_models} is not installed" in client_owner.get("/w/alpha/protection/").content.decode()
        found = doctor.model()
        assert (found.state, two_models in found.detail) == ("repair", True)
        with pytest.raises(CommandError, match="is not installed"):
            call_command("search", "paper jam", "--workspace", "alpha", stdout=StringIO())
    building.go_back()
    assert finds()
    with pytest.raises(Refused, match="is not installed"):
        building.go_back()


def test_an_upload_to_a_workspace_whose_model_is_missing_fails_with_that_reason(
    workspace_a: Any, handbook: dict[str, Document], two_models: str, settings: LazySettings, tmp_path: Path, run_jobs: Any
):
    from documents import dispatch
    from tests.factories import DocumentFactory

    change(None, model=two_models)
    uninstall(settings, two_models, tmp_path)
    document = DocumentFactory(content=b"The cellar is flooded.")
    dispatch.queue_unfinished()
    with public_context():
        run_jobs()
    document.refresh_from_db()
    assert (document.state, document.reason) == ("failed", "no_model")
    assert document.can_be_retried


# ---------------------------------------------------------------- pages, commands, several workspaces


def test_an_owner_chooses_among_models_where_there_is_more_than_one(
    client_owner: Client, workspace_a: Any, two_models: str, settings: LazySettings, run_jobs: Any, tmp_path: Path
):
    with workspace(workspace_a):
        store(list(TOPICS.values()))
    page = client_owner.get("/w/alpha/protection/").content.decode()
    assert "Change model" in page
    asked = client_owner.post("/w/alpha/protection/model/", {"model": two_models}, follow=True).content.decode()
    assert f"Changing to the model {two_models}" in asked
    run_jobs()
    page = client_owner.get("/w/alpha/protection/").content.decode()
    assert f"<dd>{two_models}, 256 dimensions</dd>" in page
    assert f"Go back to {MODEL_NAME}" in page
    assert "is not installed" in client_owner.post("/w/alpha/protection/model/", {"model": "x"}, follow=True).content.decode()
    client_owner.post("/w/alpha/protection/back/")
    client_owner.post("/w/alpha/protection/remove/")
    run_jobs()
    with workspace(workspace_a):
        assert not FurtherVector.objects.exists()
        VectorIndex.objects.exclude(pk=1).update(model=MODEL_NAME)
    settings.MODELS_DIR = tmp_path / "nothing"
    page = client_owner.get("/w/alpha/protection/").content.decode()
    assert "Change model" not in page
    assert f"<dd>{MODEL_NAME}, 384 dimensions</dd>" in page


def test_the_command_changes_the_model_and_doctor_names_what_is_installed(workspace_a: Any, two_models: str):
    with workspace(workspace_a):
        store(list(TOPICS.values()))
    assert f"{two_models}, 256 dimensions" in doctor.model().detail
    out = StringIO()
    call_command("rebuild_index", "alpha", "--model", two_models, "--json", stdout=out)
    answer = json.loads(out.getvalue())
    assert (answer["model"], answer["state"]) == (two_models, "live")
    with pytest.raises(CommandError, match="searched by"):
        call_command("rebuild_index", "alpha", "--model", two_models, stdout=StringIO())


def test_workspaces_of_different_models_are_searched_at_once(
    workspace_a: Any, workspace_b: Any, two_models: str, person: Callable[..., Any], settings: LazySettings, tmp_path: Path
):
    for tenant in (workspace_a, workspace_b):
        with workspace(tenant):
            store(list(TOPICS.values()))
    with workspace(workspace_b):
        change(None, model=two_models)
    member = person("viewer", workspace_a)
    member.memberships.create(tenant=workspace_b, role="viewer")
    both = [workspace_a.pk, workspace_b.pk]
    found = ask(member, "paper jam", both, deadline_seconds=60, limit=10)
    assert [source.state for source in found.sources] == [Answered.ANSWERED] * 2
    assert {each.workspace.slug for each in found.results} == {"alpha", "beta"}
    uninstall(settings, two_models, tmp_path)
    found = ask(member, "a printer that jams", both, deadline_seconds=60, limit=10)
    assert {source.workspace.slug: source.state for source in found.sources} == {
        "alpha": Answered.ANSWERED,
        "beta": Answered.FAILED,
    }


def test_a_cut_vector_has_the_beginning_of_the_whole_one_at_unit_length(two_models: str):
    whole, cut = embedder().embed(["paper jam"])[0], embedder(two_models).embed(["paper jam"])[0]
    assert cut.shape == (256,)
    assert np.linalg.norm(cut) == pytest.approx(1, abs=1e-4)
    assert cut @ (whole[:256] / np.linalg.norm(whole[:256])) > 0.9999
