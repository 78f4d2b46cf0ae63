"""`manage.py evaluate`: how good the search is, by judgments of the workspace or of a BEIR folder."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from search.evaluation import runs
from search.models import Run
from tenants.context import workspace
from tenants.errors import Refused
from workspace.commands import WorkspaceCommand
from workspace.datasets import evaluate_dataset, find_judgment_set, reporter


class Command(WorkspaceCommand):
    help = "Runs an evaluation through the same search as the page and prints its figures."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--dataset", type=Path, metavar="FOLDER", help="BEIR layout; imported when it is not there yet")
        source.add_argument("--judgments", metavar="NAME", help="a judgment set of the workspace, by name or id")

    def answer(self, *, dataset: Path | None, judgments: str | None, **options: Any) -> dict[str, Any]:
        with workspace(self.tenant(options["workspace"])) as tenant:
            if dataset:
                run = evaluate_dataset(dataset, self.say)
            else:
                run = runs.evaluate(find_judgment_set(judgments), on_progress=reporter(self.say))
            if run.state != Run.State.READY:
                raise Refused(f"The run did not finish: {run.detail or run.state}")
            return {
                "workspace": tenant.slug,
                "judgments": run.judgment_set.name,
                **run.figures,
                "unresolved": run.unresolved,
                "configuration": run.configuration,
            }

    def word(self, answer: dict[str, Any]) -> str:
        latency = answer["latency_ms"]
        return (
            f"{answer['judgments']}: {answer['queries']} questions\n"
            f"nDCG@10 {answer['ndcg@10']:.3f}   MRR {answer['mrr']:.3f}   recall@100 {answer['recall@100']:.3f}\n"
            f"lost by the index against exact search: {answer['index_loss']:.4f} nDCG@10\n"
            f"latency p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms"
        )
