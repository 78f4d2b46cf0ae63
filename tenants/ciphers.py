"""Encryption of values under the current workspace's keys: AES-256-GCM bound to where the value lives.

Layout: format 1 byte (1) | algorithm 1 byte (1: AES-256-GCM) | key version u32 big-endian | nonce 12 | ciphertext | tag 16.
The associated data names header, tenant and the caller's context (table, column, row), so that a ciphertext moved to
another row, column or workspace does not open. Not protected: replaying an older ciphertext of the same place.
"""

import hashlib
import hmac
import secrets
import struct
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tenants.context import current_tenant
from tenants.keys.keyring import derive, keyring, length_prefixed, provider
from tenants.keys.providers import NONCE_BYTES

HEADER = struct.Struct(">BBI")
FORMAT, AES_256_GCM = 1, 1
OVERHEAD = HEADER.size + NONCE_BYTES + 16  # bytes a ciphertext is longer than its plaintext


class Tampered(Exception):
    """A ciphertext does not open where it lies: changed, moved, or under another key. Never carries content."""


class Cipher:
    """Encrypts for one workspace and purpose. Cheap to use in a loop: the subkey is taken once per key version."""

    def __init__(self, tenant: UUID, purpose: str) -> None:
        self.tenant, self.purpose = tenant, purpose
        self.version = keyring.current_version(tenant)
        self._tenant = tenant.bytes
        self._aead: dict[int, AESGCM] = {}
        self._begun: dict[tuple[bytes, tuple[str, ...]], bytes] = {}

    def _key(self, version: int) -> AESGCM:
        if version not in self._aead:
            self._aead[version] = AESGCM(keyring.subkey(self.tenant, version, self.purpose))
        return self._aead[version]

    def _bound(self, header: bytes, context: tuple[str, ...]) -> bytes:
        """Header, tenant and context, length-prefixed; all but the last part is the same for every row of a column."""
        common = (header, context[:-1])
        begun = self._begun.get(common)
        if begun is None:
            begun = length_prefixed(header, self._tenant, *[part.encode() for part in context[:-1]])
            self._begun[common] = begun
        return begun + length_prefixed(context[-1].encode())

    def encrypt(self, context: tuple[str, ...], plaintext: bytes) -> bytes:
        header, nonce = HEADER.pack(FORMAT, AES_256_GCM, self.version), secrets.token_bytes(NONCE_BYTES)
        return header + nonce + self._key(self.version).encrypt(nonce, plaintext, self._bound(header, context))

    def decrypt(self, context: tuple[str, ...], blob: bytes) -> bytes:
        header = blob[: HEADER.size]
        try:
            layout, algorithm, version = HEADER.unpack(header)
            if (layout, algorithm) != (FORMAT, AES_256_GCM):
                raise Tampered(f"unknown format at {context}")
            body = HEADER.size + NONCE_BYTES
            return self._key(version).decrypt(blob[HEADER.size : body], blob[body:], self._bound(header, context))
        except (InvalidTag, struct.error, ValueError) as error:
            raise Tampered(f"the value at {context} does not open") from error


def cipher(purpose: str) -> Cipher:
    """The cipher of the current workspace for `purpose` (see keyring.PURPOSES)."""
    return Cipher(current_tenant().id, purpose)


def seed(purpose: str, *parts: str) -> bytes:
    """32 bytes that only this workspace's key yields for these parts: the key of a PRF, never of a cipher.

    Taken from the first key version, so that it outlives a rotation of the workspace key.
    """
    tenant = current_tenant().id
    return derive(keyring.subkey(tenant, 1, purpose), b"seed", *[part.encode() for part in parts])


def digest(purpose: str, value: str) -> bytes:
    """Keyed HMAC-SHA256: equality within this workspace can be looked up, and nothing compared across workspaces."""
    return hmac.new(seed(purpose, "digest"), value.encode(), hashlib.sha256).digest()


class InstallationCipher:
    """For what belongs to no workspace: second-factor secrets, mail to hand over. Same layout, key version 0."""

    def __init__(self) -> None:
        self._aead = AESGCM(derive(provider().installation_key(), b"installation"))

    def encrypt(self, context: tuple[str, ...], plaintext: bytes) -> bytes:
        header, nonce = HEADER.pack(FORMAT, AES_256_GCM, 0), secrets.token_bytes(NONCE_BYTES)
        bound = length_prefixed(header, *[part.encode() for part in context])
        return header + nonce + self._aead.encrypt(nonce, plaintext, bound)

    def decrypt(self, context: tuple[str, ...], blob: bytes) -> bytes:
        header, body = blob[: HEADER.size], HEADER.size + NONCE_BYTES
        if header != HEADER.pack(FORMAT, AES_256_GCM, 0):
            raise Tampered(f"unknown format at {context}")
        bound = length_prefixed(header, *[part.encode() for part in context])
        try:
            return self._aead.decrypt(blob[HEADER.size : body], blob[body:], bound)
        except (InvalidTag, ValueError) as error:
            raise Tampered(f"the value at {context} does not open") from error
