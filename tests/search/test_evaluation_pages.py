"""The evaluation pages over HTTP."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from documents.models import Document
from search.evaluation import judgments, runs, uploads
from search.evaluation.judgments import JudgedQuestion, Parsed
from search.models import Answer, JudgmentSet, Run
from search.sources import sources
from tenants.context import public_context
from tests.search.beir import BEIR, zipped

pytestmark = pytest.mark.django_db
CSV = b"question,document,grade\nHow do I quit?,Notice periods,1\nfire alarm,Fire drill,2\nfire alarm,missing.pdf,1\n"


@pytest.fixture
def at(workspace_a: Any) -> Callable[[str], str]:
    return lambda path: f"{workspace_a.path}evaluation/{path}"


@pytest.fixture
def finished(handbook: dict[str, Document]) -> Run:
    parsed = judgments.parse("x.csv", io.BytesIO(CSV))
    return runs.evaluate(runs.create_judgment_set("Support questions", parsed))


def send(client: Client, address: str, content: bytes = CSV, name: str = "x.csv", **more: Any) -> Any:
    with public_context():
        return client.post(address, {"name": "Support", "file": SimpleUploadedFile(name, content), **more})


def get(client: Client, address: str) -> Any:
    with public_context():
        return client.get(address)


def test_an_empty_page_offers_the_upload(client_editor: Client, at: Any):
    html = get(client_editor, at("")).content.decode()
    assert "Upload judgments" in html


def test_an_upload_becomes_a_judgment_set(client_editor: Client, at: Any, handbook: dict[str, Document]):
    answer = send(client_editor, at("upload/"))
    made = JudgmentSet.objects.get()
    assert answer.status_code == 302
    assert (made.name, made.questions_total, made.judgments_total) == ("Support", 2, 3)
    html = get(client_editor, answer["Location"]).content.decode()
    assert "How do I quit?" in html
    assert "missing.pdf" in html
    looked_up = get(client_editor, answer["Location"] + "?unresolved").content.decode()
    assert "1 name in these judgments means no ready document" in looked_up


def test_the_page_of_judgments_does_not_read_every_document(
    client_viewer: Client, at: Any, finished: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(type(sources()), "references", lambda *_: pytest.fail("every document was decrypted"))
    html = get(client_viewer, at(f"{finished.judgment_set_id}/")).content.decode()
    assert "1 name in these judgments meant no ready document in the newest run" in html


def test_names_that_all_mean_a_document_are_said_to(client_viewer: Client, at: Any, handbook: dict[str, Document]):
    made = runs.create_judgment_set("Complete", Parsed([JudgedQuestion("1", "Alarm?", {"Fire drill": 1})]))
    assert "Every name in these judgments means" in get(client_viewer, at(f"{made.pk}/?unresolved")).content.decode()


def test_a_beir_zip_may_bring_its_documents(client_editor: Client, at: Any, in_workspace_a: Any):
    assert send(client_editor, at("upload/"), zipped(BEIR), "x.zip").status_code == 302
    assert not Document.objects.exists()
    answer = send(client_editor, at("upload/"), zipped(BEIR), "x.zip", import_corpus="on")
    assert "2 documents are being imported" in get(client_editor, answer["Location"]).content.decode()
    assert {made.reference for made in Document.objects.all()} == {"d1", "d2"}
    assert {made.collection.name for made in Document.objects.all()} == {"Support"}


def test_a_corpus_too_large_for_the_page_is_refused_with_the_way_to_do_it(
    client_editor: Client, at: Any, in_workspace_a: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(judgments, "MAX_CORPUS", 1)
    answer = send(client_editor, at("upload/"), zipped(BEIR), "x.zip", import_corpus="on")
    assert answer.status_code == 422
    assert "manage.py evaluate --dataset FOLDER" in answer.content.decode()
    assert not JudgmentSet.objects.exists()
    assert not Document.objects.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", rb'{"question": "How \ud800?", "document": "a"}'),
        ("x.zip", zipped({**BEIR, "queries.jsonl": rb'{"_id": "q1", "text": "\udfff"}'})),
        ("x.zip", zipped({**BEIR, "corpus.jsonl": rb'{"_id": "d1", "text": "\udfff"}'})),
        ("x.zip", zipped(BEIR).replace(b"Lift", b"Left")),
    ],
)
def test_what_cannot_be_stored_is_refused(client_editor: Client, at: Any, in_workspace_a: Any, name: str, content: bytes):
    assert send(client_editor, at("upload/"), content, name, import_corpus="on").status_code == 422
    assert not JudgmentSet.objects.exists()
    assert not Document.objects.exists()


def test_nothing_of_a_viewers_upload_is_read(
    viewer: Any, at: Any, in_workspace_a: Any, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
):
    strict = Client(enforce_csrf_checks=True)  # the check reads the body, in search of the cookie's token
    strict.cookies[settings.CSRF_COOKIE_NAME] = "a" * 32
    with public_context():
        strict.force_login(viewer, backend="allauth.account.auth_backends.AuthenticationBackend")
    read: list[int] = []
    monkeypatch.setattr(uploads.MemoryUploadHandler, "receive_data_chunk", lambda self, data, start: read.append(start))
    assert send(strict, at("upload/")).status_code == 403
    assert read == []


def test_a_bad_file_is_refused_with_its_lines(client_editor: Client, at: Any, in_workspace_a: Any):
    answer = send(client_editor, at("upload/"), b"question,document,grade\nHow?,a,x\n")
    assert answer.status_code == 422
    html = answer.content.decode()
    assert "Line 2: the grade &#x27;x&#x27; is not a whole number." in html
    assert 'value="Support"' in html
    assert not JudgmentSet.objects.exists()


def test_no_file_and_an_empty_file_are_refused(client_editor: Client, at: Any, in_workspace_a: Any):
    with public_context():
        assert client_editor.post(at("upload/"), {"name": "x"}).status_code == 422
    assert send(client_editor, at("upload/"), b"").status_code == 422


def test_a_file_that_is_too_large_is_not_read_to_its_end(
    client_editor: Client, at: Any, in_workspace_a: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(uploads, "MAX_BYTES", 1000)
    answer = send(client_editor, at("upload/"), b"question,document\n" + b"how,a\n" * 100_000)
    assert answer.status_code == 422
    assert "larger than" in answer.content.decode()


def test_an_upload_needs_the_csrf_token(editor: Any, at: Any, in_workspace_a: Any):
    strict = Client(enforce_csrf_checks=True)
    with public_context():
        strict.force_login(editor, backend="allauth.account.auth_backends.AuthenticationBackend")
    assert send(strict, at("upload/")).status_code == 403


def test_a_run_starts_is_polled_and_can_be_cancelled(client_editor: Client, at: Any, handbook: dict[str, Document]):
    send(client_editor, at("upload/"))
    made = JudgmentSet.objects.get()
    with public_context():
        begun = client_editor.post(at(f"{made.pk}/run/"))
    run = Run.objects.get()
    page = get(client_editor, begun["Location"]).content.decode()
    assert "every 2s" in page
    assert "Waiting for a worker" in page
    assert get(client_editor, at(f"runs/{run.pk}/status/")).status_code == 200
    with public_context():
        assert client_editor.post(at(f"{made.pk}/run/")).status_code == 302  # refused: one at a time
        client_editor.post(at(f"runs/{run.pk}/cancel/"))
    run.refresh_from_db()
    assert run.state == Run.State.CANCELLED
    done = get(client_editor, at(f"runs/{run.pk}/status/"))
    assert done.status_code == 286
    assert "cancelled after 0 of 2" in done.content.decode()


def test_a_finished_run_shows_figures_and_questions(client_viewer: Client, at: Any, finished: Run):
    html = get(client_viewer, at(f"runs/{finished.pk}/")).content.decode()
    assert "nDCG@10" in html
    assert f"{finished.figures['ndcg@10']:.3f}" in html
    assert "not encrypted" in html
    assert "How do I quit?" in html
    assert "every 2s" not in html
    for order in ("worst", "best", "ordinal", "slowest", "nonsense"):
        assert get(client_viewer, at(f"runs/{finished.pk}/?order={order}&page=x")).status_code == 200
    assert f"{finished.figures['ndcg@10']:.3f}" in get(client_viewer, at("")).content.decode()


def test_a_question_shows_what_was_expected_and_returned(client_viewer: Client, at: Any, finished: Run):
    answer = Answer.objects.get(run=finished, question__ordinal=2)
    html = get(client_viewer, at(f"runs/{finished.pk}/{answer.question_id}/")).content.decode()
    assert "missing.pdf" in html
    assert "Not in this workspace" in html
    assert "Place 1" in html
    assert "Relevant, grade 2" in html


def test_a_question_still_opens_when_its_document_is_gone(
    client_viewer: Client, at: Any, finished: Run, handbook: dict[str, Document]
):
    from documents import erasing

    erasing.erase([handbook["Fire drill"].id])
    answer = Answer.objects.get(run=finished, question__ordinal=2)
    assert "Deleted since the run" in get(client_viewer, at(f"runs/{finished.pk}/{answer.question_id}/")).content.decode()


@pytest.mark.parametrize(("kind", "media"), [("json", "application/json"), ("csv", "text/csv; charset=utf-8")])
def test_exports_are_downloads(client_viewer: Client, at: Any, finished: Run, kind: str, media: str):
    answer = get(client_viewer, at(f"runs/{finished.pk}/export.{kind}"))
    assert answer["Content-Type"] == media
    assert answer["Content-Disposition"].startswith("attachment")
    assert answer.streaming
    assert b"How do I quit?" in answer.getvalue()
    assert get(client_viewer, at(f"runs/{finished.pk}/export.xml")).status_code == 404


def test_deleting_asks_first_and_takes_the_runs(client_editor: Client, at: Any, finished: Run):
    made = finished.judgment_set_id
    assert "1 run go" in get(client_editor, at(f"{made}/delete/")).content.decode()
    with public_context():
        client_editor.post(at(f"{made}/delete/"))
    assert not JudgmentSet.objects.exists()
    assert not Run.objects.exists()
