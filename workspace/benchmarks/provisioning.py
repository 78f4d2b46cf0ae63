"""Creating a workspace: by replay, as the product does, and by django-tenants' `migrate_schemas`."""

import secrets
import time
from collections.abc import Callable

from django.core.management import call_command
from django.db import connections

from tenants import provisioning
from tenants.database import connection
from tenants.models import Tenant
from workspace.benchmarks.measuring import Comparison, Setting, alternate, median, typical

SIDES = {
    "product": "create_workspace: row, keys, schema by replayed SQL, role and grants, all committed",
    "reference": "CREATE SCHEMA and django-tenants' migrate_schemas for it (no role, no key)",
}

MIGRATED = "tenant_bench"  # begins the names of the reference's schemas; a tenant's go on with hexadecimal digits


def run(say: Callable[[str], None], *, rounds: int = 10, tenants: int = 0) -> Comparison:
    """`rounds` of each in turn; with `tenants`, as many workspaces on top, first decile against last."""
    provisioning.create_workspace("Warm up", f"bench-{secrets.token_hex(6)}")  # collects the SQL, once per process
    try:
        product, reference = alternate(_create, _migrate, rounds)
    finally:
        _remove_migrated()
    ours, theirs = typical(product, reference)
    settings = [Setting("one workspace", 1000 * ours, 1000 * theirs, "lower")]
    if tenants:
        settings.append(_growth(say, tenants))
    return Comparison("provisioning", "ms", SIDES, settings)


def _create() -> None:
    provisioning.create_workspace("Benchmark", f"bench-{secrets.token_hex(6)}")


def _migrate() -> None:
    """As the operator, who owns what tenants use."""
    schema = f"{MIGRATED}{secrets.token_hex(8)}"
    with connections["operator"].cursor() as cursor:
        cursor.execute(f'CREATE SCHEMA "{schema}"')
    before = connection.settings_dict
    connection.close()
    connection.settings_dict = connections["operator"].settings_dict
    try:
        call_command("migrate_schemas", schema_name=schema, verbosity=0)
    finally:
        connection.close()
        connection.settings_dict = before
        connection.set_schema_to_public()


def _remove_migrated() -> None:
    with connections["operator"].cursor() as cursor:
        cursor.execute("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", [MIGRATED])
        for (schema,) in cursor.fetchall():
            cursor.execute(f'DROP SCHEMA "{schema}" CASCADE')


def _growth(say: Callable[[str], None], tenants: int) -> Setting:
    times = []
    for number in range(tenants):
        began = time.perf_counter()
        _create()
        times.append(time.perf_counter() - began)
        if (number + 1) % 100 == 0:
            say(f"{number + 1} of {tenants} workspaces")
    tenth = max(1, tenants // 10)
    return Setting(
        f"the last tenth of {tenants} against the first",
        1000 * median(times[-tenth:]),
        1000 * median(times[:tenth]),
        "lower",
        {"workspaces": Tenant.objects.count()},
    )
