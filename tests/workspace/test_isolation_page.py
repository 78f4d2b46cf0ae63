"""The page of the isolation self-test: who sees it, what it says in each state, and what staff see."""

from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tenants.models import IsolationCheck, Tenant
from workspace.isolation.probes import ATTEMPTS

pytestmark = pytest.mark.django_db

State, Trigger = IsolationCheck.State, IsolationCheck.Trigger


def ended(tenant: Tenant | None, state: IsolationCheck.State, **more: Any) -> IsolationCheck:
    counts = {"by_kind": dict.fromkeys(ATTEMPTS, 134), "routes": 35, "workspaces": 3, "seconds": 4.21, "controls": []}
    return IsolationCheck.objects.create(
        tenant=tenant, trigger=Trigger.NIGHTLY, state=state, finished_at=timezone.now(),
        **{"counts": counts | more.pop("counts", {}), **more},
    )  # fmt: skip


@pytest.fixture
def shown(client_owner: Client, workspace_a: Tenant) -> Callable[[], str]:
    def get() -> str:
        answer = client_owner.get(f"{workspace_a.path}isolation/")
        assert answer.status_code == 200
        return unescape(answer.content.decode())

    return get


def test_it_has_not_run_yet(shown: Callable[[], str]) -> None:
    assert "Not yet." in shown()
    assert "Check isolation" in shown()


def test_no_leak_comes_first(shown: Callable[[], str], workspace_a: Tenant, workspace_b: Tenant) -> None:
    ended(workspace_a, State.PASSED)
    ended(workspace_b, State.LEAKS, leaks=[{"kind": "sql", "route": "theirs", "detail": "theirs"}])
    text = shown()
    assert "No leak found in 1,206 attempts" in text
    assert all(tried in text for _, tried in ATTEMPTS.values())
    assert "<b>not a proof</b>" in text
    assert "theirs" not in text
    assert workspace_b.name not in text.replace("Isolation", "")


def test_leaks_are_listed_with_what_to_do(shown: Callable[[], str], workspace_a: Tenant) -> None:
    leak = {"kind": "routes", "route": "documents/<uuid:document_id>/", "detail": "GET answered 200, for an unknown id 404"}
    ended(workspace_a, State.LEAKS, leaks=[leak])
    text = shown()
    assert "1 leak found in 1,206 attempts" in text
    assert "documents/<uuid:document_id>/" in text
    assert "Send the list below to whoever runs this installation" in text
    assert "Leaks found" in text
    assert text.count("<table") == text.count("<caption") == 2


def test_failed_controls_are_inconclusive(shown: Callable[[], str], workspace_a: Tenant) -> None:
    failed = [{"kind": "canaries", "route": "", "detail": "the canaries of another workspace could not be made"}]
    ended(workspace_a, State.INCONCLUSIVE, counts={"controls": failed})
    assert "Inconclusive" in shown()
    assert "the canaries of another workspace could not be made" in shown()


@pytest.mark.parametrize(
    ("state", "words"),
    [(State.ALONE, "no other workspace"), (State.INTERRUPTED, "was interrupted"), (State.CANCELLED, "was cancelled")],
)
def test_other_ends_say_that_they_say_nothing(
    shown: Callable[[], str], workspace_a: Tenant, state: IsolationCheck.State, words: str
) -> None:
    ended(workspace_a, state, counts={"by_kind": {}})
    assert words in shown()
    assert "What was tried" not in shown()


def test_the_button_starts_a_check_whose_progress_is_polled_and_that_can_be_cancelled(
    client_owner: Client, workspace_a: Tenant, shown: Callable[[], str]
) -> None:
    path = f"{workspace_a.path}isolation/"
    ended(workspace_a, State.PASSED)
    assert client_owner.post(f"{path}start/").headers["Location"] == path
    assert "Waiting for a worker" in shown()
    again = client_owner.post(f"{path}start/", follow=True)
    assert "under way" in again.content.decode()
    check = IsolationCheck.objects.get(state=State.QUEUED)
    IsolationCheck.objects.filter(pk=check.pk).update(state=State.RUNNING, steps=3, steps_done=1)
    polled = client_owner.get(f"{path}status/", headers={"HX-Request": "true"})
    assert polled.status_code == 200
    assert "Compared with 1 of 3 workspaces" in polled.content.decode()
    assert "No leak found" in polled.content.decode()
    client_owner.post(f"{path}cancel/")
    polled = client_owner.get(f"{path}status/", headers={"HX-Request": "true"})
    assert polled.status_code == 286
    assert "was cancelled" in polled.content.decode()
    assert "had ended" in client_owner.post(f"{path}cancel/", follow=True).content.decode()


@pytest.mark.parametrize("role", ["editor", "viewer"])
@pytest.mark.parametrize("address", ["", "status/", "start/", "cancel/"])
def test_it_is_for_admins_and_owners(
    person: Callable[..., Any], sign_in: Callable[[Any], Client], workspace_a: Tenant, role: str, address: str
) -> None:
    client = sign_in(person(role, workspace_a))
    method = client.post if address in ("start/", "cancel/") else client.get
    answer = method(f"{workspace_a.path}isolation/{address}")
    assert answer.status_code == 403
    assert "Admins and owners" in answer.content.decode()
    assert not IsolationCheck.objects.exists()
    admin = sign_in(person("admin", workspace_a))
    assert admin.get(f"{workspace_a.path}isolation/").status_code == 200


def test_staff_read_every_check_and_change_none(
    person: Callable[..., Any], sign_in: Callable[[Any], Client], workspace_a: Tenant
) -> None:
    client = sign_in(person(None, staff=True))
    leak = {"kind": "sql", "route": "SELECT documents_page", "detail": "the database carried it out"}
    whole = ended(None, State.LEAKS, leaks=[leak])
    part = ended(workspace_a, State.LEAKS, leaks=[leak], part_of=whole)
    listed = client.get("/admin/tenants/isolationcheck/").content.decode()
    assert "The whole installation" in listed
    assert workspace_a.name in listed
    shown = client.get(f"/admin/tenants/isolationcheck/{part.pk}/change/").content.decode()
    assert "SELECT documents_page the database carried it out" in shown
    assert client.post(f"/admin/tenants/isolationcheck/{part.pk}/change/", {"state": "passed"}).status_code == 403
    assert client.post(f"/admin/tenants/isolationcheck/{part.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.get("/admin/tenants/isolationcheck/add/").status_code == 403
