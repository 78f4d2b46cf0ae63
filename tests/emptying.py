"""The database as set-up left it, again after each test that committed. Takes the place of Django's flush.

That would TRUNCATE, as a login that may not, and fire post_migrate; and TRUNCATE makes the files of every table and index
anew, for three schemas 0.1 to 0.3 s a test. DELETE costs nothing where a table is empty, and most are. Knows no model.
"""

from collections.abc import Collection
from pathlib import Path

import psycopg
from django.conf import settings
from django.db import connection, connections
from psycopg import sql

from tenants import roles

KEPT = {"tenants_tenant", "tenants_tenantkey", "documents_usage", "audit_head", "audit_entry"}  # rows that make a workspace
CONSTANT = {"django_migrations", "django_content_type", "auth_permission"}
# Provisioning's row stays as it was but for its generation: memory goes by that, so it must not come back.
GROWS = "search_vectorindex"
AS_IT_WAS = (
    "DELETE FROM {table} WHERE id <> 1; "
    "UPDATE {table} SET state = 'live', protection = 'cloaked', m = 16, ef_construction = 64, attempts = 0, "
    "finished_at = NULL WHERE id = 1 AND (state, protection, m, attempts) <> ('live', 'cloaked', 16, 0)"
)


class Emptying:
    def __init__(self, workspaces: Collection[str]) -> None:
        """`workspaces`: the slugs of those that stay, as they are now."""
        place = connection.settings_dict
        self.workspaces = list(workspaces)
        self.operator = psycopg.connect(
            host=place["HOST"], port=place["PORT"] or None, dbname=place["NAME"], autocommit=True,
            user=roles.login_name("operator"), password=settings.DATABASE_PASSWORDS["operator"],
        )  # fmt: skip
        self.operator.execute("CREATE SCHEMA kept")
        statements = []
        for number, (schema, name) in enumerate(self._tables()):
            table, copy = sql.Identifier(schema, name), sql.Identifier("kept", str(number))
            if name == GROWS:
                statements.append(sql.SQL(AS_IT_WAS).format(table=table))
                continue
            if name not in KEPT:
                statements.append(sql.SQL("DELETE FROM {}").format(table))
                continue
            self.operator.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(copy, table))
            statements += [
                sql.SQL("DELETE FROM {} now WHERE NOT EXISTS (SELECT FROM {} kept WHERE kept = now)").format(table, copy),
                sql.SQL("INSERT INTO {} (TABLE {} EXCEPT TABLE {})").format(table, copy, table),
            ]
        # Sent as one, hence one transaction: the references between the tables are checked at its end.
        self.put_back = sql.SQL("; ").join(statements).as_string()
        self.witness = {path: path.read_bytes() for path in self._witnessed()}
        self()

    def _witnessed(self) -> list[Path]:
        return [path for path in Path(settings.WITNESS_DIR).rglob("*") if path.is_file()]

    def _tables(self) -> list[tuple[str, str]]:
        return self.operator.execute(
            "SELECT schemaname, tablename FROM pg_tables "
            "WHERE (schemaname = 'public' OR starts_with(schemaname, 'tenant_')) AND NOT tablename = ANY(%s) ORDER BY 1, 2",
            [list(CONSTANT)],
        ).fetchall()

    def __call__(self) -> None:
        for opened in (connection, connections["operator"]):
            opened.close()
        made = "SELECT schema_name, db_role FROM tenants_tenant WHERE NOT slug = ANY(%s)"
        for schema, role in self.operator.execute(made, [self.workspaces]).fetchall():
            self.operator.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
            self.operator.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
        self.operator.execute(self.put_back)
        self.put_back_witness()

    def put_back_witness(self) -> None:
        for path in self._witnessed():  # it would say that the database was turned back, which it was
            if path in self.witness:
                path.write_bytes(self.witness[path])
            else:
                path.unlink()

    def close(self) -> None:
        self.operator.close()
