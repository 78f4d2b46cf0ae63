"""The keystore: made once, never replaced, readable by its owner only."""

import uuid

import pytest

from tenants.keys.keyring import keyring, provider
from tenants.keys.providers import Keystore, KeyUnavailable
from tenants.models import TenantKey


@pytest.fixture
def keystore(tmp_path):
    return Keystore(tmp_path / "keys")


def test_it_wraps_and_unwraps_bound_to_what_it_is_for(keystore):
    tenant = uuid.uuid4()
    keystore.create(tenant)
    wrapped = keystore.wrap(tenant, b"k" * 32, b"version 1")
    assert keystore.unwrap(tenant, wrapped, b"version 1") == b"k" * 32
    with pytest.raises(KeyUnavailable):
        keystore.unwrap(tenant, wrapped, b"version 2")


def test_creating_again_keeps_the_key(keystore):
    tenant = uuid.uuid4()
    keystore.create(tenant)
    wrapped = keystore.wrap(tenant, b"k" * 32, b"")
    keystore.create(tenant)
    keystore.activate(tenant)
    keystore.create(tenant)
    assert keystore.unwrap(tenant, wrapped, b"") == b"k" * 32


def test_files_belong_to_their_owner_alone(keystore):
    keystore.create_installation_key()
    assert keystore.directory.stat().st_mode & 0o777 == 0o700
    path = keystore.directory / "installation.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(KeyUnavailable, match="0600"):
        keystore.installation_key()


def test_a_missing_or_damaged_key_says_what_to_do(keystore):
    with pytest.raises(KeyUnavailable, match="restore the keystore"):
        keystore.installation_key()
    keystore.create_installation_key()
    (keystore.directory / "installation.key").write_text("{}")
    with pytest.raises(KeyUnavailable, match="damaged"):
        keystore.installation_key()


def test_pending_keys_are_listed_until_activated_and_destroyed_keys_are_gone(keystore):
    tenant = uuid.uuid4()
    keystore.create(tenant)
    assert [found for found, _ in keystore.pending()] == [tenant]
    keystore.activate(tenant)
    assert list(keystore.pending()) == []
    (keystore.directory / f".{tenant}.0123456789abcdef").write_text("of a process that was killed while it wrote")
    keystore.destroy(tenant)
    assert not keystore.holds(tenant)
    assert list(keystore.directory.iterdir()) == []


def test_what_does_not_belong_to_the_keystore_stops_nothing(keystore):
    tenant = uuid.uuid4()
    keystore.create(tenant)
    (keystore.directory / "notes.pending").touch()
    (keystore.directory / "backup.key").write_text("not a key")
    assert [found for found, _ in keystore.pending()] == [tenant]


@pytest.mark.django_db
def test_without_its_wrapping_key_a_workspace_cannot_be_read(workspace_a, tmp_path, settings):
    settings.KEYS_DIR = tmp_path / "elsewhere"
    keyring.forget()
    with pytest.raises(KeyUnavailable):
        keyring.subkey(workspace_a.id, 1, "text")


@pytest.mark.django_db
def test_the_database_holds_only_wrapped_keys(workspace_a):
    row = TenantKey.objects.get(tenant=workspace_a)
    key = provider()._read(str(workspace_a.id))
    assert key not in bytes(row.wrapped)
    assert len(row.wrapped) == 6 + 12 + 32 + 16


@pytest.mark.django_db
def test_forgetting_drops_what_was_derived(workspace_a):
    keyring.subkey(workspace_a.id, 1, "text")
    keyring.forget(workspace_a.id)
    assert not [name for name in keyring._subkeys if name[0] == workspace_a.id]
