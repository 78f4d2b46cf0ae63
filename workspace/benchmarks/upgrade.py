"""Adding a field to every workspace: by replay, as the product does, and by django-tenants' `migrate_schemas`.

The next version's migration is made for the occasion. While the product upgrades, a web server of the present version is
asked without pause; afterwards an upgrade is killed in the middle and run again.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections, transaction
from django_tenants.migration_executors.base import run_migrations

from tenants import schemas, upgrading
from tenants.database import connection
from tenants.errors import Refused
from tenants.models import Membership, Tenant
from tenants.people import create_person
from tenants.permissions import Role
from tenants.provisioning import create_workspace
from workspace.benchmarks.catalogue import catalogue
from workspace.benchmarks.measuring import Comparison, Setting, alternate, typical
from workspace.benchmarks.serving import Browser, web_server
from workspace.installation import CHECKOUT

SIDES = {
    "product": "upgrade_workspaces: recorded SQL, a transaction for each workspace",
    "reference": "django-tenants' migrate_schemas (standard executor) over as many schemas, in one process",
}
NEXT = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("documents", "{last}")]
    operations = [
        migrations.AddField("document", "benchmark", models.CharField(max_length=20, default="", db_default="")),
    ]
"""
REFERENCE = "tenant_bench"  # begins the names of the reference's schemas
ASKED = 10  # workspaces that the web server is asked about
KILLED = 40  # workspaces whose upgrade is killed
ROUNDS = 5


def run(say: Callable[[str], None], *, rounds: int = ROUNDS, tenants: int = 200) -> Comparison:
    """`tenants` workspaces on each side, in `rounds` parts."""
    with web_server() as port, tempfile.TemporaryDirectory() as directory:
        slugs = [_make(say, number, tenants) for number in range(tenants)]
        others = [_make_reference() for _ in range(tenants)]
        doomed = [_make(say, number, KILLED) for number in range(KILLED)]
        parts = _parts(slugs, rounds), _parts(others, rounds)
        asking = _Asking(port, slugs[:ASKED])
        _next_version(Path(directory))
        asking.start()
        try:
            mine, theirs = (iter(part) for part in parts)
            product, reference = alternate(lambda: _upgrade(next(mine)), lambda: _migrate(next(theirs)), rounds)
        finally:
            asked = asking.stop()
        say("killing an upgrade in the middle")
        killed = _kill_in_the_middle(Path(directory), doomed)
        same = len({tuple(catalogue(connections["operator"], name)) for name in [*_schemas([*slugs, *doomed]), *others]}) == 1
        _remove(others)
    ours, rival = typical(product, reference)
    each = tenants / rounds
    detail = {"workspaces": tenants, "identical": same, "requests_meanwhile": asked, "killed": killed}
    setting = Setting("one workspace", 1000 * ours / each, 1000 * rival / each, "lower", detail)
    return Comparison("upgrade", "ms", SIDES, [setting])


def _make(say: Callable[[str], None], number: int, total: int) -> str:
    if (number + 1) % 100 == 0:
        say(f"{number + 1} of {total} workspaces made")
    tenant, _ = create_workspace("Benchmark", f"bench-{secrets.token_hex(6)}")
    return tenant.slug


def _make_reference() -> str:
    schema = f"{REFERENCE}{secrets.token_hex(8)}"
    with transaction.atomic(using="operator"):
        schemas.create(connections["operator"], schema)
    return schema


def _parts(names: Sequence[str], count: int) -> list[Sequence[str]]:
    return [names[number::count] for number in range(count)]


def _schemas(slugs: Sequence[str]) -> list[str]:
    return list(Tenant.objects.filter(slug__in=slugs).values_list("schema_name", flat=True))


def _remove(names: Sequence[str]) -> None:
    with connections["operator"].cursor() as cursor:
        for name in names:
            cursor.execute(f'DROP SCHEMA "{name}" CASCADE')


# ---------------------------------------------------------------- the next version


def _next_version(directory: Path) -> None:
    """This process is of the next version from here on: documents have one migration more."""
    package = directory / "next_documents"
    if not package.exists():
        shutil.copytree(CHECKOUT / "documents" / "migrations", package, ignore=shutil.ignore_patterns("__pycache__"))
        last = sorted(path.stem for path in package.glob("0*.py"))[-1]
        (package / "9999_benchmark.py").write_text(NEXT.format(last=last))
    sys.path.insert(0, str(directory))
    settings.MIGRATION_MODULES = {"documents": "next_documents"}
    for cached in (schemas.migrations, schemas._of_tenant_apps, schemas.is_behind):
        cached.cache_clear()
    schemas._recipes.clear()


def _upgrade(slugs: Sequence[str]) -> None:
    report = upgrading.upgrade_workspaces(only=slugs)
    if len(report.upgraded) != len(slugs):
        raise Refused(f"Of {len(slugs)} workspaces {len(report.upgraded)} were upgraded: {report.failed}")


def _migrate(names: Sequence[str]) -> None:
    with _as_operator():
        for name in names:
            run_migrations([], {"verbosity": 0, "interactive": False, "database": "default", **_OPTIONS}, "standard", name)


_OPTIONS: dict[str, Any] = {
    "app_label": None, "migration_name": None, "fake": False, "fake_initial": False, "run_syncdb": False, "plan": False,
    "check_unapplied": False, "prune": False, "skip_checks": True, "settings": None, "pythonpath": None, "traceback": False,
    "no_color": True, "force_color": False,
}  # fmt: skip


@contextmanager
def _as_operator() -> Iterator[None]:
    before = connection.settings_dict
    connection.close()
    connection.settings_dict = connections["operator"].settings_dict
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict = before
        connection.set_schema_to_public()


# ---------------------------------------------------------------- asking meanwhile


class _Asking:
    """Somebody who opens the pages of some workspaces, one after the other, until told to stop."""

    def __init__(self, port: int, slugs: Sequence[str]) -> None:
        email, password = f"bench-{secrets.token_hex(6)}@benchmark.invalid", secrets.token_urlsafe(16)
        person = create_person(email, password)
        for tenant in Tenant.objects.filter(slug__in=slugs):
            Membership.objects.create(tenant=tenant, user=person, role=Role.OWNER)
        self._browser, self._slugs = Browser(port, email, password), slugs
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="asking")
        self._answers: list[int] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> dict[str, int]:
        self._stop.set()
        self._thread.join()
        self._browser.close()
        return {"answered": len(self._answers), "failed": sum(status != 200 for status in self._answers)}

    def _ask(self) -> None:
        while not self._stop.is_set():
            for slug in self._slugs:
                for path in ("", "documents/", "evaluation/", "members/"):
                    self._answers.append(self._browser.get(f"/w/{slug}/{path}")[0])


# ---------------------------------------------------------------- killed


DOOMED = """
import django, pathlib, sys
django.setup()
from workspace.benchmarks import upgrade
upgrade._next_version(pathlib.Path(sys.argv[1]))
upgrade.upgrading.upgrade_workspaces(only=sys.argv[2:])
"""


def _kill_in_the_middle(directory: Path, slugs: Sequence[str]) -> dict[str, int]:
    """How many were upgraded when it was killed, and when it had been run again."""
    process = subprocess.Popen([sys.executable, "-c", DOOMED, str(directory), *slugs], cwd=CHECKOUT, env=os.environ.copy())
    while process.poll() is None and _upgraded(slugs) < len(slugs) // 3:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = _upgraded(slugs)
    upgrading.upgrade_workspaces(only=slugs)
    return {"workspaces": len(slugs), "before": before, "after": _upgraded(slugs)}


def _upgraded(slugs: Sequence[str]) -> int:
    return Tenant.objects.filter(slug__in=slugs, schema_version=schemas.head()).count()
