"""Locks that keep two processes from the same work: PostgreSQL's, so that a dead process's lock is gone with its session."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from tenants.database import connection


@contextmanager
def alone_with(identity: UUID) -> Iterator[bool]:
    """Hold the advisory lock of a row; False when another session has it. The same session may take it again."""
    key = int.from_bytes(identity.bytes[:8], "big", signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s::bigint)", [key])
        (alone,) = cursor.fetchone() or (False,)
    try:
        yield bool(alone)
    finally:
        if alone and connection.connection is not None and not connection.connection.closed:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s::bigint)", [key])
