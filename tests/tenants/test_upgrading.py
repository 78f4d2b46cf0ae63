"""Upgrading existing workspaces: the same result as migrating, one transaction each, past a failure, from where it ended."""

import json
import re
import threading
from io import StringIO

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections, migrations, models
from django.db.migrations.migration import Migration

from documents.models import Collection
from documents.receiving import create_collection
from tenants import provisioning, schemas, upgrading
from tenants.context import workspace
from tenants.models import Tenant
from tests.conftest import operator

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])


def shout(apps, schema_editor):
    """A data migration: the names are encrypted, so no SQL could do it."""
    for collection in apps.get_model("documents", "Collection").objects.using(schema_editor.connection.alias):
        collection.name = collection.name.upper()
        collection.save(update_fields=["name"])


def added(*operations) -> Migration:
    migration = Migration("9999_next", "documents")
    migration.dependencies = [("documents", "0001_initial")]
    migration.operations = list(operations)
    return migration


TWO_STEPS = (
    migrations.AddField("collection", "next", models.CharField(max_length=40, null=True)),
    migrations.AlterField("collection", "next", models.CharField(max_length=50, null=True, unique=True)),
    migrations.CreateModel(
        "Later",
        [("id", models.UUIDField(primary_key=True)), ("of", models.ForeignKey("documents.Collection", models.CASCADE))],
    ),
)


@pytest.fixture
def next_version(monkeypatch):
    """The code as it will be with one more migration of documents."""

    def become(*operations) -> None:
        extended = (*schemas.migrations(), added(*operations))
        monkeypatch.setattr(schemas, "migrations", lambda: extended)
        of_apps = {**schemas._of_tenant_apps(), "documents": [*schemas._of_tenant_apps()["documents"], "9999_next"]}
        monkeypatch.setattr(schemas, "_of_tenant_apps", lambda: of_apps)
        schemas.is_behind.cache_clear()

    monkeypatch.setattr(schemas, "_recipes", {})
    yield become
    monkeypatch.undo()
    schemas.is_behind.cache_clear()


@pytest.fixture
def others():
    """Two workspaces of this version that the test may change."""
    return [provisioning.create_workspace(name.title(), name)[0] for name in ("gamma", "delta")]


@pytest.fixture(autouse=True)
def _put_back(workspace_a, workspace_b):
    """The two workspaces of the whole run get no table of a version that never was."""
    current = schemas.head()
    Tenant.objects.filter(slug__in=["alpha", "beta"]).update(status="failed")
    yield
    Tenant.objects.filter(slug__in=["alpha", "beta"]).update(status="active", schema_version=current)


def test_the_result_is_what_migrating_makes(others, next_version, catalogue):
    next_version(*TWO_STEPS)
    report = upgrading.upgrade_workspaces()
    assert sorted(report.upgraded) == ["delta", "gamma"]
    assert (report.at_head, report.failed) == (0, {})
    by_replay, recorded = (catalogue(tenant.schema_name) for tenant in others)
    assert by_replay == recorded

    migrated = "tenant_migrated"
    operator_connection = connections["operator"]
    with operator(), connection.cursor() as cursor:
        cursor.execute(f'CREATE SCHEMA "{migrated}"')
        call_command("migrate_schemas", schema_name=migrated, verbosity=0)
    try:
        operator_connection.set_schema(migrated)
        state = schemas.ProjectState()
        *earlier, last = schemas.migrations()
        for migration in earlier:
            state = migration.mutate_state(state, preserve=False)
        with operator_connection.schema_editor(atomic=False) as editor:
            last.apply(state, editor)
        operator_connection.set_schema_to_public()
        assert by_replay == catalogue(migrated)
    finally:
        with operator_connection.cursor() as cursor:
            cursor.execute(f'DROP SCHEMA "{migrated}" CASCADE')


def test_the_workspace_may_use_what_an_upgrade_brought(others, next_version):
    next_version(*TWO_STEPS)
    upgrading.upgrade_workspaces()
    with workspace(others[0]), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM documents_later")
        assert cursor.fetchone() == (0,)
        with pytest.raises(Exception, match="permission denied"):
            cursor.execute("SELECT * FROM django_migrations")


def test_who_is_at_head_is_found_with_one_query_and_left_alone(others, django_assert_max_num_queries):
    with django_assert_max_num_queries(2):  # who is behind, and how many there are
        report = upgrading.upgrade_workspaces()
    assert (report.workspaces, report.at_head, report.upgraded) == (2, 2, [])


def test_a_failing_workspace_stops_no_other_and_stays_as_it_was(others, next_version, catalogue):
    gamma, delta = others
    with connections["operator"].cursor() as cursor:
        cursor.execute(f'ALTER TABLE "{gamma.schema_name}".documents_collection ADD next varchar(1)')
    before = catalogue(gamma.schema_name)
    next_version(*TWO_STEPS)
    report = upgrading.upgrade_workspaces()
    assert report.upgraded == ["delta"]
    assert "already exists" in report.failed["gamma"]
    assert catalogue(gamma.schema_name) == before
    with connections["operator"].cursor() as cursor:
        cursor.execute(f'ALTER TABLE "{gamma.schema_name}".documents_collection DROP next')
    assert upgrading.upgrade_workspaces().upgraded == ["gamma"]
    assert catalogue(gamma.schema_name) == catalogue(delta.schema_name)


def test_rows_are_changed_under_each_workspaces_own_key(others, next_version):
    for tenant in others:
        with workspace(tenant):
            create_collection(f"papers of {tenant.slug}")
    next_version(migrations.RunPython(shout))
    assert len(upgrading.upgrade_workspaces().upgraded) == 2
    for tenant in others:
        with workspace(tenant):
            assert [collection.name for collection in Collection.objects.all()] == [f"PAPERS OF {tenant.slug.upper()}"]


def test_a_table_in_use_is_waited_for_and_not_queued_upon(others, next_version, monkeypatch):
    """ALTER TABLE gives way to a long transaction, so that nobody waits behind it, and comes back."""
    monkeypatch.setattr(upgrading, "LOCK_TIMEOUT", "200ms")
    gamma = others[0]
    settings = connections["operator"].settings_dict
    holder = psycopg.connect(
        host=settings["HOST"], port=settings["PORT"] or None, dbname=settings["NAME"], user=settings["USER"],
        password=settings["PASSWORD"],
    )  # fmt: skip
    holder.execute(f'SELECT count(*) FROM "{gamma.schema_name}".documents_collection')
    released = threading.Timer(1.0, holder.close)
    released.start()
    next_version(*TWO_STEPS)
    report = upgrading.upgrade_workspaces()
    released.join()
    assert sorted(report.upgraded) == ["delta", "gamma"]
    assert report.upgraded[0] == "delta"


def test_a_workspace_that_is_behind_asks_to_wait(owner, client_owner, workspace_a, next_version):
    Tenant.objects.filter(pk=workspace_a.pk).update(status="active")
    next_version(*TWO_STEPS)
    for path in ("", "documents/", "members/"):
        response = client_owner.get(f"/w/alpha/{path}")
        assert response.status_code == 503
        assert response["Retry-After"] == "30"
        assert "is being upgraded" in response.content.decode()


def test_older_code_goes_on_with_newer_tables(owner, client_owner, workspace_a):
    """During an upgrade, and after going back to the previous version."""
    newer = re.sub(r"documents\.\S+", "documents.9999_next", schemas.head())
    Tenant.objects.filter(pk=workspace_a.pk).update(status="active", schema_version=newer)
    assert client_owner.get("/w/alpha/").status_code == 200


def test_a_migration_outside_a_transaction_is_refused(others, next_version, monkeypatch):
    monkeypatch.setattr(Migration, "atomic", False)
    next_version(*TWO_STEPS)
    report = upgrading.upgrade_workspaces()
    assert set(report.failed) == {"gamma", "delta"}


def test_the_command_reports_per_workspace(others, next_version):
    with connections["operator"].cursor() as cursor:
        cursor.execute(f'ALTER TABLE "{others[0].schema_name}".documents_collection ADD next varchar(1)')
    next_version(*TWO_STEPS)
    out = StringIO()
    with pytest.raises(CommandError, match="1 of 2 workspaces were not upgraded"):
        call_command("upgrade_workspaces", "--json", stdout=out, stderr=StringIO())
    answer = json.loads(out.getvalue())
    assert answer["upgraded"] == ["delta"]
    assert set(answer["failed"]) == {"gamma"}
