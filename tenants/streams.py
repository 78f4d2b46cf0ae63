"""Files encrypted while they are written, in segments: constant memory, no plaintext on disk.

The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015) over AES-256-GCM with a key of its own per file.

Header, 81 bytes: magic b"CLSF" | format u8 (1) | segment size u32 | key version u32 | salt 32 | nonce prefix 4 | commitment 32.
Then segments of `segment size` plaintext bytes, each followed by its 16-byte tag; the last may be shorter, even empty.
File key and commitment are HKDF-SHA256 of the workspace's "file" subkey with the salt and the context, so a file opens
only in its workspace, under its name, with its key. Nonce of a segment: prefix 4 | counter u64 with the top bit set on
the last one: removed, repeated, reordered or foreign segments do not open.
"""

import hmac
import secrets
import struct
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tenants.ciphers import Tampered
from tenants.context import current_tenant
from tenants.keys.keyring import derive, keyring

SEGMENT_BYTES = 64 * 1024
TAG_BYTES = 16
HEADER = struct.Struct(">4sBII32s4s32s")
MAGIC, FORMAT = b"CLSF", 1
LAST = 1 << 63


def _file_key(version: int, salt: bytes, context: tuple[str, ...]) -> tuple[AESGCM, bytes]:
    subkey, parts = keyring.subkey(current_tenant().id, version, "file"), [part.encode() for part in context]
    key = derive(subkey, b"file-key", *parts, salt=salt)
    return AESGCM(key), derive(subkey, b"file-commitment", *parts, salt=salt)


def _nonce(prefix: bytes, counter: int, last: bool) -> bytes:
    return prefix + struct.pack(">Q", counter | (LAST if last else 0))


class EncryptingWriter:
    """Write plaintext; `raw` receives ciphertext. `finish()` must be called, or the file is not complete."""

    def __init__(self, raw: BinaryIO, context: tuple[str, ...]) -> None:
        self._raw, self._buffer, self._counter, self.size = raw, bytearray(), 0, 0
        version, salt = keyring.current_version(current_tenant().id), secrets.token_bytes(32)
        self._prefix = secrets.token_bytes(4)
        self._aead, commitment = _file_key(version, salt, context)
        self._header = HEADER.pack(MAGIC, FORMAT, SEGMENT_BYTES, version, salt, self._prefix, commitment)
        raw.write(self._header)

    def write(self, data: bytes) -> None:
        self._buffer += data
        self.size += len(data)
        while len(self._buffer) > SEGMENT_BYTES:  # one full segment stays back: it may be the last
            self._segment(bytes(self._buffer[:SEGMENT_BYTES]), last=False)
            del self._buffer[:SEGMENT_BYTES]

    def finish(self) -> int:
        """Write the last segment. Returns the size of the plaintext in bytes."""
        self._segment(bytes(self._buffer), last=True)
        self._buffer.clear()
        return self.size

    def _segment(self, plaintext: bytes, *, last: bool) -> None:
        self._raw.write(self._aead.encrypt(_nonce(self._prefix, self._counter, last), plaintext, self._header))
        self._counter += 1


def decrypt_chunks(raw: BinaryIO, context: tuple[str, ...]) -> Iterator[bytes]:
    """The plaintext, segment by segment. Raises Tampered; what was yielded before it is genuine but incomplete."""
    header = raw.read(HEADER.size)
    try:
        magic, layout, segment, version, salt, prefix, commitment = HEADER.unpack(header)
    except struct.error:
        raise Tampered("an encrypted file lacks its header") from None
    if (magic, layout, segment) != (MAGIC, FORMAT, SEGMENT_BYTES):
        raise Tampered("an encrypted file has an unknown format")
    aead, expected = _file_key(version, salt, context)
    if not hmac.compare_digest(commitment, expected):
        raise Tampered("an encrypted file does not belong here")
    counter, piece = 0, raw.read(segment + TAG_BYTES)
    while True:
        following = raw.read(segment + TAG_BYTES)
        last = not following
        try:
            plaintext = aead.decrypt(_nonce(prefix, counter, last), piece, header)
        except (InvalidTag, ValueError):
            raise Tampered(f"segment {counter} of an encrypted file does not open") from None
        if plaintext:
            yield plaintext
        if last:
            return
        counter, piece = counter + 1, following
