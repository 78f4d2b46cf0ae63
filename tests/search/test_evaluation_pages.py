"""The evaluation pages over HTTP."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from documents.models import Document
from search.evaluation import judgments, runs
from search.evaluation.judgments import JudgedQuestion, Parsed
from search.models import Answer, JudgmentSet, Run
from tenants.context import public_context, workspace

pytestmark = pytest.mark.django_db
CSV = b"question,document,grade\nHow do I quit?,Notice periods,1\nfire alarm,Fire drill,2\nfire alarm,missing.pdf,1\n"


@pytest.fixture
def at(workspace_a: Any) -> Callable[[str], str]:
    return lambda path: f"{workspace_a.path}evaluation/{path}"


@pytest.fixture
def finished(handbook: dict[str, Document]) -> Run:
    parsed = judgments.parse_csv(CSV.decode())
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
    assert "1 name in these judgments means no ready document" in html


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
    from search.evaluation import uploads

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

    erasing.delete(handbook["Fire drill"])
    answer = Answer.objects.get(run=finished, question__ordinal=2)
    assert "Deleted since the run" in get(client_viewer, at(f"runs/{finished.pk}/{answer.question_id}/")).content.decode()


@pytest.mark.parametrize(("kind", "media"), [("json", "application/json"), ("csv", "text/csv; charset=utf-8")])
def test_exports_are_downloads(client_viewer: Client, at: Any, finished: Run, kind: str, media: str):
    answer = get(client_viewer, at(f"runs/{finished.pk}/export.{kind}"))
    assert answer["Content-Type"] == media
    assert answer["Content-Disposition"].startswith("attachment")
    assert b"How do I quit?" in answer.content
    assert get(client_viewer, at(f"runs/{finished.pk}/export.xml")).status_code == 404


def test_a_viewer_may_look_and_not_touch(client_viewer: Client, at: Any, finished: Run):
    made = finished.judgment_set_id
    assert get(client_viewer, at(f"{made}/")).status_code == 200
    with public_context():
        assert client_viewer.get(at("upload/")).status_code == 403
        assert client_viewer.post(at(f"{made}/run/")).status_code == 403
        assert client_viewer.post(at(f"{made}/delete/")).status_code == 403
        assert client_viewer.post(at(f"runs/{finished.pk}/cancel/")).status_code == 403


def test_deleting_asks_first_and_takes_the_runs(client_editor: Client, at: Any, finished: Run):
    made = finished.judgment_set_id
    assert "1 run go" in get(client_editor, at(f"{made}/delete/")).content.decode()
    with public_context():
        client_editor.post(at(f"{made}/delete/"))
    assert not JudgmentSet.objects.exists()
    assert not Run.objects.exists()


def test_foreign_and_unknown_ids_are_not_found(workspace_b: Any, client_editor: Client, at: Any, in_workspace_a: Any):
    with workspace(workspace_b):
        made = runs.create_judgment_set("Foreign", Parsed([JudgedQuestion("1", "x", {"a": 1})]))
        run = runs._create(made, None)
        question = made.questions.get()
    unknown = "11111111-1111-1111-1111-111111111111"
    for set_id, run_id, question_id in ((made.pk, run.pk, question.pk), (unknown, unknown, unknown)):
        for path in (
            f"{set_id}/", f"{set_id}/delete/", f"runs/{run_id}/", f"runs/{run_id}/status/",
            f"runs/{run_id}/{question_id}/", f"runs/{run_id}/export.json",
        ):  # fmt: skip
            assert get(client_editor, at(path)).status_code == 404, path
        with public_context():
            assert client_editor.post(at(f"{set_id}/run/")).status_code == 404
            assert client_editor.post(at(f"runs/{run_id}/cancel/")).status_code == 404
