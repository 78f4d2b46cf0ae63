"""`manage.py search`: the same search as the page, with its operators and its ways to rank."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from documents.models import Document
from tenants.context import public_context

pytestmark = pytest.mark.django_db


@pytest.fixture
def ask(workspace_a: Any, handbook: dict[str, Document]) -> Any:
    def run(query: str, *options: str) -> list[dict[str, Any]]:
        out = StringIO()
        with public_context():
            call_command("search", "--workspace", workspace_a.slug, "--json", *options, "--", query, stdout=out)
        found: list[dict[str, Any]] = json.loads(out.getvalue())["results"]
        return found

    return run


def test_words_alone_find_what_has_them(ask: Any):
    assert [one["title"] for one in ask("password", "--mode", "words")] == ["Passwords"]
    assert len(ask("password")) > 1


def test_the_operators_of_the_page(ask: Any):
    assert [one["title"] for one in ask('"of a child"')] == ["Parental leave"]
    assert "Passwords" not in [one["title"] for one in ask("where -password")]
    with pytest.raises(CommandError, match="Say what to look for"):
        ask("-password")
