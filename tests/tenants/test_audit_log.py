"""Whether a workspace's log is whole (tenants.audit.verifying), what leaves of it, and that verbs write into it."""

import errno
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants import alarms, lifecycle, people, proofs, roles, witness
from tenants.audit import exporting, recording, verifying
from tenants.audit.events import Event
from tenants.audit.models import Entry
from tenants.audit.recording import as_exported, deliver, deliver_waiting, record, witness_name
from tenants.context import workspace
from tenants.models import Alarm, AuditOutbox
from workspace import log_pages

ROOT = Path(__file__).resolve().parents[2]
Operator = Callable[..., Any]


@pytest.fixture
def by_sql(workspace_a: Any) -> Any:
    """Runs statements as the operator, who may do everything, in the schema of workspace a; committed at once."""
    place = connection.settings_dict
    with psycopg.connect(
        host=place["HOST"], port=place["PORT"] or None, dbname=place["NAME"], autocommit=True,
        user=roles.login_name("operator"), password=django_settings.DATABASE_PASSWORDS["operator"],
        options=f"-c search_path={workspace_a.schema_name},public",
    ) as operator:  # fmt: skip
        yield operator.execute


@pytest.fixture
def logged(workspace_a: Any) -> Any:
    with workspace(workspace_a):
        for number in range(5):
            record(Event.SEARCHED, results=number)
    assert verifying.verify(workspace_a).problem == ""
    return workspace_a


# ---------------------------------------------------------------- changed by SQL

CHANGES = {
    "an entry removed": "DELETE FROM audit_entry WHERE number = 3",
    "the tail cut off": "DELETE FROM audit_entry WHERE number > 4",
    "the tail cut off and the head set back": "WITH cut AS (DELETE FROM audit_entry WHERE number > 4) "
    "UPDATE audit_head SET number = 4, digest = (SELECT digest FROM audit_entry WHERE number = 4)",
    "everything removed": "WITH cut AS (DELETE FROM audit_entry) "
    "UPDATE audit_head SET number = 0, digest = decode(repeat('00', 32), 'hex')",
    "another time": "UPDATE audit_entry SET at = at - interval '1 day' WHERE number = 3",
    "another event": "UPDATE audit_entry SET event = 'document.opened' WHERE number = 3",
    "another person": "UPDATE audit_entry SET person_id = 99 WHERE number = 3",
    "details of another entry": "UPDATE audit_entry "
    "SET details = (SELECT details FROM audit_entry WHERE number = 2) WHERE number = 3",
    "one bit of the details": "UPDATE audit_entry "
    "SET details = set_bit(details, 200, 1 - get_bit(details, 200)) WHERE number = 3",
    "details cut": "UPDATE audit_entry SET details = substring(details FROM 1 FOR 20) WHERE number = 3",
    "another digest": "UPDATE audit_entry SET digest = (SELECT digest FROM audit_entry WHERE number = 2) WHERE number = 3",
    "two entries swapped": "UPDATE audit_entry "
    "SET number = CASE number WHEN 2 THEN -3 WHEN 3 THEN -2 END WHERE number IN (2, 3); "
    "UPDATE audit_entry SET number = -number WHERE number < 0",
    "an entry repeated": "INSERT INTO audit_entry (number, at, event, person_id, details, digest) "
    "SELECT 7, at, event, person_id, details, digest FROM audit_entry WHERE number = 6; UPDATE audit_head SET number = 7",
    "the head changed": "UPDATE audit_head SET digest = decode(repeat('11', 32), 'hex')",
    "the head removed": "DELETE FROM audit_head",
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", CHANGES)
def test_a_change_by_sql_is_noticed(logged: Any, by_sql: Operator, how: str) -> None:
    for statement in CHANGES[how].split("; "):
        by_sql(statement)
    assert verifying.verify(logged).problem


@pytest.mark.django_db(transaction=True)
def test_an_entry_of_another_workspace_is_noticed(logged: Any, workspace_b: Any, by_sql: Operator) -> None:
    with workspace(workspace_b):
        for number in range(5):
            record(Event.SEARCHED, results=number)
    by_sql("DELETE FROM audit_entry")
    by_sql(f'INSERT INTO audit_entry TABLE "{workspace_b.schema_name}".audit_entry')
    by_sql(f'UPDATE audit_head SET digest = (SELECT digest FROM "{workspace_b.schema_name}".audit_head)')
    assert "does not open" in verifying.verify(logged).problem


@pytest.mark.django_db(transaction=True)
def test_rewritten_by_who_has_the_keys_it_does_not_fit_the_witness(logged: Any, by_sql: Operator) -> None:
    """A chain that adds up in itself: only what was kept outside the database tells."""
    known = witness.record(witness_name(logged))
    by_sql("DELETE FROM audit_entry")
    by_sql("UPDATE audit_head SET number = 0, digest = decode(repeat('00', 32), 'hex')")
    with workspace(logged):
        for _ in range(6):
            record(Event.SEARCHED, results=0)
    assert known is not None
    assert witness.record(witness_name(logged)) == known  # as many entries: it is not replaced
    assert "rewritten" in verifying.verify(logged).problem


@pytest.mark.django_db(transaction=True)
def test_shortened_and_grown_again_it_does_not_fit_what_was_checked(logged: Any, by_sql: Operator) -> None:
    """The witness has gone on with it: what the last check saw has not."""
    assert not verifying.check(logged).problem
    by_sql(CHANGES["the tail cut off and the head set back"])
    with workspace(logged):
        for _ in range(6):
            record(Event.SEARCHED, results=0)
    assert "rewritten" in verifying.verify(logged).problem


@pytest.mark.django_db(transaction=True)
def test_a_damaged_record_of_the_last_check_is_said_until_the_next(logged: Any, client_owner: Any) -> None:
    verifying.check(logged)
    witness._path(f"audit-checks/{logged.pk}").write_text("{")
    assert "cannot be read: audit-checks/" in client_owner.get("/w/alpha/log/").content.decode()
    assert not verifying.verify(logged).problem
    with workspace(logged):
        verifying.check_daily()
    assert "Whole up to entry" in client_owner.get("/w/alpha/log/").content.decode()


@pytest.mark.django_db(transaction=True)
def test_a_broken_log_raises_the_alarm_and_tells_owners_once(
    logged: Any, owner: Any, by_sql: Operator, mail_server: Any, mailoutbox: Any, client_owner: Any
) -> None:
    by_sql("DELETE FROM audit_entry WHERE number = 3")
    for _ in range(2):
        assert verifying.check(logged).problem
    alarm = Alarm.objects.get(kind=Alarm.Kind.LOG)
    assert (alarm.tenant_id, alarm.times) == (logged.pk, 2)
    page = client_owner.get("/w/alpha/log/").content.decode()
    assert "The log does not add up" in page
    with pytest.raises(CommandError, match="Entry 3"):
        call_command("verify_audit_log", workspace="alpha")


@pytest.mark.django_db(transaction=True)
def test_many_at_once_leave_no_gap(workspace_a: Any) -> None:
    before = verifying.verify(workspace_a).number
    failed: list[BaseException] = []

    def add() -> None:
        try:
            for _ in range(10):
                with workspace(workspace_a):
                    record(Event.SEARCHED, results=1)
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdict = verifying.verify(workspace_a)
    assert not failed
    assert (verdict.problem, verdict.number) == ("", before + 80)


def recording_threads(tenant: Any, number: int, failed: list[BaseException]) -> list[threading.Thread]:
    """Started, each with one entry to add, while somebody else has the turn to write: they wait for it."""

    def add() -> None:
        try:
            with workspace(tenant):
                record(Event.SEARCHED, results=1)
        except RuntimeError as error:
            failed.append(error)
        finally:
            connection.close()

    queue = recording._queues.setdefault(tenant.pk, recording._Queue())
    with queue._turn:
        threads = [threading.Thread(target=add) for _ in range(number)]
        for thread in threads:
            thread.start()
        while len(queue._waiting) < number:
            time.sleep(0.01)
    return threads


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fails", [0, 1])
def test_what_waits_is_written_together(workspace_a: Any, monkeypatch: pytest.MonkeyPatch, fails: int) -> None:
    before = verifying.verify(workspace_a).number
    write, written = recording._write, []

    def counted(together: list[Any], last: recording.Last | None) -> recording.Last:
        written.append(len(together))
        if len(written) <= fails:
            raise RuntimeError("whose turn it was")
        return write(together, last)

    monkeypatch.setattr(recording, "_write", counted)
    failed: list[BaseException] = []
    for thread in recording_threads(workspace_a, 5, failed):
        thread.join()
    verdict = verifying.verify(workspace_a)
    assert written == ([5, 4] if fails else [5])  # its own entry is lost with its request, the others' are not
    assert len(failed) == fails
    assert (verdict.problem, verdict.number) == ("", before + 5 - fails)
    assert witness.record(witness_name(workspace_a)) == {"number": verdict.number, "digest": verdict.digest}


@pytest.mark.django_db(transaction=True)
def test_where_another_process_was_faster_it_begins_anew(workspace_a: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = verifying.verify(workspace_a).number
    add, tries = recording._add, []

    def outrun(together: list[Any], number: int, digest: bytes) -> recording.Last | None:
        tries.append(number)
        if len(tries) == 1:
            with transaction.atomic():  # as another process would
                record(Event.KEPT)
        return add(together, number, digest)

    monkeypatch.setattr(recording, "_add", outrun)
    monkeypatch.setattr(recording, "_queues", {})
    with workspace(workspace_a):
        record(Event.SEARCHED, results=1)
        assert list(Entry.objects.values_list("event", flat=True)[:2]) == [Event.SEARCHED, Event.KEPT]
    assert tries == [before, before, before + 1]
    verdict = verifying.verify(workspace_a)
    assert (verdict.problem, verdict.number) == ("", before + 2)


@pytest.mark.django_db(transaction=True)
def test_a_process_knows_what_it_added_last_unless_somebody_else_has(workspace_a: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = verifying.verify(workspace_a).number
    look, looked = recording._last_entry, []
    monkeypatch.setattr(recording, "_queues", {})
    monkeypatch.setattr(recording, "_last_entry", lambda **how: looked.append(how) or look(**how))
    with workspace(workspace_a):
        for number in range(3):
            record(Event.SEARCHED, results=number)
        assert looked == [{}]
        looked.clear()
        with transaction.atomic():  # as another process would
            record(Event.KEPT)
        record(Event.SEARCHED, results=4)
    assert looked == [{"locked": True}, {}]
    verdict = verifying.verify(workspace_a)
    assert (verdict.problem, verdict.number) == ("", before + 5)


@pytest.mark.django_db(transaction=True)
def test_an_entry_on_its_way_is_not_delivered_to_another_workspace(
    workspace_a: Any, workspace_b: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenants.audit.recording._deliver_quietly", lambda tenant_id: None)
    record(Event.RENAMED, workspace_a)
    AuditOutbox.objects.update(tenant=workspace_b)
    record(Event.KEPT, workspace_b)
    deliver(workspace_b)
    assert Alarm.objects.filter(kind=Alarm.Kind.LOG, tenant=workspace_b).exists()
    with workspace(workspace_b):
        assert Entry.objects.filter(event=Event.KEPT).exists()  # one bad row holds up no other
        assert not Entry.objects.filter(event=Event.RENAMED).exists()


# ---------------------------------------------------------------- exported


@pytest.fixture
def exported(in_workspace_a: Any) -> dict[str, Any]:
    for number in range(4):
        record(Event.SEARCHED, results=number)
    return json.loads(json.dumps(exporting.signed_export()))


def test_an_export_is_checked_without_cloister(exported: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "log.json"
    file.write_text(json.dumps(exported))
    head = exported["body"]["entries"][2]

    def check(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", str(ROOT / "tenants/proofs.py"), str(file), *more]
        return subprocess.run(command, capture_output=True, text=True, env={}, cwd=tmp_path, check=False)

    assert "Genuine: 5 entries" in check("--key", exported["public_key"]).stdout
    assert check("--head", f"3:{head['digest']}").returncode == 0
    assert check("--head", f"2:{head['digest']}").returncode == 1
    assert check("--head", f"9:{head['digest']}").returncode == 1
    assert check("--key", "A" * 43 + "=").returncode == 1
    exported["body"]["entries"][1]["details"]["about"]["results"] = 7
    file.write_text(json.dumps(exported))
    assert "FORGED" in check().stderr


def test_the_command_checks_a_file_alone(exported: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "log.json"
    file.write_text(json.dumps(exported))
    call_command("verify_audit_log", export=file, json=True)
    answer = json.loads(capsys.readouterr().out)
    assert (answer["entries"], answer["problem"]) == (5, "")
    del exported["body"]["entries"][-1]
    file.write_text(json.dumps(exported))
    with pytest.raises(CommandError, match="FORGED"):
        call_command("verify_audit_log", export=file, json=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_export_is_genuine(exported: dict[str, Any], data: st.DataObject) -> None:
    """Any character of what is signed replaced; entries left out, repeated, in another order; signed anew by another key."""
    text = json.dumps(exported["body"], ensure_ascii=False)
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.characters(exclude_characters=text[at], codec="ascii")) + text[at + 1 :]
    try:
        body = json.loads(changed)
    except ValueError:
        return
    if body == exported["body"]:
        return  # white space, or another way to write the same
    with pytest.raises((proofs.Forged, KeyError, TypeError)):
        proofs.check_log({**exported, "body": body})
    order = data.draw(st.lists(st.sampled_from(exported["body"]["entries"]), max_size=6))
    if order != exported["body"]["entries"]:
        with pytest.raises(proofs.Forged):
            proofs.check_log({**exported, "body": {**exported["body"], "entries": order}})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_signed_by_oneself_the_chain_still_tells(exported: dict[str, Any], data: st.DataObject) -> None:
    """Who can sign, but not find another preimage, cannot leave out, swap or change an entry under the old head."""
    entries = exported["body"]["entries"]
    order = data.draw(st.lists(st.sampled_from(entries), max_size=6))
    if order == entries[: len(order)]:
        return
    with pytest.raises(proofs.Forged):
        proofs.check_chain(exported["body"]["workspace"], order)


def test_an_export_of_one_workspace_is_not_anothers(workspace_b: Any, exported: dict[str, Any]) -> None:
    with pytest.raises(proofs.Forged):
        proofs.check_chain(str(workspace_b.pk), exported["body"]["entries"])


def test_the_head_is_mailed_once_a_day_when_it_changed(
    owner: Any, in_workspace_a: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(exporting.notices, "tell_owners", lambda tenant, subject, words: told.append(words) or True)
    record(Event.SEARCHED, results=1)
    exporting.mail_head()
    exporting.mail_head()
    (words,) = told
    entry = as_exported(Entry.objects.order_by("-number")[0])
    assert f"Head: {entry['number']}:{entry['digest']}" in words
    proofs.check_log(exporting.signed_export(), head=f"{entry['number']}:{entry['digest']}")


# ---------------------------------------------------------------- written by the verbs


def events(tenant: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """What has been written, newest last, what waits included: (event, who, about), without the creation."""
    deliver_waiting()
    with workspace(tenant):
        found = [as_exported(entry) for entry in Entry.objects.exclude(event=Event.CREATED).order_by("number")]
    return [(each["event"], each["details"]["who"], each["details"]["about"]) for each in found]


def test_what_members_do(workspace_a: Any, owner: Any, client_owner: Any, person: Any) -> None:
    viewer = person("viewer", workspace_a)
    client_owner.post("/w/alpha/members/invite/", {"email": "new@example.org", "role": "editor"})
    client_owner.post(f"/w/alpha/members/{viewer.pk}/role/", {"role": "editor"})
    client_owner.post(f"/w/alpha/members/{viewer.pk}/remove/")
    client_owner.post("/w/alpha/settings/", {"name": "Renamed"})
    client_owner.post("/w/alpha/settings/delete/", {"address": "alpha"})
    client_owner.post("/w/alpha/settings/keep/")
    found = events(workspace_a)
    assert [event for event, _, _ in found] == [
        "person.signed-in", "member.invited", "member.role", "member.removed", "workspace.renamed",
        "workspace.deletion-scheduled", "workspace.kept",
    ]  # fmt: skip
    assert {who for _, who, _ in found} == {owner.email}
    assert found[2][2] == {"member": viewer.email, "role": "editor", "before": "viewer"}


def test_reading_and_searching_without_the_question(workspace_a: Any, client_owner: Any) -> None:
    client_owner.post("/w/alpha/", {"q": "what nobody should read"})
    (about,) = [about for event, _, about in events(workspace_a) if event == "search.searched"]
    assert about == {"results": 0, "collection": None}


def test_collections(workspace_a: Any, client_owner: Any) -> None:
    from documents.models import Collection

    client_owner.post("/w/alpha/collections/create/", {"name": "Contracts", "restricted": "on"})
    with workspace(workspace_a):
        collection = Collection.objects.get()
    client_owner.post(f"/w/alpha/collections/{collection.pk}/rename/", {"name": "Treaties"})
    client_owner.post(f"/w/alpha/collections/{collection.pk}/access/", {"who": "everyone"})
    found = [event for event, _, _ in events(workspace_a) if event.startswith("collection.")]
    assert found == ["collection.created", "collection.renamed", "collection.access"]


def test_staff_who_add_themselves_are_seen(
    workspace_a: Any,
    owner: Any,
    person: Any,
    sign_in: Any,
    mail_server: Any,
    mailoutbox: Any,
    django_capture_on_commit_callbacks: Any,
) -> None:
    staff = person(None, email="staff@example.org", staff=True)
    console = sign_in(staff)
    with django_capture_on_commit_callbacks(execute=True):
        console.post("/admin/tenants/membership/add/", {"user": staff.pk, "tenant": str(workspace_a.pk), "role": "owner"})
    assert events(workspace_a)[-1] == ("member.joined", staff.email, {"member": staff.email, "role": "owner", "before": ""})
    told = [message.to for message in mailoutbox if "Staff changed the members" in message.subject]
    assert [owner.email] in told


def test_staff_who_delete_a_person_are_seen(workspace_a: Any, owner: Any, person: Any, sign_in: Any) -> None:
    gone = person("viewer", workspace_a, email="gone@example.org")
    staff = person(None, email="staff@example.org", staff=True)
    sign_in(staff).post(f"/admin/tenants/user/{gone.pk}/delete/", {"post": "yes"})
    assert not type(gone).objects.filter(pk=gone.pk).exists()
    assert events(workspace_a)[-1] == (
        "member.removed",
        staff.email,
        {"member": gone.email, "role": "viewer", "before": "viewer"},
    )


def test_every_kind_of_event_can_be_filtered_by() -> None:
    assert {event.value.partition(".")[0] for event in Event} == log_pages.GROUPS.keys()


def test_a_witness_that_cannot_be_written_costs_nobody_their_request(
    workspace_a: Any, client_owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = len(events(workspace_a))
    with monkeypatch.context() as patch:
        patch.setattr(witness, "keep", full)
        assert client_owner.post("/w/alpha/", {"q": "anything"}).status_code == 200
    assert len(events(workspace_a)) == before + 1
    assert client_owner.post("/w/alpha/", {"q": "something"}).status_code == 200
    assert not verifying.verify(workspace_a).problem


def test_commands_and_their_reason(workspace_a: Any, capsys: Any) -> None:
    from tenants.acting import Actor, acting

    with acting(Actor("command line (root)", "command", reason="ticket 7")):
        lifecycle.suspend(workspace_a, "not paid")
        lifecycle.resume(workspace_a)
    found = events(workspace_a)
    assert [event for event, _, _ in found] == ["workspace.suspended", "workspace.resumed"]
    call_command("verify_audit_log", workspace="alpha", reason="yearly check")
    deliver_waiting()
    with workspace(workspace_a):
        details = Entry.objects.get(event=Event.COMMAND).details
    assert (details["via"], details["reason"], details["about"]) == ("command", "yearly check", {"command": "verify_audit_log"})


def test_written_while_suspended_it_waits(workspace_a: Any, django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        lifecycle.suspend(workspace_a, "not paid")
    assert AuditOutbox.objects.filter(tenant=workspace_a).count() == 1
    with django_capture_on_commit_callbacks(execute=True):
        lifecycle.resume(workspace_a)
    assert [event for event, _, _ in events(workspace_a)] == ["workspace.suspended", "workspace.resumed"]


def test_undone_it_was_not_done(workspace_a: Any, owner: Any) -> None:
    with transaction.atomic():
        people.invite(workspace_a, "x@example.org", "viewer", owner)
        transaction.set_rollback(True)
    assert events(workspace_a) == []


# ---------------------------------------------------------------- the page


def test_owners_read_it_and_nobody_else(
    workspace_a: Any, workspace_b: Any, client_owner: Any, person: Any, sign_in: Any
) -> None:
    addresses = ("log/", "log/status/", "log/export.json", "log/export.csv")
    for role in ("admin", "editor", "viewer"):
        client = sign_in(person(role, workspace_a))
        assert {client.get(f"/w/alpha/{address}").status_code for address in addresses} == {403}
        assert client.post("/w/alpha/log/check/").status_code == 403
    assert client_owner.get("/w/beta/log/").status_code == 404
    assert {client_owner.get(f"/w/alpha/{address}").status_code for address in addresses} == {200, 286}
    assert client_owner.get("/w/alpha/log/export.xml").status_code == 404


def test_filters(workspace_a: Any, owner: Any, client_owner: Any) -> None:
    client_owner.post("/w/alpha/", {"q": "anything"})
    deliver_waiting()

    def shown(query: str) -> list[str]:
        page = client_owner.get(f"/w/alpha/log/?{query}")
        return [row.label for row in page.context["rows"]]

    assert set(shown("")) == {"Signed in", "Searched", "Created the workspace"}
    assert shown("kind=search") == ["Searched"]
    assert set(shown(f"person={owner.pk}")) == {"Signed in", "Searched"}
    assert shown("person=none") == ["Created the workspace"]
    assert shown("until=2020-01-01") == []
    assert len(shown("since=2020-01-01")) == 3
    assert len(shown("since=nonsense&kind=nonsense&page=999")) == 3


def test_the_table_holds_what_the_filter_shows(workspace_a: Any, client_owner: Any) -> None:
    client_owner.post("/w/alpha/", {"q": "anything"})
    answer = client_owner.get("/w/alpha/log/export.csv?kind=search")
    lines = b"".join(answer.streaming_content).decode().splitlines()
    assert lines[0].startswith("number,time (UTC),event")
    assert len(lines) == 2
    assert "Searched" in lines[1]


@pytest.mark.django_db(transaction=True)
def test_checked_by_the_worker(workspace_a: Any, client_owner: Any, run_jobs: Any) -> None:
    client_owner.post("/w/alpha/log/check/")
    run_jobs()
    assert "Whole up to entry" in client_owner.get("/w/alpha/log/").content.decode()


@pytest.mark.django_db(transaction=True)
def test_an_alarm_about_the_workspace_stands_in_its_log(workspace_a: Any) -> None:
    for _ in range(2):
        alarms.raise_alarm(Alarm.Kind.ROW, "tenants_membership 7", workspace_a)
    found = [about for event, _, about in events(workspace_a) if event == Event.ALARM]
    assert found == [{"kind": Alarm.Kind.ROW.label, "subject": "tenants_membership 7"}]


def test_why_it_was_suspended_is_the_reason_of_the_entry(workspace_a: Any) -> None:
    lifecycle.suspend(workspace_a, "not paid")
    lifecycle.resume(workspace_a)
    deliver_waiting()
    with workspace(workspace_a):
        assert Entry.objects.get(event=Event.SUSPENDED).details["reason"] == "not paid"
