"""Workspace keys in memory: unwrapped on first use, derived per purpose (HKDF), kept in a bounded ring that expires.

Knows nothing of what is encrypted with them (see `tenants.ciphers`).
"""

import struct
import threading
import time
from collections import OrderedDict
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from tenants.keys.providers import KEY_BYTES, KeyProvider, Keystore, KeyUnavailable
from tenants.models import TenantKey

PURPOSES = ("text", "file", "vector", "cloak", "terms", "dedupe", "audit")
LIFETIME_SECONDS = 15 * 60
CAPACITY = 4096  # subkeys: some 600 workspaces with every purpose


def provider() -> KeyProvider:
    return Keystore(settings.KEYS_DIR)


def length_prefixed(*parts: bytes) -> bytes:
    """Parts that cannot be confused with one another: "a-b","c" is never "a","b-c" (evidence: a rival's flaw)."""
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def wrap_binding(tenant: UUID, version: int) -> bytes:
    """What a wrapped workspace key is bound to."""
    return length_prefixed(b"cloister/wrapped-key/v1", tenant.bytes, struct.pack(">I", version))


def derive(key: bytes, *info: bytes, salt: bytes | None = None) -> bytes:
    """32 bytes by HKDF-SHA256 (RFC 5869), its info length-prefixed."""
    return HKDF(hashes.SHA256(), KEY_BYTES, salt, length_prefixed(b"cloister/v1", *info)).derive(key)


class Keyring:
    """Subkeys by (tenant, version, purpose); least recently used out first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subkeys: OrderedDict[tuple[UUID, int, str], tuple[float, bytes]] = OrderedDict()
        self._current: dict[UUID, tuple[float, int]] = {}

    def current_version(self, tenant: UUID) -> int:
        """The version new data is encrypted under."""
        now = time.monotonic()
        with self._lock:
            if (entry := self._current.get(tenant)) and entry[0] > now:
                return entry[1]
        version = (
            TenantKey.objects.filter(tenant_id=tenant, state=TenantKey.State.ACTIVE)
            .order_by("-version")
            .values_list("version", flat=True)
            .first()
        )
        if version is None:
            raise KeyUnavailable(f"Workspace {tenant} has no active key.")
        with self._lock:
            self._current[tenant] = (now + LIFETIME_SECONDS, version)
        return version

    def subkey(self, tenant: UUID, version: int, purpose: str) -> bytes:
        if purpose not in PURPOSES:
            raise ValueError(f"unknown purpose {purpose!r}")
        now, name = time.monotonic(), (tenant, version, purpose)
        with self._lock:
            if (entry := self._subkeys.get(name)) and entry[0] > now:
                self._subkeys.move_to_end(name)
                return entry[1]
        try:
            wrapped = TenantKey.objects.values_list("wrapped", flat=True).get(tenant_id=tenant, version=version)
        except TenantKey.DoesNotExist:
            raise KeyUnavailable(f"Workspace {tenant} has no key of version {version}.") from None
        key = provider().unwrap(tenant, bytes(wrapped), wrap_binding(tenant, version))
        subkey = derive(key, purpose.encode(), tenant.bytes, struct.pack(">I", version))
        with self._lock:
            self._subkeys[name] = (now + LIFETIME_SECONDS, subkey)
            self._subkeys.move_to_end(name)
            while len(self._subkeys) > CAPACITY:
                self._subkeys.popitem(last=False)
        return subkey

    def forget(self, tenant: UUID | None = None) -> None:
        """Drop the keys of one workspace, or of all."""
        with self._lock:
            for name in [name for name in self._subkeys if tenant is None or name[0] == tenant]:
                del self._subkeys[name]
            for held in [held for held in self._current if tenant is None or held == tenant]:
                del self._current[held]


keyring = Keyring()
