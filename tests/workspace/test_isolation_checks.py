"""The life of a check: whom a workspace is compared with, the nightly run, killed workers, cancelling, what is kept."""

import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import django_rq
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tenants.context import public_context, workspace
from tenants.errors import Refused
from tenants.keys.providers import KeyUnavailable
from tenants.models import IsolationCheck, Tenant
from tenants.schemas import head
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


def more(count: int, *present: Tenant) -> list[Tenant]:
    """So many open workspaces with those there are, in the order of their ids. The new ones have no schemas."""
    made = [
        Tenant(slug=f"w{new}", schema_name=f"s{new}", db_role=f"r{new}", status=Tenant.Status.ACTIVE, schema_version=head())
        for new in (uuid.uuid4().hex for _ in range(count - len(present)))
    ]  # fmt: skip
    return sorted([*present, *Tenant.objects.bulk_create(made)], key=lambda tenant: tenant.pk)


def test_few_are_all_compared_and_many_in_turns_that_meet_everybody(workspace_a: Tenant, workspace_b: Tenant) -> None:
    few = more(4, workspace_a, workspace_b)
    assert verifying.compared_with(few[1], 3, turn=9) == [few[2], few[3], few[0]]
    Tenant.objects.filter(slug__startswith="w").delete()
    many = more(12, workspace_a, workspace_b)
    for each in (many[0], many[5], many[11]):
        met: set[uuid.UUID] = set()
        for turn in range(9, 13):
            others = verifying.compared_with(each, 3, turn)
            assert len({other.pk for other in others}) == len(others) == 3
            met |= {other.pk for other in others}
        assert met == {tenant.pk for tenant in many} - {each.pk}


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


def tonight(hour: int = 3) -> datetime:
    return timezone.now().replace(hour=hour, minute=10)


def test_every_night_each_workspace_is_checked_once(
    workspace_a: Tenant, workspace_b: Tenant, run_jobs: Callable[[], int]
) -> None:
    verifying.begin_nightly(tonight(hour=2))
    assert not IsolationCheck.objects.exists()
    for _ in range(2):
        verifying.begin_nightly(tonight())
        verifying.resume_unfinished()
    run_jobs()
    (whole,) = IsolationCheck.objects.filter(tenant=None)
    assert (whole.state, whole.trigger, whole.attempts, whole.counts["workspaces"]) == (State.PASSED, Trigger.NIGHTLY, 2, 2)
    assert {part.tenant_id for part in whole.parts.all()} == {workspace_a.pk, workspace_b.pk}
    assert whole.steps_done == 2
    verifying.begin_nightly(tonight())
    assert IsolationCheck.objects.filter(tenant=None).count() == 1


def queued() -> IsolationCheck:
    return IsolationCheck.objects.get(state=State.QUEUED)


def test_a_night_takes_everybody_in_turn_and_then_who_was_passed_by(workspace_a: Tenant, workspace_b: Tenant) -> None:
    all_of_them = more(6, workspace_a, workspace_b)
    closed, dying = all_of_them[2], all_of_them[3]
    Tenant.objects.filter(pk=closed.pk).update(status=Tenant.Status.SUSPENDED)
    verifying.begin_nightly(tonight())
    turns = []
    while (whole := IsolationCheck.objects.get(tenant=None)).state == State.RUNNING:
        part = queued()
        turns.append(all_of_them.index(part.tenant))
        part.state = State.INTERRUPTED if part.tenant == dying else State.PASSED
        part.save()
        if turns == [0, 1, 3]:
            Tenant.objects.filter(pk=closed.pk).update(status=Tenant.Status.ACTIVE)
        verifying.go_on(whole)
    assert turns == [0, 1, 3, 4, 5, 2, 3, 3]
    assert (whole.state, whole.steps, whole.counts["workspaces"]) == (State.INCONCLUSIVE, 6, 6)


def test_the_next_of_a_night_costs_the_same_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch, workspace_a: Tenant, workspace_b: Tenant
) -> None:
    loaded: Counter[type[Any]] = Counter()
    for model in (Tenant, IsolationCheck):
        real = model.from_db.__func__  # type: ignore[attr-defined]

        def counted(cls: Any, *row: Any, real: Any = real) -> Any:
            loaded[cls] += 1
            return real(cls, *row)

        monkeypatch.setattr(model, "from_db", classmethod(counted))

    def costs() -> tuple[int, dict[type[Any], int]]:
        """Of the last check of a run, and of going on from it."""
        IsolationCheck.objects.all().delete()
        verifying.begin_nightly(tonight())
        whole = IsolationCheck.objects.get(tenant=None)
        for _ in range(Tenant.objects.count() - 1):
            IsolationCheck.objects.filter(part_of=whole).update(state=State.PASSED)
            verifying.go_on(whole)
        last = queued()
        loaded.clear()
        with CaptureQueriesContext(connection) as captured:
            verifying.check_by_id(last.pk)
        assert not IsolationCheck.objects.filter(state__in=IsolationCheck.UNFINISHED).exists()
        return len(captured), dict(loaded)

    def finish(whole_id: uuid.UUID) -> None:  # the real one adds all parts up, once a night
        IsolationCheck.objects.filter(pk=whole_id).update(state=State.PASSED)

    monkeypatch.setattr(verifying, "_finish_whole", finish)
    more(6, workspace_a, workspace_b)
    few, loaded_of_few = costs()
    more(20)
    many, loaded_of_many = costs()
    assert loaded_of_many == loaded_of_few
    assert abs(many - few) <= 1  # whom it is compared with may begin at the end of the circle


def test_what_a_killed_worker_held_is_marked_and_run_again(
    workspace_a: Tenant, workspace_b: Tenant, run_jobs: Callable[[], int]
) -> None:
    verifying.begin_nightly(tonight())
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


@pytest.mark.parametrize("error", [Refused("no sandbox"), KeyUnavailable("no key")])
def test_canaries_that_cannot_be_made_are_a_failed_control(
    monkeypatch: pytest.MonkeyPatch, workspace_a: Tenant, error: Exception
) -> None:
    def refuse(tenant: Tenant) -> None:
        raise error

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
