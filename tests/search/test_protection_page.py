"""Protection of vectors, for owners: the level, changing it by a job, its progress, going back, what is refused."""

import json
from io import StringIO
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.test import Client

from search import building, indexes
from search.embeddings import MODEL_NAME
from search.models import StoredCloak, VectorIndex
from tenants import lifecycle
from tenants.audit.events import Event
from tenants.audit.models import Entry
from tenants.context import public_context, workspace
from tests.search.conftest import search, store
from workspace import index_command

pytestmark = [pytest.mark.django_db(transaction=True, databases=["default", "operator"]), pytest.mark.usefixtures("graphs")]

PAGE = "/w/alpha/protection/"


def ask(client: Client, what: str, **form: str) -> str:
    return client.post(f"{PAGE}{what}/", form, follow=True).content.decode()


def level(tenant: Any) -> str:
    with workspace(tenant):
        return indexes.live().protection


def test_it_is_the_owners(client_owner: Client, client_viewer: Client):
    assert client_owner.get(PAGE).status_code == 200
    assert client_viewer.get(PAGE).status_code == 403
    assert client_viewer.post(f"{PAGE}change/", {"level": "open"}).status_code == 403


def test_a_level_is_chosen_built_and_in_use(client_owner: Client, workspace_a: Any, run_jobs: Any, model_dir: Any):
    with workspace(workspace_a):
        store(["The cellar is flooded."])
    page = ask(client_owner, "change", level="sealed")
    assert "Changing to sealed" in page
    assert "Waiting for a worker" in page
    assert client_owner.get(f"{PAGE}status/").status_code == 200
    run_jobs()
    told = client_owner.get(f"{PAGE}status/")
    assert told.status_code == 286
    assert "Sealed is in use" in told.content.decode()
    assert level(workspace_a) == "sealed"
    log = client_owner.get("/w/alpha/log/").content.decode()
    assert Event.INDEX_BEGUN.label in log
    assert Event.INDEX_CHANGED.label in log
    readable = client_owner.get("/w/alpha/plaintext/").content.decode()
    assert "This workspace is <b>sealed</b>" in readable
    assert "It can read no vectors." in readable
    assert "disguised vectors" not in readable.partition("cloaked-heading")[0]
    ask(client_owner, "change", level="cloaked")
    run_jobs()
    assert "Go back to sealed" in client_owner.get(PAGE).content.decode()
    ask(client_owner, "back")
    assert level(workspace_a) == "sealed"
    assert "There is no index to go back to." in ask(client_owner, "back")
    run_jobs()


def test_the_map_of_plaintext_follows_what_is_in_the_tables(client_owner: Client, workspace_a: Any, model_dir: Any):
    """Also while what an earlier index held has not been removed yet: the page says what the database can read now."""
    with workspace(workspace_a):
        store(["The cellar is flooded."])
        building.work(building.begin("open").id)
    readable = client_owner.get("/w/alpha/plaintext/").content.decode()
    assert "This workspace is <b>open</b>" in readable
    assert "The vectors once more, as they are" in readable
    with workspace(workspace_a):
        building.work(building.begin("sealed").id)
    assert level(workspace_a) == "sealed"
    assert "This workspace is <b>open</b>" in client_owner.get("/w/alpha/plaintext/").content.decode()
    with workspace(workspace_a):
        building.remove_retired()
    readable = client_owner.get("/w/alpha/plaintext/").content.decode()
    assert "This workspace is <b>sealed</b>" in readable
    assert "Nothing: there is none." in readable


def test_the_command_changes_the_level_and_says_what_came_of_it(workspace_a: Any, model_dir: Any):
    with workspace(workspace_a):
        store(["The cellar is flooded."])
    out = StringIO()
    call_command("protect_workspace", "alpha", "sealed", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {
        "workspace": "alpha",
        "level": "sealed",
        "model": MODEL_NAME,
        "index": 2,
        "state": "live",
        "recall": None,
        "removing": False,
    }
    assert level(workspace_a) == "sealed"
    with pytest.raises(CommandError, match="sealed already"):
        call_command("protect_workspace", "alpha", "sealed", stdout=StringIO())


def test_settings_are_changed_built_and_gone_back_from(client_owner: Client, workspace_a: Any, run_jobs: Any, model_dir: Any):
    with workspace(workspace_a):
        store([f"Shelf {number} is in the cellar." for number in range(20)])
    form = client_owner.get(f"{PAGE}settings/")
    assert form.status_code == 200
    assert 'value="16"' in form.content.decode()
    page = ask(client_owner, "settings", metric="inner product", m="24", ef_construction="100")
    assert "Rebuilding the search index" in page
    run_jobs()
    page = client_owner.get(PAGE).content.decode()
    assert "<dd>Inner product</dd>" in page
    assert "<dd>24</dd>" in page
    assert "<dd>1.000</dd>" in page
    with workspace(workspace_a):
        assert search("cellar").hits
    assert "Go back to index 1" in page
    assert "<dd>Cosine</dd>" in ask(client_owner, "back")


def test_settings_that_cannot_be_are_said_beside_the_field(client_owner: Client):
    def told(m: str, ef_construction: str, metric: str = "cosine") -> str:
        asked = {"metric": metric, "m": m, "ef_construction": ef_construction}
        answer = client_owner.post(f"{PAGE}settings/", asked)
        assert answer.status_code == 422
        return answer.content.decode()

    page = told("65", "77")
    assert "m is 4 to 64, not 65." in page
    assert 'value="77"' in page, "what was typed stays"
    assert "80 or more where m is 40" in told("40", "64")
    assert "Type a whole number." in told("many", "64")
    assert "Type a number." in told("", "64")
    assert "Choose one of the three." in told("16", "64", "hamming")
    assert "has these settings already" in told("16", "64")


def test_a_new_disguise_is_drawn(client_owner: Client, workspace_a: Any, run_jobs: Any, model_dir: Any):
    with workspace(workspace_a):
        store(["The cellar is flooded."])
    assert "Draw a new disguise" in client_owner.get(PAGE).content.decode()
    page = ask(client_owner, "disguise")
    assert "Rebuilding the search index" in page
    assert "Draw a new disguise" not in page
    assert "built already" in ask(client_owner, "disguise")
    run_jobs()
    page = client_owner.get(PAGE).content.decode()
    assert "Kept to go back to" not in page
    with workspace(workspace_a):
        assert indexes.live().id == 2
        assert StoredCloak.objects.get().index_id == 2
    ask(client_owner, "change", level="sealed")
    run_jobs()
    page = client_owner.get(PAGE).content.decode()
    assert "Draw a new disguise" not in page
    assert "Change settings" not in page
    assert "no settings" in client_owner.get(f"{PAGE}settings/", follow=True).content.decode()
    assert "only cloaked vectors are disguised" in ask(client_owner, "disguise")


def test_the_command_rebuilds_the_index_and_says_what_came_of_it(workspace_a: Any, model_dir: Any):
    with workspace(workspace_a):
        store([f"Shelf {number} is in the cellar." for number in range(20)])

    def rebuild(*asked: str) -> dict[str, Any]:
        out = StringIO()
        call_command("rebuild_index", "alpha", *asked, "--json", stdout=out)
        return dict(json.loads(out.getvalue()))

    about = {"workspace": "alpha", "level": "cloaked", "model": MODEL_NAME, "recall": 1.0}
    expected = {**about, "index": 2, "state": "live", "removing": False}
    assert rebuild("--metric", "l2", "--m", "24", "--ef-construction", "100") == expected
    assert rebuild("--new-disguise") == {**expected, "index": 3}
    with workspace(workspace_a):
        live = VectorIndex.objects.get(state="live")
        assert (live.metric, live.m, live.ef_construction) == ("l2", 24, 100)
        assert StoredCloak.objects.get().index_id == 3
    for asked in ((), ("--new-disguise", "--m", "8")):
        with pytest.raises(CommandError, match="Say what is to be different"):
            rebuild(*asked)
    with pytest.raises(CommandError, match="48 or more"):
        rebuild("--ef-construction", "40")
    with workspace(workspace_a):
        assert {entry.details["about"]["command"] for entry in Entry.objects.filter(event="access.command")} == {
            "rebuild_index"
        }
    with public_context():
        lifecycle.suspend(workspace_a, reason="Unpaid")
    try:
        with pytest.raises(CommandError, match="is suspended"):
            rebuild("--m", "8")
    finally:
        with public_context():
            lifecycle.resume(workspace_a)


def test_the_command_waits_for_a_worker_that_was_quicker(
    workspace_a: Any, model_dir: Any, monkeypatch: pytest.MonkeyPatch, run_jobs: Any
):
    with workspace(workspace_a):
        store(["The cellar is flooded."])
    build = building.work
    monkeypatch.setattr(building, "work", lambda index_id: None)  # another has it
    monkeypatch.setattr(index_command.time, "sleep", lambda seconds: build(VectorIndex.objects.get(state="building").id))
    out = StringIO()
    call_command("protect_workspace", "alpha", "sealed", "--json", stdout=out)
    assert json.loads(out.getvalue())["state"] == "live"


def test_what_is_being_built_is_cancelled(client_owner: Client, workspace_a: Any, run_jobs: Any):
    ask(client_owner, "change", level="sealed")
    assert "Changing to" not in ask(client_owner, "cancel")
    run_jobs()
    assert level(workspace_a) == "cloaked"
    assert "Nothing is being built." in ask(client_owner, "cancel")


def test_what_cannot_be_chosen_is_said(client_owner: Client, settings: LazySettings):
    settings.PROTECTION_FLOOR = "cloaked"
    assert "not allowed in this installation" in client_owner.get(PAGE).content.decode()
    assert "allows no level below cloaked" in ask(client_owner, "change", level="open")
    assert "is no level of protection" in ask(client_owner, "change", level="secret")
    assert "is cloaked already" in ask(client_owner, "change", level="cloaked")
    assert "No index is kept." in ask(client_owner, "remove")
