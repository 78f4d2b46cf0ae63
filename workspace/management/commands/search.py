"""`manage.py search "words" --workspace …`: the same search as the page."""

import html
from argparse import ArgumentParser
from typing import Any

from django.utils.html import strip_tags

from search import querying
from search.presentation import Shown, passages
from search.sources import sources
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
            everything = sources().everything()
            results = querying.search(query, collections=everything, limit=limit)
            shown = passages(results.hits, query, everything)
            return {"workspace": tenant.slug, "searched": results.searched, "results": [described(one) for one in shown]}

    def word(self, answer: dict[str, Any]) -> str:
        lines = []
        for number, found in enumerate(answer["results"], 1):
            where = f", {found['page_label']}" if found["page_label"] else ""
            lines.append(f"{number:>2}. {found['title']}{where}  ({found['score']:.2f})\n    {found['passage']}")
        return "\n".join(lines) or "Nothing found."


def described(shown: Shown) -> dict[str, Any]:
    hit, source = shown.hit, shown.source
    return {
        "rank": hit.rank,
        "document": str(hit.document_id),
        "title": source.title,
        "collection": source.collection_name,
        "page": shown.page,
        "page_label": shown.page_label,
        "passage": html.unescape(strip_tags(str(shown.snippet.html))),
        "score": round(hit.score, 4),
        "dense": round(hit.dense, 4),
        "keyword": round(hit.keyword, 4),
    }
