"""What the database refuses: the promises of docs/security.md about roles, one by one."""

import threading

import pytest
from django.db import ProgrammingError, connection, transaction
from django.db.utils import DatabaseError

from tenants.context import NoTenant, current_tenant, workspace
from tenants.models import Person, Tenant, User

pytestmark = pytest.mark.django_db


def sql(statement: str, params: list | None = None) -> list:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else []


def role() -> str:
    return sql("SELECT current_user")[0][0]


def test_it_is_the_tenants_role_inside_and_the_public_role_outside(workspace_a):
    assert role().endswith("_public")
    with workspace(workspace_a):
        assert role() == workspace_a.db_role
    assert role().endswith("_public")


@pytest.mark.parametrize("statement", [
    'SELECT * FROM "{other}".search_chunk',
    'DELETE FROM "{other}".documents_document',
    'SELECT * FROM "{other}".django_migrations',
    'DROP SCHEMA "{other}" CASCADE',
    "SELECT * FROM tenants_session",
    "SELECT * FROM socialaccount_socialaccount",
    "SELECT password FROM tenants_user",
    "UPDATE tenants_membership SET role = 'owner'",
    "SELECT * FROM mfa_authenticator",
    "SELECT * FROM tenants_outgoingmail",
    "CREATE TABLE mine (id int)",
    "CREATE TEMPORARY TABLE mine (id int)",
    "SELECT set_config('role', 'none', false)",
    "DO $$ BEGIN PERFORM 1; END $$",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY tenants_tenant TO PROGRAM 'cat'",
])  # fmt: skip
def test_a_workspace_is_refused(statement, workspace_a, workspace_b):
    with workspace(workspace_a), pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        sql(statement.format(other=workspace_b.schema_name))


def test_statements_cannot_be_stacked(workspace_a, workspace_b):
    """Holds the private override in tenants/database against the pinned psycopg."""
    with workspace(workspace_a):
        for params in (None, []):
            with pytest.raises(ProgrammingError, match="multiple commands"):
                sql(f'SELECT 1; SET ROLE "{workspace_b.db_role}"', params)
        assert role() == workspace_a.db_role


def test_public_tables_show_a_workspace_its_own_rows(workspace_a, workspace_b, person):
    person("owner", workspace_a)
    person("viewer", workspace_b)
    with workspace(workspace_a):
        assert list(Tenant.objects.values_list("slug", flat=True)) == ["alpha"]
        assert list(Person.objects.values_list("email", flat=True)) == ["owner@example.org"]
        assert sql("SELECT count(*) FROM tenants_membership") == [(1,)]
        assert sql("SELECT tenant_id FROM tenants_tenantkey") == [(workspace_a.id,)]
        with pytest.raises(ProgrammingError), transaction.atomic():
            User.objects.first()


def test_reset_role_lands_in_a_role_without_grants_and_is_noticed(workspace_a):
    """Between RESET and the next cursor nothing is readable; the backend sees the statement and sets the role again."""
    with workspace(workspace_a), connection.cursor() as cursor:
        cursor.execute("RESET ROLE")
        cursor.execute("SELECT current_user")
        assert cursor.fetchone()[0].endswith("_rest")
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            cursor.execute("SELECT * FROM public.tenants_user")
    with workspace(workspace_a):
        assert role() == workspace_a.db_role


def test_a_rolled_back_transaction_does_not_leave_the_role_behind(workspace_a):
    try:
        with transaction.atomic(), workspace(workspace_a):
            assert role() == workspace_a.db_role
            raise DatabaseError
    except DatabaseError:
        pass
    assert role().endswith("_public")


def test_workspace_code_outside_a_workspace_raises():
    with pytest.raises(NoTenant):
        current_tenant()


@pytest.mark.django_db(transaction=True)
def test_a_new_thread_starts_in_public(workspace_a):
    seen = []

    def look():
        seen.append(role())
        connection.close()

    with workspace(workspace_a):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen[0].endswith("_public")


def test_a_pending_workspace_of_another_login_cannot_be_entered(workspace_a):
    ghost = Tenant(schema_name="tenant_" + "0" * 32, slug="ghost", name="Ghost")
    with workspace(ghost), pytest.raises((ProgrammingError, DatabaseError)):
        sql("SELECT 1")
