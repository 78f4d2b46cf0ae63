"""`manage.py search "words" --workspace …`: the same search as the page."""

import html
from argparse import ArgumentParser
from typing import Any

from django.utils.html import strip_tags

from search import querying, questions
from search.presentation import Shown, described, folded
from search.ranking import Mode
from search.sources import sources
from tenants.context import workspace
from tenants.errors import Refused
from tenants.wording import counted
from workspace.commands import WorkspaceCommand


class Command(WorkspaceCommand):
    help = "Searches a workspace and prints the best documents with their passage."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("query", help='words or a question; "quoted words" must stand in a passage, -word must not')
        parser.add_argument("--mode", choices=[*Mode], default=Mode.HYBRID, help="what ranks: meaning, words or both")
        parser.add_argument("--limit", type=int, default=10)

    def answer(self, *, query: str, limit: int, mode: str, **options: Any) -> dict[str, Any]:
        if not query.strip():
            raise Refused("The query is empty: give some words.")
        asked = questions.parse(query)
        if not asked.says_what:
            raise Refused("The query only says what to leave out. Say what to look for.")
        if not 1 <= limit <= 100:
            raise Refused("--limit is a number from 1 to 100.")
        with workspace(self.tenant(options["workspace"])) as tenant:
            everything = sources().everything()
            results = querying.search(query, collections=everything, limit=limit, mode=Mode(mode))
            shown = described(folded(results.hits, everything).passages, asked.text, asked.phrases)
            counts = {"searched": results.searched, "unread": results.unread}
            return {"workspace": tenant.slug, **counts, "results": [as_answer(one) for one in shown]}

    def word(self, answer: dict[str, Any]) -> str:
        lines = []
        for number, found in enumerate(answer["results"], 1):
            where = f", {found['page_label']}" if found["page_label"] else ""
            lines.append(f"{number:>2}. {found['title']}{where}  ({found['score']:.2f})\n    {found['passage']}")
            if same := found["same_passage"]:
                lines.append(f"    Same passage in {counted(len(same), 'more document')}: {', '.join(same)}")
        return "\n".join(lines) or "Nothing found."


def as_answer(shown: Shown) -> dict[str, Any]:
    hit, source = shown.hit, shown.source
    return {
        "rank": hit.rank,
        "document": str(hit.document_id),
        "title": source.title,
        "collection": source.collection_name,
        "page": shown.page,
        "page_label": shown.page_label,
        "passage": html.unescape(strip_tags(str(shown.snippet.html))),
        "words": list(shown.snippet.words),
        "more_passages": hit.more,
        "same_passage": [other.title for other in shown.same],
        "score": round(hit.score, 4),
        "dense": round(hit.dense, 4),
        "keyword": round(hit.keyword, 4),
    }
