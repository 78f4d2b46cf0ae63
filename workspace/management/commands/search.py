"""`manage.py search "words" --workspace …`: the same search as the page."""

from argparse import ArgumentParser
from typing import Any

from search import querying
from tenants.context import workspace
from tenants.errors import Refused
from workspace.commands import WorkspaceCommand


class Command(WorkspaceCommand):
    help = "Searches a workspace and prints the best documents with their passage."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("query")
        parser.add_argument("--limit", type=int, default=10)

    def answer(self, *, query: str, limit: int, **options: Any) -> dict[str, Any]:
        if not query.strip():
            raise Refused("The query is empty: give some words.")
        if not 1 <= limit <= 100:
            raise Refused("--limit is a number from 1 to 100.")
        with workspace(self.tenant(options["workspace"])) as tenant:
            results = querying.search(query, limit=limit)
            return {"workspace": tenant.slug, "results": [vars_of(hit) for hit in querying.passages(results.hits[:limit], query)]}

    def word(self, answer: dict[str, Any]) -> str:
        lines = [
            f"{number:>2}. {hit['title']}{', ' + hit['page_label'] if hit['page_label'] else ''}  ({hit['score']:.2f})\n    {hit['text'][:200]}"
            for number, hit in enumerate(answer["results"], 1)
        ]
        return "\n".join(lines) or "Nothing found."
