"""Jobs that wait and that nobody takes are noticed by every process, and said to staff until they move again."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.utils import timezone

from tenants import jobs, stalls
from tenants.context import workspace
from tenants.keys import presence
from tenants.models import Alarm
from workspace import doctor

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])


@jobs.task
def nothing() -> None: ...


@pytest.fixture
def waiting(workspace_a: Any) -> None:
    with workspace(workspace_a):
        jobs.enqueue("tests.tenants.test_stalls.nothing", job_id="waiting")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    def go(by: timedelta) -> None:
        now = timezone.now() + by
        monkeypatch.setattr(stalls.timezone, "now", lambda: now)

    return go


def test_an_empty_queue_does_not_stand_still(later: Callable[[timedelta], None]) -> None:
    later(timedelta(days=1))
    assert stalls.stands_still_for() is None


@pytest.mark.parametrize(("listening", "patience"), [(False, stalls.ALONE), (True, stalls.BUSY)])
def test_when_it_counts_as_standing_still(
    listening: bool, patience: timedelta, waiting: None, later: Callable[[timedelta], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalls, "worker_is_listening", lambda: listening)
    later(patience - timedelta(seconds=30))
    assert stalls.stands_still_for() is None
    later(patience + timedelta(seconds=30))
    assert stalls.stands_still_for()


def test_a_worker_that_works_through_a_long_queue_is_no_stall(
    waiting: None, later: Callable[[timedelta], None], run_jobs: Callable[[], int], workspace_a: Any
) -> None:
    assert run_jobs() == 1
    assert abs(int(cache.get(stalls.TAKEN)) - timezone.now().timestamp()) < 60
    with workspace(workspace_a):
        jobs.enqueue("tests.tenants.test_stalls.nothing", job_id="waits-for-long")
    later(timedelta(days=1))
    assert stalls.stands_still_for()
    cache.set(stalls.TAKEN, int(stalls.timezone.now().timestamp()))
    assert stalls.stands_still_for() is None


def test_every_process_looks_and_the_alarm_settles_itself(
    waiting: None, later: Callable[[timedelta], None], run_jobs: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    presence.watch()
    assert not Alarm.objects.exists()
    later(timedelta(hours=2))
    for _ in range(2):
        presence.watch()
    alarm = Alarm.objects.get()
    assert (alarm.kind, alarm.times, alarm.settled_at) == (Alarm.Kind.QUEUE, 2, None)
    found = doctor.queue()
    assert (found.state, found.detail) == ("repair", "1 job waiting, and none was taken for 120 minutes.")
    monkeypatch.undo()
    run_jobs()
    presence.watch()
    assert Alarm.objects.get().settled_because == "Jobs are taken again."
    assert doctor.queue().state == "ok"
