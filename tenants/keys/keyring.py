"""Workspace keys in memory: unwrapped on first use, derived per purpose (HKDF), kept in a bounded ring that expires.

That a version began, and that a workspace is frozen, is heard of at once from the witness (tenants.witness). Knows nothing
of what is encrypted with them (see `tenants.ciphers`).
"""

import secrets
import struct
import threading
import time
from collections import OrderedDict
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from django.conf import settings

from tenants import witness
from tenants.keys.providers import KEY_BYTES, NONCE_BYTES, KeyProvider, KeyUnavailable, length_prefixed, named, remote
from tenants.models import TenantKey

PURPOSES = ("text", "file", "vector", "cloak", "terms", "dedupe", "audit")
LIFETIME_SECONDS = 15 * 60
CAPACITY = 4096  # subkeys: some 600 workspaces with every purpose

SEEDS = "seed of "  # in front of a purpose: what is kept in the ring in the place of a version's subkey


class KeysFrozen(KeyUnavailable):
    """The workspace's keys are frozen: nothing is unwrapped for it until owners lift that (tenants.keys.freezing)."""


def is_frozen(tenant: UUID) -> bool:
    """Whether no process may use the workspace's keys now. The witness says so: a writer to the database cannot."""
    return witness.exists(f"frozen/{tenant}")


def refuse_frozen(tenant: UUID) -> None:
    """For work that holds a key longer than a moment. Raises KeysFrozen."""
    if is_frozen(tenant):
        raise KeysFrozen(f"The keys of workspace {tenant} are frozen.")


def version_name(tenant: UUID) -> str:
    """The number of the witness that says which version is current, for processes that remember an earlier one."""
    return f"version/{tenant}"


def provider() -> KeyProvider:
    """The provider that wraps new keys and holds the installation key."""
    return named(settings.KEY_PROVIDER)


def wrap_binding(tenant: UUID, version: int) -> bytes:
    """What a wrapped workspace key is bound to."""
    return length_prefixed(b"cloister/wrapped-key/v1", tenant.bytes, struct.pack(">I", version))


def derive(key: bytes, *info: bytes, salt: bytes | None = None) -> bytes:
    """32 bytes by HKDF-SHA256 (RFC 5869), its info length-prefixed."""
    return HKDF(hashes.SHA256(), KEY_BYTES, salt, length_prefixed(b"cloister/v1", *info)).derive(key)


def _unwrapped(tenant: UUID, version: int) -> bytes:
    """The workspace key. Read once more when it was wrapped anew between the look at the database and the provider's."""
    for last_try in (False, True):
        try:
            name, wrapped = TenantKey.objects.values_list("provider", "wrapped").get(tenant_id=tenant, version=version)
        except TenantKey.DoesNotExist:
            raise KeyUnavailable(f"Workspace {tenant} has no key of version {version}.") from None
        if not wrapped:
            raise KeyUnavailable(f"Version {version} of the key of workspace {tenant} was destroyed.")
        try:
            return named(name).unwrap(tenant, bytes(wrapped), wrap_binding(tenant, version))
        except KeyUnavailable:
            if last_try or TenantKey.objects.filter(tenant_id=tenant, version=version, wrapped=wrapped).exists():
                raise
    raise AssertionError("the second try returns or raises")


def seed_root(subkey: bytes) -> bytes:
    """What the seeds of a purpose are expanded from: HKDF-Extract without salt (RFC 5869, 2.2), which is one way.

    Who has it can make every seed of the purpose, and neither the subkey nor a cipher's or a file's key.
    """
    extract = hmac.HMAC(bytes(KEY_BYTES), hashes.SHA256())
    extract.update(subkey)
    return extract.finalize()


def expand(root: bytes, *info: bytes) -> bytes:
    """`derive`, going on from the `seed_root` of its key."""
    return HKDFExpand(hashes.SHA256(), KEY_BYTES, length_prefixed(b"cloister/v1", *info)).derive(root)


def seal_seeds(tenant: UUID, version: int, key: bytes, roots: dict[str, bytes]) -> bytes:
    """The seed roots of every purpose under a key of that version, for `TenantKey.seeds`."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + _seeds_cipher(tenant, version, key).encrypt(nonce, b"".join(roots[each] for each in PURPOSES), None)


def open_seeds(tenant: UUID, version: int, key: bytes, sealed: bytes) -> dict[str, bytes]:
    """Raises KeyUnavailable."""
    try:
        joined = _seeds_cipher(tenant, version, key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
    except InvalidTag:
        raise KeyUnavailable(f"The seeds of workspace {tenant} do not open with its key of version {version}.") from None
    if len(joined) != KEY_BYTES * len(PURPOSES):
        raise KeyUnavailable(f"The seeds of workspace {tenant} are of other purposes than this version of Cloister knows.")
    return {purpose: joined[KEY_BYTES * place : KEY_BYTES * (place + 1)] for place, purpose in enumerate(PURPOSES)}


def _seeds_cipher(tenant: UUID, version: int, key: bytes) -> AESGCM:
    return AESGCM(derive(key, b"seeds", tenant.bytes, struct.pack(">I", version)))


class Keyring:
    """Subkeys by (tenant, version, purpose); least recently used out first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subkeys: OrderedDict[tuple[UUID, int, str], tuple[float, bytes]] = OrderedDict()
        self._current: dict[UUID, tuple[float, int, int]] = {}  # expiry, version, what the witness said then

    def current_version(self, tenant: UUID) -> int:
        """The version new data is encrypted under."""
        now, announced = time.monotonic(), witness.number(version_name(tenant))
        with self._lock:
            if (entry := self._current.get(tenant)) and entry[0] > now and entry[2] >= announced:
                return entry[1]
        version = (
            TenantKey.objects.filter(tenant_id=tenant, state=TenantKey.State.ACTIVE)
            .order_by("-version")
            .values_list("version", flat=True)
            .first()
        )
        if version is None:
            raise KeyUnavailable(f"Workspace {tenant} has no active key.")
        if version < announced:  # the database was turned back, or somebody wrote to it
            raise KeyUnavailable(
                f"The key of workspace {tenant} is older than its witness says: version {announced} is missing."
            )
        with self._lock:
            self._current[tenant] = (now + LIFETIME_SECONDS, version, announced)
        return version

    def subkey(self, tenant: UUID, version: int, purpose: str) -> bytes:
        if purpose not in PURPOSES:
            raise ValueError(f"unknown purpose {purpose!r}")
        refuse_frozen(tenant)
        now, name = time.monotonic(), (tenant, version, purpose)
        with self._lock:
            if (entry := self._subkeys.get(name)) and entry[0] > now:
                self._subkeys.move_to_end(name)
                return entry[1]
        key = self.unwrapped(tenant, version)
        subkey = derive(key, purpose.encode(), tenant.bytes, struct.pack(">I", version))
        self._keep(name, now, subkey)
        return subkey

    def seed_root(self, tenant: UUID, purpose: str) -> bytes:
        """What the seeds of `purpose` come from: of version 1, or, once the key was changed, handed on with each version."""
        if purpose not in PURPOSES:
            raise ValueError(f"unknown purpose {purpose!r}")
        refuse_frozen(tenant)
        now, name = time.monotonic(), (tenant, 0, SEEDS + purpose)
        with self._lock:
            if (entry := self._subkeys.get(name)) and entry[0] > now:
                return entry[1]
        root = self.seed_roots(tenant)[purpose]
        self._keep(name, now, root)
        return root

    def seed_roots(self, tenant: UUID) -> dict[str, bytes]:
        """Of every purpose, kept nowhere."""
        handed_on = TenantKey.objects.exclude(state=TenantKey.State.DESTROYED).exclude(seeds=b"")
        newest = handed_on.filter(tenant_id=tenant).order_by("-version").values_list("version", "seeds").first()
        if newest is None:
            return {purpose: seed_root(self.subkey(tenant, 1, purpose)) for purpose in PURPOSES}
        version, sealed = newest
        return open_seeds(tenant, version, self.unwrapped(tenant, version), bytes(sealed))

    def unwrapped(self, tenant: UUID, version: int) -> bytes:
        """A version of the workspace's key itself, which nobody keeps. Raises KeyUnavailable."""
        refuse_frozen(tenant)
        return _unwrapped(tenant, version)

    def _keep(self, name: tuple[UUID, int, str], now: float, key: bytes) -> None:
        with self._lock:
            self._subkeys[name] = (now + LIFETIME_SECONDS, key)
            self._subkeys.move_to_end(name)
            while len(self._subkeys) > CAPACITY:
                self._subkeys.popitem(last=False)

    def forget(self, tenant: UUID | None = None) -> None:
        """Drop the keys of one workspace, or of all."""
        with self._lock:
            for name in [name for name in self._subkeys if tenant is None or name[0] == tenant]:
                del self._subkeys[name]
            for held in [held for held in self._current if tenant is None or held == tenant]:
                del self._current[held]
        if tenant is None:
            remote.forget()

    def tenants(self) -> set[UUID]:
        """The workspaces of which anything is in memory."""
        with self._lock:
            return {tenant for tenant, _, _ in self._subkeys} | self._current.keys()

    def holds(self, tenant: UUID) -> bool:
        """Whether any key of the workspace is in memory."""
        with self._lock:
            return any(name[0] == tenant for name in self._subkeys)


keyring = Keyring()
