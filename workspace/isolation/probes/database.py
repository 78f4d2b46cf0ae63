"""The database, asked in SQL as a mistake or an injection would."""

from django.db import DatabaseError

from tenants import roles
from tenants.context import public_context, workspace
from tenants.database import connection
from tenants.models import Membership, Tenant, User
from workspace.isolation.asking import undone
from workspace.isolation.canaries import Canary
from workspace.isolation.probes.findings import Findings


def run_sql(mine: Canary, other: Canary, found: Findings) -> None:
    schema, role = other.tenant.schema_name, other.tenant.db_role
    with public_context():
        strangers = _strangers(mine.tenant, other.tenant)
    canary = f'"{schema}".documents_document'
    with workspace(mine.tenant):
        tables = _tables(schema)
        for table in tables:
            place = f'"{schema}"."{table}"'
            for verb, statement in (
                ("SELECT", f"SELECT 1 FROM {place} LIMIT 1"),  # noqa: S608  # names from the catalogue
                ("DELETE", f"DELETE FROM {place} WHERE false"),  # noqa: S608  # refused by permission, not by rows
                ("INSERT", f"INSERT INTO {place} SELECT * FROM {place} WHERE false"),  # noqa: S608
            ):
                done = _executes(statement)
                found.attempt("sql", f"{verb} {table}", "the database carried it out" if done else "")
        for table in _tables("public"):
            leak = _foreign_rows(table, other.tenant, strangers)
            found.attempt("sql", f"SELECT public.{table}", leak)
        for name, statement in (
            ("set_config", f"SELECT set_config('role', '{role}', false)"),
            ("stacked statements", f'SELECT 1; SET ROLE "{role}"'),
            ("DO block", f"DO $$ BEGIN EXECUTE 'SET ROLE \"{role}\"'; END $$"),
            ("UPDATE pg_settings", f"UPDATE pg_settings SET setting = '{role}' WHERE name = 'role'"),  # noqa: S608
            ("temporary table", f"CREATE TEMPORARY TABLE canary AS SELECT * FROM {canary}"),  # noqa: S608
            ("RESET ROLE", "RESET ROLE"),
        ):
            gained = _executes(statement, f"SELECT 1 FROM {canary} LIMIT 1")  # noqa: S608
            found.attempt("sql", name, "the other workspace's table could be read afterwards" if gained else "")
    with workspace(other.tenant):
        for table in tables:
            if table != "django_migrations":
                done = _executes(f'SELECT 1 FROM "{schema}"."{table}" LIMIT 1')  # noqa: S608
                found.control("sql", f"SELECT {table}", done, "its own workspace cannot read it either")
    found.control("sql", "", len(tables) > 10, "the other workspace's tables are not in the catalogue")
    with public_context():
        people = ["tenants_membership", "tenants_user"] if strangers else []
        for table in ("tenants_tenant", "tenants_tenantkey", *people):
            there = bool(_foreign_rows(table, other.tenant, strangers))
            found.control("sql", f"SELECT public.{table}", there, "its row is not there")


def _tables(schema: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = %s ORDER BY 1", [schema])
        return [name for (name,) in cursor.fetchall()]


def _executes(*statements: str) -> bool:
    """Whether the database carries out all of them, by one cursor: between two of them nothing puts our role back."""
    try:
        with undone(), connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    except DatabaseError:
        return False
    return True


def _strangers(mine: Tenant, other: Tenant) -> list[str]:
    """Members of the other workspace who are not members of ours."""
    ours = Membership.objects.filter(tenant=mine).values("user_id")
    theirs = Membership.objects.filter(tenant=other).exclude(user_id__in=ours)
    return [str(user_id) for user_id in theirs.values_list("user_id", flat=True)]


def _foreign_rows(table: str, other: Tenant, strangers: list[str]) -> str:
    """What is wrong with what a public table shows of the other workspace; empty when nothing is."""
    listed = roles.TENANT_READS.get(table)
    if listed is None:
        readable = _executes(f'SELECT 1 FROM public."{table}" LIMIT 1')  # noqa: S608  # names from the catalogue
        return "the database let it be read" if readable else ""
    column = "tenant_id" if "tenant_id" in listed[0] else "id"
    values = strangers if table == User._meta.db_table else [str(other.pk)]
    with undone(), connection.cursor() as cursor:
        cursor.execute(f'SELECT count(*) FROM public."{table}" WHERE {column}::text = ANY(%s)', [values])  # noqa: S608
        (rows,) = cursor.fetchone() or (0,)
    return "it showed the other workspace's rows" if rows else ""
