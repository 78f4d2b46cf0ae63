"""What a database connection weighs: private memory of the PostgreSQL process behind it, after touching workspaces.

Read from /proc, so only where the database runs on this machine.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.db import close_old_connections

from documents.models import Document
from search.models import Chunk
from tenants.context import workspace
from tenants.database import base, connection
from tenants.errors import Refused
from tenants.models import Tenant

REQUESTS = 2  # to each workspace: the first fills the caches


def per_connection(tenants: Sequence[Tenant], *, bounded: bool = True) -> dict[str, Any]:
    """Private megabytes of the connection while it visits `tenants` in turn, as requests do; `bounded` as the product is.

    `peak_mb` is the most it held at the end of any request, `fresh_mb` what a new connection holds.
    """
    limit, base.MOST_WORKSPACES = base.MOST_WORKSPACES, base.MOST_WORKSPACES if bounded else len(tenants)
    connection.close()
    connection.set_schema_to_public()
    try:
        fresh = peak = _private_mb()
        for tenant in tenants:
            for _ in range(REQUESTS):
                with workspace(tenant):
                    Document.objects.count()
                    Chunk.objects.count()
            peak = max(peak, _private_mb())
            close_old_connections()
        return {
            "workspaces": len(tenants),
            "limit": base.MOST_WORKSPACES,
            "fresh_mb": round(fresh, 1),
            "peak_mb": round(peak, 1),
            "last_mb": round(_private_mb(), 1),
        }
    finally:
        base.MOST_WORKSPACES = limit
        connection.close()


def _private_mb() -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        raise Refused("The database does not run on this machine, so the memory of its processes cannot be read.") from None
    (anonymous,) = (line.split()[1] for line in lines if line.startswith("RssAnon:"))
    return int(anonymous) / 1024
