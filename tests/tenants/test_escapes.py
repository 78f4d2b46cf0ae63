"""What somebody gets who can run SQL inside a workspace: every way out that the lab found, tried and refused.

Two ways in: the product's own connection, as an injection would use it; and a bare connection with the web login's
password, in the state a request leaves it in. The limit, `SET ROLE` as a statement of its own, is stated here as well.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import DatabaseError, connection, connections, transaction
from psycopg import sql

from tenants import roles
from tenants.context import workspace
from tenants.database.base import Session

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])
Run = Callable[..., list[tuple[Any, ...]]]


@contextmanager
def bare(tenant: Any, **options: Any) -> Iterator[psycopg.Connection]:
    """A connection of the web login's, without our cursor, that has become `tenant`."""
    place = connection.settings_dict
    with psycopg.connect(
        host=place["HOST"], port=place["PORT"] or None, dbname=place["NAME"], autocommit=True,
        user=roles.login_name("web"), password=settings.DATABASE_PASSWORDS["web"], **options,
    ) as opened:  # fmt: skip
        opened.execute(sql.SQL("SET search_path = {}, public").format(sql.Identifier(tenant.schema_name)))
        opened.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(tenant.db_role)))
        yield opened


@pytest.fixture(params=["product", "bare"])
def run(request: pytest.FixtureRequest, workspace_a: Any, workspace_b: Any) -> Iterator[Run]:
    """Runs a statement inside workspace a."""
    if request.param == "bare":
        with bare(workspace_a) as opened:

            def run_bare(statement: str, params: Any = None) -> list[tuple[Any, ...]]:
                cursor = opened.execute(statement, params)  # type: ignore[arg-type]
                return cursor.fetchall() if cursor.description else []

            yield run_bare
        return

    with workspace(workspace_a), connection.cursor() as cursor:

        def run_product(statement: str, params: Any = None) -> list[tuple[Any, ...]]:
            cursor.execute(statement, params)
            return cursor.fetchall() if cursor.description else []

        yield run_product
    connection.close()


REFUSED = "permission denied|must be owner|must be superuser|not allowed|cannot|does not exist|not available|already exists"

ESCAPES = [
    # the role, from within an expression or a block
    "SELECT set_config('role', '{role}', false)",
    "SELECT pg_catalog.set_config('search_path', '{other}', false)",
    "UPDATE pg_settings SET setting = '{role}' WHERE name = 'role'",
    "DO $$ BEGIN SET ROLE {role}; END $$",
    "DO LANGUAGE plpgsql 'BEGIN PERFORM 1; END'",
    'SET SESSION AUTHORIZATION "{role}"',
    # things of one's own, in which to hide something or with which to shadow something
    "CREATE TEMP TABLE mine (id int)",
    "SELECT 1 AS one INTO TEMP mine",
    "CREATE TEMP TABLE mine AS SELECT 1",
    "CREATE TEMP SEQUENCE mine",
    "CREATE TEMP VIEW mine AS SELECT 1",
    "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE sql AS 'SELECT 1'",
    "CREATE TABLE mine (id int)",
    "CREATE TABLE public.mine (id int)",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE SCHEMA mine",
    "CREATE TYPE mine AS (id int)",
    "CREATE DOMAIN public.mine AS int",
    "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)",
    "CREATE AGGREGATE public.mine (int) (SFUNC = int4pl, STYPE = int)",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION postgres_fdw",
    "CREATE LANGUAGE plpgsql",
    "CREATE SERVER mine FOREIGN DATA WRAPPER postgres_fdw",
    "CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION f()",
    "CREATE PUBLICATION mine",
    "CREATE SUBSCRIPTION mine CONNECTION 'dbname=x' PUBLICATION p",
    "CREATE DATABASE mine",
    "CREATE TABLESPACE mine LOCATION '/tmp'",
    "ALTER TABLE documents_document DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE documents_document ADD COLUMN mine int",
    "CREATE TRIGGER mine AFTER INSERT ON documents_document EXECUTE FUNCTION f()",
    "CREATE RULE mine AS ON INSERT TO documents_document DO NOTHING",
    "CREATE POLICY mine ON public.tenants_user USING (true)",
    "COMMENT ON TABLE documents_document IS 'for whoever reads'",
    "TRUNCATE documents_document",
    # rights
    "CREATE ROLE mine",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE CURRENT_USER LOGIN",
    "ALTER ROLE CURRENT_USER BYPASSRLS",
    "ALTER ROLE \"{web}\" PASSWORD 'x'",
    "ALTER ROLE \"{web}\" SET role = '{role}'",
    'GRANT "{role}" TO CURRENT_USER',
    'GRANT "{database}_public" TO CURRENT_USER',
    'GRANT "{database}_tenants" TO CURRENT_USER',
    'GRANT ALL ON SCHEMA "{other}" TO CURRENT_USER',
    'ALTER DEFAULT PRIVILEGES FOR ROLE "{database}_operator" GRANT ALL ON TABLES TO PUBLIC',
    'REASSIGN OWNED BY "{role}" TO CURRENT_USER',
    # the other's, by every verb
    'SELECT * FROM "{other}".documents_document',
    'INSERT INTO "{other}".documents_usage VALUES (2, 0, 0)',
    'DELETE FROM "{other}".documents_document',
    'SELECT 1 FROM "{other}".documents_document FOR UPDATE',
    'DECLARE mine CURSOR WITH HOLD FOR SELECT * FROM "{other}".documents_document',
    'PREPARE mine AS SELECT * FROM "{other}".documents_document',
    'EXPLAIN ANALYZE SELECT * FROM "{other}".documents_document',
    'COPY "{other}".documents_document TO STDOUT',
    "SELECT '{other}.documents_document'::regclass",
    "SELECT pg_relation_filepath('{other}.documents_document')",
    "SELECT * FROM ts_stat('SELECT 1::text::tsvector FROM \"{other}\".documents_document')",
    # the installation's
    "SELECT * FROM public.tenants_session",
    "SELECT password FROM public.tenants_user",
    "SELECT * FROM public.tenants_invitation",
    "SELECT * FROM public.axes_accessattempt",
    "UPDATE public.tenants_tenant SET slug = 'mine'",
    "INSERT INTO public.tenants_membership (user_id, tenant_id, role) SELECT 1, id, 'owner' FROM public.tenants_tenant",
    "SELECT rolpassword FROM pg_authid",
    "SELECT * FROM pg_user_mapping",
    # the server's
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_read_binary_file('PG_VERSION')",
    "SELECT pg_ls_dir('/')",
    "SELECT pg_stat_file('PG_VERSION')",
    "COPY documents_document TO PROGRAM 'cat'",
    "COPY documents_document TO '/tmp/mine'",
    "COPY documents_document FROM PROGRAM 'id'",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/mine')",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT lo_create(0)",
    "SELECT lo_creat(0)",
    "SELECT dblink('dbname=x', 'SELECT 1')",
    "LOAD 'plpgsql'",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "CHECKPOINT",
    "SELECT pg_reload_conf()",
    "SET log_statement = 'all'",
    "SET session_replication_role = 'replica'",
    # other requests, which run under the same login
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
    "SELECT pg_notify('channel', 'secret')",
    "SELECT pg_logical_emit_message(false, 'mine', 'x')",
]


def test_it_is_refused(run: Run, workspace_a: Any, workspace_b: Any) -> None:
    """All are tried on one connection: what one of them leaves behind helps the next, as it would help an attacker."""
    names = {
        "role": workspace_b.db_role, "other": workspace_b.schema_name, "web": roles.login_name("web"),
        "database": connection.settings_dict["NAME"],
    }  # fmt: skip
    gained = []
    for statement in ESCAPES:
        try:
            gained.append((statement, run(statement.format(**names))))
        except (DatabaseError, psycopg.Error) as error:
            if not re.search(REFUSED, str(error)):
                gained.append((statement, error))
    assert gained == []


HOME = [
    "RESET ROLE", "SET ROLE NONE", "SET SESSION AUTHORIZATION DEFAULT", "RESET SESSION AUTHORIZATION", "DISCARD ALL",
    "RESET ALL",
]  # fmt: skip


@pytest.mark.parametrize("statement", HOME)
def test_whoever_resets_the_role_has_none_that_reads_anything(statement, run, workspace_a, workspace_b) -> None:
    run(statement)
    if statement == "RESET ALL":  # leaves the role alone
        assert run("SELECT current_user") == [(workspace_a.db_role,)]
        return
    (role,) = run("SELECT current_user")[0]
    assert role in (f"{connection.settings_dict['NAME']}_rest", roles.login_name("web"))
    ours = (
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind = 'r' AND (n.nspname = 'public' OR starts_with(n.nspname, 'tenant_'))"
    )
    assert run(f"SELECT count(*) > 40 {ours}") == [(True,)]
    rights = (
        "has_schema_privilege(n.oid, 'USAGE')", "has_table_privilege(c.oid, 'DELETE, TRUNCATE')",
        "has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE')",
    )  # fmt: skip
    for right in rights:
        assert run(f"SELECT c.oid::regclass {ours} AND {right}") == []
    for name in ("public.tenants_user", f'"{workspace_a.schema_name}".documents_document'):
        with pytest.raises((DatabaseError, psycopg.Error), match="permission denied"):
            run(f"SELECT * FROM {name}")


def test_statements_are_not_stacked(workspace_a, workspace_b) -> None:
    """With and without parameters, through our cursor; a bare one binds on the server only where parameters are given."""
    stacked = f'; SET ROLE "{workspace_b.db_role}"'
    with workspace(workspace_a):
        for statement, params in ((f"SELECT 1{stacked}", None), (f"SELECT 1{stacked}", []), (f"SELECT %s{stacked}", [1])):
            with connection.cursor() as cursor, pytest.raises(DatabaseError, match="multiple commands"):
                cursor.execute(statement, params)
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user")
            assert cursor.fetchone() == (workspace_a.db_role,)


def test_an_expression_in_a_parameter_stays_a_value(workspace_a) -> None:
    with workspace(workspace_a), connection.cursor() as cursor:
        cursor.execute("SELECT %s", ["'; RESET ROLE; --"])
        assert cursor.fetchone() == ("'; RESET ROLE; --",)


# ---------------------------------------------------------------- what we believe about the session


CHANGES = [
    "SET ROLE {role}", "  \n set role {role}", "/* a comment */ SET ROLE {role}", "-- a comment\nSET ROLE {role}",
    "/* /* nested */ */SET ROLE {role}", "RESET ROLE", "/**/DISCARD ALL", "SET SESSION ROLE {role}",
    "SET search_path = {other}", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "/* */ RESET ALL",
]  # fmt: skip


@pytest.mark.parametrize("statement", CHANGES)
def test_whatever_changes_the_session_is_noticed_and_undone(statement, workspace_a, workspace_b) -> None:
    with workspace(workspace_a):
        with connection.cursor() as cursor:
            cursor.execute(statement.format(role=f'"{workspace_b.db_role}"', other=f'"{workspace_b.schema_name}"'))
        assert connection.connection.session is Session.ALTERED
        _assert_is_in(workspace_a)


def test_it_is_noticed_by_every_way_of_sending(workspace_a, workspace_b) -> None:
    statement = f'/* */ SET ROLE "{workspace_b.db_role}"'
    ways: list[Callable[[Any], Any]] = [
        lambda cursor: cursor.execute(statement),
        lambda cursor: cursor.executemany(statement, [[]]),
        lambda cursor: list(cursor.cursor.stream(statement)),
        lambda cursor: connection.connection.execute(statement),
    ]
    with workspace(workspace_a):
        for way in ways:
            with suppress(DatabaseError, psycopg.Error), connection.cursor() as cursor:
                way(cursor)  # what counts is what comes after
            assert connection.connection.session is not Session.KNOWN
            _assert_is_in(workspace_a)


TRICKS = [
    ["SAVEPOINT a", "SET ROLE {role}", "ROLLBACK TO SAVEPOINT a"],
    ["SAVEPOINT a", "SET ROLE {role}", "RELEASE SAVEPOINT a"],
    ["SET LOCAL ROLE {role}"],
    ["SET LOCAL search_path = {other}"],
    ["SAVEPOINT a", "SET LOCAL ROLE {role}", "/**/ROLLBACK TO a"],
    ["/**/ROLLBACK", "SET ROLE {role}"],
    ["/**/COMMIT", "BEGIN", "SET ROLE {role}"],
]


@pytest.mark.parametrize("statements", TRICKS)
@pytest.mark.parametrize("ends_in", ["commit", "rollback"])
def test_no_transaction_leaves_us_believing_what_is_not(statements, ends_in, workspace_a, workspace_b) -> None:
    names = {"role": f'"{workspace_b.db_role}"', "other": f'"{workspace_b.schema_name}"'}
    with workspace(workspace_a):
        try:
            with transaction.atomic():
                for statement in statements:
                    with connection.cursor() as cursor:
                        cursor.execute(statement.format(**names))
                _assert_is_in(workspace_a)
                if ends_in == "rollback":
                    raise LookupError
        except LookupError:
            pass
        _assert_is_in(workspace_a)


def test_a_commit_that_was_a_rollback_is_noticed(workspace_a) -> None:
    """An error inside `atomic` that somebody swallows: PostgreSQL rolls back on COMMIT and with it undoes our SET ROLE."""
    connection.close()
    with workspace(workspace_a):
        with transaction.atomic(), pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
        _assert_is_in(workspace_a)


@pytest.mark.parametrize("left_behind", [
    "SET statement_timeout = 1", "SET default_transaction_read_only = on", "SET row_security = off", "LISTEN channel",
    "PREPARE mine AS SELECT * FROM documents_document",
    "DECLARE mine CURSOR WITH HOLD FOR SELECT * FROM documents_document",
])  # fmt: skip
def test_nothing_is_left_in_the_session_for_the_next_workspace(left_behind, workspace_a, workspace_b) -> None:
    """Settings, listening, prepared statements and open cursors outlive a change of role: they are discarded with it."""
    with workspace(workspace_a), connection.cursor() as cursor:
        cursor.execute(left_behind)
    with workspace(workspace_b), connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('statement_timeout'), current_setting('default_transaction_read_only'), "
            "current_setting('row_security'), (SELECT count(*) FROM pg_listening_channels()), "
            "(SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors WHERE name = 'mine')"
        )
        assert cursor.fetchone()[1:] == ("off", "on", 0, 0, 0)
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone()[0] != "1ms"


# ---------------------------------------------------------------- what one sees of the others' work


def test_another_requests_statement_cannot_be_read(run: Run, workspace_b: Any) -> None:
    """One login, many requests: PostgreSQL shows a statement to its own login only, which inside a workspace nobody is."""
    with bare(workspace_b) as other:
        other.execute("SELECT 'wrenmarrow'")
        seen = run("SELECT query FROM pg_stat_activity WHERE pid = %s", [other.info.backend_pid])
    assert seen == [("<insufficient privilege>",)]


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
def test_no_other_request_is_ended_even_out_of_every_role(function: str, run: Run, workspace_b: Any) -> None:
    """All requests are the web login's, and a login may end its own sessions: but for the function, which is revoked."""
    with bare(workspace_b) as other:
        run("SET ROLE NONE")
        with pytest.raises((DatabaseError, psycopg.Error), match=f"permission denied for function {function}"):
            run(f"SELECT {function}({other.info.backend_pid})")
        assert other.execute("SELECT 1").fetchone() == (1,)


def test_statements_carry_no_values(workspace_a: Any) -> None:
    """Whoever may read them, an administrator for one, sees the statement with places for its parameters."""
    admin, password = settings.DATABASE_ADMINISTRATOR
    place = connection.settings_dict
    with workspace(workspace_a), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tenants_domain WHERE domain = %s", ["wrenmarrow"])
        with psycopg.connect(
            host=place["HOST"], port=place["PORT"] or None, dbname=place["NAME"], user=admin, password=password
        ) as watching:
            pid = connection.connection.info.backend_pid
            (seen,) = watching.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
    assert "domain = $1" in seen
    assert "wrenmarrow" not in seen


def test_statistics_of_other_workspaces_columns_are_hidden(run: Run, workspace_b: Any) -> None:
    assert run("SELECT count(*) FROM pg_stats WHERE schemaname = %s", [workspace_b.schema_name]) == [(0,)]


# ---------------------------------------------------------------- the limits, as docs/security.md states them


def test_the_limit_set_role_as_a_statement_of_its_own(run: Run, workspace_b: Any) -> None:
    """Holds the documentation honest: without TENANT_LOGINS this works, until the connection's next cursor."""
    run(f'SET ROLE "{workspace_b.db_role}"')
    assert run("SELECT current_user") == [(workspace_b.db_role,)]


def test_the_limit_what_a_login_does_to_itself(workspace_a: Any) -> None:
    """Out of every role the session is the web login, which may leave settings to its later sessions: `prepare` takes them."""
    with bare(workspace_a) as raw:
        raw.execute("SET ROLE NONE")
        raw.execute("ALTER ROLE CURRENT_USER SET work_mem = '77kB'")
        raw.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {connection.settings_dict['NAME']} SET temp_buffers = '808kB'")
    shown = "SELECT current_setting('work_mem'), current_setting('temp_buffers')"
    with bare(workspace_a) as raw:
        assert raw.execute(shown).fetchone() == ("77kB", "808kB")
    roles.sync(connections["operator"])
    connections["operator"].close()
    with bare(workspace_a) as raw:
        assert "77kB" not in raw.execute(shown).fetchone()
        assert "808kB" not in raw.execute(shown).fetchone()
        raw.execute("RESET ROLE")
        assert raw.execute("SELECT current_user").fetchone()[0].endswith("_rest")


def test_the_limit_channels_between_workspaces(run: Run) -> None:
    """NOTIFY and advisory locks are for everybody; PostgreSQL knows no right to them."""
    run("LISTEN channel")
    run("NOTIFY channel, 'secret'")
    assert run("SELECT pg_try_advisory_lock(1)") == [(True,)]


def _assert_is_in(tenant: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, current_setting('search_path')")
        role, path = cursor.fetchone()
    assert role == tenant.db_role
    assert path == f"{tenant.schema_name}, public"
