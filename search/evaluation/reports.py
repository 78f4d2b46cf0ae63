"""A run as a file: JSON for programs, CSV for spreadsheets. Both are plaintext: questions and titles leave encryption."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from search.evaluation.metrics import DEPTH
from search.models import Answer, Judgment, JudgmentSet, Question, Run
from search.sources import sources
from tenants.spreadsheets import as_csv as as_program_csv
from tenants.spreadsheets import line

CSV_COLUMNS = (
    "question_id",
    "question",
    "ndcg@10",
    "mrr",
    "recall@10",
    "recall@100",
    "exact_ndcg@10",
    "latency_ms",
    "expected",
    "found_at_rank",
    "returned",
)
NOT_FOR_YOU = "A document you may not see"
SHOWN = 10  # returned documents named per question
GROUP = 200  # questions read and described together


def as_json(run: Run, collections: frozenset[UUID]) -> Iterator[str]:
    """The report piece by piece; a question is a line. Documents outside `collections` have no name in it."""
    report = {
        **run.figures,
        "run": str(run.pk),
        "judgments": run.judgment_set.name,
        "state": run.state,
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "unresolved_references": run.unresolved,
        "configuration": run.configuration,
        "depth": DEPTH,
        "questions": [],
    }
    yield json.dumps(report, ensure_ascii=False, indent=1).removesuffix("]\n}")
    for number, row in enumerate(_rows(run, collections)):
        yield (",\n  " if number else "\n  ") + json.dumps(row, ensure_ascii=False)
    yield "\n ]\n}\n"


def as_csv(run: Run, collections: frozenset[UUID]) -> Iterator[str]:
    """The report line by line, with the mark by which spreadsheets know UTF-8."""
    yield "\ufeff"
    yield line(CSV_COLUMNS)
    yield from map(line, map(_cells, _rows(run, collections)))


def judgments_as_csv(judgment_set: JudgmentSet) -> str:
    """A set of judgments as it can be uploaded again (search.evaluation.judgments)."""
    questions = {question.pk: question for question in judgment_set.questions.order_by("ordinal")}
    judged = Judgment.objects.filter(question__in=questions).order_by("question__ordinal", "id")
    rows = ((questions[each.question_id], each) for each in judged.iterator())
    return as_program_csv(
        [
            ("question_id", "question", "document", "grade"),
            *((question.reference, question.text, each.reference, each.grade) for question, each in rows),
        ]
    )


def _cells(row: dict[str, Any]) -> list[Any]:
    expected = row["expected"]
    return [
        *(row[name] for name in CSV_COLUMNS[:8]),
        "; ".join(f"{judgment['reference']} ({judgment['grade']})" for judgment in expected),
        "; ".join(str(judgment["rank"] or "-") for judgment in expected),
        "; ".join(row["returned"]),
    ]


def _rows(run: Run, collections: frozenset[UUID]) -> Iterator[dict[str, Any]]:
    """Every question in the order of the file, GROUP of them in memory at a time."""
    found = Answer.objects.filter(run=run).select_related("question").order_by("question__ordinal")
    seen = 0
    while group := list(found.filter(question__ordinal__gt=seen)[:GROUP]):
        returned = {UUID(item["document"]) for answer in group for item in answer.returned[:SHOWN]}
        expected = {UUID(item["document"]) for answer in group for item in answer.expected if item["document"]}
        titles = {pk: source.title for pk, source in sources().describe(returned, collections).items()}
        hidden = {str(pk) for pk in sources().hidden(returned | expected, collections)}
        yield from (_row(answer, titles, hidden) for answer in group)
        seen = group[-1].question.ordinal


def _row(answer: Answer, titles: dict[UUID, str], hidden: set[str]) -> dict[str, Any]:
    """`hidden` documents, which are not for the reader, have neither name nor id in it."""
    question: Question = answer.question
    returned = [item["document"] for item in answer.returned[:SHOWN]]
    return {
        "question_id": question.reference,
        "question": question.text,
        "ndcg@10": round(answer.ndcg, 4),
        "mrr": round(answer.mrr, 4),
        "recall@10": round(answer.recall_10, 4),
        "recall@100": round(answer.recall_100, 4),
        "exact_ndcg@10": round(answer.exact_ndcg, 4),
        "latency_ms": round(answer.latency_ms, 2),
        "expected": [{**item, "document": None} if item["document"] in hidden else item for item in answer.expected],
        "returned": [NOT_FOR_YOU if found in hidden else titles.get(UUID(found), found) for found in returned],
    }
