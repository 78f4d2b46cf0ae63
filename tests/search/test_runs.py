"""Evaluation runs: figures, honesty about what is missing, cancelling, and going on after a kill."""

import csv
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from documents.models import Document
from search.embeddings import Embedder
from search.evaluation import reports, runs
from search.evaluation.judgments import JudgedQuestion, Parsed
from search.models import Answer, Judgment, JudgmentSet, Question, Run
from search.sources import sources
from tenants.context import public_context
from tenants.errors import Refused
from tenants.models import Tenant
from tenants.sweeping import sweep
from tests.factories import CollectionFactory
from tests.search.conftest import store

pytestmark = pytest.mark.django_db

QUESTIONS = {
    "How do I quit?": {"Notice periods": 1},
    "hotel money back": {"travel costs.txt": 2, "Canteen": 0},
    "fire alarm": {"fire drill": 1},
    "where is my bike": {"no-such-document.pdf": 1},
}


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it and clean up."""


@pytest.fixture
def judged() -> Callable[..., JudgmentSet]:
    def make(questions: dict[str, dict[str, int]] | None = None) -> JudgmentSet:
        items = questions or QUESTIONS
        return runs.create_judgment_set(
            "Support", Parsed([JudgedQuestion(f"q{i}", text, judged) for i, (text, judged) in enumerate(items.items())])
        )

    return make


def test_an_evaluation_reports_its_figures(handbook: dict[str, Document], judged: Callable[..., JudgmentSet]):
    seen: list[tuple[int, int]] = []
    run = runs.evaluate(judged(), on_progress=lambda done, total: seen.append((done, total)))
    assert run.state == Run.State.READY
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    figures = run.figures
    assert figures.keys() == {"ndcg@10", "mrr", "recall@10", "recall@100", "queries", "latency_ms", "index_loss"}
    assert (figures["ndcg@10"], figures["mrr"], figures["recall@100"]) == (0.75, 0.75, 0.75)
    assert (figures["queries"], figures["index_loss"]) == (4, 0)
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p95"]
    assert run.configuration["passages"] == len(handbook)


def test_what_is_not_here_is_counted_and_named(handbook: dict[str, Document], judged: Callable[..., JudgmentSet]):
    made = judged()
    assert runs.unresolved_references(made, sources().everything()) == ["no-such-document.pdf"]
    run = runs.evaluate(made)
    assert run.unresolved == 1
    answer = Answer.objects.get(run=run, question__ordinal=4)
    assert answer.recall_100 == 0
    assert answer.expected == [{"reference": "no-such-document.pdf", "document": None, "grade": 1, "rank": None}]


def test_a_run_may_be_about_one_collection(handbook: dict[str, Document], judged: Callable[..., JudgmentSet]):
    other = CollectionFactory(name="Other")
    twin = store(["Employees may quit with two weeks of notice."], title="Notice periods", collection=other)
    made = judged({"How do I quit?": {"Notice periods": 1}})
    assert runs.unresolved_references(made, sources().everything()) == ["Notice periods"]  # two documents answer to the name
    run = runs.evaluate(made, collection_id=other.pk)
    assert (run.unresolved, run.figures["mrr"], run.configuration["documents"]) == (0, 1, 1)
    assert Answer.objects.get(run=run).returned[0]["document"] == str(twin.id)


def test_questions_and_answers_are_not_in_the_rows(handbook: dict[str, Document], judged: Callable[..., JudgmentSet]):
    runs.evaluate(judged({"zebra marker": {"Canteen": 1}}))
    with connection.cursor() as cursor:
        for model in (JudgmentSet, Question, Judgment, Run, Answer):
            cursor.execute(f"SELECT t::text FROM {model._meta.db_table} t")
            for (row,) in cursor.fetchall():
                for word in ("zebra", "Canteen", "Support"):
                    assert word not in row
                    assert word.encode().hex() not in row


def test_without_documents_the_run_says_what_to_do(in_workspace_a: Any, model: Embedder, judged: Callable[..., JudgmentSet]):
    run = runs.evaluate(judged())
    assert run.state == Run.State.FAILED
    assert "Upload documents" in run.detail


def test_a_killed_run_goes_on_where_it_stopped(
    handbook: dict[str, Document], judged: Callable[..., JudgmentSet], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runs, "GROUP", 2)
    run = runs.start(judged(), None)

    def kill(done: int, total: int) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        runs.execute(run.pk, on_progress=kill)
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING
    first = set(Answer.objects.filter(run=run).values_list("id", flat=True))
    assert len(first) == 3
    asked = []
    original = runs.search
    monkeypatch.setattr(runs, "search", lambda text, **kw: asked.append(text) or original(text, **kw))
    runs.execute(run.pk)
    run.refresh_from_db()
    assert run.state == Run.State.READY
    assert run.figures["queries"] == 4
    assert asked == ["warm up", "where is my bike"]
    assert first < set(Answer.objects.filter(run=run).values_list("id", flat=True))


def test_a_finished_run_is_not_run_again(handbook: dict[str, Document], judged: Callable[..., JudgmentSet]):
    run = runs.evaluate(judged())
    before = run.finished_at
    runs.execute(run.pk)
    run.refresh_from_db()
    assert (run.finished_at, run.attempts) == (before, 1)


def test_a_cancelled_run_stops(handbook: dict[str, Document], judged: Callable[..., JudgmentSet]):
    """At the next question, not at the next group of them."""
    run = runs.start(judged(), None)
    runs.execute(run.pk, on_progress=lambda done, total: runs.cancel(run) and None)
    run.refresh_from_db()
    assert run.state == Run.State.CANCELLED
    assert Answer.objects.filter(run=run).count() == 1
    assert run.figures == {}
    assert runs.cancel(run) is False


def test_a_run_cancelled_while_it_asks_stops(
    handbook: dict[str, Document], judged: Callable[..., JudgmentSet], monkeypatch: pytest.MonkeyPatch
):
    run = runs.start(judged(), None)
    asked, original = [], runs.search

    def ask(text: str, **options: Any) -> Any:
        asked.append(text)
        runs.cancel(run)
        return original(text, **options)

    monkeypatch.setattr(runs, "search", ask)
    runs.execute(run.pk)
    assert asked == ["warm up", "How do I quit?"]
    assert not Answer.objects.exists()


def test_progress_is_seen_question_by_question(handbook: dict[str, Document], judged: Callable[..., JudgmentSet]):
    run = runs.start(judged(), None)
    seen: list[int] = []
    runs.execute(run.pk, on_progress=lambda *_: seen.append(Run.objects.get(pk=run.pk).questions_done))
    assert seen == [0, 1, 2, 3]  # each is counted once its answer is stored


def test_a_run_that_somebody_executes_is_left_alone(handbook: dict[str, Document], judged: Callable[..., JudgmentSet]):
    """`manage.py evaluate` has no job, so the worker's sweep queues its run beside it."""
    run = runs.start(judged(), None)
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s::bigint)", [int.from_bytes(run.pk.bytes[:8], "big", signed=True)])
        runs.execute(run.pk)
        run.refresh_from_db()
        assert (run.state, run.attempts) == (Run.State.QUEUED, 0)
    finally:
        with other.cursor() as cursor:  # a session that ends lets go a moment later
            cursor.execute("SELECT pg_advisory_unlock_all()")
        other.close()
    runs.execute(run.pk)
    run.refresh_from_db()
    assert run.state == Run.State.READY


def test_the_command_has_its_run_before_anybody_can_see_it(
    handbook: dict[str, Document], judged: Callable[..., JudgmentSet], monkeypatch: pytest.MonkeyPatch
):
    original = Run.save

    def save(run: Run, *args: Any, **options: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
            assert cursor.fetchone() == (1,)
        original(run, *args, **options)

    made = judged()
    monkeypatch.setattr(Run, "save", save)
    assert runs.evaluate(made).state == Run.State.READY
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        assert cursor.fetchone() == (0,)


def test_an_error_leaves_a_sentence_and_no_content(
    handbook: dict[str, Document], judged: Callable[..., JudgmentSet], monkeypatch: pytest.MonkeyPatch
):
    def fail(text: str, **kwargs: Any) -> None:
        raise ValueError(f"secret {text}")

    monkeypatch.setattr(runs, "search", fail)
    run = runs.start(judged(), None)
    with pytest.raises(ValueError, match="secret"):
        runs.execute(run.pk)
    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert "secret" not in run.detail
    assert "Start it again" in run.detail


def test_one_run_of_a_set_at_a_time(handbook: dict[str, Document], judged: Callable[..., JudgmentSet]):
    made = judged()
    runs.start(made, None)
    with pytest.raises(Refused, match="not finished yet"):
        runs.start(made, None)


@pytest.mark.django_db(transaction=True)
def test_the_job_runs_it_and_a_lost_job_is_queued_again(
    handbook: dict[str, Document], judged: Callable[..., JudgmentSet], run_jobs: Callable[[], int]
):
    import django_rq

    run = runs.start(judged(), None)
    django_rq.get_queue("default").connection.flushdb()  # Redis is lost
    assert runs.resume_unfinished() == 1
    assert runs.resume_unfinished() == 0  # it waits in its queue
    assert run_jobs() == 1
    run.refresh_from_db()
    assert run.state == Run.State.READY
    assert runs.resume_unfinished() == 0


@pytest.mark.django_db(transaction=True)
def test_a_run_stops_when_its_workspace_is_suspended_and_goes_on_after(
    handbook: dict[str, Document],
    judged: Callable[..., JudgmentSet],
    workspace_a: Any,
    run_jobs: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
):
    def set_status(status: str) -> None:
        with public_context():
            Tenant.objects.filter(pk=workspace_a.pk).update(status=status)

    asked, original = [], runs.search

    def ask(text: str, **options: Any) -> Any:
        asked.append(text)
        if len(asked) == 3:  # after the warm-up and the first question
            with ThreadPoolExecutor(1) as elsewhere:
                elsewhere.submit(lambda: (set_status("suspended"), connection.close())).result()
        return original(text, **options)

    monkeypatch.setattr(runs, "search", ask)
    run = runs.start(judged(), None)
    assert run_jobs() == 1
    run.refresh_from_db()
    assert (run.state, len(asked)) == (Run.State.RUNNING, 3)
    with public_context():
        sweep()
    assert run_jobs() == 0, "the sweeper leaves a suspended workspace alone"
    set_status("active")
    with public_context():
        sweep()
    assert run_jobs() == 1
    run.refresh_from_db()
    assert (run.state, run.figures["queries"]) == (Run.State.READY, 4)


def test_a_run_that_never_ends_is_given_up(handbook: dict[str, Document], judged: Callable[..., JudgmentSet]):
    run = runs.start(judged(), None)
    Run.objects.filter(pk=run.pk).update(attempts=runs.MAX_ATTEMPTS, state=Run.State.RUNNING)
    assert runs.resume_unfinished() == 0
    run.refresh_from_db()
    assert run.state == Run.State.FAILED


def test_reports_hold_every_question(handbook: dict[str, Document], judged: Callable[..., JudgmentSet]):
    run = runs.evaluate(judged({"=HYPERLINK(1) fire alarm": {"Fire drill": 1}, "lunch": {"Canteen": 1}}))
    report = json.loads("".join(reports.as_json(run, sources().everything())))
    assert report["ndcg@10"] == run.figures["ndcg@10"]
    assert [item["question"] for item in report["questions"]] == ["=HYPERLINK(1) fire alarm", "lunch"]
    assert report["questions"][1]["returned"][0] == "Canteen"
    rows = list(csv.DictReader(io.StringIO("".join(reports.as_csv(run, sources().everything())).removeprefix("\ufeff"))))
    assert rows[0]["question"].startswith("'=")  # a spreadsheet must not run it
    assert rows[1]["found_at_rank"] == "1"


def test_reports_read_a_group_of_answers_at_a_time(
    handbook: dict[str, Document], judged: Callable[..., JudgmentSet], monkeypatch: pytest.MonkeyPatch
):
    run = runs.evaluate(judged())
    whole = list(reports.as_csv(run, sources().everything()))
    monkeypatch.setattr(reports, "GROUP", 3)
    monkeypatch.setattr(reports, "SHOWN", 1)
    described: list[int] = []
    registered = sources()
    original = registered.describe
    monkeypatch.setattr(registered, "describe", lambda ids, seen: described.append(len(ids)) or original(ids, seen))
    pieces = reports.as_json(run, sources().everything())
    assert json.loads("".join(pieces))["questions"][3]["question"] == "where is my bike"
    assert len(described) == 2
    assert max(described) <= 3
    assert len(whole) == 2 + 4
