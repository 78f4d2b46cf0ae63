"""New wrapping keys: every workspace stays readable, whatever happens on the way, and the old keys are gone at the end."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.conf import settings

from tenants.errors import Refused
from tenants.keys.keyring import keyring, provider
from tenants.keys.providers import Keystore, KeyUnavailable, SealedKeystore
from tenants.keys.rewrapping import rewrap_all
from tenants.models import Tenant, TenantKey
from tests.running import ROOT, Running

ROOT_KEY = "q" * 32


@pytest.fixture
def keys_put_back() -> Iterator[None]:
    """The keystore as it was: later tests read the same workspaces with it."""
    directory = Path(settings.KEYS_DIR)
    before = {path: path.read_bytes() for path in directory.glob("*.key")}
    yield
    for path in [*directory.glob("*.key"), *directory.glob("*.sealed")]:
        if path not in before:
            path.unlink()
    for path, content in before.items():
        path.write_bytes(content)
        path.chmod(0o600)
    keyring.forget()


def subkeys(*tenants: Tenant) -> list[bytes]:
    keyring.forget()
    return [keyring.subkey(tenant.id, 1, "text") for tenant in tenants]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("keys_put_back")
class TestInOneProcess:
    def test_every_workspace_has_a_new_wrapping_key_and_the_same_keys(self, workspace_a: Tenant, workspace_b: Tenant) -> None:
        before, wrapped = subkeys(workspace_a, workspace_b), bytes(TenantKey.objects.get(tenant=workspace_a).wrapped)
        report = rewrap_all()
        assert (report.workspaces, report.keys, report.failed, report.resumed) == (2, 2, {}, False)
        assert subkeys(workspace_a, workspace_b) == before
        keystore = provider()
        assert keystore.versions(workspace_a.id) == [2]
        with pytest.raises(KeyUnavailable):  # what an old copy of the database holds
            keystore.unwrap(workspace_a.id, wrapped, b"")
        assert rewrap_all().workspaces == 2
        assert keystore.versions(workspace_a.id) == [3]
        assert subkeys(workspace_a, workspace_b) == before

    def test_keys_move_to_another_provider(self, workspace_a: Tenant, workspace_b: Tenant, settings: Any) -> None:
        before, installation = subkeys(workspace_a, workspace_b), provider().installation_key()
        settings.KEY_PROVIDER, settings.KEYS_ROOT_KEY = "sealed-keystore", ROOT_KEY.encode()
        assert rewrap_all("keystore").workspaces == 2
        assert subkeys(workspace_a, workspace_b) == before
        assert set(TenantKey.objects.values_list("provider", flat=True)) == {"sealed-keystore"}
        assert provider().installation_key() == installation
        theirs = ("installation", workspace_a.id, workspace_b.id)  # others may have been left by workspaces of other tests
        assert [name for name in theirs if list(Path(settings.KEYS_DIR).glob(f"{name}*.key"))] == []
        assert rewrap_all("keystore").workspaces == 0

    def test_one_that_fails_keeps_its_key_and_does_not_stop_the_others(self, workspace_a: Tenant, workspace_b: Tenant) -> None:
        before = subkeys(workspace_b)
        path = Path(settings.KEYS_DIR) / f"{workspace_a.id}.key"
        whole = path.read_bytes()
        path.write_text("{}")
        report = rewrap_all()
        assert list(report.failed) == ["alpha"]
        assert subkeys(workspace_b) == before
        path.write_bytes(whole)
        again = rewrap_all()
        assert (again.workspaces, again.failed, again.resumed) == (1, {}, True)
        subkeys(workspace_a)

    def test_what_cannot_be(self) -> None:
        with pytest.raises(Refused, match="set it to the new one"):
            rewrap_all("keystore")
        with pytest.raises(Refused, match="There is no key provider"):
            rewrap_all("drawer")


class Apart(Running):
    """With a database and a Redis database of its own: that of the other tests has keys of its own."""

    def environment(self, kind: str) -> dict[str, str]:
        found = super().environment(kind)
        parts = urlsplit(found["DATABASE_URL"])
        redis = found["REDIS_URL"]
        other = redis.replace("db=3", "db=4") if redis.startswith("unix:") else re.sub(r"/3$", "/4", redis)
        return found | {"DATABASE_URL": urlunsplit(parts._replace(path="/rewrapping")), "REDIS_URL": other}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Running:
    made = Apart(tmp_path_factory.mktemp("rewrapping"))
    made.settings["KEYS_ROOT_KEY"] = ROOT_KEY.encode().hex()
    made.prepare()
    for number in range(4):
        made.manage("create_workspace", f"Kept {number}", "--slug", f"kept-{number}", "--owner", f"kept-{number}@example.org")
    return made


def opened(installation: Running) -> dict[str, bytes]:
    """The workspace keys, by the database as it is and the keystore as it is."""
    from tenants.keys.keyring import wrap_binding

    providers = {
        each.name: each for each in (Keystore(installation.keys), SealedKeystore(installation.keys, ROOT_KEY.encode()))
    }
    environment = installation.environment("administrator")
    with psycopg.connect(environment["DATABASE_URL"]) as database:
        rows = database.execute("SELECT tenant_id, version, wrapped, provider FROM tenants_tenantkey").fetchall()
    return {
        str(tenant): providers[name].unwrap(tenant, bytes(wrapped), wrap_binding(tenant, version))
        for tenant, version, wrapped, name in rows
    }


def state(installation: Running) -> tuple[set[str], int]:
    """What a run changes first: files of the keystore, or its own notes."""
    notes = installation.keys / "witness" / "rewrapping"
    return {path.name for path in installation.keys.iterdir()}, notes.stat().st_size if notes.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("move", [False, True])
@pytest.mark.django_db
def test_killed_anywhere_every_workspace_stays_readable_and_the_next_run_ends_it(installation: Running, move: bool) -> None:
    before, dice, killed = opened(installation), random.Random(4 + move), 0
    assert len(before) == 4
    environment = installation.environment("worker") | ({"KEY_PROVIDER": "sealed-keystore"} if move else {})
    command = [sys.executable, "manage.py", "rotate_keys", "--provider", *(["--from", "keystore"] if move else []), "--json"]
    for _ in range(6):
        before_it = state(installation)
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and state(installation) == before_it:
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.06))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.communicate()
        assert opened(installation) == before
    assert killed >= 3
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert opened(installation) == before
    left = [path.name for path in installation.keys.glob("*-*") if path.is_file() and path.suffix != ".pending"]
    assert len(left) == 4
    assert all(name.endswith(".sealed") for name in left) == move
    if move:
        assert not (installation.keys / "installation.key").exists()
    assert os.path.isdir(installation.keys / "witness")
