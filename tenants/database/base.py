"""The database backend: search path **and** role of the current tenant, set together and forgotten on every doubt.

django-tenants sets the search path only, so that a mistake in SQL reads another workspace's tables. Here the
connection also becomes the tenant's role, to which PostgreSQL answers "permission denied" outside its own schema.
With TENANT_LOGINS=1 it is another connection instead, of the tenant's own login: nothing leads from one to the other.
"""

import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import psycopg
from django.conf import settings
from django.db import Error, InternalError
from django.db.backends.postgresql.base import ServerBindingCursor
from django.utils.asyncio import async_unsafe
from django_tenants.postgresql_backend import base
from django_tenants.utils import quote_schema_name
from psycopg._queries import PostgresQuery
from psycopg.pq import TransactionStatus

from tenants.database.schema import SchemaEditor
from tenants.roles import login_for, role_for

# A backend keeps about 265 KB of catalogue cache for each workspace it has touched, until its connection closes
# (`benchmark provisioning` reports it): so that memory is bounded, a connection serves so many and is then made anew.
MOST_WORKSPACES = 50

# What PostgreSQL says it has done (its command tag), of statements that leave the session as it was. A tag cannot be
# disguised, as the beginning of a statement can: by comments, by EXPLAIN, by whatever a later version brings.
KEEPS_SESSION = (
    "SELECT ", "INSERT ", "UPDATE ", "DELETE ", "MERGE ", "COPY ", "EXPLAIN", "SHOW", "SAVEPOINT", "RELEASE",
    "SET CONSTRAINTS",
)  # fmt: skip
ENDS_TRANSACTION = ("ROLLBACK", "COMMIT", "BEGIN", "START TRANSACTION")  # SET is transactional

KEPT = 2  # connections a thread keeps with TENANT_LOGINS: the public one and the last workspace's


class Session(IntEnum):
    """How far the server's session can be what we believe."""

    KNOWN = 0
    UNSURE = 1  # role and search path may have gone back to what they were
    ALTERED = 2  # raw SQL left something in it: a role, a setting, an open cursor, a prepared statement


class ChangesLogin(RuntimeError):
    """With TENANT_LOGINS a transaction belongs to one workspace: entering or leaving one inside it is a mistake in the code."""


class Cursor(ServerBindingCursor):
    """Sends every statement by the extended protocol, which refuses `…; SET ROLE other` stacked behind a statement, and
    notices what changes the session.

    psycopg uses the simple protocol for statements without parameters; tests/tenants/test_database.py holds this
    override of a private method against the pinned version.
    """

    _conn: Any
    statusmessage: str | None

    def _execute_send(self, query: PostgresQuery, *, force_extended: bool = False, binary: bool | None = None) -> None:
        self._conn.session = Session.ALTERED  # unless `execute` learns better
        super()._execute_send(query, force_extended=True, binary=binary)  # type: ignore[misc]

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        before = getattr(self._conn, "session", Session.KNOWN)
        after = max(before, Session.UNSURE)  # it fails: the server has undone it, and perhaps more
        try:
            result = super().execute(*args, **kwargs)  # type: ignore[misc]
            tag = self.statusmessage or ""
            if tag.startswith(KEEPS_SESSION):
                after = before
            elif not tag.startswith(ENDS_TRANSACTION):
                after = Session.ALTERED
        finally:
            self._conn.session = after
        return result


@dataclass
class Parked:
    """A connection of another login than the current one, and what Django and we know about it."""

    connection: Any
    close_at: float | None
    errors_occurred: bool
    health_check_done: bool
    applied: tuple[tuple[str, ...], str | None] | None


class DatabaseWrapper(base.DatabaseWrapper):
    SchemaEditorClass = SchemaEditor
    connection: Any
    close_at: float | None
    errors_occurred: bool
    health_check_done: bool
    _applied: tuple[tuple[str, ...], str | None] | None = None  # what the server's session has; None: unknown
    _worked_out: tuple[tuple[Any, ...], tuple[tuple[str, ...], str | None]] | None = None  # see `_wanted`
    _connecting = False
    _setting_search_path: bool
    _touched: frozenset[str] = frozenset()  # schemas of workspaces, since the connection was made
    _login: str | None = None  # whose connection this is: a workspace's own login, or None: the one of the settings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._parked: OrderedDict[str | None, Parked] = OrderedDict()
        super().__init__(*args, **kwargs)

    def get_connection_params(self) -> dict[str, Any]:
        params = super().get_connection_params()
        params["cursor_factory"] = Cursor
        if self._login:
            from tenants import logins  # reads the keystore by way of models, which need this module first

            params |= {"user": self._login, "password": logins.password(self._login)}
        return params

    def set_tenant(self, tenant: Any, include_public: bool = True) -> None:
        self._change_login(login_for(self, tenant.schema_name))
        super().set_tenant(tenant, include_public)

    def return_to_public(self) -> None:
        """At the end of a request or job: as `set_schema_to_public`, but on the server too, not with the next statement only.

        A connection that cannot be brought back is closed.
        """
        self.set_schema_to_public()
        if self.connection is None or self.in_atomic_block:
            return
        with suppress(Error):
            self._handle_search_path()
        if self._applied is None:
            self.close()

    def close(self) -> None:
        """All of this thread's connections."""
        self._applied = None
        self._touched = frozenset()
        while self._parked:
            self._drop(next(iter(self._parked)))
        super().close()

    def close_if_unusable_or_obsolete(self) -> None:
        """Called by Django at the end of a request, and by the worker after each job and each workspace it sweeps."""
        super().close_if_unusable_or_obsolete()
        for login, parked in list(self._parked.items()):
            parked.health_check_done = False
            if parked.errors_occurred or (parked.close_at is not None and time.monotonic() >= parked.close_at):
                self._drop(login)
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

    def _commit(self) -> None:
        """Of a transaction in which a statement failed PostgreSQL makes a rollback, and says so to nobody."""
        lost = self.connection is not None and self.connection.info.transaction_status == TransactionStatus.INERROR
        try:
            super()._commit()
        finally:
            if lost:
                self._applied = None

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

    def _change_login(self, login: str | None) -> None:
        """Continue with the connection of another login; the current one is parked, what has waited longest is closed."""
        if login == self._login:
            return
        if self.in_atomic_block or (self.connection is not None and not self.autocommit):
            raise ChangesLogin("a transaction is open: enter or leave a workspace before it begins or after it has ended")
        if self.connection is not None:
            self._parked[self._login] = Parked(
                self.connection, self.close_at, self.errors_occurred, self.health_check_done, self._applied
            )
        self._login, self.connection, self._applied = login, None, None
        if found := self._parked.pop(login, None):
            self.connection, self._applied = found.connection, found.applied
            self.close_at, self.errors_occurred = found.close_at, found.errors_occurred
            self.health_check_done = found.health_check_done
        while len(self._parked) >= KEPT:
            self._drop(next(iter(self._parked)))

    def _drop(self, login: str | None) -> None:
        with suppress(psycopg.Error):  # it may be broken already
            self._parked.pop(login).connection.close()

    def _handle_search_path(self, cursor: Any = None) -> None:
        if self._setting_search_path or self._connecting:
            return
        if not self.schema_name:
            raise RuntimeError("no schema set")
        session = getattr(self.connection, "session", Session.KNOWN)
        if session is not Session.KNOWN:
            self._applied = None
        wanted = self._wanted()
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
                if session is Session.ALTERED and self._can_discard():
                    plain.execute("DISCARD ALL")
                    session = Session.UNSURE
                plain.execute(statement)
            self._applied = wanted
            if self.schema_name != "public" and self._login is None:
                self._touched |= {self.schema_name}
            if session is not Session.ALTERED:
                self.connection.session = Session.KNOWN
        except InternalError as error:
            if not isinstance(error.__cause__, psycopg.errors.InFailedSqlTransaction):
                raise
            # the transaction is already lost: whatever comes next fails too, and a rollback clears the state
        finally:
            self._setting_search_path = False

    def _wanted(self) -> tuple[tuple[str, ...], str | None]:
        """Search path and role of the current tenant; worked out once for all statements of a request."""
        is_switching = self.settings_dict.get("SWITCH_ROLES", True)
        about = (self.schema_name, self.include_public_schema, settings.TENANT_LOGINS, is_switching, self.settings_dict["NAME"])
        if self._worked_out is None or self._worked_out[0] != about:
            self._worked_out = about, (tuple(self._get_cursor_search_paths()), role_for(self, self.schema_name))
        return self._worked_out[1]

    def _can_discard(self) -> bool:
        """What raw SQL left in the session must not reach the next workspace. Not in a transaction: it is made up for later."""
        idle: bool = self.connection.info.transaction_status == TransactionStatus.IDLE and self.connection.autocommit
        return idle and bool(self.settings_dict.get("SWITCH_ROLES", True))
