"""What the key services on the network share: a small HTTPS client, and the installation key wrapped by the service.

Every failure is one sentence that names the address and nothing secret: no token, no body, no key.
"""

import base64
import hashlib
import http.client
import json
import os
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from tenants.keys.providers.base import KEY_BYTES, KeyUnavailable, Markers, ProviderUnreachable

TIMEOUT_SECONDS = 4.0
LARGEST_ANSWER = 1024 * 1024
REMEMBERED_SECONDS = 15 * 60  # as long as the keyring keeps a workspace's keys


class Answer:
    """What the service said: the status, and a JSON object (empty where there was none)."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status, self.body = status, body

    def __repr__(self) -> str:
        return f"<Answer {self.status}>"  # the body may hold a key


class Client:
    """One request at a time, bounded in time and size; follows no redirect, asks no proxy."""

    def __init__(self, service: str, address: str, ca_file: str = "") -> None:
        self.service, self.address, self._ca_file = service, address.rstrip("/"), ca_file

    def unreachable(self, problem: str) -> ProviderUnreachable:
        return ProviderUnreachable(f"{self.service} at {self.address} {problem}. Nothing is lost: try again in a moment.")

    def refused(self, problem: str) -> KeyUnavailable:
        return KeyUnavailable(f"{self.service} at {self.address} {problem}.")

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Answer:
        parts = urlsplit(self.address)
        connection: http.client.HTTPConnection
        try:
            if parts.scheme == "https":
                trusted = ssl.create_default_context(cafile=self._ca_file or None)
                connection = http.client.HTTPSConnection(
                    parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS, context=trusted
                )
            else:
                connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
        except (OSError, ValueError):
            raise self.refused("cannot be asked: the file of its certificate authority cannot be read") from None
        begun = time.monotonic()
        try:
            connection.request(method, parts.path + path, body, headers)
            response = connection.getresponse()
            pieces, size = [], 0
            while piece := response.read1(65536):
                size += len(piece)
                if time.monotonic() - begun > TIMEOUT_SECONDS:  # a drip feed would keep each single read in time
                    raise TimeoutError
                if size > LARGEST_ANSWER:
                    raise self.refused("answered with more than a key service says")
                pieces.append(piece)
        except TimeoutError:
            raise self.unreachable("did not answer in time") from None
        except ssl.SSLCertVerificationError:
            raise self.refused("has a certificate that is not trusted") from None
        except (OSError, http.client.HTTPException):
            raise self.unreachable("cannot be reached") from None
        finally:
            connection.close()
        raw = b"".join(pieces)
        try:
            found = json.loads(raw) if raw else {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            if response.status >= 500:
                raise self.unreachable("does not work at the moment")
            raise self.refused("answered with something that is no key service's answer")
        return Answer(response.status, found)


_remembered: dict[str, tuple[float, bytes]] = {}  # installation keys, by where and how they were wrapped
_lock = threading.Lock()


def forget() -> None:
    """Drop the installation keys held in memory."""
    with _lock:
        _remembered.clear()


class WrappedInstallationKey:
    """The installation key, random, wrapped by the service, in a file of KEYS_DIR that is noise without the service."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, wrap: Callable[[bytes], bytes], key: bytes | None) -> None:
        if self.path.exists():
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        wrapped = wrap(key or secrets.token_bytes(KEY_BYTES))
        body = json.dumps({"format": "cloister-wrapped/1", "wrapped": base64.b64encode(wrapped).decode()})
        new = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first: its key stands
            os.link(new, self.path)
        new.unlink()

    def read(self, unwrap: Callable[[bytes], bytes]) -> bytes:
        try:
            wrapped = base64.b64decode(json.loads(self.path.read_text())["wrapped"], validate=True)
        except FileNotFoundError:
            raise KeyUnavailable(f"There is no {self.path}: restore it from the backup of KEYS_DIR.") from None
        except (ValueError, KeyError, TypeError):
            raise KeyUnavailable(f"{self.path} is damaged: restore it from the backup of KEYS_DIR.") from None
        name = hashlib.sha256(str(self.path).encode() + b"\0" + wrapped).hexdigest()
        now = time.monotonic()
        with _lock:
            if (held := _remembered.get(name)) and held[0] > now:
                return held[1]
        key = unwrap(wrapped)
        if len(key) != KEY_BYTES:
            raise KeyUnavailable(f"{self.path} does not hold a key: restore it from the backup of KEYS_DIR.")
        with _lock:
            _remembered[name] = (now + REMEMBERED_SECONDS, key)
        return key


class Remote:
    """The part of a provider that is the same whichever service it asks."""

    INSTALLATION_BINDING = b"cloister/installation-key/v1"

    def __init__(self, directory: Path, name: str) -> None:
        self._markers = Markers(directory)
        self._installation = WrappedInstallationKey(directory / f"installation.{name}")

    def destroy_installation_key(self) -> None:
        self._installation.path.unlink(missing_ok=True)

    def activate(self, tenant: UUID) -> None:
        self._markers.take_away(tenant)

    def pending(self) -> Iterator[tuple[UUID, float]]:
        yield from self._markers
