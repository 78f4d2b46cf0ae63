"""Every provider does the same: wraps what only it opens, where it belongs, until it is told to destroy; and fails in words."""

import base64
import json
import socket
import traceback
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st

from tenants.keys.providers import AWSKMS, Keystore, KeyUnavailable, ProviderUnreachable, SealedKeystore, Vault, remote
from tenants.keys.providers.aws_kms import KMSPlace, signature
from tenants.keys.providers.vault import VaultPlace
from tests.tenants.key_services import CloudKMS, TransitVault

ROOT = b"r" * 32
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def vault() -> Iterator[TransitVault]:
    with TransitVault().running() as service:
        yield service


@pytest.fixture(scope="module")
def kms() -> Iterator[CloudKMS]:
    with CloudKMS().running() as service:
        yield service


@pytest.fixture(autouse=True)
def _as_before(vault: TransitVault, kms: CloudKMS) -> Iterator[None]:
    remote.forget()
    yield
    vault.failing = kms.failing = ""


def at_vault(directory: Path, service: TransitVault) -> Vault:
    return Vault(directory, VaultPlace(service.url, token=service.token))


def at_kms(directory: Path, service: CloudKMS) -> AWSKMS:
    return AWSKMS(directory, KMSPlace(service.region, service.access_key_id, service.secret, endpoint=service.url))


@pytest.fixture(params=["keystore", "sealed-keystore", "vault", "aws-kms"])
def provider(request: pytest.FixtureRequest, tmp_path: Path, vault: TransitVault, kms: CloudKMS) -> Any:
    return {
        "keystore": lambda: Keystore(tmp_path / "keys"),
        "sealed-keystore": lambda: SealedKeystore(tmp_path / "keys", ROOT),
        "vault": lambda: at_vault(tmp_path / "keys", vault),
        "aws-kms": lambda: at_kms(tmp_path / "keys", kms),
    }[request.param]()


def test_it_wraps_and_opens_bound_to_what_it_is_for(provider: Any) -> None:
    tenant, other = uuid4(), uuid4()
    provider.create(tenant)
    provider.create(other)
    wrapped = provider.wrap(tenant, KEY, b"version 1")
    assert KEY not in wrapped
    assert provider.unwrap(tenant, wrapped, b"version 1") == KEY
    for elsewhere in ((tenant, wrapped, b"version 2"), (other, wrapped, b"version 1")):
        with pytest.raises(KeyUnavailable):
            provider.unwrap(*elsewhere)


def test_creating_again_keeps_the_key_and_pending_ends_with_activation(provider: Any) -> None:
    tenant = uuid4()
    provider.create(tenant)
    wrapped = provider.wrap(tenant, KEY, b"")
    assert [found for found, _ in provider.pending()] == [tenant]
    provider.create(tenant)
    provider.activate(tenant)
    provider.create(tenant)
    assert provider.unwrap(tenant, wrapped, b"") == KEY
    assert list(provider.pending()) == []


def test_a_rotated_key_opens_what_came_before_until_it_is_pruned(provider: Any) -> None:
    tenant = uuid4()
    provider.create(tenant)
    old = provider.wrap(tenant, KEY, b"")
    provider.rotate(tenant)
    assert provider.versions(tenant) == [1, 2]
    new = provider.wrap(tenant, KEY, b"")
    assert provider.unwrap(tenant, old, b"") == provider.unwrap(tenant, new, b"") == KEY
    with pytest.raises(KeyUnavailable):  # under the wrong version's header
        provider.unwrap(tenant, old[:6] + new[6:], b"")
    provider.prune(tenant)
    provider.prune(tenant)
    assert provider.versions(tenant) == [2]
    assert provider.unwrap(tenant, new, b"") == KEY
    with pytest.raises(KeyUnavailable):
        provider.unwrap(tenant, old, b"")


def test_a_destroyed_key_is_never_made_anew_by_using_it(provider: Any) -> None:
    tenant = uuid4()
    provider.create(tenant)
    wrapped = provider.wrap(tenant, KEY, b"")
    provider.destroy(tenant)
    provider.destroy(tenant)
    assert not provider.holds(tenant)
    with pytest.raises(KeyUnavailable):
        provider.unwrap(tenant, wrapped, b"")
    with pytest.raises(KeyUnavailable):
        provider.wrap(tenant, KEY, b"")
    with pytest.raises(KeyUnavailable):
        provider.rotate(tenant)
    assert not provider.holds(tenant)
    assert provider.beyond_destruction().endswith(".")
    assert provider.destruction_delay() == timedelta(days=7 if provider.name == "aws-kms" else 0)


def test_the_installation_key_stays_and_can_be_brought_along(provider: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailable):
        provider.installation_key()
    provider.create_installation_key(KEY)
    provider.create_installation_key()
    remote.forget()
    assert provider.installation_key() == KEY
    provider.destroy_installation_key()
    with pytest.raises(KeyUnavailable):
        provider.installation_key()


@trying(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_bit_and_no_cut_goes_unnoticed(provider: Any, data: st.DataObject) -> None:
    tenant = uuid4()
    provider.create(tenant)
    wrapped = provider.wrap(tenant, KEY, b"here")
    if data.draw(st.booleans(), "cut"):
        changed = wrapped[: data.draw(st.integers(0, len(wrapped) - 1))]
    else:
        at = data.draw(st.integers(0, len(wrapped) * 8 - 1))
        changed = bytearray(wrapped)
        changed[at // 8] ^= 1 << at % 8
    with pytest.raises(KeyUnavailable):
        provider.unwrap(tenant, bytes(changed), b"here")


def test_what_one_provider_wrapped_another_refuses(tmp_path: Path, vault: TransitVault, kms: CloudKMS) -> None:
    tenant, keys = uuid4(), tmp_path / "keys"
    providers = [Keystore(keys), SealedKeystore(keys, ROOT), at_vault(keys, vault), at_kms(keys, kms)]
    for each in providers:
        each.create(tenant)
    for one in providers:
        wrapped = one.wrap(tenant, KEY, b"")
        for other in providers:
            if other is not one:
                with pytest.raises(KeyUnavailable):
                    other.unwrap(tenant, wrapped, b"")


def test_the_first_format_still_opens(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    keystore, tenant = Keystore(tmp_path), uuid4()
    keystore.create(tenant)
    wrapping = base64.b64decode(json.loads((tmp_path / f"{tenant}.key").read_text())["key"])
    headerless = b"n" * 12 + AESGCM(wrapping).encrypt(b"n" * 12, KEY, b"bound")
    assert len(headerless) == 60
    assert keystore.unwrap(tenant, headerless, b"bound") == KEY


class TestSealedFiles:
    def test_the_directory_alone_opens_nothing(self, tmp_path: Path) -> None:
        keystore, tenant = SealedKeystore(tmp_path, ROOT), uuid4()
        keystore.create(tenant)
        wrapped = keystore.wrap(tenant, KEY, b"")
        with pytest.raises(KeyUnavailable, match="KEYS_ROOT_KEY"):
            SealedKeystore(tmp_path, b"s" * 32).unwrap(tenant, wrapped, b"")

    @trying(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_no_changed_bit_no_cut_and_no_swap_goes_unnoticed(self, tmp_path: Path, data: st.DataObject) -> None:
        keystore, tenant, other = SealedKeystore(tmp_path, ROOT), uuid4(), uuid4()
        keystore.create(tenant)
        keystore.create(other)
        wrapped = keystore.wrap(tenant, KEY, b"")
        path = tmp_path / f"{tenant}.sealed"
        whole = path.read_bytes()
        how = data.draw(st.sampled_from(["bit", "cut", "swap"]))
        if how == "bit":
            at = data.draw(st.integers(0, len(whole) * 8 - 1))
            changed = bytearray(whole)
            changed[at // 8] ^= 1 << at % 8
            path.write_bytes(changed)
        elif how == "cut":
            path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        else:
            path.write_bytes((tmp_path / f"{other}.sealed").read_bytes())
        with pytest.raises(KeyUnavailable):
            keystore.unwrap(tenant, wrapped, b"")


@pytest.mark.parametrize("service_name", ["vault", "aws-kms"])
class TestFailures:
    @pytest.fixture
    def service(self, service_name: str, vault: TransitVault, kms: CloudKMS) -> Any:
        return vault if service_name == "vault" else kms

    @pytest.fixture
    def remote_provider(self, service_name: str, tmp_path: Path, vault: TransitVault, kms: CloudKMS) -> Any:
        return at_vault(tmp_path, vault) if service_name == "vault" else at_kms(tmp_path, kms)

    @pytest.mark.parametrize(
        ("failing", "for_now"),
        [("sealed", True), ("throttled", True), ("broken", True), ("slow", True), ("drip", True),
         ("forbidden", False), ("malformed", False), ("redirect", False)],
    )  # fmt: skip
    def test_it_says_what_is_wrong_and_nothing_secret(
        self, remote_provider: Any, service: Any, failing: str, for_now: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(remote, "TIMEOUT_SECONDS", 1.0)
        tenant = uuid4()
        remote_provider.create(tenant)
        wrapped = remote_provider.wrap(tenant, KEY, b"")
        service.failing = failing
        with pytest.raises(KeyUnavailable) as caught:
            remote_provider.unwrap(tenant, wrapped, b"")
        assert isinstance(caught.value, ProviderUnreachable) == for_now
        assert service.url in str(caught.value)
        told = "".join(traceback.format_exception(caught.value)) + repr(remote_provider)
        for secret in (getattr(service, "token", "no token"), getattr(service, "secret", "no secret"), "AAECAwQF"):
            assert secret not in told
        service.failing = ""
        assert remote_provider.unwrap(tenant, wrapped, b"") == KEY

    def test_nobody_listens(self, service_name: str, service: Any, tmp_path: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        gone = (
            Vault(tmp_path, VaultPlace(url, token="t"))
            if service_name == "vault"
            else AWSKMS(tmp_path, KMSPlace("eu-central-1", "id", "secret", endpoint=url))
        )
        with pytest.raises(ProviderUnreachable, match="cannot be reached"):
            gone.holds(uuid4())

    def test_a_wrong_login_is_said(self, service_name: str, service: Any, tmp_path: Path) -> None:
        stranger = (
            Vault(tmp_path, VaultPlace(service.url, token="wrong"))
            if service_name == "vault"
            else AWSKMS(tmp_path, KMSPlace(service.region, service.access_key_id, "wrong", endpoint=service.url))
        )
        with pytest.raises(KeyUnavailable, match="does not let Cloister in") as caught:
            stranger.holds(uuid4())
        assert not isinstance(caught.value, ProviderUnreachable)

    def test_the_installation_key_is_asked_for_once(self, remote_provider: Any, service: Any) -> None:
        remote_provider.create_installation_key()
        key, asked = remote_provider.installation_key(), len(service.asked)
        service.failing = "sealed"
        assert remote_provider.installation_key() == key
        assert len(service.asked) == asked


def test_vault_by_an_app_role(tmp_path: Path, vault: TransitVault) -> None:
    by_role = Vault(tmp_path, VaultPlace(vault.url, role_id=vault.role_id, secret_id=vault.secret_id))
    tenant = uuid4()
    by_role.create(tenant)
    vault.token = "another, since the first was revoked"
    assert by_role.unwrap(tenant, by_role.wrap(tenant, KEY, b""), b"") == KEY
    with pytest.raises(KeyUnavailable, match="does not let Cloister in"):
        Vault(tmp_path, VaultPlace(vault.url, role_id=vault.role_id, secret_id="wrong")).holds(tenant)


def test_kms_waits_before_it_deletes(tmp_path: Path, kms: CloudKMS) -> None:
    provider, tenant = at_kms(tmp_path, kms), uuid4()
    provider.create(tenant)
    key_id = kms.aliases[f"alias/cloister/{tenant}"]
    provider.destroy(tenant)
    assert (kms.keys[key_id]["KeyState"], kms.keys[key_id]["days"]) == ("PendingDeletion", 7)
    assert "7 days" in provider.beyond_destruction()


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("GET", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ],
)
def test_the_signature_is_that_of_the_published_vectors(method: str, expected: str) -> None:
    """get-vanilla and post-vanilla of AWS's test suite for Signature Version 4."""
    headers = {"Host": "example.amazonaws.com", "X-Amz-Date": "20150830T123600Z"}
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    names, signed = signature(method, "/", headers, b"", "20150830T123600Z", "us-east-1", "service", secret)
    assert (names, signed) == ("host;x-amz-date", expected)
