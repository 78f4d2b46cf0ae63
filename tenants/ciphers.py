"""Encryption of values under the current workspace's keys: AES-256-GCM bound to where the value lives.

Layout: format 1 byte (1) | algorithm 1 byte (1: AES-256-GCM) | key version u32 big-endian | nonce 12 | ciphertext | tag 16.
The associated data names header, tenant and the caller's context (table, column, row), so that a ciphertext moved to
another row, column or workspace does not open. Not protected: replaying an older ciphertext of the same place.
"""

import hashlib
import hmac
import os
import secrets
import struct
from collections.abc import Callable
from functools import cached_property
from uuid import UUID

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tenants.context import current_tenant
from tenants.keys.keyring import derive, expand, keyring, provider
from tenants.keys.messages import allowance
from tenants.keys.providers import NONCE_BYTES, length_prefixed

HEADER = struct.Struct(">BBI")
FORMAT, AES_256_GCM = 1, 1
BODY = HEADER.size + NONCE_BYTES  # where the ciphertext begins
LENGTH = struct.Struct(">I").pack
UUID_WRITTEN = 36  # characters
RESERVE = 64  # messages a loop over many rows takes from the key's allowance at a time
OVERHEAD = HEADER.size + NONCE_BYTES + 16  # bytes a ciphertext is longer than its plaintext


class Tampered(Exception):
    """A ciphertext does not open where it lies: changed, moved, or under another key. Never carries content."""


class Cipher:
    """Encrypts for one workspace and purpose. Cheap to use in a loop: the subkey is taken once per key version."""

    def __init__(self, tenant: UUID, purpose: str) -> None:
        self.tenant, self.purpose = tenant, purpose
        self._tenant = tenant.bytes
        self._aead: dict[int, AESGCM] = {}
        self._begun: dict[tuple[bytes, tuple[str, ...]], bytes] = {}

    @cached_property
    def version(self) -> int:
        """What is encrypted under: asked when the first value is, since who only reads need not know."""
        return keyring.current_version(self.tenant)

    def aead(self, version: int) -> AESGCM:
        if version not in self._aead:
            self._aead[version] = AESGCM(keyring.subkey(self.tenant, version, self.purpose))
        return self._aead[version]

    def bound_before(self, header: bytes, context: tuple[str, ...]) -> bytes:
        """Header, tenant and all of the context but its last part, length-prefixed: the same for every row of a column."""
        common = (header, context[:-1])
        begun = self._begun.get(common)
        if begun is None:
            begun = length_prefixed(header, self._tenant, *[part.encode() for part in context[:-1]])
            self._begun[common] = begun
        return begun

    def _bound(self, header: bytes, context: tuple[str, ...]) -> bytes:
        return self.bound_before(header, context) + length_prefixed(context[-1].encode())

    def encrypt(self, context: tuple[str, ...], plaintext: bytes) -> bytes:
        allowance.take(self.tenant, self.version)
        header, nonce = HEADER.pack(FORMAT, AES_256_GCM, self.version), secrets.token_bytes(NONCE_BYTES)
        return header + nonce + self.aead(self.version).encrypt(nonce, plaintext, self._bound(header, context))

    def decrypt(self, context: tuple[str, ...], blob: bytes) -> bytes:
        header = blob[: HEADER.size]
        try:
            layout, algorithm, version = HEADER.unpack(header)
            if (layout, algorithm) != (FORMAT, AES_256_GCM):
                raise Tampered(f"unknown format at {context}")
            body = HEADER.size + NONCE_BYTES
            return self.aead(version).decrypt(blob[HEADER.size : body], blob[body:], self._bound(header, context))
        except (InvalidTag, struct.error, ValueError) as error:
            raise Tampered(f"the value at {context} does not open") from error


class ColumnCipher:
    """The same for many values of one column: what their rows have in common is made once.

    Layout and binding are Cipher's, of ("table", "column", str(pk)); one way opens what the other wrote.
    """

    def __init__(self, cipher: Cipher, table: str, column: str) -> None:
        self._cipher, self._place = cipher, (table, column)
        self._opens: dict[bytes, tuple[Callable[..., bytes], bytes]] = {}  # by header: decrypt, beginning of what is bound
        self._seals: tuple[bytes, Callable[..., bytes], bytes] | None = None
        self._reserve = 0

    def encrypt(self, pk: object, plaintext: bytes) -> bytes:
        if not self._reserve:
            allowance.take(self._cipher.tenant, self._cipher.version, RESERVE)
            self._reserve = RESERVE
        self._reserve -= 1
        header, encrypt, begun = self._seals or self._begin()
        row = str(pk).encode()
        nonce = os.urandom(NONCE_BYTES)  # one at a time: a store of them would be used twice after a fork
        return header + nonce + encrypt(nonce, plaintext, begun + LENGTH(len(row)) + row)

    def decrypt(self, pk: object, blob: bytes) -> bytes:
        row, header = str(pk).encode(), blob[: HEADER.size]
        opens = self._opens.get(header)  # here, since a call for each value is felt
        try:
            decrypt, begun = opens or self._opening(header)
            return decrypt(blob[HEADER.size : BODY], blob[BODY:], begun + LENGTH(len(row)) + row)
        except (InvalidTag, struct.error, ValueError) as error:
            raise Tampered(f"the value at {(*self._place, str(pk))} does not open") from error

    def decrypt_packed(self, ids: bytes, blobs: bytes, length: int) -> bytes:
        """The plaintexts, end to end, of many values of `length` bytes each; `ids` are the UUIDs of their rows, 16 bytes each.
        A third of the time of one at a time.
        """
        rows, opened = _written(ids), []
        last, decrypt, begun = b"", None, b""
        for place in range(len(ids) // 16):
            at, row = place * length, rows[place * UUID_WRITTEN : (place + 1) * UUID_WRITTEN]
            try:
                if decrypt is None or blobs[at : at + HEADER.size] != last:
                    last = blobs[at : at + HEADER.size]
                    decrypt, begun = self._opens.get(last) or self._opening(last)
                    begun += LENGTH(UUID_WRITTEN)
                opened.append(decrypt(blobs[at + HEADER.size : at + BODY], blobs[at + BODY : at + length], begun + row))
            except (InvalidTag, struct.error, ValueError) as error:
                raise Tampered(f"the value at {(*self._place, row.decode())} does not open") from error
        return b"".join(opened)

    def _opening(self, header: bytes) -> tuple[Callable[..., bytes], bytes]:
        """How values with this header open, and the beginning of what is bound. Raises ValueError for one that is none."""
        layout, algorithm, version = HEADER.unpack(header)
        if (layout, algorithm) != (FORMAT, AES_256_GCM):
            raise ValueError("unknown format")
        found = self._cipher.aead(version).decrypt, self._cipher.bound_before(header, (*self._place, ""))
        self._opens[header] = found
        return found

    def _begin(self) -> tuple[bytes, Callable[..., bytes], bytes]:
        version = self._cipher.version
        header = HEADER.pack(FORMAT, AES_256_GCM, version)
        self._seals = header, self._cipher.aead(version).encrypt, self._cipher.bound_before(header, (*self._place, ""))
        return self._seals


def _written(ids: bytes) -> bytes:
    """UUIDs of 16 bytes each as they are written, 36 characters each, end to end."""
    digits = np.frombuffer(ids.hex().encode(), dtype=np.uint8).reshape(-1, 32)
    written = np.full((len(digits), UUID_WRITTEN), ord("-"), dtype=np.uint8)
    for begin, group in zip((0, 9, 14, 19, 24), np.split(digits, (8, 12, 16, 20), axis=1), strict=True):
        written[:, begin : begin + group.shape[1]] = group
    return written.tobytes()


def version_of(blob: bytes) -> int:
    """Under which version of the workspace's key a value was encrypted. Raises Tampered."""
    try:
        return int(HEADER.unpack(blob[: HEADER.size])[2])
    except struct.error:
        raise Tampered("a value lacks its header") from None


def cipher(purpose: str) -> Cipher:
    """The cipher of the current workspace for `purpose` (see keyring.PURPOSES)."""
    return Cipher(current_tenant().id, purpose)


def seed(purpose: str, *parts: str) -> bytes:
    """32 bytes that only this workspace's key yields for these parts: the key of a PRF, never of a cipher.

    Comes from the first key version, and outlives a rotation and the end of that version (keyring.seed_roots).
    """
    return expand(keyring.seed_root(current_tenant().id, purpose), b"seed", *[part.encode() for part in parts])


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
