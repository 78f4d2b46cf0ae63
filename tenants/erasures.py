"""What was erased, written down outside the database, so that an older backup does not bring it back.

For each workspace a list in the witness, added to before an erasure is committed; `Tenant.erasures_seen` says how much of
it this database has followed. One that has not followed all of it is shut until it has (documents.erasing, which knows what
the lines mean). An erased workspace leaves a record of its own.
"""

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db.models import Q

from tenants import witness
from tenants.context import public_context
from tenants.models import Tenant

# An erasure that is being committed writes its line some milliseconds before it has been followed: wait for that long
# before saying that the database is older than its list.
FRESH_SECONDS = 5.0
LOOK_AGAIN_SECONDS = 0.05


def list_of(tenant_id: UUID) -> str:
    return f"erasures/{tenant_id}"


def record_of(tenant_id: UUID) -> str:
    """The record that a workspace was erased, or is being."""
    return f"erased/{tenant_id}"


def is_erased(tenant_id: UUID) -> bool:
    """Whether it was erased, whatever the database says."""
    return witness.exists(record_of(tenant_id))


def is_behind(tenant: Tenant) -> bool:
    """Whether this database holds what was erased, or may: nobody works in the workspace until it has followed its list.

    Two calls of stat(), unless it is behind.
    """
    if is_erased(tenant.pk):
        return True
    size = witness.size(list_of(tenant.pk))
    while tenant.erasures_seen < size:
        if (now := _seen(tenant)) >= size:
            tenant.erasures_seen = now
            return False
        if time.time() - witness.written_at(list_of(tenant.pk)) > FRESH_SECONDS:
            return True
        time.sleep(LOOK_AGAIN_SECONDS)
    return False


def behind() -> list[Tenant]:
    """Workspaces that have not followed their list. In public context."""
    known = {UUID(name.rpartition("/")[2]): witness.size(name) for name in witness.names("erasures")}
    made = Tenant.objects.filter(pk__in=known, status__in=Tenant.MADE)
    return [tenant for tenant in made if tenant.erasures_seen < known[tenant.pk]]


def waiting(tenant: Tenant) -> Iterator[dict[str, Any]]:
    """The lines that this database has not followed yet."""
    return witness.lines(list_of(tenant.pk), _seen(tenant))


def followed(tenant: Tenant, end: int) -> None:
    """Write down that everything up to byte `end` of the list was followed, unless more is known already."""
    size = witness.size(list_of(tenant.pk))
    with public_context():
        # more than there is was seen of a list that is lost: begin anew
        stale = Q(erasures_seen__lt=end) | Q(erasures_seen__gt=size)
        Tenant.objects.filter(stale, pk=tenant.pk).update(erasures_seen=end)
    tenant.erasures_seen = max(tenant.erasures_seen, end)


def begin_anew(tenant: Tenant) -> None:
    """Have the whole list followed again."""
    with public_context():
        Tenant.objects.filter(pk=tenant.pk).update(erasures_seen=0)
    tenant.erasures_seen = 0


def _seen(tenant: Tenant) -> int:
    found = Tenant.objects.filter(pk=tenant.pk).values_list("erasures_seen", flat=True).first()
    return tenant.erasures_seen if found is None else found
