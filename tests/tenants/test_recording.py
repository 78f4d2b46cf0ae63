"""Writing the audit log (tenants.audit.recording)."""

from typing import Any

import pytest
from django.db import connection, transaction

from tenants import proofs, witness
from tenants.acting import Actor, acting
from tenants.audit.events import Event
from tenants.audit.models import Entry, Head
from tenants.audit.recording import as_exported, deliver, record, witness_name
from tenants.context import workspace
from tenants.models import AuditOutbox

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
