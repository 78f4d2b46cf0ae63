"""Creating a workspace: the same schema as migrating would make, idempotent, all or nothing."""

import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import call_command
from django.db import connection, connections

from tenants import lifecycle, provisioning, schemas
from tenants.context import workspace
from tenants.errors import Refused
from tenants.keys.keyring import provider
from tenants.models import Tenant, TenantKey
from tests.conftest import operator

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])


def test_replaying_makes_what_migrating_makes(catalogue):
    tenant, created = provisioning.create_workspace("Replayed", "replayed")
    assert created
    migrated = "tenant_migrated"
    with operator(), connection.cursor() as cursor:
        cursor.execute(f'CREATE SCHEMA "{migrated}"')
        call_command("migrate_schemas", schema_name=migrated, verbosity=0)
    try:
        assert catalogue(tenant.schema_name) == catalogue(migrated)
        with connections["operator"].cursor() as cursor:
            cursor.execute(f'SELECT app, name FROM "{migrated}".django_migrations ORDER BY 1, 2')
            by_migrating = cursor.fetchall()
            cursor.execute(f'SELECT app, name FROM "{tenant.schema_name}".django_migrations ORDER BY 1, 2')
            assert cursor.fetchall() == by_migrating
    finally:
        with connections["operator"].cursor() as cursor:
            cursor.execute(f'DROP SCHEMA "{migrated}" CASCADE')


def test_doing_it_twice_changes_nothing():
    first, created = provisioning.create_workspace("Gamma", "gamma")
    again, created_again = provisioning.create_workspace("Gamma", "gamma")
    assert (created, created_again) == (True, False)
    assert first.pk == again.pk
    provisioning.provision(first)
    assert TenantKey.objects.filter(tenant=first).count() == 1
    with workspace(first):
        assert Tenant.objects.get().slug == "gamma"


def test_a_failure_half_way_leaves_nothing_behind(monkeypatch):
    provisioning.create_workspace("Before", "before")  # what it takes is recorded by now
    (recipe,) = [steps for applied, steps in schemas._recipes.items() if not applied]
    monkeypatch.setitem(schemas._recipes, frozenset(), (*recipe, "SELECT * FROM no_such_table"))
    keys_before = set(provider().directory.iterdir())
    with pytest.raises(Exception, match="no_such_table"):
        provisioning.create_workspace("Delta", "delta")
    assert not Tenant.objects.filter(slug="delta").exists()
    assert set(provider().directory.iterdir()) == keys_before
    with connections["operator"].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, 'tenant_') AND NOT nspname = ANY(%s)",
            [list(Tenant.objects.values_list("schema_name", flat=True))],
        )
        assert cursor.fetchone() == (0,)


def test_the_form_asks_and_the_worker_makes(run_jobs, person):
    user = person(None)
    tenant = provisioning.open_workspace("Epsilon", "epsilon", user)
    assert tenant.status == Tenant.Status.PENDING
    assert run_jobs() == 1
    tenant.refresh_from_db()
    assert tenant.status == Tenant.Status.ACTIVE
    assert user.memberships.get().role == "owner"


def test_a_lost_job_is_queued_again(run_jobs):
    import django_rq

    tenant = provisioning.open_workspace("Zeta", "zeta", None)
    django_rq.get_queue("default").connection.flushdb()
    provisioning.resume_provisioning()
    assert run_jobs() == 1
    tenant.refresh_from_db()
    assert tenant.status == Tenant.Status.ACTIVE


def test_a_lost_wrapping_key_is_not_replaced():
    from tenants.keys.keyring import keyring
    from tenants.keys.providers import KeyUnavailable

    tenant, _ = provisioning.create_workspace("Theta", "theta")
    provider().destroy(tenant.pk)
    keyring.forget()
    provisioning.provision_by_id(tenant.pk.hex)
    assert not provider().holds(tenant.pk)
    assert [missing.slug for missing in provisioning.missing_keys()] == ["theta"]
    with pytest.raises(KeyUnavailable):
        keyring.subkey(tenant.pk, 1, "text")


def test_a_suspended_one_keeps_its_key_and_stays_suspended(monkeypatch):
    from tenants.keys.providers import Keystore

    monkeypatch.setattr(Keystore, "activate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        provisioning.create_workspace("Lambda", "lambda")
    monkeypatch.undo()
    tenant = Tenant.objects.get(slug="lambda")
    lifecycle.suspend(tenant, "Unpaid")
    provisioning.resume_provisioning()
    assert tenant.pk not in [pending for pending, _ in provider().pending()]
    provisioning.provision(tenant)
    assert tenant.status == Tenant.Status.SUSPENDED
    provider().destroy(tenant.pk)
    assert [missing.slug for missing in provisioning.missing_keys()] == ["lambda"]


def test_failing_after_the_commit_deletes_nothing(monkeypatch):
    from tenants.keys.providers import Keystore

    monkeypatch.setattr(Keystore, "activate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        provisioning.create_workspace("Iota", "iota")
    tenant = Tenant.objects.get(slug="iota")
    assert tenant.status == Tenant.Status.ACTIVE
    assert provider().holds(tenant.pk)
    monkeypatch.undo()
    provisioning.resume_provisioning()
    assert tenant.pk not in [pending for pending, _ in provider().pending()]


@pytest.mark.parametrize("slug", ["", "Über", "a b", "-a", "a-", "a/b", "x" * 51, "a\n"])
def test_an_address_that_cannot_be_one_is_refused(slug):
    with pytest.raises(Refused, match="lower-case"):
        provisioning.request_workspace("Name", slug, None)


def test_a_taken_address_is_refused(workspace_a):
    with pytest.raises(Refused, match="taken"):
        provisioning.request_workspace("Name", "alpha", None)


def test_the_web_login_cannot_make_schemas(workspace_a):
    with connection.cursor() as cursor, pytest.raises(Exception, match="permission denied"):
        cursor.execute("CREATE SCHEMA mine")


def test_role_names_that_would_be_cut_are_refused():
    from tenants import roles

    with pytest.raises(ValueError, match="63 bytes"):
        roles.tenant_role("a" * 30, "tenant_" + "0" * 32)


def test_git_does_not_see_keys_or_data():
    """The default places of keys and data are ignored by git, so that no commit can carry them."""
    out = subprocess.run(["git", "check-ignore", "keys/x.key", "var/files/x"], capture_output=True, text=True, check=False)
    assert out.stdout.split() == ["keys/x.key", "var/files/x"]


# ---------------------------------------------------------------- external keys


def test_the_same_key_always_gives_the_same_workspace():
    slug = provisioning.slug_of_key("customer-4711")
    assert slug == "w-" + hashlib.sha256(b"customer-4711").hexdigest()[:32]
    first, created = provisioning.create_workspace("Customer", slug)
    again, created_again = provisioning.create_workspace("Another name", provisioning.slug_of_key("customer-4711"))
    assert (first.pk, created, created_again) == (again.pk, True, False)
    assert "4711" not in slug


def test_asked_for_at_the_same_time_it_is_made_once(django_db_blocker):
    def make(number: int) -> tuple[str, bool]:
        try:
            tenant, created = provisioning.create_workspace(f"Name {number}", "together")
            return str(tenant.pk), created
        finally:
            connection.close()
            connections["operator"].close()

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(make, range(6)))
    assert len({pk for pk, _ in made}) == 1
    assert [created for _, created in made].count(True) == 1
    assert TenantKey.objects.filter(tenant__slug="together").count() == 1
