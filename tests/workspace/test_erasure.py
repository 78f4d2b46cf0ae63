"""Erasing a workspace: nothing left, whatever interrupts it, and never against a hold."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import django_rq
import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection, connections
from django.utils import timezone

from documents import storage
from tenants import lifecycle, provisioning
from tenants.context import workspace
from tenants.errors import Refused
from tenants.jobs import enqueue
from tenants.keys.keyring import provider
from tenants.locks import alone_with
from tenants.models import Membership, Tenant, TenantKey
from tests.factories import DocumentFactory
from workspace import erasure

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])


@pytest.fixture
def doomed(person) -> Tenant:
    tenant, _ = provisioning.create_workspace("Doomed", "doomed")
    person("owner", tenant, "doomed@example.org")
    with workspace(tenant):
        DocumentFactory()
        cache.set("here", 1)
        enqueue("documents.jobs.ingest", "0", job_id="ingest-0", queue="ingest")
    return tenant


def traces(tenant: Tenant) -> list[str]:
    """What there still is of it."""
    found = []
    with connections["operator"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", [tenant.schema_name])
        found += ["schema"] if cursor.fetchone()[0] else []
        cursor.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s", [tenant.db_role])
        found += ["role"] if cursor.fetchone()[0] else []
    found += ["key"] if provider().holds(tenant.pk) else []
    found += ["files"] if (Path(settings.FILES_DIR) / tenant.pk.hex).exists() else []
    keys = [key.decode() for key in django_rq.get_queue("default").connection.scan_iter()]
    found += ["job"] if any(tenant.pk.hex in key and "rq:" in key for key in keys) else []
    found += ["cache"] if any(tenant.schema_name in key for key in keys) else []
    found += ["row"] if Tenant.objects.filter(pk=tenant.pk).exists() else []
    found += ["wrapped key"] if TenantKey.objects.filter(tenant_id=tenant.pk).exists() else []
    found += ["membership"] if Membership.objects.filter(tenant_id=tenant.pk).exists() else []
    return found


def test_nothing_is_left(doomed):
    assert traces(doomed) == ["schema", "role", "key", "files", "job", "cache", "row", "wrapped key", "membership"]
    erased = erasure.erase(doomed)
    assert traces(doomed) == []
    assert (erased.files, erased.jobs) == (1, 1)
    assert erased.tables > 12
    again, created = provisioning.create_workspace("Doomed", "doomed")
    assert created
    assert again.pk != doomed.pk


def test_what_raw_sql_left_of_the_role_does_not_keep_it(doomed):
    with workspace(doomed), connection.cursor() as cursor:
        cursor.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
    erasure.erase(doomed)
    assert traces(doomed) == []


@pytest.mark.parametrize("step", ["_drop_schema", "_remove_files", "_clear_cache"])
def test_interrupted_it_goes_on_by_itself(doomed, monkeypatch, step):
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(erasure, step, cut)
    with pytest.raises(KeyboardInterrupt):
        erasure.erase(doomed)
    assert not provider().holds(doomed.pk)
    assert Tenant.objects.get(pk=doomed.pk).status == Tenant.Status.ERASING
    monkeypatch.undo()
    erasure.erase_due()
    assert traces(doomed) == []


def test_while_it_is_erased_nobody_gets_in(doomed, sign_in):
    lifecycle.begin_erasure(doomed)
    client = sign_in(Membership.objects.get(tenant=doomed).user)
    assert client.get("/w/doomed/").status_code == 404
    with pytest.raises(Refused, match="deleted"):
        lifecycle.resume(doomed)
    with pytest.raises(Refused, match="being erased"):
        provisioning.create_workspace("Doomed", "doomed")


@pytest.fixture
def unswept(monkeypatch) -> None:
    """No sweep goes on with an erasure meanwhile."""
    monkeypatch.setattr("tenants.sweeping._public_sweepers", [])


def was_made(tenant: Tenant) -> bool:
    return not {"schema", "role", "key", "wrapped key"}.isdisjoint(traces(tenant))


@pytest.mark.parametrize("job", ["lost", "waiting"])
def test_one_that_is_still_being_made_is_not_made_any_more(unswept, run_jobs, job):
    tenant = provisioning.open_workspace("Unborn", "unborn", None)
    lifecycle.begin_erasure(tenant)
    with pytest.raises(Refused, match="being erased"):
        provisioning.provision(tenant)
    with pytest.raises(Refused, match="being erased"):
        provisioning.retry(tenant)
    if job == "lost":
        django_rq.get_queue("default").connection.flushdb()
    assert run_jobs() == (job == "waiting")
    provisioning.resume_provisioning()
    assert run_jobs() == 0
    assert not was_made(tenant)
    erasure.erase_due()
    assert not Tenant.objects.filter(pk=tenant.pk).exists()


def test_a_job_to_make_one_that_is_gone_does_nothing(run_jobs):
    tenant = provisioning.open_workspace("Unborn", "unborn", None)
    erasure.erase(tenant)
    assert run_jobs() == 1
    assert not was_made(tenant)


def test_what_is_erased_gets_no_new_key(doomed, monkeypatch):
    monkeypatch.setattr(erasure, "_drop_schema", lambda tenant: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        erasure.erase(doomed)
    with pytest.raises(Refused, match="being erased"):
        provisioning.provision(doomed)
    assert not provider().holds(doomed.pk)


def test_two_workers_do_not_erase_the_same_one(doomed):
    def erase_due() -> None:
        try:
            erasure.erase_due()
        finally:
            connection.close()
            connections["operator"].close()

    lifecycle.schedule_deletion(doomed, 1)
    Tenant.objects.filter(pk=doomed.pk).update(delete_at=timezone.now())
    with alone_with(doomed.pk), ThreadPoolExecutor(1) as other:
        other.submit(erase_due).result()
    assert "key" in traces(doomed)
    with ThreadPoolExecutor(1) as other:
        other.submit(erase_due).result()
    assert traces(doomed) == []


def test_a_hold_forbids_it(doomed):
    lifecycle.hold(doomed, "Court order 12")
    with pytest.raises(Refused, match="Court order 12"):
        erasure.erase(doomed)
    Tenant.objects.filter(pk=doomed.pk).update(delete_at=timezone.now() - timedelta(hours=1))
    erasure.erase_due()
    assert "key" in traces(doomed)


def test_it_happens_when_its_day_has_come_and_not_before(doomed):
    lifecycle.schedule_deletion(doomed, 1)
    erasure.erase_due()
    assert "schema" in traces(doomed)
    Tenant.objects.filter(pk=doomed.pk).update(delete_at=timezone.now() - timedelta(seconds=1))
    erasure.erase_due()
    assert traces(doomed) == []


def test_others_are_untouched(doomed, workspace_a):
    with workspace(workspace_a):
        document = DocumentFactory()
        cache.set("here", 1)
    erasure.erase(doomed)
    with workspace(workspace_a):
        assert cache.get("here") == 1
        assert b"".join(storage.read(document.id, document.stored_name))
    assert provider().holds(workspace_a.pk)


def test_what_is_kept_while_others_are_erased_stays(doomed, monkeypatch):
    """Whose day has come is looked up once; what an owner decides meanwhile counts."""
    other, _ = provisioning.create_workspace("Other", "other")
    Tenant.objects.filter(pk__in=[doomed.pk, other.pk]).update(delete_at=timezone.now() - timedelta(seconds=1))
    drop, kept = erasure._drop_schema, []

    def while_dropping(tenant: Tenant) -> int:
        if not kept:
            kept.append(other if tenant.pk == doomed.pk else doomed)
            lifecycle.keep(Tenant.objects.get(pk=kept[0].pk))
        return drop(tenant)

    monkeypatch.setattr(erasure, "_drop_schema", while_dropping)
    erasure.erase_due()
    assert Tenant.objects.get(pk=kept[0].pk).status == Tenant.Status.ACTIVE
    assert provider().holds(kept[0].pk)
    assert Tenant.objects.filter(slug__in=["doomed", "other"]).count() == 1


def test_without_the_operators_login_nothing_is_begun(doomed, monkeypatch):
    monkeypatch.delitem(connections.settings, "operator")
    with pytest.raises(Refused, match="DB_PASSWORD_OPERATOR"):
        erasure.erase(doomed)
    assert Tenant.objects.get(pk=doomed.pk).status == Tenant.Status.ACTIVE
    assert was_made(doomed)
