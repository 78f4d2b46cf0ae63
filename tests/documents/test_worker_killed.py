"""kill -9 of a real worker in each stage: after a restart the document is ready, each passage exactly once."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.db import connection

from documents import ingestion, jobs
from documents.models import Document, Page
from search.models import Chunk, IndexEntry, Terms
from tenants.context import workspace
from tests.factories import DocumentFactory

pytestmark = [pytest.mark.django_db(transaction=True, databases=["default", "operator"]), pytest.mark.slow]
State = Document.State
LONG = "\n\n".join(f"Paragraph {n} tells of subject {n}. " + "It has several sentences with words. " * 20 for n in range(10))
BATCH = 4  # as in the worker process
STEPS = [("begin", 1), ("extract", 1), ("extracted", 1), ("add", 2), ("publish", 1)]
Work = Callable[..., int]


@pytest.fixture
def work(settings: LazySettings, model_dir: Path) -> Work:
    """Run a worker process until it kills itself; returns how it ended."""

    def run(*die_at: object) -> int:
        command = [sys.executable, "-m", "tests.documents.worker_process", connection.settings_dict["NAME"]]
        environment = {**os.environ, "FILES_DIR": str(settings.FILES_DIR)}
        return subprocess.run([*command, *map(str, die_at)], env=environment, timeout=120, check=False).returncode

    return run


@pytest.fixture
def restart(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What the command does when it is started again, until the queues are empty; here, where the model is loaded."""

    def run() -> None:
        monkeypatch.setattr(ingestion, "BATCH", BATCH)
        call_command("worker", burst=True)
        connection.set_schema_to_public()

    return run


def assert_complete(document_id: Any) -> None:
    ended = Document.objects.get(pk=document_id)
    assert (ended.state, ended.reason) == (State.READY, "")
    sequences = list(Chunk.objects.filter(document_id=document_id).order_by("sequence").values_list("sequence", flat=True))
    assert sequences == list(range(ended.chunks_total))
    assert ended.chunks_done == ended.chunks_total == 10
    assert IndexEntry.objects.filter(document_id=document_id).count() == 10
    assert Terms.objects.filter(pk=document_id).count() == 1
    assert Page.objects.filter(document_id=document_id).count() == ended.pages


@pytest.mark.parametrize(("step", "count"), STEPS)
def test_after_a_restart_it_is_ready(step: str, count: int, work: Work, restart: Callable[[], None], workspace_a: Any) -> None:
    with workspace(workspace_a):
        document = DocumentFactory(content=LONG.encode())
        jobs.enqueue_ingest(document.id)
    assert work(step, count) == -signal.SIGKILL
    with workspace(workspace_a):
        assert Document.objects.get().is_unfinished
    restart()
    with workspace(workspace_a):
        assert_complete(document.id)


def test_a_document_that_kills_its_worker_three_times_waits_and_the_others_go_on(
    work: Work, restart: Callable[[], None], workspace_a: Any
) -> None:
    with workspace(workspace_a):
        document = DocumentFactory(content=LONG.encode())
        jobs.enqueue_ingest(document.id)
    for _ in range(3):
        assert work("extract", 1) == -signal.SIGKILL
    with workspace(workspace_a):
        waiting = DocumentFactory(content=LONG.encode())
    restart()
    with workspace(workspace_a):
        ended = Document.objects.get(pk=document.pk)
        assert (ended.state, ended.tries) == (State.QUEUED, "2 of 3")
        assert ended.retry_at is not None
        assert_complete(waiting.id)
