"""/admin/memory/ and `manage.py search_memory`: what each process keeps decrypted to search, in ids and numbers."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from search import memory
from search.pool import Pool
from tenants.keys import presence
from tenants.models import Process, Tenant
from tests.search.test_pool import put

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = "/admin/memory/"


@pytest.fixture
def staff(person: Any, sign_in: Any) -> Client:
    client: Client = sign_in(person(None, email="staff@example.org", staff=True))
    return client


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """This process's pool, of a budget that a test fills."""
    own = Pool(1000, 900)
    monkeypatch.setattr(memory, "pool", lambda: own)
    yield own
    own.clear()


def words(client: Client) -> str:
    page = client.get(PAGE)
    assert page.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", page.content.decode()).split())


def told() -> dict[str, Any]:
    out = StringIO()
    call_command("search_memory", "--json", stdout=out)
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer


def test_it_is_for_staff(client_owner, staff):
    assert client_owner.get(PAGE).status_code == 302
    assert staff.post(PAGE).status_code == 405
    assert PAGE in staff.get("/admin/").content.decode()


def test_without_a_process_it_says_so(staff):
    assert "No web process or worker has told of its memory" in words(staff)
    assert told() == {"processes": [], "largest": []}
    out = StringIO()
    call_command("search_memory", stdout=out)
    assert out.getvalue() == "No web process or worker is running.\n"


def test_a_process_that_holds_nothing_says_so(staff, pools):
    presence.Presence("web").look()
    shown = words(staff)
    assert "Nothing is held: nobody has searched or added documents lately." in shown
    assert "Nothing was pushed out to make room" in shown


def test_each_process_tells_its_figures(staff, pools, workspace_a, workspace_b):
    web, worker = presence.Presence("web"), presence.Presence("worker")
    worker.look()
    put(pools, workspace_a.pk, size=600)
    put(pools, workspace_b.pk, size=300, part="cloak", generation=7)
    for _ in range(2):
        put(pools, workspace_a.pk)
    web.look()
    shown = words(staff)
    assert f"web {web.pid} on {web.host} 900 bytes of 1.0 kB 900 bytes 2 2 2 50.0% 2 0 0" in shown
    assert f"worker {worker.pid} on {worker.host} 0 bytes of 1.0 kB 0 bytes 0 0 0 – 0 0 0" in shown
    assert f"alpha terms web {web.pid} 600 bytes 1" in shown
    assert f"beta cloak web {web.pid} 300 bytes 7" in shown
    assert '<progress max="1000" value="900"' in staff.get(PAGE).content.decode()

    answer = told()
    assert [(each["kind"], each["bytes"], each["hit_rate"]) for each in answer["processes"]] == [
        ("web", 900, 50.0),
        ("worker", 0, None),
    ]
    assert [(each["workspace"], each["part"], each["bytes"]) for each in answer["largest"]] == [
        ("alpha", "terms", 600),
        ("beta", "cloak", 300),
    ]
    out = StringIO()
    call_command("search_memory", stdout=out)
    assert "900 bytes of 1.0\N{NO-BREAK SPACE}kB, 2 workspaces, 2 hits, 2 misses, 0 evictions\n" in out.getvalue()


def test_what_the_budget_pushed_out_and_what_it_cannot_hold_is_told(staff, pools, workspace_a, workspace_b):
    put(pools, workspace_a.pk, size=600)
    put(pools, workspace_b.pk, size=600)
    put(pools, workspace_a.pk, size=1001, part="cloak")
    presence.Presence("web").look()
    shown = words(staff)
    assert "1 value was pushed out to make room" in shown
    assert "larger than the whole budget, so it was decrypted anew 1 time." in shown
    assert "beta terms" in shown
    assert "alpha" not in shown


def test_a_silent_process_and_one_of_another_version_are_left_out(staff, pools):
    gone = presence.Presence("web")
    gone.look()
    Process.objects.update(seen_at=timezone.now() - timedelta(seconds=presence.SILENT_SECONDS + 1))
    for other in (None, {}, {"pool": {"budget": 1}}):
        Process.objects.create(kind="web", host="elsewhere", pid=77, memory=other)
    assert "No web process or worker has told of its memory" in words(staff)


def test_a_workspace_that_was_erased_since_is_not_named(staff, pools, monkeypatch):
    monkeypatch.setattr(presence, "_drop_closed", lambda: None)
    put(pools, uuid4())
    presence.Presence("web").look()
    assert "erased since terms" in words(staff)
    assert told()["largest"][0]["workspace"] is None


def test_a_process_tells_of_the_largest_alone(pools):
    for number in range(2 * memory.LARGEST):
        put(pools, uuid4(), size=number + 1)
    report = memory.report()
    assert report["workspaces"] == 2 * memory.LARGEST
    assert [each["nbytes"] for each in report["pool"]["held"]] == list(range(2 * memory.LARGEST, memory.LARGEST, -1))


def test_the_number_of_queries_does_not_grow(pools, workspace_a: Tenant, workspace_b: Tenant, django_assert_num_queries):
    for tenant in (workspace_a, workspace_b):
        put(pools, tenant.pk)
    for kind in ("web", "worker", "worker"):
        presence.Presence(kind).look()
    with django_assert_num_queries(2):
        assert len(memory.look().largest) == 6
