"""A PDF with a password: read once with it from the screen; the password stays nowhere."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django_rq
import pytest
from django.test import Client

from documents import ingestion, ledger, unlocking
from documents.extraction.pages import Origin
from documents.models import Document, Page
from documents.reasons import Reason
from search.models import Chunk
from tenants.context import workspace
from tests.documents import files
from tests.factories import DocumentFactory

Address = Callable[[str], str]
State = Document.State
WRONG = "correct horse battery"


@pytest.fixture
def locked(workspace_a: Any, model_dir: Path) -> Document:
    """As the worker leaves it."""
    with workspace(workspace_a):
        made = DocumentFactory(content=files.pdf(["The sealed words"], encrypt=True), file_name="locked")
        ingestion.ingest(made.id)
        return Document.objects.get(pk=made.pk)


@pytest.fixture
def unlock(client_editor: Client, address: Address, locked: Document) -> Callable[[str], Any]:
    return lambda password: client_editor.post(address(f"documents/{locked.id}/unlock/"), {"password": password})


def test_it_fails_as_encrypted_and_asks_whoever_may_upload(
    client_editor: Client, client_viewer: Client, address: Address, locked: Document
) -> None:
    assert (locked.state, locked.reason) == (State.FAILED, Reason.ENCRYPTED)
    page = address(f"documents/{locked.id}/")
    assert f'href="{page}unlock/"' in client_editor.get(page).content.decode()
    assert "unlock/" not in client_viewer.get(page).content.decode()
    assert 'type="password"' in client_editor.get(f"{page}unlock/").content.decode()


@pytest.mark.django_db(transaction=True)
def test_the_password_opens_it_and_the_worker_goes_on(
    unlock: Callable[[str], Any], address: Address, locked: Document, workspace_a: Any
) -> None:
    answer = unlock(files.PASSWORD)
    assert (answer.status_code, answer.url) == (302, address(f"documents/{locked.id}/"))
    assert django_rq.get_queue("ingest").job_ids == [f"{workspace_a.id.hex}-ingest-{locked.id}"]
    with workspace(workspace_a):
        queued = Document.objects.get(pk=locked.pk)
        assert (queued.state, queued.reason, queued.pages) == (State.QUEUED, "", 1)
        ingestion.ingest(locked.id)
        assert Document.objects.get(pk=locked.pk).state == State.READY
        assert [chunk.text for chunk in Chunk.objects.filter(document_id=locked.id)] == ["The sealed words"]


@pytest.mark.django_db(transaction=True)
def test_the_password_stays_nowhere(
    unlock: Callable[[str], Any], locked: Document, workspace_a: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for password in (WRONG, files.PASSWORD):
        answer = unlock(password)
        assert password not in answer.content.decode() + answer.headers.get("Location", "")
        assert password not in caplog.text
    redis = django_rq.get_connection("ingest")
    kept = b"".join(key + (redis.dump(key) or b"") for key in redis.scan_iter("*"))
    with workspace(workspace_a):
        rows = repr(list(Document.objects.values())) + repr(list(Page.objects.values()))
    for password in (WRONG, files.PASSWORD):
        assert password.encode() not in kept
        assert password not in rows


@pytest.mark.parametrize(
    ("password", "says"), [(WRONG, "does not open the PDF"), ("", "This field is required"), ("x" * 201, "at most 200")]
)
def test_a_wrong_password_is_said_and_changes_nothing(
    unlock: Callable[[str], Any], locked: Document, workspace_a: Any, password: str, says: str
) -> None:
    answer = unlock(password)
    assert answer.status_code == 422
    assert says in answer.content.decode()
    with workspace(workspace_a):
        assert Document.objects.get(pk=locked.pk).state == State.FAILED
        assert not Page.objects.filter(document_id=locked.pk).exists()


def test_other_files_with_a_password_are_not_asked_for_it(
    client_editor: Client, address: Address, workspace_a: Any, model_dir: Path
) -> None:
    with workspace(workspace_a):
        made = DocumentFactory(content=files.ole(encrypted=True), file_name="locked.docx")
        ingestion.ingest(made.id)
        assert Document.objects.get(pk=made.pk).reason == Reason.ENCRYPTED
    page = address(f"documents/{made.id}/")
    assert "Enter password" not in client_editor.get(page).content.decode()
    assert client_editor.get(f"{page}unlock/").url == page


def test_scanned_pages_are_recognised_with_it(workspace_a: Any, model_dir: Path) -> None:
    scan = files.locked_scan("The sealed picture")
    with workspace(workspace_a):
        made = DocumentFactory(content=scan, file_name="scan.pdf")
        ingestion.ingest(made.id)
        unlocking.unlock(Document.objects.get(pk=made.pk), files.PASSWORD)
        page = Page.objects.get(document_id=made.pk)
        assert (page.text, page.origin) == ("The sealed picture", Origin.RECOGNISED)


def test_one_at_a_time_and_no_giants(locked: Document, workspace_a: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tenants.errors import Refused

    with workspace(workspace_a):
        with unlocking._place, pytest.raises(Refused, match="Another PDF"):
            unlocking.unlock(locked, files.PASSWORD)
        monkeypatch.setattr(unlocking, "MOST_BYTES", 10)
        with pytest.raises(Refused, match="Save a copy"):
            unlocking.unlock(locked, files.PASSWORD)


def test_what_was_opened_in_the_meantime_is_not_opened_again(locked: Document, workspace_a: Any) -> None:
    from tenants.errors import Refused

    with workspace(workspace_a):
        unlocking.unlock(locked, files.PASSWORD)
        with pytest.raises(Refused, match="any more"):
            unlocking.unlock(locked, files.PASSWORD)


def test_cancelled_it_asks_again(locked: Document, workspace_a: Any) -> None:
    with workspace(workspace_a):
        unlocking.unlock(locked, files.PASSWORD)
        assert ledger.cancel_all([locked.id])
        ledger.retry_all([locked.id])
        ingestion.ingest(locked.id)
        again = Document.objects.get(pk=locked.pk)
        assert (again.reason, again.is_locked) == (Reason.ENCRYPTED, True)


def test_guesses_are_limited(unlock: Callable[[str], Any], settings: Any) -> None:
    settings.RATE_PASSWORD = (2, 60)
    assert [unlock(WRONG).status_code for _ in range(3)] == [422, 422, 429]
