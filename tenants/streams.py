"""Files encrypted while they are written, in segments: constant memory, no plaintext on disk.

The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015) over AES-256-GCM with a key of its own per file.

Header, 81 bytes: magic b"CLSF" | format u8 (1) | segment size u32 | key version u32 | salt 32 | nonce prefix 4 | commitment 32.
Then segments of `segment size` plaintext bytes, each followed by its 16-byte tag; the last may be shorter, even empty.
File key and commitment are HKDF-SHA256 of the workspace's "file" subkey with the salt and the context, so a file opens
only in its workspace, under its name, with its key. Nonce of a segment: prefix 4 | counter u64 with the top bit set on
the last one: removed, repeated, reordered or foreign segments do not open.

Segment i begins at byte 81 + i * (segment size + 16), so any range opens without what lies before it. How many segments
there are follows from the file's size, which nobody vouches for: the last one is opened first, and its number and flag
prove the size before a byte is given out.
"""

import hashlib
import hmac
import io
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
SEALED_BYTES = SEGMENT_BYTES + TAG_BYTES
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
        self.size += len(data)
        with memoryview(data) as given:
            taken = 0
            while len(self._buffer) + len(given) - taken > SEGMENT_BYTES:  # a full segment stays back: it may be the last
                if self._buffer:
                    room = SEGMENT_BYTES - len(self._buffer)
                    self._buffer += given[taken : taken + room]
                    self._segment(self._buffer, last=False)
                    self._buffer.clear()
                else:  # encrypted where it lies, without a copy
                    room = SEGMENT_BYTES
                    self._segment(given[taken : taken + room], last=False)
                taken += room
            self._buffer += given[taken:]

    def finish(self) -> int:
        """Write the last segment. Returns the size of the plaintext in bytes."""
        self._segment(self._buffer, last=True)
        self._buffer.clear()
        return self.size

    def _segment(self, plaintext: bytes | bytearray | memoryview, *, last: bool) -> None:
        self._raw.write(self._aead.encrypt(_nonce(self._prefix, self._counter, last), plaintext, self._header))
        self._counter += 1


def version_of(raw: BinaryIO) -> int:
    """Under which version of the workspace's key a file was encrypted, from its beginning. Raises Tampered."""
    try:
        return int(HEADER.unpack(raw.read(HEADER.size))[3])
    except struct.error:
        raise Tampered("an encrypted file lacks its header") from None


class _Opened:
    """A header that belongs here, and the segments under it."""

    def __init__(self, header: bytes, context: tuple[str, ...]) -> None:
        try:
            magic, layout, segment, version, salt, self._prefix, commitment = HEADER.unpack(header)
        except struct.error:
            raise Tampered("an encrypted file lacks its header") from None
        if (magic, layout, segment) != (MAGIC, FORMAT, SEGMENT_BYTES):
            raise Tampered("an encrypted file has an unknown format")
        self._aead, expected = _file_key(version, salt, context)
        if not hmac.compare_digest(commitment, expected):
            raise Tampered("an encrypted file does not belong here")
        self._header = header

    def segment(self, counter: int, sealed: bytes, *, last: bool) -> bytes:
        try:
            return self._aead.decrypt(_nonce(self._prefix, counter, last), sealed, self._header)
        except (InvalidTag, ValueError):
            raise Tampered(f"segment {counter} of an encrypted file does not open") from None


def decrypt_chunks(raw: BinaryIO, context: tuple[str, ...]) -> Iterator[bytes]:
    """The plaintext, segment by segment. Raises Tampered; what was yielded before it is genuine but incomplete."""
    opened = _Opened(raw.read(HEADER.size), context)
    counter, sealed = 0, raw.read(SEALED_BYTES)
    while True:
        following = raw.read(SEALED_BYTES)
        plaintext = opened.segment(counter, sealed, last=not following)
        if plaintext:
            yield plaintext
        if not following:
            return
        counter, sealed = counter + 1, following


class DecryptingReader:
    """Any range of a complete file's plaintext. Made only of a file that is whole: raises Tampered, as reading does."""

    def __init__(self, raw: BinaryIO, context: tuple[str, ...]) -> None:
        self._raw = raw
        raw.seek(0)
        header = raw.read(HEADER.size)
        self._opened = _Opened(header, context)
        body = raw.seek(0, io.SEEK_END) - HEADER.size
        self._last = max(0, -(-body // SEALED_BYTES) - 1)
        self.size = self._last * SEGMENT_BYTES + len(self._segment(self._last))
        # salt and commitment are new with every file, so this tells two files apart and nothing of what is in them
        self.fingerprint = hashlib.sha256(header).hexdigest()[:32]

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, by segments. What was yielded before Tampered is genuine but incomplete."""
        stop = min(stop, self.size)
        while start < stop:
            number, offset = divmod(start, SEGMENT_BYTES)
            plaintext = self._segment(number)
            piece = plaintext[offset : offset + stop - start]
            if not piece:  # only the last segment may be short, and it was of this size when it was opened first
                raise Tampered(f"segment {number} of an encrypted file has changed while it was read")
            yield piece
            start += len(piece)

    def _segment(self, number: int) -> bytes:
        self._raw.seek(HEADER.size + number * SEALED_BYTES)
        return self._opened.segment(number, self._raw.read(SEALED_BYTES), last=number == self._last)
