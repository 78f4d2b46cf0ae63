"""Wrapping keys in a directory: one file for each version of each workspace's key, and one for the installation.

`Keystore` keeps them in the clear for their owner alone; `SealedKeystore` encrypts each file under a root key that comes
from the environment, so that a copy of the directory alone opens nothing.
"""

import base64
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tenants.keys.providers.base import KEY_BYTES, NONCE_BYTES, Header, KeyUnavailable, Markers, length_prefixed

AES_256_GCM = 1


class Keystore:
    """A directory readable by its owner only.

    Its backup is a procedure of its own (docs/keys.md): never in the database's backup, else one thief has both.
    """

    name = "keystore"
    INSTALLATION = "installation"
    SUFFIX = ".key"
    FORMAT = "cloister-key/1"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._markers = Markers(directory)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.directory}>"

    # -- the installation's own key: for what belongs to no workspace (second factors, mail to hand over)

    def create_installation_key(self, key: bytes | None = None) -> None:
        self._write_new(self.INSTALLATION, key)

    def destroy_installation_key(self) -> None:
        self._overwrite(self._path(self.INSTALLATION))
        self._sync_directory()

    def installation_key(self) -> bytes:
        return self._read(self.INSTALLATION)

    # -- KeyProvider

    def create(self, tenant: UUID) -> None:
        if not self.holds(tenant):
            self._markers.put(tenant)  # before the key: a key without its marker counts as activated
            self._write_new(self._file(tenant, 1))

    def activate(self, tenant: UUID) -> None:
        self._markers.take_away(tenant)

    def wrap(self, tenant: UUID, key: bytes, bound_to: bytes) -> bytes:
        version = max(self.versions(tenant), default=1)
        header, nonce = bytes(Header(AES_256_GCM, version)), secrets.token_bytes(NONCE_BYTES)
        aead = AESGCM(self._read(self._file(tenant, version)))
        return header + nonce + aead.encrypt(nonce, key, self._bound(header, bound_to))

    def unwrap(self, tenant: UUID, wrapped: bytes, bound_to: bytes) -> bytes:
        if len(wrapped) == Header.HEADERLESS_BYTES:
            version, body, bound = 1, wrapped, bound_to
        else:
            header, body = Header.split(wrapped, AES_256_GCM)
            version, bound = header.version, self._bound(bytes(header), bound_to)
        file = self._file(tenant, version)
        try:
            return AESGCM(self._read(file)).decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], bound)
        except (InvalidTag, ValueError) as error:
            raise KeyUnavailable(
                f"The workspace key of {tenant} does not open with {self._path(file).name}: "
                "restore the keystore that belongs to this database."
            ) from error

    def _bound(self, header: bytes, bound_to: bytes) -> bytes:
        return length_prefixed(header, self.name.encode(), bound_to)

    def rotate(self, tenant: UUID) -> None:
        self._write_new(self._file(tenant, max(self._existing(tenant)) + 1))

    def versions(self, tenant: UUID) -> list[int]:
        numbered = re.compile(rf"{re.escape(str(tenant))}\.([1-9][0-9]*){re.escape(self.SUFFIX)}")
        found = [1] if self._path(str(tenant)).exists() else []
        for path in self.directory.glob(f"{tenant}.*{self.SUFFIX}"):
            if match := numbered.fullmatch(path.name):
                found.append(int(match[1]))
        return sorted(found)

    def prune(self, tenant: UUID) -> None:
        for version in self._existing(tenant)[:-1]:
            self._overwrite(self._path(self._file(tenant, version)))
        self._forget_unfinished(tenant)
        self._sync_directory()

    def destroy(self, tenant: UUID) -> None:
        for version in self.versions(tenant):
            self._overwrite(self._path(self._file(tenant, version)))
        if self.directory.is_dir():
            self._forget_unfinished(tenant)
            self._markers.take_away(tenant)
            self._sync_directory()

    def pending(self) -> Iterator[tuple[UUID, float]]:
        yield from self._markers

    def holds(self, tenant: UUID) -> bool:
        return bool(self.versions(tenant))

    def destruction_delay(self) -> timedelta:
        return timedelta(0)

    def beyond_destruction(self) -> str:
        return "Copies of the keystore, its backups among them, keep the destroyed key until they are destroyed too."

    # -- files

    def _existing(self, tenant: UUID) -> list[int]:
        if found := self.versions(tenant):
            return found
        raise self._missing(self._path(str(tenant)))

    def _missing(self, path: Path) -> KeyUnavailable:
        return KeyUnavailable(
            f"The keystore has no {path.name} (KEYS_DIR is {self.directory}): restore the keystore from its backup. "
            "It is never made anew for data that exists."
        )

    @staticmethod
    def _file(tenant: UUID, version: int) -> str:
        return str(tenant) if version == 1 else f"{tenant}.{version}"

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}{self.SUFFIX}"

    def _forget_unfinished(self, tenant: UUID) -> None:
        """What a process left that was killed while it wrote a key."""
        for path in self.directory.glob(f".{tenant}.*"):
            self._overwrite(path)

    def _overwrite(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            with open(path, "r+b") as file:  # best effort: a journalling or copy-on-write disk may keep old blocks
                file.write(b"\0" * path.stat().st_size)
                file.flush()
                os.fsync(file.fileno())
            path.unlink()

    def _read(self, name: str) -> bytes:
        path = self._path(name)
        try:
            with open(path, "rb") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise KeyUnavailable(f"{path} can be read by others: set its mode to 0600.")
                entry = json.load(file)
            key = self._opened(name, entry)
            if len(key) != KEY_BYTES:
                raise ValueError("wrong length")
            return key
        except FileNotFoundError:
            raise self._missing(path) from None
        except (ValueError, KeyError, TypeError):
            raise KeyUnavailable(f"{path} is damaged: restore it from the keystore's backup.") from None

    def _opened(self, name: str, entry: dict[str, str]) -> bytes:
        return base64.b64decode(entry["key"], validate=True)

    def _closed(self, name: str, key: bytes) -> dict[str, str]:
        return {"format": self.FORMAT, "key": base64.b64encode(key).decode()}

    def _write_new(self, name: str, key: bytes | None = None) -> None:
        """Whole or not at all, and on the disk before we go on: a key lost in a power cut is lost data."""
        if self._path(name).exists():
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        body = json.dumps(self._closed(name, key or secrets.token_bytes(KEY_BYTES)))
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


class SealedKeystore(Keystore):
    """The same directory, each file encrypted under the root key: who copies the directory alone has nothing."""

    name = "sealed-keystore"
    SUFFIX = ".sealed"
    FORMAT = "cloister-sealed-key/1"

    def __init__(self, directory: Path, root_key: bytes) -> None:
        super().__init__(directory)
        self._root = AESGCM(root_key)

    def _bound_to(self, name: str) -> bytes:
        return length_prefixed(self.FORMAT.encode(), f"{name}{self.SUFFIX}".encode())

    def _opened(self, name: str, entry: dict[str, str]) -> bytes:
        if set(entry) != {"format", "sealed"} or entry["format"] != self.FORMAT:
            raise ValueError("unknown format")
        sealed = base64.b64decode(entry["sealed"], validate=True)
        if base64.b64encode(sealed).decode() != entry["sealed"]:  # one way of writing it only
            raise ValueError("not canonical")
        try:
            return self._root.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self._bound_to(name))
        except InvalidTag:
            raise KeyUnavailable(
                f"{self._path(name)} does not open under KEYS_ROOT_KEY: set the root key it was made with, or restore the "
                "file from the keystore's backup."
            ) from None

    def _closed(self, name: str, key: bytes) -> dict[str, str]:
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + self._root.encrypt(nonce, key, self._bound_to(name))
        return {"format": self.FORMAT, "sealed": base64.b64encode(sealed).decode()}

    def beyond_destruction(self) -> str:
        return (
            "Copies of the keystore, its backups among them, keep the destroyed key for whoever also has the root key, until "
            "they are destroyed too."
        )
