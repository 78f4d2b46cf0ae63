"""Roles, grants and row-level security of one database: who may read what, decided by PostgreSQL.

Three logins: *operator* owns everything and runs DDL, *web* and *worker* own nothing and rest in a role without
grants, from which they may become the public role or one tenant's role. Three steps, each safe to repeat:

1. `prepare_cluster` and `prepare_database`, with an administrator's connection: logins, extension, revokes.
2. `sync`, as the operator, at the end of every migration of the public schema. Nothing is granted in a migration, so a
   table that nobody listed here is readable in public context and invisible to workspaces.
3. `tenant_statements` for each workspace, as the operator, after its tables exist (see provisioning).

What this stops is our own mistakes and ordinary injection. It does not stop arbitrary SQL run as the web login, which
may `SET ROLE`: docs/security.md says so. TENANT_LOGINS=1 does (see logins).
"""

from collections.abc import Mapping
from typing import Any

import psycopg
from django.apps import AppConfig
from django.conf import settings
from psycopg import sql

LONGEST_NAME = 63  # PostgreSQL cuts longer identifiers silently (NAMEDATALEN - 1)

# What a workspace's role may read outside its own schema: columns, and which rows. No password hashes, flags,
# sessions, second factors or permissions.
TENANT_READS = {
    "tenants_tenant": (
        "id, slug, name, schema_name, db_role, status, created_at, schema_version, require_mfa, quota_documents, quota_bytes, "
        "quota_members, suspended_at, suspension, legal_hold, delete_at, erasures_seen, seal",
        "db_role = current_user",
    ),
    "tenants_domain": ("id, domain, is_primary, tenant_id, seal", "tenant_id = (SELECT id FROM public.tenants_tenant)"),
    "tenants_membership": ("id, user_id, tenant_id, role, seal", "tenant_id = (SELECT id FROM public.tenants_tenant)"),
    "tenants_user": ("id, email, name", "id IN (SELECT user_id FROM public.tenants_membership)"),
    "tenants_tenantkey": (
        "id, tenant_id, version, wrapped, seeds, state, provider",
        "tenant_id = (SELECT id FROM public.tenants_tenant)",
    ),
    "tenants_isolationcheck": (
        "id, tenant_id, part_of_id, trigger, state, steps, steps_done, counts, leaks, created_at, started_at, "
        "seen_at, finished_at",
        "tenant_id = (SELECT id FROM public.tenants_tenant)",
    ),
}
# Functions of pg_catalog that everybody may call by default, and that an injected expression could make use of.
WITHHELD = (
    "set_config",  # changes the role
    "pg_cancel_backend", "pg_terminate_backend",  # the requests of other workspaces run under the same login
    "pg_notify", "pg_logical_emit_message",  # a way to say something to whoever listens; a way to fill the disk
    "lo_creat", "lo_create", "lo_from_bytea",  # large objects would lie outside every schema
)  # fmt: skip
READ_ONLY_IN_PUBLIC = ("django_migrations", "django_content_type", "auth_permission")  # only migrate writes these
DML = "SELECT, INSERT, UPDATE, DELETE"


def login_name(kind: str) -> str:
    """The login of a kind of process ("web", "worker", "operator")."""
    return f"{settings.DATABASE_NAME}_{kind}"


def _role(database: str, suffix: str) -> str:
    role = f"{database}_{suffix}"
    if len(role.encode()) > LONGEST_NAME or '"' in role:
        raise ValueError(f"role name {role!r} is not usable: at most {LONGEST_NAME} bytes; shorten the database's name")
    return role


def tenant_role(database: str, schema: str) -> str:
    return _role(database, schema)


def group_role(database: str) -> str:
    """What all workspaces' roles inherit from: the columns of TENANT_READS."""
    return _role(database, "tenants")


def role_for(connection: Any, schema: str) -> str | None:
    """The role the backend sets for `schema`; None leaves the login as it is (the operator, a workspace's own)."""
    if not connection.settings_dict.get("SWITCH_ROLES", True) or login_for(connection, schema):
        return None
    database = connection.settings_dict["NAME"]
    return _role(database, "public" if schema == "public" else schema)


def login_for(connection: Any, schema: str) -> str | None:
    """The login of its own that `schema` is entered with; None: the process's (docs/configuration.md, TENANT_LOGINS)."""
    if not settings.TENANT_LOGINS or schema == "public" or not connection.settings_dict.get("SWITCH_ROLES", True):
        return None
    return tenant_role(connection.settings_dict["NAME"], schema)


# ---------------------------------------------------------------- 1. with an administrator's connection


def prepare_cluster(admin: psycopg.Connection, passwords: Mapping[str, str], *, create_databases: bool = False) -> None:
    """Make or update the three logins. `admin` must be autocommit; `passwords` has web, worker, operator."""
    operator = login_name("operator")
    for kind in ("operator", "web", "worker"):
        name = login_name(kind)
        exists = admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
        if not exists:
            if kind == "operator":
                admin.execute(sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER CREATEROLE").format(sql.Identifier(name)))
            else:
                # made by the operator, who thereby has ADMIN on it and may grant it tenant roles later
                admin.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(operator)))
                try:
                    admin.execute(sql.SQL("CREATE ROLE {} LOGIN NOINHERIT").format(sql.Identifier(name)))
                finally:
                    admin.execute("RESET ROLE")
        hashed = admin.pgconn.encrypt_password(passwords[kind].encode(), name.encode(), b"scram-sha-256").decode()
        admin.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(hashed)))
    if create_databases:  # where tests run
        admin.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(sql.Identifier(operator)))


def create_database(admin: psycopg.Connection, name: str, *, template: bool = False) -> bool:
    """Create the database `name`, owned by the operator, when it is missing. Returns whether it was."""
    if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
        return False
    admin.execute(
        sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8' IS_TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(login_name("operator")), sql.Literal(template)
        )
    )
    return True


def prepare_database(admin: psycopg.Connection) -> None:
    """What needs an administrator inside the database: the extension, and what nobody but the operator may use."""
    admin.execute("CREATE EXTENSION IF NOT EXISTS vector")
    overloads = admin.execute(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY(%s)",
        [list(WITHHELD)],
    ).fetchall()
    for (function,) in overloads:
        admin.execute(sql.SQL(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC"))
        admin.execute(
            sql.SQL(f"GRANT EXECUTE ON FUNCTION {function} TO {{}}").format(sql.Identifier(login_name("operator")))
        )  # pg_dump calls set_config
    admin.execute("REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC")


# ---------------------------------------------------------------- 2. as the operator, after migrating public


def sync(connection: Any) -> None:
    """Grants and policies of the public schema. Run as the operator, before or after the tables exist."""
    database = connection.settings_dict["NAME"]
    rest, public, tenants = (_role(database, suffix) for suffix in ("rest", "public", "tenants"))
    with connection.cursor() as cursor:

        def one(statement: str, *params: object) -> Any:
            cursor.execute(statement, params)
            return cursor.fetchone()[0]

        for role in (rest, public, tenants):
            if not one("SELECT count(*) FROM pg_roles WHERE rolname = %s", role):
                cursor.execute(f'CREATE ROLE "{role}" NOLOGIN')
        statements = [f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC', "REVOKE ALL ON SCHEMA public FROM PUBLIC"]
        for login in (login_name("web"), login_name("worker")):
            statements += [
                f'GRANT CONNECT ON DATABASE "{database}" TO "{login}"',
                f'GRANT "{rest}", "{public}" TO "{login}" WITH INHERIT FALSE, SET TRUE',
                # whoever ran SQL as this login may have left settings to it, as every role may to itself
                f'ALTER ROLE "{login}" RESET ALL',
                f'ALTER ROLE "{login}" IN DATABASE "{database}" RESET ALL',
                # at connect and after RESET ROLE: a role without grants
                f'ALTER ROLE "{login}" IN DATABASE "{database}" SET role = \'{rest}\'',
                f'ALTER ROLE "{login}" IN DATABASE "{database}" SET search_path = \'\'',
            ]
        statements += [
            f'GRANT USAGE ON SCHEMA public TO "{public}", "{tenants}"',
            f'ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {DML} ON TABLES TO "{public}"',
            f'GRANT {DML} ON ALL TABLES IN SCHEMA public TO "{public}"',
        ]
        listed = (*TENANT_READS, *READ_ONLY_IN_PUBLIC)
        exists = {table: one("SELECT to_regclass(%s) IS NOT NULL", f"public.{table}") for table in listed}
        statements += [
            f'REVOKE INSERT, UPDATE, DELETE ON public.{table} FROM "{public}"' for table in READ_ONLY_IN_PUBLIC if exists[table]
        ]
        for table, (columns, rows) in TENANT_READS.items():
            if exists[table]:
                statements += [
                    f'REVOKE ALL ON public.{table} FROM "{tenants}"',
                    f'GRANT SELECT ({columns}) ON public.{table} TO "{tenants}"',
                    # not FORCE: the owner migrates, dumps and restores
                    f"ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY",
                    f"DROP POLICY IF EXISTS public_context ON public.{table}",
                    f"DROP POLICY IF EXISTS own ON public.{table}",
                    f'CREATE POLICY public_context ON public.{table} TO "{public}" USING (true) WITH CHECK (true)',
                    f'CREATE POLICY own ON public.{table} FOR SELECT TO "{tenants}" USING ({rows})',
                ]
        for statement in statements:
            cursor.execute(statement)


def connect(app_config: AppConfig) -> None:
    """Run `sync` after each migration of the public schema (post_migrate also fires for every tenant's)."""
    from django.db import connections
    from django.db.models.signals import post_migrate

    def after(using: str, **kwargs: object) -> None:
        connection: Any = connections[using]
        if connection.schema_name == "public" and not connection.settings_dict.get("SWITCH_ROLES", True):
            sync(connection)

    post_migrate.connect(after, sender=app_config, weak=False)


# ---------------------------------------------------------------- 3. per workspace, as the operator


def tenant_statements(database: str, schema: str, *, role_exists: bool) -> list[str]:
    """Role and grants of one workspace, to run once its tables exist. Who may become it, `logins` says."""
    role, tenants = tenant_role(database, schema), group_role(database)
    return [
        *([] if role_exists else [f'CREATE ROLE "{role}" NOLOGIN']),
        f'GRANT "{tenants}" TO "{role}" WITH INHERIT TRUE, SET FALSE',
        f'GRANT USAGE ON SCHEMA "{schema}" TO "{role}"',
        f'GRANT {DML} ON ALL TABLES IN SCHEMA "{schema}" TO "{role}"',
        # what was done can be added to; of an entry only its encryption can be changed, when the key changes
        f'REVOKE UPDATE, DELETE ON "{schema}".audit_entry FROM "{role}"',
        f'GRANT UPDATE (details) ON "{schema}".audit_entry TO "{role}"',
        f'REVOKE INSERT, DELETE ON "{schema}".audit_head FROM "{role}"',
        # what upgrades bring, which run as the same owner
        f'ALTER DEFAULT PRIVILEGES IN SCHEMA "{schema}" GRANT {DML} ON TABLES TO "{role}"',
        f'REVOKE ALL ON "{schema}".django_migrations FROM "{role}"',
    ]


def own_roles(connection: Any) -> list[str]:
    """Every role that belongs to this database (they are global to the cluster and outlive it)."""
    database = connection.settings_dict["NAME"]
    fixed = [_role(database, suffix) for suffix in ("rest", "public", "tenants")]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) OR starts_with(rolname, %s)",
            [fixed, f"{database}_tenant_"],
        )
        return [role for (role,) in cursor.fetchall()]
