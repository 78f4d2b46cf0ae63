"""Creating a workspace: by replay, as the product does, and by django-tenants' `migrate_schemas`."""

import secrets
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.management import call_command
from django.db import connections
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from search.querying import forget_questions, search
from search.sources import sources
from tenants import provisioning
from tenants.context import workspace
from tenants.database import connection
from tenants.models import Tenant, User
from workspace.benchmarks import filling, material
from workspace.benchmarks.measuring import Comparison, Setting, alternate, median, typical
from workspace.benchmarks.memory import per_connection

SIDES = {
    "product": "create_workspace: row, keys, schema by replayed SQL, role and grants, all committed",
    "reference": "CREATE SCHEMA and django-tenants' migrate_schemas for it (no role, no key)",
}

QUESTIONS, WARM_UP = 60, 6
VISITED = 300  # workspaces that one connection goes through

MIGRATED = "tenant_bench"  # begins the names of the reference's schemas; a tenant's go on with hexadecimal digits


def run(say: Callable[[str], None], *, rounds: int = 10, tenants: int = 0, passages: int = 300) -> Comparison:
    """`rounds` of each in turn; with `tenants`, as many workspaces on top, and what that does to those that come late."""
    provisioning.create_workspace("Warm up", f"bench-{secrets.token_hex(6)}")  # collects the SQL, once per process
    try:
        product, reference = alternate(_create, _migrate, rounds)
    finally:
        _remove_migrated()
    ours, theirs = typical(product, reference)
    compared = [Setting("one workspace", 1000 * ours, 1000 * theirs, "lower")]
    if tenants:
        first = _create()
        compared.append(_growth(say, tenants))
        compared.append(_search(say, first, _create(), passages))
    return Comparison("provisioning", "ms", SIDES, compared)


def _create() -> Tenant:
    return provisioning.create_workspace("Benchmark", f"bench-{secrets.token_hex(6)}")[0]


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
    detail = {
        "workspaces": Tenant.objects.count(),
        "staff_list": _staff_list(),
        "memory_per_connection": per_connection(list(Tenant.objects.filter(status=Tenant.Status.ACTIVE)[:VISITED])),
    }
    last, first = 1000 * median(times[-tenth:]), 1000 * median(times[:tenth])
    return Setting(f"the last tenth of {tenants} against the first", last, first, "lower", detail)


def _staff_list() -> dict[str, Any]:
    """What the first page of the console's list of workspaces costs, without middleware."""
    request = RequestFactory().get("/admin/tenants/tenant/")
    request.user = User(email="benchmark@benchmark.invalid", is_staff=True, is_superuser=True, is_active=True)
    page = admin.site._registry[Tenant].changelist_view
    page(request).render()  # type: ignore[attr-defined]  # templates are compiled once
    with CaptureQueriesContext(connection) as queries:
        began = time.perf_counter()
        page(request).render()  # type: ignore[attr-defined]
        took = time.perf_counter() - began
    return {"ms": round(1000 * took, 1), "queries": len(queries)}


def _search(say: Callable[[str], None], first: Tenant, last: Tenant, passages: int) -> Setting:
    """The same passages and questions in a workspace made before all others and in one made after them."""
    made = filling.make(passages)
    for tenant in (first, last):
        with workspace(tenant):
            filling.store(made.vectors, made.texts(), settings.DEFAULT_PROTECTION, say)

    def ask(tenant: Tenant, question: str) -> float:
        with workspace(tenant):
            forget_questions(tenant.pk)
            began = time.perf_counter()
            search(question, collections=sources().everything())
            return time.perf_counter() - began

    pairs = [(ask(last, question), ask(first, question)) for question in material.questions(WARM_UP + QUESTIONS)][WARM_UP:]
    late, early = (1000 * median(side) for side in zip(*pairs, strict=True))
    detail = {"passages": passages, "questions": len(pairs)}
    return Setting("a search in the last workspace against the first, p50", late, early, "lower", detail)
