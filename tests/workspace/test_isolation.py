"""The isolation self-test: finds nothing where nothing leaks, and names the route of every leak that is planted."""

import json
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command

from search.pool import pool
from tenants.models import IsolationCheck, Tenant
from workspace.isolation import canaries
from workspace.isolation.verifying import verify_isolation

pytestmark = pytest.mark.django_db

State = IsolationCheck.State


@pytest.fixture(autouse=True)
def _files(settings: LazySettings, tmp_path: Path, model_dir: Path) -> Iterator[None]:
    settings.FILES_DIR = tmp_path / "files"
    pool().clear()
    yield
    pool().clear()


@pytest.fixture
def both(workspace_a: Tenant, workspace_b: Tenant) -> tuple[Tenant, Tenant]:
    return workspace_a, workspace_b


def test_nothing_leaks(both: tuple[Tenant, Tenant], capsys) -> None:
    for tenant in both:
        canaries.ensure(tenant)
    begun = time.perf_counter()
    check = verify_isolation([both[0]])
    with capsys.disabled():
        print(f"one workspace against one other: {time.perf_counter() - begun:.2f} s", check.attempts, check.counts["by_kind"])
        print(check.counts["controls"], check.leaks)
    assert (check.state, check.leaks, check.controls) == (State.PASSED, [], [])
