"""Work that is done when the answer has been sent: where, by whom, and what becomes of its mistakes."""

import logging
from typing import Any

import pytest
from django.http import HttpResponse

from tenants.acting import Actor, acting, actor
from tenants.afterwards import afterwards
from tenants.context import current_tenant, public_context
from tenants.database import connection
from tenants.keys import presence

pytestmark = pytest.mark.django_db
ME = Actor("me@example.com", "web", 1)


def answered(work: Any) -> HttpResponse:
    """What a view returns, outside of the workspace by now."""
    with acting(ME):
        return afterwards(HttpResponse("found"), work)


def test_it_is_done_in_the_workspace_by_the_same_person_once_the_answer_is_closed(in_workspace_a: Any):
    done: list[Any] = []

    def work() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_schema")
            done.append((current_tenant().pk, cursor.fetchone()[0], actor(), presence._in_use[in_workspace_a.pk]))

    response = answered(work)
    with public_context():
        assert response.content == b"found"
        assert not done
        response.close()
        assert connection.schema_name == "public"  # on the server too: tests/journeys/test_mixing.py
    assert done == [(in_workspace_a.pk, in_workspace_a.schema_name, ME, 1)], "a freeze waits for it"
    assert not presence._in_use[in_workspace_a.pk]
    assert response.closed


def test_what_fails_is_logged_without_its_words(in_workspace_a: Any, caplog: pytest.LogCaptureFixture):
    def work() -> None:
        raise RuntimeError("a secret")

    response = answered(work)
    with caplog.at_level(logging.ERROR):
        response.close()
    assert response.closed
    assert "not done after the answer" in caplog.text
    assert "secret" not in caplog.text
