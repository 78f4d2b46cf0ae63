"""Which workspace this thread's connection is in. The connection is the only place that knows: there is no second
variable that could disagree with what the database enforces.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tenants.database import connection

if TYPE_CHECKING:
    from tenants.models import Tenant


class NoTenant(RuntimeError):
    """Workspace code ran outside a workspace: a programming error, never a default."""


def current_tenant() -> "Tenant":
    """The tenant the connection is in; raises NoTenant in public context."""
    from tenants.models import Tenant

    tenant = connection.tenant
    if not isinstance(tenant, Tenant):
        raise NoTenant("this code needs a workspace; enter one with tenants.context.workspace(tenant)")
    return tenant


@contextmanager
def workspace(tenant: "Tenant") -> Iterator["Tenant"]:
    """Be in `tenant` (schema and role) for the block, then back where we were.

    Made anew per use: django-tenants' `with tenant:` shares its stack between threads (evidence: it leaks).
    """
    before, include_public = connection.tenant, connection.include_public_schema
    connection.set_tenant(tenant)
    try:
        yield tenant
    finally:
        connection.set_tenant(before, include_public)


@contextmanager
def public_context() -> Iterator[None]:
    """Be in the public schema for the block; for what belongs to the installation (sessions, mail, keys)."""
    before, include_public = connection.tenant, connection.include_public_schema
    connection.set_schema_to_public()
    try:
        yield
    finally:
        connection.set_tenant(before, include_public)
