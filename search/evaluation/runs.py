"""Runs an evaluation: every question through the same search as on the page, then exactly, and the figures of both.

A run is resumable: each question's answer is committed by itself, and what is answered is not asked again. The search
knows documents by id; what judgments call them is resolved through search.sources when the run starts.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import Avg, F
from django.utils import timezone

from search.evaluation import metrics
from search.evaluation.judgments import Parsed
from search.loaded import term_index
from search.models import Answer, Judgment, JudgmentSet, Question, Run, VectorIndex
from search.querying import Hit, forget_questions, search, search_exactly
from search.ranking import ALPHA, WINDOW
from search.sources import sources
from tenants import seals
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.context import current_tenant
from tenants.errors import Refused
from tenants.jobs import enqueue, in_flight
from tenants.locks import alone_with
from tenants.models import Membership
from tenants.schemas import is_still_open

GROUP = 32  # questions that share one exact pass over the vectors
MAX_ATTEMPTS = 5
MISSING = "missing:"
TASK = "search.evaluation.jobs.run"
TIMEOUT_SECONDS = 6 * 3600

Progress = Callable[[int, int], None]


def create_judgment_set(
    name: str, parsed: Parsed, created_by_id: int | None = None, *, identity: UUID | None = None
) -> JudgmentSet:
    """Store parsed judgments under a name."""
    with transaction.atomic():
        made = JudgmentSet.objects.create(
            id=identity or uuid4(),
            name=name,
            questions_total=len(parsed.questions),
            judgments_total=parsed.judgments,
            created_by_id=created_by_id,
        )
        questions = [
            Question(judgment_set=made, ordinal=number, reference=question.reference, text=question.text)
            for number, question in enumerate(parsed.questions, start=1)
        ]
        Question.objects.bulk_create(questions, batch_size=500)
        Judgment.objects.bulk_create(
            [
                Judgment(question=question, reference=reference, grade=grade)
                for question, judged in zip(questions, parsed.questions, strict=True)
                for reference, grade in judged.judgments.items()
            ],
            batch_size=500,
        )
        record(Event.JUDGMENTS_UPLOADED, judgments=str(made.pk), questions=made.questions_total)
    return made


def delete_judgment_set(judgment_set: JudgmentSet) -> None:
    """With its runs, the unfinished ones stopped first."""
    for run in judgment_set.runs.exclude(state__in=Run.FINAL):
        cancel(run)
    with transaction.atomic():
        identity = str(judgment_set.pk)
        judgment_set.delete()
        record(Event.JUDGMENTS_DELETED, judgments=identity)


def unresolved_references(judgment_set: JudgmentSet, collections: frozenset[UUID]) -> list[str]:
    """What the judgments name that no ready document of these collections answers to, each once."""
    return _unresolved(judgment_set, _Names(collections))


def _unresolved(judgment_set: JudgmentSet, known: "_Names") -> list[str]:
    read = Judgment._meta.get_field("reference").reader()
    rows = Judgment.objects.filter(question__judgment_set=judgment_set).values_list("id", "reference")
    return sorted({name for pk, value in rows if known.document(name := read(pk, value)) is None})


def start(judgment_set: JudgmentSet, created_by_id: int | None) -> Run:
    """A new run, queued for the worker, of what its starter may see (None: a command's, of everything but canaries).

    Refused while another of the same set is unfinished.
    """
    if judgment_set.runs.exclude(state__in=Run.FINAL).exists():
        raise Refused("A run of these judgments is not finished yet. Wait for it, or cancel it.")
    run = _new(judgment_set, created_by_id)
    with transaction.atomic():
        run.save(force_insert=True)
        record(Event.RUN, judgments=str(judgment_set.pk), run=str(run.pk))
    _enqueue(run.pk)
    return run


def evaluate(judgment_set: JudgmentSet, *, collection_id: UUID | None = None, on_progress: Progress | None = None) -> Run:
    """A new run, executed here and now; for commands. Searches one collection, or everything but canaries. Returns it final."""
    run = _new(judgment_set, None, collection_id)
    with alone_with(run.pk):  # before the row can be seen: the worker's sweep takes up what has no job
        with transaction.atomic():
            run.save(force_insert=True)
            record(Event.RUN, judgments=str(judgment_set.pk), run=str(run.pk))
        execute(run.pk, on_progress=on_progress)
    run.refresh_from_db()
    return run


def cancel(run: Run) -> bool:
    """Stop a run; what is answered stays. False when it was final already."""
    unfinished = Run.objects.filter(pk=run.pk).exclude(state__in=Run.FINAL)
    return bool(unfinished.update(state=Run.State.CANCELLED, finished_at=timezone.now()))


def resume_unfinished() -> int:
    """Queue again what is unfinished but neither queued nor running anywhere; for the worker's sweep."""
    resumed = 0
    for run in Run.objects.exclude(state__in=Run.FINAL).only("pk", "attempts"):
        if in_flight(_job_id(run.pk), "default"):
            continue
        if run.attempts >= MAX_ATTEMPTS:
            _fail(run.pk, "The run was interrupted several times and was given up. Start it again.")
        else:
            _enqueue(run.pk)
            resumed += 1
    return resumed


def execute(run_id: UUID, *, on_progress: Progress | None = None) -> None:
    """Answer what is not answered yet, then compute the figures. Does nothing when the run is final, or somebody else's."""
    with alone_with(run_id) as alone:
        if alone:
            _execute(run_id, on_progress)


def _execute(run_id: UUID, on_progress: Progress | None) -> None:
    claimed = Run.objects.filter(pk=run_id).exclude(state__in=Run.FINAL)
    if not claimed.update(state=Run.State.RUNNING, attempts=F("attempts") + 1):
        return
    Run.objects.filter(pk=run_id, started_at=None).update(started_at=timezone.now())
    try:
        if _answer_all(run_id, on_progress):
            _finish(run_id)
    except Refused as error:
        _fail(run_id, str(error))
    except Exception:
        # The message may hold content: it goes to the caller's log, which is private; the person gets a sentence.
        _fail(run_id, "The run stopped because of an error on our side. Start it again; if it repeats, ask your staff.")
        raise


def _new(judgment_set: JudgmentSet, created_by_id: int | None, collection_id: UUID | None = None) -> Run:
    """A run that is not stored yet, with what it will be measured under."""
    index = VectorIndex.objects.get(state=VectorIndex.State.LIVE)
    return Run(
        judgment_set=judgment_set,
        created_by_id=created_by_id,
        collection_id=collection_id,
        questions_total=judgment_set.questions_total,
        configuration={
            "model": index.model,
            "protection": index.protection,
            "m": index.m,
            "ef_construction": index.ef_construction,
            "dense_weight": ALPHA,
            "window": WINDOW,
            "depth": metrics.DEPTH,
        },
    )


def _job_id(run_id: UUID) -> str:
    return f"run-{run_id}"


def _enqueue(run_id: UUID) -> None:
    enqueue(TASK, str(run_id), job_id=_job_id(run_id), timeout=TIMEOUT_SECONDS)


def _fail(run_id: UUID, sentence: str) -> None:
    run = Run.objects.exclude(state__in=Run.FINAL).filter(pk=run_id).first()
    if run is not None:
        run.state, run.detail, run.finished_at = Run.State.FAILED, sentence, timezone.now()
        run.save(update_fields=["state", "detail", "finished_at"])


class _Names:
    """Which document a judgment means."""

    def __init__(self, collections: frozenset[UUID]) -> None:
        self._exact = sources().references(collections)
        folded: dict[str, set[UUID]] = {}
        for name, document in self._exact.items():
            folded.setdefault(name.strip().casefold(), set()).add(document)
        self._folded = {name: documents.pop() for name, documents in folded.items() if len(documents) == 1}

    def document(self, reference: str) -> UUID | None:
        return self._exact.get(reference) or self._folded.get(reference.strip().casefold())


def _answer_all(run_id: UUID, on_progress: Progress | None) -> bool:
    """Whether the run came to its end; False when it was cancelled, or the workspace closed, meanwhile."""
    run = Run.objects.select_related("judgment_set").get(pk=run_id)
    answered = set(Answer.objects.filter(run=run).values_list("question_id", flat=True))
    questions = list(run.judgment_set.questions.order_by("ordinal").values_list("id", "text"))
    index = term_index()
    collections = _searched(run)
    if not index.documents(collections):
        raise Refused("There is nothing to search yet. Upload documents, wait until they are ready and run it again.")
    if not answered:
        searched = {"documents": len(index.documents(collections)), "passages": index.amount(collections)}
        run.configuration |= searched
    names = _Names(collections)
    run.unresolved = len(_unresolved(run.judgment_set, names))
    run.save(update_fields=["configuration", "unresolved"])
    read = Question._meta.get_field("text").reader()
    open_questions = [(pk, read(pk, text)) for pk, text in questions if pk not in answered]
    done = len(answered)
    search("warm up", collections=collections, limit=1)
    for start_at in range(0, len(open_questions), GROUP):
        group = open_questions[start_at : start_at + GROUP]
        judged = _judged([pk for pk, _ in group], names)
        forget_questions(current_tenant().id)  # a cached question would flatter the latency
        timed = []
        for _, text in group:
            began = time.perf_counter()
            results = search(text, collections=collections, limit=metrics.DEPTH)
            timed.append((results.hits, 1000 * (time.perf_counter() - began)))
            if not _advance(run_id, done):
                return False
        exact = search_exactly([text for _, text in group], collections=collections, limit=metrics.DEPTH)
        for (pk, _), (hits, latency), reference in zip(group, timed, exact, strict=True):
            answer = _answer(run, pk, judged[pk], hits, reference.hits, latency)
            Answer.objects.bulk_create([answer], ignore_conflicts=True)
            done += 1
            if on_progress is not None:
                on_progress(done, len(questions))
            if not _advance(run_id, done):
                return False
    return True


def _searched(run: Run) -> frozenset[UUID]:
    """The collections a run is about: what its starter may see now, or, for a command, everything. Raises Refused."""
    if run.created_by_id is None:
        visible = sources().everything()
    else:
        membership = Membership.objects.filter(tenant=current_tenant(), user_id=run.created_by_id).first()
        if membership is None or not seals.stands(membership):
            raise Refused("Whoever started the run is not a member any more. Start it again.")
        visible = sources().visible(membership)
    return visible if run.collection_id is None else visible & {run.collection_id}


def _advance(run_id: UUID, done: int) -> bool:
    """Show how far the run is; False when it must stop: it was cancelled or deleted, or its workspace is closed."""
    return is_still_open() and bool(Run.objects.filter(pk=run_id, state=Run.State.RUNNING).update(questions_done=done))


def _judged(question_ids: list[UUID], names: _Names) -> dict[UUID, list[tuple[str, UUID | None, int]]]:
    """Per question: what the file named, the document that is, and the grade."""
    judged: dict[UUID, list[tuple[str, UUID | None, int]]] = {pk: [] for pk in question_ids}
    read = Judgment._meta.get_field("reference").reader()
    rows = Judgment.objects.filter(question_id__in=question_ids).values_list("id", "question_id", "reference", "grade")
    for pk, question_id, value, grade in rows:
        reference = read(pk, value)
        judged[question_id].append((reference, names.document(reference), grade))
    return judged


def _answer(
    run: Run,
    question_id: UUID,
    judged: list[tuple[str, UUID | None, int]],
    hits: list[Hit],
    exact_hits: list[Hit],
    latency_ms: float,
) -> Answer:
    grades: dict[str, int] = {}
    for reference, document, grade in judged:
        # A document that is not here can only be missed: it counts against the recall instead of vanishing.
        name = str(document) if document else MISSING + reference
        grades[name] = max(grade, grades.get(name, 0))
    returned = [str(hit.document_id) for hit in hits]
    ranks = {name: rank for rank, name in enumerate(returned, start=1)}
    got = metrics.quality(grades, returned)
    exact = metrics.quality(grades, [str(hit.document_id) for hit in exact_hits])
    expected: list[dict[str, Any]] = [
        {
            "reference": reference,
            "document": str(document) if document else None,
            "grade": grade,
            "rank": ranks.get(str(document)),
        }
        for reference, document, grade in sorted(judged, key=lambda judgment: (-judgment[2], judgment[0]))
    ]
    return Answer(
        run=run,
        question_id=question_id,
        ndcg=got.ndcg,
        mrr=got.mrr,
        recall_10=got.recall_10,
        recall_100=got.recall_100,
        exact_ndcg=exact.ndcg,
        latency_ms=latency_ms,
        expected=expected,
        returned=[
            {
                "document": str(hit.document_id),
                "sequence": hit.sequence,
                "score": round(hit.score, 4),
                "dense": round(hit.dense, 4),
                "keyword": round(hit.keyword, 4),
            }
            for hit in hits
        ],
    )


def _finish(run_id: UUID) -> None:
    answers = Answer.objects.filter(run_id=run_id)
    means: dict[str, float | None] = answers.aggregate(
        ndcg=Avg("ndcg"), mrr=Avg("mrr"), recall_10=Avg("recall_10"), recall_100=Avg("recall_100"), exact=Avg("exact_ndcg")
    )
    mean = {name: value or 0.0 for name, value in means.items()}
    latencies: Iterable[float] = answers.values_list("latency_ms", flat=True)
    figures = {
        "ndcg@10": round(mean["ndcg"], 4),
        "mrr": round(mean["mrr"], 4),
        "recall@10": round(mean["recall_10"], 4),
        "recall@100": round(mean["recall_100"], 4),
        "queries": answers.count(),
        "latency_ms": metrics.percentiles(list(latencies)),
        "index_loss": round(mean["exact"] - mean["ndcg"], 4),
    }
    Run.objects.filter(pk=run_id, state=Run.State.RUNNING).update(
        state=Run.State.READY, figures=figures, questions_done=figures["queries"], finished_at=timezone.now()
    )
