"""Searching and evaluating among restricted collections: what one may not see is nowhere, not even in a count."""

import io
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from documents import access
from documents.models import Collection, CollectionMember, Document
from documents.receiving import create_collection
from search.embeddings import Embedder
from search.evaluation import judgments, runs
from search.models import Answer, JudgmentSet, Run, SharedSearch
from search.sources import sources
from tenants import people
from tenants.context import public_context
from tenants.models import Membership
from tests.search.beir import BEIR, zipped
from tests.search.conftest import search, store

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
HIDDEN = "A document you may not see"


@pytest.fixture
def secret(handbook: dict[str, Document]) -> Document:
    """In a restricted collection that names nobody, beside the handbook."""
    board = create_collection("Board papers", restricted=True)
    return store(["The merger with Larkspur is announced in spring."], title="Merger plan", collection=board)


@pytest.fixture
def canary(in_workspace_a: Any, model: Embedder) -> Document:
    made = Collection.objects.create(name="Canary", name_digest=b"x" * 32, is_canary=True)
    return store(["A canary sings of the merger with Larkspur."], title="Canary", collection=made)


@pytest.fixture
def judged(secret: Document) -> JudgmentSet:
    content = b"question,document,grade\nWhen is the merger?,Merger plan,1\nHow do I quit?,Notice periods,1\n"
    return runs.create_judgment_set("Support", judgments.parse("x.csv", io.BytesIO(content)))


@pytest.fixture
def do(workspace_a: Any) -> Callable[..., Any]:
    """`do(client, "get", path)` in workspace a, from within it."""

    def ask(client: Client, method: str, path: str, *args: Any, **options: Any) -> Any:
        with public_context():
            return getattr(client, method)(workspace_a.path + path, *args, **options)

    return ask


@pytest.fixture
def client_of(workspace_a: Any, person: Callable[..., Any], sign_in: Callable[[Any], Client]) -> Callable[[str], Client]:
    def make(role: str) -> Client:
        with public_context():
            return sign_in(person(role, workspace_a))

    return make


def member(role: str) -> Membership:
    return Membership.objects.get(role=role)


# ---------------------------------------------------------------- searching


def test_the_same_passage_in_a_document_one_may_not_see_is_not_counted(
    secret: Document, do: Callable[..., Any], client_of: Callable[[str], Client]
) -> None:
    store(["The merger with Larkspur is announced in spring."], title="Press release", collection=create_collection("Press"))
    seen = do(client_of("owner"), "post", "", {"q": "merger Larkspur"}, headers=HTMX).content.decode()
    assert "Same passage in 1 more document" in seen
    hidden = do(client_of("viewer"), "post", "", {"q": "merger Larkspur"}, headers=HTMX).content.decode()
    assert "Press release" in hidden
    assert "Same passage" not in hidden
    assert "Merger plan" not in hidden


def test_a_search_finds_and_counts_only_what_one_may_see(
    secret: Document, do: Callable[..., Any], client_of: Callable[[str], Client]
) -> None:
    seen = do(client_of("owner"), "post", "", {"q": "merger Larkspur"}, headers=HTMX).content.decode()
    assert "Merger plan" in seen
    assert "from 9 passages" in seen
    client = client_of("editor")
    html = do(client, "post", "", {"q": "merger Larkspur"}).content.decode()
    for word in ("Merger plan", "Board papers", str(secret.id), str(secret.collection_id)):
        assert word not in html
    assert "from 8 passages" in html
    assert "8 passages can be found" in do(client, "get", "").content.decode()


def test_a_workspace_of_which_one_sees_nothing_looks_empty(
    in_workspace_a: Any, model: Embedder, do: Callable[..., Any], client_of: Callable[[str], Client]
) -> None:
    store(["The merger is announced."], collection=create_collection("Board papers", restricted=True))
    client = client_of("viewer")
    for html in (do(client, "get", ""), do(client, "post", "", {"q": "merger"})):
        assert "no document that you may see is ready" in html.content.decode()


def test_a_filter_by_a_hidden_collection_is_one_that_does_not_exist(
    secret: Document, do: Callable[..., Any], client_of: Callable[[str], Client]
) -> None:
    client = client_of("viewer")
    answers = [
        do(client, "post", path, {"q": "merger", "collection": str(collection)}, headers=HTMX)
        for path in ("", "s/")
        for collection in (secret.collection_id, UUID(int=1))
    ]
    assert [answer.status_code for answer in answers] == [422] * 4
    for hidden, unknown in (answers[:2], answers[2:]):
        assert hidden.content.decode().replace(str(secret.collection_id), "") == unknown.content.decode().replace(
            str(UUID(int=1)), ""
        )


def test_a_shared_search_shows_what_its_opener_may_see(
    secret: Document, do: Callable[..., Any], client_of: Callable[[str], Client]
) -> None:
    shared = SharedSearch.objects.create(query={"q": "merger Larkspur", "collection": ""})
    assert "Merger plan" in do(client_of("owner"), "get", f"s/{shared.pk}/").content.decode()
    html = do(client_of("viewer"), "get", f"s/{shared.pk}/").content.decode()
    assert "Merger plan" not in html
    assert "from 8 passages" in html


def test_a_shared_search_of_a_hidden_collection_is_not_found(
    secret: Document, do: Callable[..., Any], client_of: Callable[[str], Client]
) -> None:
    shared = SharedSearch.objects.create(query={"q": "merger Larkspur", "collection": str(secret.collection_id)})
    client = client_of("viewer")
    hidden, unknown = do(client, "get", f"s/{shared.pk}/"), do(client, "get", "s/unknown/")
    assert hidden.status_code == unknown.status_code == 404
    assert "Larkspur" not in hidden.content.decode()
    CollectionMember.objects.create(collection_id=secret.collection_id, membership_id=member("viewer").pk)
    assert "Merger plan" in do(client, "get", f"s/{shared.pk}/").content.decode()


def test_nobody_finds_a_canary(
    handbook: dict[str, Document], canary: Document, do: Callable[..., Any], client_of: Callable[[str], Client]
) -> None:
    html = do(client_of("owner"), "post", "", {"q": "canary merger Larkspur"}).content.decode()
    assert "Canary" not in html
    assert "from 8 passages" in html
    found = search("canary merger Larkspur")
    assert canary.id not in [hit.document_id for hit in found.hits]
    assert found.searched == 8
    assert "Canary" not in sources().references(sources().everything())


def test_restricting_takes_effect_at_the_next_search(
    handbook: dict[str, Document], do: Callable[..., Any], client_of: Callable[[str], Client]
) -> None:
    client = client_of("viewer")
    assert "Canteen" in do(client, "post", "", {"q": "lunch"}).content.decode()
    access.set_access(handbook["Canteen"].collection, Membership(role="owner"), restricted=True)
    assert "Canteen" not in do(client, "post", "", {"q": "lunch"}).content.decode()


# ---------------------------------------------------------------- evaluating


@pytest.mark.django_db(transaction=True)
def test_a_run_searches_what_its_starter_may_see(
    judged: JudgmentSet, do: Callable[..., Any], client_of: Callable[[str], Client], run_jobs: Callable[[], int]
) -> None:
    figures = {}
    for role in ("owner", "editor"):
        assert do(client_of(role), "post", f"evaluation/{judged.pk}/run/").status_code == 302
        assert run_jobs() == 1
        run = Run.objects.latest("created_at")
        figures[role] = (run.state, run.unresolved, run.configuration["documents"], run.figures["recall@100"])
    assert figures == {"owner": ("ready", 0, 9, 1.0), "editor": ("ready", 1, 8, 0.5)}


def test_a_run_of_somebody_who_left_fails(judged: JudgmentSet, workspace_a: Any, client_of: Callable[[str], Client]) -> None:
    client_of("owner")
    client_of("editor")
    editor = member("editor").user_id
    run = runs.start(judged, editor)
    with public_context():
        people.remove(workspace_a, editor, by=editor)
    runs.execute(run.pk)
    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert "not a member any more" in run.detail


def test_the_command_evaluates_everything_but_canaries(judged: JudgmentSet, canary: Document) -> None:
    run = runs.evaluate(judged)
    assert (run.unresolved, run.configuration["documents"], run.figures["recall@100"]) == (0, 9, 1)
    assert runs.evaluate(judged, collection_id=canary.collection_id).state == Run.State.FAILED


def test_pages_and_exports_of_a_run_hide_what_one_may_not_see(
    judged: JudgmentSet, secret: Document, do: Callable[..., Any], client_of: Callable[[str], Client]
) -> None:
    run = runs.evaluate(judged)
    question = Answer.objects.get(run=run, question__ordinal=1).question_id
    path = f"evaluation/runs/{run.pk}/"
    owner, viewer = client_of("owner"), client_of("viewer")
    assert f"/documents/{secret.id}/" in do(owner, "get", f"{path}{question}/").content.decode()
    html = do(viewer, "get", f"{path}{question}/").content.decode()
    assert html.count(HIDDEN) == 2  # expected and returned
    assert str(secret.id) not in html
    for kind in ("json", "csv"):
        export = b"".join(do(viewer, "get", f"{path}export.{kind}").streaming_content).decode()
        assert HIDDEN in export
        assert str(secret.id) not in export
        assert "Notice periods" in export
    report = json.loads(b"".join(do(owner, "get", f"{path}export.json").streaming_content))
    assert report["questions"][0]["returned"][0] == "Merger plan"
    assert report["questions"][0]["expected"][0]["document"] == str(secret.id)


def test_names_of_hidden_documents_resolve_for_nobody_else(
    judged: JudgmentSet, do: Callable[..., Any], client_of: Callable[[str], Client]
) -> None:
    path = f"evaluation/{judged.pk}/?unresolved"
    assert "Every name in these judgments means" in do(client_of("owner"), "get", path).content.decode()
    assert "1 name in these judgments means no ready document" in do(client_of("viewer"), "get", path).content.decode()


def test_a_corpus_is_not_imported_into_a_hidden_collection(
    secret: Document, do: Callable[..., Any], client_of: Callable[[str], Client]
) -> None:
    given = {"name": "board papers", "import_corpus": "on", "file": SimpleUploadedFile("beir.zip", zipped(BEIR))}
    answer = do(client_of("editor"), "post", "evaluation/upload/", given)
    assert answer.status_code == 422
    assert "not open to you" in answer.content.decode()
    assert secret.collection.documents.count() == 1
    assert not JudgmentSet.objects.exists()
