"""TENANT_LOGINS=1: a login for each workspace, so that no statement leads from one to another, not even raw `SET ROLE`."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.conf import LazySettings
from django.conf import settings as django_settings
from django.db import close_old_connections, connection, connections, transaction
from django.test import Client
from psycopg import sql

from documents import erasing, trash
from documents.models import Collection
from tenants import erasures, jobs, logins, provisioning, roles, sweeping, upgrading
from tenants.context import public_context, workspace
from tenants.database.base import KEPT, ChangesLogin
from tenants.keys.keyring import keyring
from tenants.models import Membership, Person, Receipt, Tenant, WorkspaceStats
from tests.factories import CollectionFactory, DocumentFactory
from workspace import doctor

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])


@pytest.fixture(autouse=True)
def _on(settings: LazySettings, db: None) -> Iterator[None]:
    """As `prepare` switches it."""
    settings.TENANT_LOGINS = True
    logins.sync(connections["operator"])
    yield
    connection.set_schema_to_public()
    connection.close()
    settings.TENANT_LOGINS = False
    logins.sync(connections["operator"])
    connections["operator"].close()


@contextmanager
def signed_in(login: str, password: str) -> Iterator[psycopg.Connection]:
    place = connection.settings_dict
    with psycopg.connect(
        host=place["HOST"], port=place["PORT"] or None, dbname=place["NAME"], user=login, password=password, autocommit=True
    ) as opened:
        yield opened


def who() -> tuple[str, str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT session_user, current_user")
        return cursor.fetchone()  # type: ignore[return-value]


def sessions(login: str) -> int:
    """How many connections a login has, as an administrator counts them."""
    user, password = django_settings.DATABASE_ADMINISTRATOR
    with signed_in(user, password) as admin:
        row = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [login]).fetchone()
    return int(row[0]) if row else 0


# ---------------------------------------------------------------- the wall


@pytest.mark.parametrize("login", ["web", "worker", "alpha"])
def test_nobody_becomes_another_workspace(login: str, workspace_a: Tenant, workspace_b: Tenant) -> None:
    """The limit of the default mode, gone: as the web login, as the worker, and as a workspace's own login."""
    if login == "alpha":
        name, password = workspace_a.db_role, logins.password(workspace_a.db_role)
    else:
        name, password = roles.login_name(login), django_settings.DATABASE_PASSWORDS[login]
    others = [workspace_b.db_role, roles.login_name("operator")]
    if login == "alpha":
        database = connection.settings_dict["NAME"]
        others += [roles.login_name("web"), roles.login_name("worker"), f"{database}_public", f"{database}_tenants"]
    with signed_in(name, password) as raw:
        for other in others:
            for statement in ("SET ROLE {}", "SET LOCAL ROLE {}", "SET SESSION AUTHORIZATION {}"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    raw.execute(sql.SQL(statement).format(sql.Identifier(other)))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            raw.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(workspace_b.db_role)))
        for home in ("RESET ROLE", "SET ROLE NONE", "RESET SESSION AUTHORIZATION", "DISCARD ALL"):
            raw.execute(home)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                raw.execute(f'SELECT * FROM "{workspace_b.schema_name}".documents_document')


def test_a_workspaces_login_reads_its_own_rows_of_public_tables(workspace_a: Tenant, workspace_b: Tenant, person: Any) -> None:
    person("owner", workspace_a)
    person("viewer", workspace_b)
    with workspace(workspace_a):
        assert who() == (workspace_a.db_role, workspace_a.db_role)
        assert list(Tenant.objects.values_list("slug", flat=True)) == ["alpha"]
        assert list(Person.objects.values_list("email", flat=True)) == ["owner@example.org"]
        assert Membership.objects.count() == 1
    with signed_in(workspace_a.db_role, logins.password(workspace_a.db_role)) as raw:
        assert raw.execute("SELECT slug FROM public.tenants_tenant").fetchall() == [("alpha",)]
        for table in ("tenants_session", "tenants_user", "tenants_invitation", "mfa_authenticator", "django_admin_log"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                raw.execute(f"SELECT * FROM public.{table}")


def test_a_password_opens_its_own_workspace_only(workspace_a: Tenant, workspace_b: Tenant) -> None:
    with (
        pytest.raises(psycopg.OperationalError, match="authentication failed"),
        signed_in(workspace_b.db_role, logins.password(workspace_a.db_role)),
    ):
        pass


def test_a_new_workspace_has_its_login_at_once() -> None:
    tenant, _ = provisioning.create_workspace("Kappa", "kappa")
    with workspace(tenant):
        assert who() == (tenant.db_role, tenant.db_role)
        assert Collection.objects.count() == 0


# ---------------------------------------------------------------- switching it


def test_switching_off_takes_the_logins_away(settings: LazySettings, workspace_a: Tenant) -> None:
    assert logins.unlike_setting(connection) == []
    settings.TENANT_LOGINS = False
    assert workspace_a.db_role in logins.unlike_setting(connection)
    assert doctor.isolation().state == "repair"
    connection.close()
    logins.sync(connections["operator"])
    assert logins.unlike_setting(connection) == []
    assert doctor.isolation().state == "ok"
    with (
        pytest.raises(psycopg.OperationalError, match=r"not permitted|failed"),
        signed_in(workspace_a.db_role, logins.password(workspace_a.db_role)),
    ):
        pass
    with workspace(workspace_a):
        assert who() == (roles.login_name("web"), workspace_a.db_role)
        CollectionFactory(name="Switched off")


def test_what_a_role_left_to_itself_is_gone_when_it_becomes_a_login(settings: LazySettings, workspace_a: Tenant) -> None:
    settings.TENANT_LOGINS = False
    connection.close()
    logins.sync(connections["operator"])
    with workspace(workspace_a), connection.cursor() as cursor:  # a role may change its own password and settings
        cursor.execute("ALTER ROLE CURRENT_USER PASSWORD 'mine'")
        cursor.execute("ALTER ROLE CURRENT_USER SET statement_timeout = 1")
    settings.TENANT_LOGINS = True
    connection.set_schema_to_public()
    logins.sync(connections["operator"])
    with workspace(workspace_a), connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() != ("1ms",)


def test_another_installation_key_gives_other_passwords(monkeypatch: pytest.MonkeyPatch, workspace_a: Tenant) -> None:
    """After a restore with a new installation key, `prepare` gives the logins their new passwords."""
    before = logins.password(workspace_a.db_role)
    monkeypatch.setattr("tenants.keys.providers.Keystore.installation_key", lambda self: b"\1" * 32)
    assert logins.password(workspace_a.db_role) != before
    connection.close()
    logins.sync(connections["operator"])
    with workspace(workspace_a):
        assert who()[0] == workspace_a.db_role
    connection.close()
    monkeypatch.undo()
    logins.sync(connections["operator"])
    with workspace(workspace_a):
        assert who()[0] == workspace_a.db_role


def test_the_password_is_stored_nowhere(workspace_a: Tenant) -> None:
    user, password = django_settings.DATABASE_ADMINISTRATOR
    with signed_in(user, password) as admin:
        row = admin.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [workspace_a.db_role]).fetchone()
    assert row is not None
    assert row[0].startswith("SCRAM-SHA-256$")
    assert logins.password(workspace_a.db_role) not in row[0]


# ---------------------------------------------------------------- the connections of a thread


def test_a_transaction_belongs_to_one_workspace(workspace_a: Tenant, workspace_b: Tenant) -> None:
    with transaction.atomic(), pytest.raises(ChangesLogin, match="a transaction is open"), workspace(workspace_a):
        pass
    with workspace(workspace_a), transaction.atomic():
        CollectionFactory(name="Kept")
        with pytest.raises(ChangesLogin), workspace(workspace_b):
            pass
        with pytest.raises(ChangesLogin), public_context():
            pass
        assert who()[0] == workspace_a.db_role
    with workspace(workspace_a):
        assert Collection.objects.count() == 1


def test_connections_are_kept_and_bounded(workspace_a: Tenant, workspace_b: Tenant) -> None:
    def pid() -> int:
        connection.ensure_connection()
        return int(connection.connection.info.backend_pid)

    public = pid()
    with workspace(workspace_a):
        first = pid()
        with public_context():
            assert pid() == public
        assert pid() == first
    assert pid() == public
    with workspace(workspace_a):
        assert pid() == first
        with workspace(workspace_b):
            assert pid() not in (public, first)
            assert len(connection._parked) == KEPT - 1
    assert sessions(workspace_a.db_role) + sessions(workspace_b.db_role) <= KEPT
    connection.close()
    assert connection._parked == {}
    assert sessions(workspace_a.db_role) + sessions(workspace_b.db_role) == 0


def test_parked_connections_age_and_break_like_others(workspace_a: Tenant) -> None:
    def park() -> Any:
        with workspace(workspace_a):
            who()
        return connection._parked[workspace_a.db_role]

    park().close_at = 0
    close_old_connections()
    assert connection._parked == {}
    park().errors_occurred = True
    close_old_connections()
    assert connection._parked == {}

    parked = park()  # the server ends it: noticed by the health check when it is taken up again
    user, password = django_settings.DATABASE_ADMINISTRATOR
    with signed_in(user, password) as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", [parked.connection.info.backend_pid])
    close_old_connections()
    with workspace(workspace_a):
        assert who()[0] == workspace_a.db_role


def test_an_error_in_a_workspace_is_its_connections_alone(workspace_a: Tenant) -> None:
    who()
    public = connection.connection
    with workspace(workspace_a):
        with pytest.raises(Exception, match="permission denied"), connection.cursor() as cursor:
            cursor.execute("SELECT * FROM tenants_session")
        assert connection.errors_occurred
    assert not connection.errors_occurred
    assert connection.connection is public


def test_a_new_thread_starts_in_public_and_has_its_own(workspace_a: Tenant) -> None:
    seen = []

    def look() -> None:
        seen.append(who())
        with workspace(workspace_a):
            seen.append(who())
        connection.close()

    with workspace(workspace_a):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen == [
        (roles.login_name("web"), f"{connection.settings_dict['NAME']}_public"),
        (workspace_a.db_role, workspace_a.db_role),
    ]


def test_upgrading_reaches_the_login(monkeypatch: pytest.MonkeyPatch, workspace_a: Tenant) -> None:
    """The operator upgrades; what the data steps read of the workspace, they read by its login."""

    def upgrade(operator: Any, schema: str) -> None:
        assert who()[0].endswith(schema)
        assert keyring.current_version(Tenant.objects.get().id) == 1
        with operator.cursor() as cursor:
            cursor.execute(f'CREATE TABLE "{schema}".brand_new (id int)')

    Tenant.objects.filter(pk=workspace_a.pk).update(schema_version="")
    monkeypatch.setattr("tenants.schemas.upgrade", upgrade)
    report = upgrading.upgrade_workspaces()
    assert (report.upgraded, report.failed) == (["alpha"], {})
    with workspace(workspace_a), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM brand_new")
        assert cursor.fetchone() == (0,)
    with connections["operator"].cursor() as cursor:
        cursor.execute(f'DROP TABLE "{workspace_a.schema_name}".brand_new')


def test_pages_work(workspace_a: Tenant, client_owner: Client) -> None:
    with workspace(workspace_a):
        CollectionFactory(name="Quillfeather")
    for path in ("", "documents/", "collections/", "members/", "evaluation/", "documents/upload/"):
        assert client_owner.get(f"{workspace_a.path}{path}").status_code == 200, path
    assert "Quillfeather" in client_owner.get(f"{workspace_a.path}collections/").text
    invited = client_owner.post(f"{workspace_a.path}members/invite/", {"email": "new@example.org", "role": "viewer"})
    assert invited.status_code == 302
    assert connection.schema_name == "public"


def test_a_request_costs_no_connection_once_it_is_warm(workspace_a: Tenant, client_owner: Client) -> None:
    client_owner.get(f"{workspace_a.path}collections/")
    connected = []
    from django.db.backends.signals import connection_created

    def note(**_: Any) -> None:
        connected.append(1)

    connection_created.connect(note)
    try:
        for _ in range(3):
            assert client_owner.get(f"{workspace_a.path}collections/").status_code == 200
    finally:
        connection_created.disconnect(note)
    assert connected == []


def test_a_job_asked_for_in_a_transaction_is_queued_and_noted(workspace_a: Tenant) -> None:
    with workspace(workspace_a):
        with transaction.atomic():
            jobs.enqueue("documents.jobs.ingest", "x", job_id="x", queue="ingest")
        assert jobs.in_flight("x")
    assert WorkspaceStats.objects.get(pk=workspace_a.pk).queued_at is not None


def test_a_sweep_counts_in_each_workspace(workspace_a: Tenant, workspace_b: Tenant) -> None:
    sweeping.sweep(everything=True)
    assert WorkspaceStats.objects.exclude(refreshed_at=None).count() == 2


def test_a_workspace_that_locks_itself_out_stops_no_other(workspace_a: Tenant, workspace_b: Tenant) -> None:
    with workspace(workspace_a), connection.cursor() as cursor:
        cursor.execute("ALTER ROLE CURRENT_USER PASSWORD 'mine'")
    connection.close()
    sweeping.sweep(everything=True)
    assert [stats.tenant for stats in WorkspaceStats.objects.exclude(refreshed_at=None)] == [workspace_b]
    logins.sync(connections["operator"])  # `prepare` repairs it
    sweeping.sweep()
    assert WorkspaceStats.objects.exclude(refreshed_at=None).count() == 2


def test_a_document_is_trashed_restored_and_erased(workspace_a: Any) -> None:
    """Its receipt and what was followed are written in public context: with a connection of another login."""
    with workspace(workspace_a):
        document = DocumentFactory()
        assert trash.trash([document.id], None) == 1
        assert [each.id for each in trash.restore([document.id])] == [document.id]
        erased = erasing.erase([document.id])
        assert erasing.look_for_returned() == 0
    assert Receipt.objects.get().pk == erased.receipt
    assert not erasures.is_behind(Tenant.objects.get(pk=workspace_a.pk))
