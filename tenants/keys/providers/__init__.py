"""Key providers: who holds the wrapping key of each workspace, outside the database.

One small interface; the keystore directory is the default. A wrapping key never leaves its provider: it wraps and
unwraps the workspace's key, and destroying it makes everything the workspace ever encrypted unreadable.
"""

from contextlib import suppress

from django.conf import settings

from tenants.keys.providers.aws_kms import AWSKMS
from tenants.keys.providers.base import (
    KEY_BYTES,
    NONCE_BYTES,
    Header,
    KeyProvider,
    KeyUnavailable,
    ProviderUnreachable,
    length_prefixed,
)
from tenants.keys.providers.keystore import Keystore, SealedKeystore
from tenants.keys.providers.vault import Vault

__all__ = [
    "AWSKMS", "KEY_BYTES", "NAMES", "NONCE_BYTES", "Header", "KeyProvider", "KeyUnavailable", "Keystore", "ProviderUnreachable",
    "SealedKeystore", "Vault", "length_prefixed", "named", "set_up",
]  # fmt: skip

NAMES = (Keystore.name, SealedKeystore.name, Vault.name, AWSKMS.name)


def set_up() -> list[KeyProvider]:
    """Every provider the settings describe: during a move to another one two may hold a workspace's wrapping key."""
    found = []
    for name in NAMES:
        with suppress(KeyUnavailable):
            found.append(named(name))
    return found


def named(name: str) -> KeyProvider:
    """The provider of that name, as the settings describe it. Raises KeyUnavailable for one that is not set up."""
    match name:
        case Keystore.name:
            return Keystore(settings.KEYS_DIR)
        case SealedKeystore.name if settings.KEYS_ROOT_KEY:
            return SealedKeystore(settings.KEYS_DIR, settings.KEYS_ROOT_KEY)
        case Vault.name if settings.VAULT:
            return Vault(settings.KEYS_DIR, settings.VAULT)
        case AWSKMS.name if settings.AWS_KMS:
            return AWSKMS(settings.KEYS_DIR, settings.AWS_KMS)
    first = {SealedKeystore.name: "KEYS_ROOT_KEY", Vault.name: "VAULT_ADDR", AWSKMS.name: "AWS_REGION"}.get(name)
    if first is None:
        raise KeyUnavailable(f"There is no key provider {name!r}.")
    raise KeyUnavailable(f"Keys are wrapped by {name}, which is not set up: set {first} and what belongs to it.")
