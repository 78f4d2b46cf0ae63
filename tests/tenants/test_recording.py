"""Writing the audit log (tenants.audit.recording)."""

import atexit
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from tenants import proofs, witness
from tenants.acting import Actor, acting
from tenants.audit import recording
from tenants.audit.events import Event
from tenants.audit.models import Entry, Head
from tenants.audit.recording import _Notary, as_exported, deliver, record, witness_name
from tenants.audit.verifying import verify
from tenants.context import workspace
from tenants.models import AuditOutbox, Tenant

ANNA = Actor("anna@example.org", "web", 7)


def exported() -> list[dict[str, Any]]:
    return [as_exported(entry) for entry in Entry.objects.order_by("number")]


def test_entries_follow_from_one_another(in_workspace_a: Any) -> None:
    with acting(ANNA):
        record(Event.SEARCHED, results=3)
        record(Event.OPENED, document="d1")
    entries = exported()
    assert [(each["number"], each["event"], each["person_id"]) for each in entries] == [
        (1, "workspace.created", None), (2, "search.searched", 7), (3, "document.opened", 7)
    ]  # fmt: skip
    assert entries[1]["details"]["who"] == "anna@example.org"
    assert entries[1]["details"]["about"] == {"results": 3}
    number, digest = proofs.check_chain(str(in_workspace_a.pk), entries)
    assert (number, digest) == (3, bytes(Head.objects.get().digest))


def test_who_and_what_are_not_in_the_clear(in_workspace_a: Any) -> None:
    with acting(ANNA):
        record(Event.OPENED, document="marker-of-a-document")
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_entry::text, encode(details, 'escape') FROM audit_entry")
        stored = str(cursor.fetchall())
    assert "document.opened" in stored
    assert "marker" not in stored
    assert "anna" not in stored


@pytest.mark.parametrize("field", ["number", "at", "event", "person_id", "details"])
def test_a_change_is_noticed(in_workspace_a: Any, field: str) -> None:
    for _ in range(3):
        record(Event.SEARCHED)
    entries = exported()
    entries[1][field] = {"number": 9, "at": "2020-01-01T00:00:00+00:00", "event": "x", "person_id": 1, "details": {}}[field]
    with pytest.raises(proofs.Forged):
        proofs.check_chain(str(in_workspace_a.pk), entries)


def test_a_gap_and_another_order_are_noticed(in_workspace_a: Any) -> None:
    for _ in range(2):
        record(Event.SEARCHED)
    one, two, three = exported()
    for changed in ([one, three], [two, one, three], [two, three]):
        with pytest.raises(proofs.Forged):
            proofs.check_chain(str(in_workspace_a.pk), changed)


def test_the_role_can_neither_remove_nor_rewrite(in_workspace_a: Any) -> None:
    record(Event.SEARCHED)
    for statement in (
        "DELETE FROM audit_entry",
        "UPDATE audit_entry SET at = now()",
        "UPDATE audit_entry SET digest = ''",
        "TRUNCATE audit_entry",
        "DELETE FROM audit_head",
    ):
        with pytest.raises(Exception, match="permission denied"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)


@pytest.mark.django_db(transaction=True)
def test_from_outside_it_comes_with_the_commit(workspace_a: Any) -> None:
    with acting(ANNA), transaction.atomic():
        record(Event.RENAMED, workspace_a)
        assert AuditOutbox.objects.count() == 1
    assert AuditOutbox.objects.count() == 0
    with workspace(workspace_a):
        _, entry = exported()
        assert (entry["event"], entry["details"]["who"]) == ("workspace.renamed", "anna@example.org")
        head = Head.objects.get()
    assert witness.record(witness_name(workspace_a)) == {"number": 2, "digest": bytes(head.digest).hex()}


@pytest.mark.django_db(transaction=True)
def test_undone_with_the_transaction(workspace_a: Any) -> None:
    with transaction.atomic():
        record(Event.RENAMED, workspace_a)
        transaction.set_rollback(True)
    assert AuditOutbox.objects.count() == 0
    with workspace(workspace_a):
        assert len(exported()) == 1
    known = witness.record(witness_name(workspace_a))
    assert known is not None
    assert known["number"] == 1


@pytest.mark.django_db(transaction=True)
def test_delivered_twice_it_is_there_once(workspace_a: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the entry and the removal of the row it came from."""
    monkeypatch.setattr("tenants.audit.recording._deliver_quietly", lambda tenant_id: None)
    record(Event.RENAMED, workspace_a)
    kept = AuditOutbox.objects.get()
    assert deliver(workspace_a) == 1
    kept.save(force_insert=True)
    assert deliver(workspace_a) == 1
    with workspace(workspace_a):
        assert len(exported()) == 2
    assert AuditOutbox.objects.count() == 0


# ---------------------------------------------------------------- the head outside the database


@pytest.fixture
def notary(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Notary]:
    """As in a web process, that waits for us."""
    waits = threading.Event()
    monkeypatch.setattr(recording.time, "sleep", lambda seconds: waits.wait(60))
    monkeypatch.setattr(recording, "_notary", made := _Notary())
    yield made
    waits.set()
    atexit.unregister(made.keep)


def kept(tenant: Tenant) -> int:
    known = witness.record(witness_name(tenant))
    return known["number"] if known else 0


@pytest.mark.django_db(transaction=True)
def test_a_web_process_keeps_the_last_head_a_moment_later(in_workspace_a: Any, notary: _Notary) -> None:
    before = kept(in_workspace_a)
    for number in range(3):
        record(Event.SEARCHED, results=number)
    head = Head.objects.get()
    assert kept(in_workspace_a) == before < head.number
    assert verify(in_workspace_a).problem == "", "it may lag behind"
    notary.keep()
    assert witness.record(witness_name(in_workspace_a)) == {"number": head.number, "digest": bytes(head.digest).hex()}


@pytest.mark.django_db(transaction=True)
def test_its_own_thread_keeps_it(in_workspace_a: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_notary", made := _Notary())
    record(Event.SEARCHED)
    until = time.monotonic() + 30
    while kept(in_workspace_a) < Head.objects.get().number and time.monotonic() < until:
        time.sleep(0.01)
    assert kept(in_workspace_a) == Head.objects.get().number
    atexit.unregister(made.keep)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("damage", ["{", "[]", "{}", "5"])
def test_what_is_damaged_outside_keeps_nobody_from_being_written_down(
    in_workspace_a: Any, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    record(Event.SEARCHED)
    witness._path(witness_name(in_workspace_a)).write_text(damage)
    for _ in range(2):
        record(Event.SEARCHED)
    assert Entry.objects.filter(event=Event.SEARCHED).count() == 3
    assert "is not witnessed" in caplog.text
    assert "cannot be read" in verify(in_workspace_a).problem
