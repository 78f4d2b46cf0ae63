"""States change only along the listed transitions, and every document ends ready, failed or cancelled."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from documents import ledger
from documents.extraction.pages import Extraction, Origin
from documents.extraction.pages import Page as Text
from documents.models import Document, Page, Stage
from documents.reasons import HEALS, RETRYABLE, WAITS, Reason
from tenants.errors import Refused
from tests.factories import DocumentFactory

pytestmark = pytest.mark.usefixtures("in_workspace_a")
State = Document.State
TEXT = Extraction("text", (Text(1, "Part 1", "some words"), Text(2, "Part 2", "more words")))


def started(**fields: Any) -> Document:
    document = ledger.begin(DocumentFactory(**fields).id)
    assert document is not None
    return document


def now(document: Document) -> Document:
    return Document.objects.get(pk=document.pk)


def its_time_has_come(document: Document) -> None:
    assert Document.objects.filter(pk=document.pk, retry_at__gt=timezone.now()).update(retry_at=timezone.now()) == 1


def test_the_states_of_a_good_document() -> None:
    document = started()
    assert document.state == State.EXTRACTING
    ledger.extracted(document.id, TEXT)
    assert (now(document).state, now(document).pages, now(document).format) == (State.EMBEDDING, 2, "text")
    ledger.planned(document.id, total=3, done=0)
    ledger.advance(document.id, done=2)
    assert now(document).chunks_done == 2
    assert [(page.number, page.label, page.text) for page in Page.objects.filter(document=document)] == [
        (1, "Part 1", "some words"),
        (2, "Part 2", "more words"),
    ]


@pytest.mark.parametrize("state", [State.READY, State.FAILED, State.CANCELLED])
def test_what_has_ended_is_not_begun_again(state: State) -> None:
    document = DocumentFactory(state=state, reason="damaged" if state == State.FAILED else "")
    assert ledger.begin(document.id) is None
    assert not ledger.cancel_all([document.id])
    ledger.fail(document.id, Reason.TIMEOUT)
    assert now(document).state == state


def test_what_is_gone_is_not_begun() -> None:
    assert ledger.begin(uuid4()) is None
    assert not ledger.cancel_all([uuid4()])
    ledger.fail(uuid4(), Reason.TIMEOUT)


def test_it_continues_with_embedding_when_the_text_is_there() -> None:
    document = started()
    ledger.extracted(document.id, TEXT)
    again = ledger.begin(document.id)
    assert again is not None
    assert again.state == State.EMBEDDING


def test_three_starts_without_progress_are_the_end() -> None:
    document = DocumentFactory()
    for _ in range(3):
        assert ledger.begin(document.id) is not None
    assert ledger.begin(document.id) is None
    assert (now(document).state, now(document).tries) == (State.QUEUED, "2 of 3")
    for _ in range(2):  # what killed its workers gets one start each time, not three
        its_time_has_come(document)
        assert ledger.begin(document.id) is not None
        assert ledger.begin(document.id) is None
    assert (now(document).state, now(document).reason) == (State.FAILED, Reason.INTERRUPTED)


def test_progress_forgives_interruptions() -> None:
    document = started()
    ledger.extracted(document.id, TEXT)
    for _ in range(5):
        assert ledger.begin(document.id) is not None
        ledger.advance(document.id, done=1)


def test_cancelling_forgets_what_was_done() -> None:
    document = started()
    ledger.extracted(document.id, TEXT)
    assert ledger.cancel_all([document.id])
    assert (now(document).state, now(document).pages) == (State.CANCELLED, 0)
    assert not Page.objects.filter(document=document).exists()
    for step in (
        lambda: ledger.extracted(document.id, TEXT),
        lambda: ledger.advance(document.id, done=1),
        lambda: ledger.planned(document.id, total=1, done=0),
        lambda: ledger.finish(document.id),
        lambda: ledger.still_working(document.id),
    ):
        with pytest.raises(ledger.Stopped):
            step()


def test_a_failed_document_has_its_reason_and_can_be_retried() -> None:
    document = started()
    ledger.fail(document.id, Reason.TIMEOUT, "Reference 1234.")
    assert (now(document).reason, now(document).detail) == ("timeout", "Reference 1234.")
    assert now(document).what_happened
    ledger.retry_all([document.id])
    retried = now(document)
    assert (retried.state, retried.reason, retried.detail, retried.attempts) == (State.QUEUED, "", "", 0)


@pytest.mark.parametrize("reason", sorted(set(Reason) - RETRYABLE))
def test_a_file_that_cannot_be_read_is_not_retried(reason: Reason) -> None:
    document = DocumentFactory(state=State.FAILED, reason=reason)
    assert ledger.retry_all([document.id]) == []
    assert now(document).state == State.FAILED


@pytest.mark.parametrize("state", [State.QUEUED, State.EXTRACTING, State.EMBEDDING, State.READY])
def test_what_has_not_ended_badly_is_not_retried(state: State) -> None:
    document = DocumentFactory(state=state)
    assert ledger.retry_all([document.id]) == []
    assert now(document).state == state


@pytest.mark.parametrize("reason", sorted(HEALS))
def test_what_can_heal_is_tried_again_by_itself_a_few_times(reason: Reason) -> None:
    document = started()
    for tries, wait in zip(("2 of 3", "3 of 3"), WAITS, strict=True):
        before = timezone.now()
        ledger.fail(document.id, reason)
        waiting = now(document)
        assert (waiting.state, waiting.reason, waiting.tries) == (State.QUEUED, "", tries)
        assert waiting.retry_at is not None
        assert timedelta(seconds=wait) <= waiting.retry_at - before < timedelta(seconds=wait + 60)
        assert ledger.begin(document.id) is None, "not before its time"
        its_time_has_come(document)
        begun = ledger.begin(document.id)
        assert begun is not None
        assert (begun.state, begun.retry_at) == (State.EXTRACTING, None)
    ledger.fail(document.id, reason, "Reference 1.")
    assert (now(document).state, now(document).reason, now(document).detail) == (State.FAILED, reason, "Reference 1.")
    ledger.retry_all([document.id])
    assert (now(document).retries, now(document).retry_at) == (0, None)


@pytest.mark.parametrize("reason", sorted(set(Reason) - HEALS))
def test_what_cannot_heal_fails_at_once(reason: Reason) -> None:
    document = started()
    ledger.fail(document.id, reason)
    assert now(document).state == State.FAILED


def test_what_waits_for_its_time_can_be_cancelled() -> None:
    document = started()
    ledger.fail(document.id, Reason.OUTAGE)
    assert ledger.cancel_all([document.id])
    assert (now(document).state, now(document).retry_at) == (State.CANCELLED, None)


def test_many_are_retried_or_cancelled_at_once() -> None:
    """What cannot be is left as it is; the log has one entry for all of them."""
    failed = [DocumentFactory(state=State.FAILED, reason=reason, detail="x") for reason in ("timeout", "internal", "encrypted")]
    other = [DocumentFactory(state=state) for state in (State.READY, State.CANCELLED, State.QUEUED)]
    everything = [document.id for document in (*failed, *other)]
    assert len(ledger.retry_all(everything)) == 3
    assert [now(document).state for document in (*failed, *other)] == [
        "queued",
        "queued",
        "failed",
        "ready",
        "queued",
        "queued",
    ]
    assert [now(document).detail for document in failed] == ["", "", "x"]
    ledger.begin(failed[0].id)
    assert ledger.cancel_all(everything) == 4
    assert [now(document).state for document in failed] == ["cancelled", "cancelled", "failed"]
    assert stages(failed[0]) == [("extract", 1, "cancelled")]
    assert ledger.cancel_all(everything) == 0


def test_every_state_has_its_transitions_and_every_path_ends() -> None:
    assert set(ledger.TRANSITIONS) == set(State)
    for state in State:
        reached, waiting = {state}, [state]
        while waiting:
            for following in ledger.TRANSITIONS[waiting.pop()] - reached:
                reached.add(following)
                waiting.append(following)
        assert reached & ledger.FINAL


def test_the_database_refuses_a_failure_without_a_reason() -> None:
    for fields in ({"state": "failed"}, {"state": "ready", "reason": "timeout"}, {"state": "odd"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            DocumentFactory(**fields)


# ---------------------------------------------------------------- the runs of stages

STEPS = ["begin", "extracted", "planned", "advance", "finish", "fail", "wait", "cancel", "retry"]


def stages(document: Document) -> list[tuple[str, int, str]]:
    return [(stage.name, stage.attempt, stage.outcome) for stage in Stage.objects.filter(document=document)]


def test_each_run_of_a_stage_is_written_down() -> None:
    document = started()
    assert stages(document) == [("extract", 1, "")]
    ledger.begin(document.id)  # the worker was killed, another took it up
    origins = (Origin.EXTRACTED, Origin.RECOGNISED, Origin.EMPTY, Origin.FAILED)
    ledger.extracted(document.id, Extraction("pdf", tuple(Text(n, "", "a", origin) for n, origin in enumerate(origins, 1))))
    ledger.planned(document.id, total=3, done=0)
    ledger.advance(document.id, done=2)
    ledger.fail(document.id, Reason.INTERNAL)
    assert stages(document) == [
        ("extract", 1, "interrupted"),
        ("extract", 2, "done"),
        ("embed", 1, "failed"),
    ]
    _, read, embedded = Stage.objects.filter(document=document)
    assert (read.pages, read.pages_extracted, read.pages_ocr, read.pages_empty, read.pages_failed) == (4, 1, 1, 1, 1)
    assert read.pages_in_words == "1 read, 1 recognised in pictures, 1 without text, 1 could not be read"
    assert (embedded.passages, embedded.reason, bool(embedded.what_happened)) == (2, "internal", True)
    assert read.worker
    assert read.ended_at >= read.started_at
    ledger.retry_all([document.id])
    ledger.begin(document.id)
    ledger.cancel_all([document.id])
    assert stages(document)[-1] == ("embed", 2, "cancelled")


@settings(max_examples=100, deadline=None)
@given(origins=st.lists(st.sampled_from([origin for origin in Origin if origin is not Origin.SCANNED]), max_size=30))
def test_every_page_is_counted_once(origins: list[Origin]) -> None:
    counted = ledger.tally(Extraction("pdf", tuple(Text(n, "", "words", origin) for n, origin in enumerate(origins, 1))))
    assert counted.pop("pages") == len(origins) == sum(counted.values())
    assert counted.get("pages_failed", 0) == origins.count(Origin.FAILED)


def test_the_database_refuses_pages_that_do_not_add_up() -> None:
    document = DocumentFactory()
    with pytest.raises(IntegrityError), transaction.atomic():
        Stage.objects.create(document=document, name="extract", attempt=1, worker="here:1", pages=3, pages_extracted=2)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(STEPS), max_size=25))
def test_whatever_is_done_in_whatever_order_the_ledger_adds_up(steps: list[str]) -> None:
    """A run is open exactly while the document is worked on, and what a run took from the stage before is still there."""
    document = DocumentFactory()
    act = {
        "begin": lambda: ledger.begin(document.id),
        "extracted": lambda: ledger.extracted(document.id, TEXT),
        "planned": lambda: ledger.planned(document.id, total=5, done=0),
        "advance": lambda: ledger.advance(document.id, done=1),
        "finish": lambda: ledger.finish(document.id),
        "fail": lambda: ledger.fail(document.id, Reason.TIMEOUT),
        "wait": lambda: ledger.fail(document.id, Reason.OUTAGE),
        "cancel": lambda: ledger.cancel_all([document.id]),
        "retry": lambda: ledger.retry_all([document.id]),
    }
    for step in steps:
        try:
            with transaction.atomic():
                act[step]()
        except (ledger.Stopped, Refused):
            pass
        Document.objects.update(retry_at=None)
        state = State(now(document).state)
        running = list(Stage.objects.filter(document=document, ended_at=None).values_list("name", flat=True))
        assert running == {State.EXTRACTING: ["extract"], State.EMBEDDING: ["embed"]}.get(state, [])
        assert Page.objects.filter(document=document).count() == now(document).pages
        assert (now(document).finished_at is not None) == (state in ledger.FINAL)


def test_a_version_that_knows_no_stages_can_delete_documents() -> None:
    document = started()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM documents_document WHERE id = %s", [document.id])
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    assert not Stage.objects.exists()
