"""What every holder of wrapping keys offers, the refusals they share, and the header of what they wrapped.

Refuses to know where a wrapping key lies.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from uuid import UUID

KEY_BYTES, NONCE_BYTES = 32, 12
PENDING = ".pending"  # an empty file whose workspace is not there yet


class KeyUnavailable(Exception):
    """A key cannot be had: its holder lacks it, or it does not fit what it should open. For staff: names paths."""


class ProviderUnreachable(KeyUnavailable):
    """The key service does not answer, or not now: it is worth trying again. Nothing is lost."""


@dataclass(frozen=True)
class Header:
    """The first bytes of a wrapped key: which algorithm, and which version of the wrapping key, opens the rest.

    Wrapped keys of the first format have none: 60 bytes, opened by the keystore's version 1.
    """

    algorithm: int
    version: int

    LAYOUT = struct.Struct(">BBI")
    FORMAT = 2
    HEADERLESS_BYTES = NONCE_BYTES + KEY_BYTES + 16

    def __bytes__(self) -> bytes:
        return self.LAYOUT.pack(self.FORMAT, self.algorithm, self.version)

    @classmethod
    def split(cls, wrapped: bytes, algorithm: int) -> tuple["Header", bytes]:
        """Header and rest; KeyUnavailable for what another algorithm wrapped, or nobody."""
        if len(wrapped) > cls.LAYOUT.size:
            layout, found, version = cls.LAYOUT.unpack(wrapped[: cls.LAYOUT.size])
            if (layout, found) == (cls.FORMAT, algorithm) and version:
                return cls(algorithm, version), wrapped[cls.LAYOUT.size :]
        raise KeyUnavailable("A wrapped workspace key is damaged, or was wrapped by another provider.")


def length_prefixed(*parts: bytes) -> bytes:
    """Parts that cannot be confused with one another: "a-b","c" is never "a","b-c" (evidence: a rival's flaw)."""
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


class KeyProvider(Protocol):
    """What the rest of Cloister asks of whoever holds the wrapping keys. A lost key is never made anew."""

    name: str

    def create_installation_key(self, key: bytes | None = None) -> None:
        """A new one, or `key`, moved here from another provider. One that is there stays."""
        ...

    def destroy_installation_key(self) -> None: ...

    def installation_key(self) -> bytes:
        """32 bytes for what belongs to no workspace. Raises KeyUnavailable."""
        ...

    def create(self, tenant: UUID) -> None:
        """Make the wrapping key of `tenant`, pending until `activate`. Repeating it keeps the key."""
        ...

    def activate(self, tenant: UUID) -> None:
        """The workspace exists: its wrapping key is no longer an orphan."""
        ...

    def wrap(self, tenant: UUID, key: bytes, bound_to: bytes) -> bytes:
        """Under the newest version of the wrapping key."""
        ...

    def unwrap(self, tenant: UUID, wrapped: bytes, bound_to: bytes) -> bytes:
        """The key; raises KeyUnavailable."""
        ...

    def rotate(self, tenant: UUID) -> None:
        """A new version of the wrapping key; earlier ones go on opening what they wrapped until `prune`."""
        ...

    def versions(self, tenant: UUID) -> list[int]:
        """Those that still open something, oldest first; empty when there is no wrapping key."""
        ...

    def prune(self, tenant: UUID) -> None:
        """Destroy every version but the newest."""
        ...

    def destroy(self, tenant: UUID) -> None: ...

    def holds(self, tenant: UUID) -> bool: ...

    def pending(self) -> Iterator[tuple[UUID, float]]:
        """Keys never activated, with the time (seconds since the epoch) they were made."""
        ...

    def destruction_delay(self) -> timedelta:
        """How long a destroyed key could still be brought back at the provider."""
        ...

    def beyond_destruction(self) -> str:
        """What destroying a key here cannot reach, in a sentence for a receipt."""
        ...


class Markers:
    """Empty files that say which wrapping keys have no workspace yet. Written before the key is made."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, tenant: UUID) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.directory / f"{tenant}{PENDING}").touch(mode=0o600)

    def take_away(self, tenant: UUID) -> None:
        (self.directory / f"{tenant}{PENDING}").unlink(missing_ok=True)

    def __iter__(self) -> Iterator[tuple[UUID, float]]:
        for marker in self.directory.glob("*" + PENDING):
            with suppress(ValueError, FileNotFoundError):  # not ours, or activated a moment ago
                yield UUID(marker.name.removesuffix(PENDING)), marker.stat().st_mtime
