"""Key providers: who holds the wrapping key of each workspace, outside the database.

One small interface; the keystore directory is the default. A wrapping key never leaves its provider: it wraps and
unwraps the workspace's key, and destroying it makes everything the workspace ever encrypted unreadable.
"""

import base64
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES, NONCE_BYTES = 32, 12
PENDING = ".pending"  # an empty file beside a key whose workspace is not there yet


class KeyUnavailable(Exception):
    """A key cannot be had: the keystore lacks it, or it does not fit what it should open. For staff: names paths."""


class KeyProvider(Protocol):
    """What the rest of Cloister asks of whoever holds the wrapping keys. A lost key is never made anew."""

    def create_installation_key(self) -> None: ...

    def installation_key(self) -> bytes:
        """32 bytes for what belongs to no workspace. Raises KeyUnavailable."""
        ...

    def create(self, tenant: UUID) -> None:
        """Make the wrapping key of `tenant`, pending until `activate`. Repeating it keeps the key."""
        ...

    def activate(self, tenant: UUID) -> None:
        """The workspace exists: its wrapping key is no longer an orphan."""
        ...

    def wrap(self, tenant: UUID, key: bytes, bound_to: bytes) -> bytes: ...

    def unwrap(self, tenant: UUID, wrapped: bytes, bound_to: bytes) -> bytes:
        """The key; raises KeyUnavailable."""
        ...

    def destroy(self, tenant: UUID) -> None: ...

    def holds(self, tenant: UUID) -> bool: ...

    def pending(self) -> Iterator[tuple[UUID, float]]:
        """Keys never activated, with the time (seconds since the epoch) they were made."""
        ...


class Keystore:
    """A directory with one file per workspace and one for the installation, readable by its owner only.

    Its backup is a procedure of its own (docs/keys.md): never in the database's backup, else one thief has both.
    """

    INSTALLATION = "installation"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    # -- the installation's own key: for what belongs to no workspace (second factors, mail to hand over)

    def create_installation_key(self) -> None:
        self._write_new(self.INSTALLATION)

    def installation_key(self) -> bytes:
        return self._read(self.INSTALLATION)

    # -- KeyProvider

    def create(self, tenant: UUID) -> None:
        if not self.holds(tenant):
            self._make_directory()
            self._marker(tenant).touch(mode=0o600)  # before the key: a key without its marker counts as activated
            self._write_new(str(tenant))

    def activate(self, tenant: UUID) -> None:
        self._marker(tenant).unlink(missing_ok=True)

    def wrap(self, tenant: UUID, key: bytes, bound_to: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + AESGCM(self._read(str(tenant))).encrypt(nonce, key, bound_to)

    def unwrap(self, tenant: UUID, wrapped: bytes, bound_to: bytes) -> bytes:
        try:
            return AESGCM(self._read(str(tenant))).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], bound_to)
        except (InvalidTag, ValueError) as error:
            raise KeyUnavailable(
                f"The workspace key of {tenant} does not open with {self._path(str(tenant)).name}: "
                "restore the keystore that belongs to this database."
            ) from error

    def destroy(self, tenant: UUID) -> None:
        path = self._path(str(tenant))
        with suppress(FileNotFoundError):
            with open(path, "r+b") as file:  # best effort: a journalling or copy-on-write disk may keep old blocks
                file.write(b"\0" * path.stat().st_size)
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
        if self.directory.is_dir():
            self._marker(tenant).unlink(missing_ok=True)
            self._sync_directory()

    def pending(self) -> Iterator[tuple[UUID, float]]:
        for marker in self.directory.glob("*" + PENDING):
            with suppress(ValueError, FileNotFoundError):  # not ours, or activated a moment ago
                yield UUID(marker.name.removesuffix(PENDING)), marker.stat().st_mtime

    def holds(self, tenant: UUID) -> bool:
        return self._path(str(tenant)).exists()

    # -- files

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.key"

    def _marker(self, tenant: UUID) -> Path:
        return self.directory / f"{tenant}{PENDING}"

    def _make_directory(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _read(self, name: str) -> bytes:
        path = self._path(name)
        try:
            with open(path, "rb") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise KeyUnavailable(f"{path} can be read by others: set its mode to 0600.")
                key = base64.b64decode(json.load(file)["key"], validate=True)
            if len(key) != KEY_BYTES:
                raise ValueError("wrong length")
            return key
        except FileNotFoundError:
            raise KeyUnavailable(
                f"The keystore has no {path.name} (KEYS_DIR is {self.directory}): restore the keystore from its backup. "
                "It is never made anew for data that exists."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise KeyUnavailable(f"{path} is damaged: restore it from the keystore's backup.") from error

    def _write_new(self, name: str) -> None:
        """Whole or not at all, and on the disk before we go on: a key lost in a power cut is lost data."""
        if self._path(name).exists():
            return
        self._make_directory()
        body = json.dumps({"format": "cloister-key/1", "key": base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()})
        new = self.directory / f".{name}.{secrets.token_hex(8)}"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first: its key stands
            os.link(new, self._path(name))
        new.unlink()
        self._sync_directory()

    def _sync_directory(self) -> None:
        handle = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
