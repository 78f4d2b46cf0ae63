"""The database backend: search path **and** role of the current tenant, set together and forgotten on every doubt.

django-tenants sets the search path only, so that a mistake in SQL reads another workspace's tables. Here the
connection also becomes the tenant's role, to which PostgreSQL answers "permission denied" outside its own schema.
"""

from typing import Any

import psycopg
from django.db import InternalError
from django.db.backends.postgresql.base import ServerBindingCursor
from django.utils.asyncio import async_unsafe
from django_tenants.postgresql_backend import base
from django_tenants.utils import quote_schema_name
from psycopg._queries import PostgresQuery

from tenants.roles import role_for

# A backend keeps about 265 KB of catalogue cache for each workspace it has touched, until its connection closes
# (`benchmark provisioning` reports it): so that memory is bounded, a connection serves so many and is then made anew.
MOST_WORKSPACES = 50

STATE_CHANGING = (b"SET", b"RESET", b"DISCARD")


class Cursor(ServerBindingCursor):
    """Sends every statement by the extended protocol, which refuses `…; SET ROLE other` stacked behind a statement.

    psycopg uses the simple protocol for statements without parameters; tests/tenants/test_database.py holds this
    override of a private method against the pinned version.
    """

    def _execute_send(self, query: PostgresQuery, *, force_extended: bool = False, binary: bool | None = None) -> None:
        if query.query.lstrip()[:8].upper().startswith(STATE_CHANGING):
            self._conn.session_state_changed = True  # type: ignore[attr-defined]  # raw SQL changed what we believe to be set
        super()._execute_send(query, force_extended=True, binary=binary)  # type: ignore[misc]


class DatabaseWrapper(base.DatabaseWrapper):
    _applied: tuple[tuple[str, ...], str | None] | None = None  # what the server session has; None: unknown
    _connecting = False
    _setting_search_path: bool
    _touched: frozenset[str] = frozenset()  # schemas of workspaces, since the connection was made

    def get_connection_params(self) -> dict[str, Any]:
        params = super().get_connection_params()
        params["cursor_factory"] = Cursor
        return params

    def set_tenant(self, tenant: Any, include_public: bool = True) -> None:
        super().set_tenant(tenant, include_public)
        self._applied = None

    def close(self) -> None:
        self._applied = None
        self._touched = frozenset()
        super().close()

    def close_if_unusable_or_obsolete(self) -> None:
        """Called by Django at the end of a request, and by the worker after each job and each workspace it sweeps."""
        super().close_if_unusable_or_obsolete()
        if len(self._touched) > MOST_WORKSPACES and not self.in_atomic_block:
            self.close()

    def connect(self) -> None:
        """Django reads the server's version and settings while connecting: as the login's resting role, not a tenant's."""
        self._applied = None
        self._touched = frozenset()
        self._connecting = True
        try:
            super().connect()
        finally:
            self._connecting = False

    @async_unsafe
    def rollback(self) -> None:
        try:
            super().rollback()
        finally:
            self._applied = None  # SET is transactional: the rollback may have undone it

    @async_unsafe
    def savepoint_rollback(self, sid: str) -> None:
        try:
            super().savepoint_rollback(sid)
        finally:
            self._applied = None

    def _handle_search_path(self, cursor: Any = None) -> None:
        if self._setting_search_path or self._connecting:
            return
        if not self.schema_name:
            raise RuntimeError("no schema set")
        if getattr(self.connection, "session_state_changed", False):
            self.connection.session_state_changed = False
            self._applied = None
        wanted = (tuple(self._get_cursor_search_paths()), role_for(self, self.schema_name))
        if self._applied == wanted:
            return
        paths, role = wanted
        statement = "SET search_path = " + ", ".join(map(quote_schema_name, paths))
        if role:
            statement += "; SET ROLE " + quote_schema_name(role)
        self._setting_search_path = True
        self._applied = None
        try:
            with self.wrap_database_errors, psycopg.Cursor(self.connection) as plain:
                plain.execute(statement)
            self._applied = wanted
            if self.schema_name != "public":
                self._touched |= {self.schema_name}
        except InternalError as error:
            if not isinstance(error.__cause__, psycopg.errors.InFailedSqlTransaction):
                raise
            # the transaction is already lost: whatever comes next fails too, and a rollback clears the state
        finally:
            self._setting_search_path = False
