"""A run as a file: JSON for programs, CSV for spreadsheets. Both are plaintext: questions and titles leave encryption."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from search.evaluation.metrics import DEPTH
from search.models import Answer, Question, Run
from search.sources import sources

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
SHOWN = 10  # returned documents named per question
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def to_json(run: Run) -> bytes:
    report = {
        **run.figures,
        "run": str(run.pk),
        "judgments": run.judgment_set.name,
        "state": run.state,
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "unresolved_references": run.unresolved,
        "configuration": run.configuration,
        "depth": DEPTH,
        "questions": list(_rows(run)),
    }
    return json.dumps(report, ensure_ascii=False, indent=1).encode()


def to_csv(run: Run) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(CSV_COLUMNS)
    for row in _rows(run):
        expected = row.pop("expected")
        writer.writerow(
            [
                _cell(value)
                for value in (
                    *(row[name] for name in CSV_COLUMNS[:8]),
                    "; ".join(f"{judgment['reference']} ({judgment['grade']})" for judgment in expected),
                    "; ".join(str(judgment["rank"] or "-") for judgment in expected),
                    "; ".join(row["returned"]),
                )
            ]
        )
    return out.getvalue().encode("utf-8-sig")


def _cell(value: Any) -> Any:
    """Spreadsheets run cells that begin like a formula; these come from uploaded files."""
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return "'" + value
    return value


def _rows(run: Run) -> Iterator[dict[str, Any]]:
    answers = list(Answer.objects.filter(run=run).select_related("question").order_by("question__ordinal"))
    wanted = {UUID(item["document"]) for answer in answers for item in answer.returned[:SHOWN]}
    titles = {pk: source.title for pk, source in sources().describe(wanted).items()}
    for answer in answers:
        question: Question = answer.question
        yield {
            "question_id": question.reference,
            "question": question.text,
            "ndcg@10": round(answer.ndcg, 4),
            "mrr": round(answer.mrr, 4),
            "recall@10": round(answer.recall_10, 4),
            "recall@100": round(answer.recall_100, 4),
            "exact_ndcg@10": round(answer.exact_ndcg, 4),
            "latency_ms": round(answer.latency_ms, 2),
            "expected": answer.expected,
            "returned": [titles.get(UUID(item["document"]), item["document"]) for item in answer.returned[:SHOWN]],
        }
