"""The life of a check: whom a workspace is compared with, the nightly run, killed workers, cancelling, what is kept."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import django_rq
import pytest
from django.utils import timezone

from tenants.context import public_context, workspace
from tenants.errors import Refused
from tenants.models import IsolationCheck, Tenant
from tenants.sweeping import provisioned
from workspace.isolation import jobs, verifying
from workspace.isolation.probes import Findings

pytestmark = pytest.mark.django_db(transaction=True)

State, Trigger = IsolationCheck.State, IsolationCheck.Trigger


@pytest.fixture(autouse=True)
def compared(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The comparison itself is test_isolation's: here it makes one attempt, and asks for no canaries."""
    made: list[Any] = []

    def try_everything(site: Any, mine: Any, other: Any, found: Findings) -> None:
        made.append(found)
        found.attempt("routes", "documents/", "")

    monkeypatch.setattr(verifying, "try_everything", try_everything)
    monkeypatch.setattr(verifying.canaries, "ensure", lambda tenant: tenant)
    monkeypatch.setattr(jobs.canaries, "ensure", lambda tenant: tenant)
    return made


def tenants(count: int) -> list[Tenant]:
    return [Tenant(id=uuid.UUID(int=number)) for number in range(count)]


def test_few_are_all_compared_and_many_in_turns_that_meet_everybody() -> None:
    few = tenants(4)
    assert verifying.compared_with(few[1], few, 3, turn=9) == [few[2], few[3], few[0]]
    many = tenants(12)
    met: set[uuid.UUID] = set()
    for turn in range(4):
        others = verifying.compared_with(many[5], many, 3, turn)
        assert len(others) == len(set(others)) == 3
        met |= {other.pk for other in others}
    assert met == {tenant.pk for tenant in many} - {many[5].pk}


def test_a_workspace_alone_has_nothing_to_compare_with(workspace_a: Tenant, workspace_b: Tenant) -> None:
    Tenant.objects.filter(pk=workspace_b.pk).update(status=Tenant.Status.SUSPENDED)
    assert verifying.verify_isolation([workspace_a]).state == State.ALONE
    assert verifying.verify_isolation().state == State.ALONE


def test_the_button_queues_one_check_that_the_worker_does(workspace_a: Tenant, run_jobs: Callable[[], int]) -> None:
    check = verifying.request_check(workspace_a)
    with pytest.raises(Refused, match="under way"):
        verifying.request_check(workspace_a)
    assert run_jobs() == 1
    check.refresh_from_db()
    assert (check.state, check.attempts, check.steps, check.steps_done) == (State.PASSED, 1, 1, 1)


def at_night(monkeypatch: pytest.MonkeyPatch, hour: int = 3) -> None:
    now = timezone.now().replace(hour=hour, minute=10)
    monkeypatch.setattr(verifying.timezone, "now", lambda: now)


def test_every_night_each_workspace_is_checked_once(
    monkeypatch: pytest.MonkeyPatch, workspace_a: Tenant, workspace_b: Tenant, run_jobs: Callable[[], int]
) -> None:
    at_night(monkeypatch, hour=2)
    verifying.begin_nightly()
    assert not IsolationCheck.objects.exists()
    at_night(monkeypatch)
    for _ in range(2):
        verifying.begin_nightly()
        verifying.resume_unfinished()
    run_jobs()
    (whole,) = IsolationCheck.objects.filter(tenant=None)
    assert (whole.state, whole.trigger, whole.attempts, whole.counts["workspaces"]) == (State.PASSED, Trigger.NIGHTLY, 2, 2)
    assert {part.tenant_id for part in whole.parts.all()} == {workspace_a.pk, workspace_b.pk}
    verifying.begin_nightly()
    assert IsolationCheck.objects.filter(tenant=None).count() == 1


def test_what_a_killed_worker_held_is_marked_and_run_again(
    monkeypatch: pytest.MonkeyPatch, workspace_a: Tenant, workspace_b: Tenant, run_jobs: Callable[[], int]
) -> None:
    at_night(monkeypatch)
    verifying.begin_nightly()
    verifying.resume_unfinished()
    IsolationCheck.objects.filter(tenant__isnull=False).update(state=State.RUNNING)  # and then its worker is gone,
    django_rq.get_queue("default").connection.flushdb()  # with all that Redis knew
    verifying.resume_unfinished()
    assert IsolationCheck.objects.filter(state=State.INTERRUPTED).count() == 1
    run_jobs()
    (whole,) = IsolationCheck.objects.filter(tenant=None)
    assert (whole.state, whole.counts["workspaces"], whole.attempts) == (State.PASSED, 2, 2)
    assert whole.parts.count() == 3


def test_a_check_that_kills_its_workers_is_given_up(workspace_a: Tenant) -> None:
    verifying.request_check(workspace_a)
    for _ in range(5):
        IsolationCheck.objects.filter(state=State.QUEUED).update(state=State.RUNNING)
        django_rq.get_queue("default").connection.flushdb()
        verifying.resume_unfinished()
    assert list(IsolationCheck.objects.values_list("state", flat=True)) == [State.INTERRUPTED] * verifying.MAX_STARTS


def test_a_command_that_is_at_work_is_left_alone(workspace_a: Tenant) -> None:
    check = IsolationCheck.objects.create(tenant=workspace_a, trigger=Trigger.COMMAND, state=State.RUNNING)
    long_ago = timezone.now() - timedelta(seconds=verifying.SILENCE_SECONDS + 1)
    verifying.resume_unfinished()
    check.refresh_from_db()
    assert check.state == State.RUNNING
    IsolationCheck.objects.update(seen_at=long_ago)
    verifying.resume_unfinished()
    check.refresh_from_db()
    assert check.state == State.INTERRUPTED


def test_a_check_is_cancelled_before_the_next_comparison(
    monkeypatch: pytest.MonkeyPatch, workspace_a: Tenant, compared: list[Any]
) -> None:
    check = verifying.request_check(workspace_a)

    def cancelled_meanwhile(*given: Any) -> None:
        compared.append(None)
        assert verifying.cancel(workspace_a)

    monkeypatch.setattr(verifying, "try_everything", cancelled_meanwhile)
    verifying.check_by_id(check.pk)
    check.refresh_from_db()
    assert (check.state, check.counts, len(compared)) == (State.CANCELLED, {}, 1)
    assert not verifying.cancel(workspace_a)


def test_an_error_of_ours_is_inconclusive_and_not_silent(monkeypatch: pytest.MonkeyPatch, workspace_a: Tenant) -> None:
    def broken(*given: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(verifying, "try_everything", broken)
    check = verifying.request_check(workspace_a)
    with pytest.raises(RuntimeError):
        verifying.check_by_id(check.pk)
    check.refresh_from_db()
    assert check.state == State.INCONCLUSIVE
    assert "secret" not in str(check.counts)


def test_canaries_that_cannot_be_made_are_a_failed_control(monkeypatch: pytest.MonkeyPatch, workspace_a: Tenant) -> None:
    def refuse(tenant: Tenant) -> None:
        raise Refused("no sandbox")

    monkeypatch.setattr(verifying.canaries, "ensure", refuse)
    check = verifying.verify_isolation([workspace_a])
    assert (check.state, [control["kind"] for control in check.controls]) == (State.INCONCLUSIVE, ["canaries"])


def test_the_newest_thirty_are_kept(workspace_a: Tenant, workspace_b: Tenant) -> None:
    for number in range(35):
        IsolationCheck.objects.create(
            tenant=workspace_a, trigger=Trigger.NIGHTLY, state=State.PASSED,
            created_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number),
        )  # fmt: skip
    IsolationCheck.objects.create(tenant=workspace_b, trigger=Trigger.NIGHTLY, state=State.PASSED)
    verifying.verify_isolation([workspace_a])
    assert IsolationCheck.objects.filter(tenant=workspace_a).count() == verifying.KEPT
    assert IsolationCheck.objects.filter(tenant=workspace_b).count() == 1


def test_a_workspace_reads_its_own_checks_alone_and_writes_none(workspace_a: Tenant, workspace_b: Tenant) -> None:
    for tenant in (workspace_a, workspace_b, None):
        IsolationCheck.objects.create(tenant=tenant, trigger=Trigger.NIGHTLY, state=State.PASSED)
    with workspace(workspace_a):
        assert [check.tenant_id for check in IsolationCheck.objects.all()] == [workspace_a.pk]
        with public_context():
            assert IsolationCheck.objects.count() == 3


def test_a_new_workspace_gets_its_canaries_by_a_job(
    monkeypatch: pytest.MonkeyPatch, workspace_a: Tenant, run_jobs: Callable[[], int]
) -> None:
    made: list[Tenant] = []
    monkeypatch.setattr(jobs.canaries, "ensure", made.append)
    for _ in range(2):
        with workspace(workspace_a):
            jobs.look_after_canaries()
    assert run_jobs() == 1
    monkeypatch.setattr("tenants.sweeping._after_provisioning", [jobs.queue_canaries])
    provisioned(workspace_a)
    assert run_jobs() == 1
    assert made == [workspace_a, workspace_a]
