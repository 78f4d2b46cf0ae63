"""Keys show in no log line, traceback, error page or core dump."""

import io
import logging
import os
import resource
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from tenants.ciphers import Tampered, cipher
from tenants.keys.keyring import keyring, provider
from tenants.keys.providers import AWSKMS, KeyUnavailable, SealedKeystore, Vault
from tenants.keys.providers.aws_kms import KMSPlace
from tenants.keys.providers.vault import VaultPlace
from tenants.models import Tenant, TenantKey
from tenants.privacy import PrivateFormatter, describe_exception
from tests.running import ROOT


def ways_to_write(secret: bytes) -> set[str]:
    import base64

    return {repr(secret), secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]}


@pytest.mark.django_db
def test_no_key_in_what_is_told_of_a_failure(in_workspace_a: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapping = provider()._read(str(in_workspace_a.id))  # type: ignore[attr-defined]
    subkey = keyring.subkey(in_workspace_a.id, 1, "text")
    blob = cipher("text").encrypt(("t", "c", "r"), b"a secret text")
    row = TenantKey.objects.values_list("wrapped", flat=True)
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    handler.setFormatter(PrivateFormatter("%(message)s"))
    logger = logging.getLogger("tests.secrecy")
    logger.addHandler(handler)

    def unwrap_otherwise() -> None:
        keyring.forget()
        provider().unwrap(in_workspace_a.id, bytes(row.get(tenant_id=in_workspace_a.id)), b"elsewhere")

    for failing, expected in [
        (unwrap_otherwise, KeyUnavailable),
        (lambda: cipher("text").decrypt(("t", "c", "other"), blob), Tampered),
        (lambda: cipher("text").encrypt(("t", "c", "r"), "no bytes"), TypeError),  # type: ignore[arg-type]
    ]:
        try:
            failing()
        except expected as error:
            logger.exception("it failed")
            told.write("".join(traceback.format_exception(error)) + describe_exception(error))
        else:
            raise AssertionError("it had to fail")
    told.write(repr(keyring) + repr(provider()) + repr(cipher("text")))
    for secret in (wrapping, subkey, b"a secret text"):
        for written in ways_to_write(secret):
            assert written not in told.getvalue()


def test_what_holds_a_secret_does_not_show_it() -> None:
    tmp_path = Path("/keys")
    vault = VaultPlace("https://vault.example.org", token="hvs.secret", role_id="secret-role", secret_id="secret-id")
    kms = KMSPlace("eu-central-1", "AKIASECRET", "secret-key", session_token="secret-session")
    shown = repr(
        [
            vault,
            kms,
            Vault(tmp_path, vault),
            AWSKMS(tmp_path, kms),
            SealedKeystore(tmp_path, b"secret-root-key-of-32-bytes-long"),
        ]
    )
    assert not [word for word in ("hvs.", "secret-", "AKIA") if word in shown]


def test_nothing_shows_the_variables_of_a_frame() -> None:
    code = [path for part in ("tenants", "workspace", "documents", "search") for path in (ROOT / part).rglob("*.py")]
    assert code
    for path in code:
        assert "capture_locals" not in path.read_text(), path
    assert not settings.DEBUG


def limit_of(pid: int) -> str:
    (line,) = [line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max core file size")]
    return " ".join(line.split()[4:6])


@pytest.mark.slow
@pytest.mark.django_db
def test_the_running_processes_leave_no_core_dump(running: Any) -> None:
    running.wait(lambda: limit_of(running.processes["worker"].pid) == "0 0", "the worker to have begun")
    pids = [running.processes["worker"].pid]
    web = running.processes["web"].pid
    children = Path(f"/proc/{web}/task/{web}/children").read_text().split()
    assert children
    pids += [int(child) for child in children]
    for pid in pids:
        assert limit_of(pid) == "0 0"


def test_a_process_that_aborts_is_not_dumpable() -> None:
    code = (
        "import ctypes, resource; from tenants.memory import keep_private; resource.setrlimit(resource.RLIMIT_CORE, "
        "(resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2); keep_private(); "
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(0, 0) 0"
    assert resource.RLIMIT_CORE is not None


@pytest.mark.django_db
class TestAKeyServiceThatIsAway:
    @pytest.fixture(autouse=True)
    def _away(self, settings: Any) -> None:
        settings.VAULT = VaultPlace("http://127.0.0.1:9", token="hvs.secret")  # discard: nobody listens

    def test_a_page_says_so_and_asks_to_try_again(self, client_viewer: Client, workspace_a: Tenant) -> None:
        client_viewer.raise_request_exception = False
        from documents.models import Collection
        from documents.receiving import collection_named
        from tenants.context import workspace

        with workspace(workspace_a):
            collection_named("Secret")
            assert Collection.objects.count() == 1
        TenantKey.objects.filter(tenant=workspace_a).update(provider="vault", wrapped=b"\2\2\0\0\0\1" + b"w" * 60)
        keyring.forget()
        answer = client_viewer.get("/w/alpha/documents/")
        assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "10")
        assert "keys cannot be reached" in answer.content.decode()
        assert "hvs." not in answer.content.decode()

    def test_also_when_the_session_itself_cannot_be_opened(self, client_viewer: Client, settings: Any) -> None:
        client_viewer.raise_request_exception = False
        settings.KEY_PROVIDER = "vault"
        (Path(settings.KEYS_DIR) / "installation.vault").write_text('{"wrapped": "AgIAAAABAAAAAAAAAAAAAAAAAAAAAAAA"}')
        try:
            answer = client_viewer.get("/")
        finally:
            (Path(settings.KEYS_DIR) / "installation.vault").unlink()
        assert answer.status_code == 503
        assert "Nothing is lost" in answer.content.decode()
