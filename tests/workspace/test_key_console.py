"""The page about a workspace's keys: for owners alone, with what is in use, what is kept, and a freeze."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.core import mail
from django.utils import timezone

from tenants import erasures, witness
from tenants.acting import actor
from tenants.audit.models import Entry
from tenants.context import workspace
from tenants.keys import freezing, presence, rotation
from tenants.keys.keyring import KeysFrozen, is_frozen, keyring
from tenants.models import Freeze, FreezeAnswer, Process, TenantKey, User
from tests.factories import CollectionFactory

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])
PAGE = "/w/alpha/keys/"


@pytest.fixture
def second_owner(person, workspace_a, sign_in):
    return sign_in(person("owner", workspace_a, email="second@example.org"))


def words(response):
    import re

    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


@pytest.mark.parametrize("path", ["", "status/", "freeze/"])
def test_owners_alone_see_it(client_editor, client_owner, path):
    assert client_owner.get(PAGE + path).status_code in (200, 286)
    refused = client_editor.get(PAGE + path)
    assert refused.status_code == 403
    assert "Owners of this workspace can do this." in refused.content.decode()


@pytest.mark.parametrize("path", ["change/", "pause/", "resume/", "freeze/", "unfreeze/"])
def test_owners_alone_act(client_editor, workspace_a, path):
    assert client_editor.post(PAGE + path, {"reason": "x"}).status_code == 403
    assert TenantKey.objects.filter(tenant=workspace_a).count() == 1
    assert not is_frozen(workspace_a.id)


def test_the_key_is_changed_paused_and_kept_for_backups(client_owner, workspace_a, run_jobs, monkeypatch):
    monkeypatch.setattr(rotation, "QUIET_SECONDS", 0.0)
    with workspace(workspace_a):
        CollectionFactory()
    assert "Version 1" in words(client_owner.get(PAGE))
    client_owner.post(PAGE + "change/")
    assert "Changing to version 2" in words(client_owner.get(PAGE))
    assert client_owner.get(PAGE + "status/").status_code == 200
    client_owner.post(PAGE + "pause/")
    assert client_owner.get(PAGE + "status/").status_code == 286
    assert "Paused" in words(client_owner.get(PAGE))
    client_owner.post(PAGE + "resume/")
    run_jobs()
    shown = words(client_owner.get(PAGE))
    assert client_owner.get(PAGE + "status/").status_code == 286
    kept = TenantKey.objects.get(tenant=workspace_a, version=1)
    assert f"Kept for backups {kept.destroy_at.day} {kept.destroy_at:%b %Y}" in shown
    assert "Changed to version 2" in shown
    with workspace(workspace_a):
        told = set(Entry.objects.values_list("event", flat=True))
    assert {"keys.rotation-begun", "keys.rotation-ended"} <= told


def test_a_frozen_workspace_opens_nothing_and_says_so(client_owner, client_viewer, workspace_a, mail_server):
    with workspace(workspace_a):
        collection = CollectionFactory()
        assert keyring.holds(workspace_a.id)
        client_owner.post(PAGE + "freeze/", {"reason": "A lost laptop"})
        assert not keyring.holds(workspace_a.id)
    with workspace(workspace_a), pytest.raises(KeysFrozen):
        type(collection).objects.get().name  # noqa: B018  # decrypts
    assert [message.subject for message in mail.outbox] == ["The keys of Alpha are frozen"]
    for client, path in [(client_viewer, ""), (client_viewer, "keys/"), (client_owner, ""), (client_owner, "keys/freeze/")]:
        response = client.get(f"/w/alpha/{path}")
        assert response.status_code == 503, path
        assert "Alpha is frozen" in words(response)
    assert "A lost laptop" in words(client_owner.get(PAGE))
    client_owner.post(PAGE + "unfreeze/")
    assert client_owner.get("/w/alpha/").status_code == 200
    with workspace(workspace_a):
        told = set(Entry.objects.values_list("event", flat=True))
    assert {"keys.frozen", "keys.unfrozen"} <= told


def test_a_reason_is_needed(client_owner, workspace_a):
    assert client_owner.post(PAGE + "freeze/", {"reason": " "}).status_code == 422
    assert not is_frozen(workspace_a.id)


def test_before_the_freeze_it_says_how_many_have_to_ask(client_owner, person, workspace_a):
    assert "there is no other owner" in words(client_owner.get(PAGE + "freeze/"))
    person("owner", workspace_a, email="another@example.org")
    assert "Two owners have to ask" in words(client_owner.get(PAGE + "freeze/"))


def test_a_vote_that_came_late_freezes_nothing_again(client_owner, second_owner, workspace_a, monkeypatch):
    """It was read as frozen, and by the time it counts the workspace is not."""
    client_owner.post(PAGE + "freeze/", {"reason": "A drill"})
    row = freezing.current(workspace_a)
    freezing.unfreeze(workspace_a, "Over", actor())
    monkeypatch.setattr(freezing, "current", lambda tenant: row)
    assert freezing.ask_to_unfreeze(workspace_a, User.objects.get(email="second@example.org"))
    assert not is_frozen(workspace_a.id)


def test_where_there_are_two_owners_two_unfreeze(client_owner, second_owner, workspace_a):
    client_owner.post(PAGE + "freeze/", {"reason": "A drill"})
    for _ in range(2):  # the same person twice is one
        client_owner.post(PAGE + "unfreeze/")
        assert is_frozen(workspace_a.id)
    assert "You have asked. Another owner has to ask as well." in words(client_owner.get(PAGE))
    second_owner.post(PAGE + "unfreeze/")
    assert not is_frozen(workspace_a.id)


def test_the_vote_of_who_is_no_owner_any_more_does_not_count(client_owner, second_owner, person, workspace_a):
    third = person("owner", workspace_a, email="third@example.org")
    client_owner.post(PAGE + "freeze/", {"reason": "A drill"})
    freezing.ask_to_unfreeze(workspace_a, third)
    third.memberships.update(role="editor")
    second_owner.post(PAGE + "unfreeze/")
    assert is_frozen(workspace_a.id)
    client_owner.post(PAGE + "unfreeze/")
    assert not is_frozen(workspace_a.id)


def test_a_writer_to_the_database_unfreezes_nothing(client_owner, workspace_a):
    client_owner.post(PAGE + "freeze/", {"reason": "A drill"})
    Freeze.objects.all().update(lifted_at=timezone.now())
    assert client_owner.get("/w/alpha/").status_code == 503
    Freeze.objects.all().delete()
    assert client_owner.get("/w/alpha/").status_code == 503
    assert "A drill" in words(client_owner.get(PAGE)), "the row is made again from what stands outside"
    client_owner.post(PAGE + "unfreeze/")
    assert client_owner.get("/w/alpha/").status_code == 200


def test_each_process_is_named_and_only_an_answer_confirms(client_owner, workspace_a):
    mine, other = presence.Presence("web"), presence.Presence("worker")
    mine.look()
    other.look()
    silent = Process.objects.create(kind="web", host="elsewhere", pid=77)
    Process.objects.filter(pk=silent.pk).update(seen_at=timezone.now() - timedelta(minutes=3))
    client_owner.post(PAGE + "freeze/", {"reason": "A drill"})
    mine.look()
    other.leave()
    shown = words(client_owner.get(PAGE))
    assert "1 of 3 processes confirmed" in shown
    assert f"Web process {mine.pid} on {mine.host} Confirmed 0." in shown
    assert "Web process 77 on elsewhere Unconfirmed It has not been seen since" in shown
    assert "Unconfirmed It is not listed any more, and ended without an answer." in shown
    assert client_owner.get(PAGE + "status/").status_code == 200
    Freeze.objects.update(asked_at=timezone.now() - timedelta(minutes=5))
    assert client_owner.get(PAGE + "status/").status_code == 286


def test_a_process_answers_only_when_nothing_is_under_way(client_owner, workspace_a):
    mine = presence.Presence("web")
    mine.look()
    with presence.using(workspace_a.id):
        client_owner.post(PAGE + "freeze/", {"reason": "A drill"})
        mine.look()
        assert not FreezeAnswer.objects.exists()
    mine.look()
    assert FreezeAnswer.objects.filter(process_id=mine.id).count() == 1
    assert not presence.is_in_use(workspace_a.id)


def test_what_was_erased_is_not_frozen_and_what_is_merely_missing_is(workspace_a):
    """Whoever writes SQL can take a row away for a moment; only the record of an erasure lifts a freeze."""
    erased, missing = "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001"
    for each in (erased, missing):
        witness.keep(f"frozen/{each}", {"freeze": "x"})
    witness.keep(erasures.record_of(UUID(erased)), {})
    freezing.forget_erased()
    assert witness.names("frozen") == [f"frozen/{missing}"]


def test_no_job_works_in_a_frozen_workspace(client_owner, workspace_a, run_jobs):
    rotation.begin(workspace_a)
    client_owner.post(PAGE + "freeze/", {"reason": "A drill"})
    run_jobs()
    assert rotation.unfinished(workspace_a).done == 0
    client_owner.post(PAGE + "unfreeze/")
    with workspace(workspace_a):
        rotation.queue_lost()
    run_jobs()
    assert rotation.unfinished(workspace_a) is None


def test_a_body_uses_the_keys_from_the_answer_to_its_end(client_owner, workspace_a):
    """A freeze is not confirmed by a process that is about to send what it has opened."""
    answer = client_owner.get("/w/alpha/log/export.csv")
    assert answer.streaming
    assert presence.is_in_use(workspace_a.id)
    b"".join(answer.streaming_content)
    assert not presence.is_in_use(workspace_a.id)
    unread = client_owner.get("/w/alpha/log/export.csv")
    unread.close()
    assert not presence.is_in_use(workspace_a.id)
