"""Wrapping keys in HashiCorp Vault's transit engine: one named key for each workspace, which never leaves Vault."""

import base64
import json
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from tenants.keys.providers.base import Header, KeyUnavailable, length_prefixed
from tenants.keys.providers.remote import Answer, Client, Remote

TRANSIT = 2
OK, NO_CONTENT, BAD_REQUEST, FORBIDDEN, NOT_FOUND = 200, 204, 400, 403, 404
FOR_NOW = {412, 429, 472, 473, 500, 502, 503, 504}  # throttled, standby, sealed, broken


@dataclass(frozen=True)
class VaultPlace:
    """Where Vault is and how to sign in: a token, or an AppRole."""

    address: str
    mount: str = "transit"
    prefix: str = "cloister"
    namespace: str = ""
    ca_file: str = ""
    token: str = field(default="", repr=False)
    role_id: str = field(default="", repr=False)
    secret_id: str = field(default="", repr=False)


_tokens: dict[VaultPlace, tuple[float, str]] = {}  # of AppRoles, until shortly before they expire
_lock = threading.Lock()


class Vault(Remote):
    name = "vault"

    def __init__(self, directory: Path, place: VaultPlace) -> None:
        super().__init__(directory, self.name)
        self._place = place
        self._client = Client("Vault", place.address, place.ca_file)

    def __repr__(self) -> str:
        return f"<Vault {self._place.address}>"

    def create_installation_key(self, key: bytes | None = None) -> None:
        if not self._installation.path.exists():
            name = self._key_name("installation")
            self._ask("POST", f"keys/{name}", {"type": "aes256-gcm96"})
            self._installation.create(lambda made: self._encrypt(name, 1, made, self.INSTALLATION_BINDING), key)

    def installation_key(self) -> bytes:
        name = self._key_name("installation")
        return self._installation.read(lambda wrapped: self._decrypt(name, wrapped, self.INSTALLATION_BINDING))

    def create(self, tenant: UUID) -> None:
        if not self.holds(tenant):
            self._markers.put(tenant)
            self._ask("POST", f"keys/{self._key_name(tenant)}", {"type": "aes256-gcm96"})

    def wrap(self, tenant: UUID, key: bytes, bound_to: bytes) -> bytes:
        newest = self._existing(tenant)[-1]  # asked first: Vault would make a key that is not there
        return self._encrypt(self._key_name(tenant), newest, key, bound_to)

    def unwrap(self, tenant: UUID, wrapped: bytes, bound_to: bytes) -> bytes:
        return self._decrypt(self._key_name(tenant), wrapped, bound_to)

    def rotate(self, tenant: UUID) -> None:
        self._existing(tenant)
        self._ask("POST", f"keys/{self._key_name(tenant)}/rotate", {})

    def versions(self, tenant: UUID) -> list[int]:
        answer = self._ask("GET", f"keys/{self._key_name(tenant)}", None, allowed=(NOT_FOUND,))
        if answer.status == NOT_FOUND:
            return []
        try:
            data = answer.body["data"]
            return sorted(int(version) for version in data["keys"] if int(version) >= data["min_decryption_version"])
        except (KeyError, TypeError, ValueError):
            raise self._malformed() from None

    def prune(self, tenant: UUID) -> None:
        newest, name = self._existing(tenant)[-1], self._key_name(tenant)
        floor = {"min_decryption_version": newest, "min_encryption_version": newest}
        self._ask("POST", f"keys/{name}/config", floor)
        self._ask("POST", f"keys/{name}/trim", {"min_available_version": newest})

    def destroy(self, tenant: UUID) -> None:
        name = self._key_name(tenant)
        if self.holds(tenant):
            self._ask("POST", f"keys/{name}/config", {"deletion_allowed": True})
            self._ask("DELETE", f"keys/{name}", None, allowed=(NOT_FOUND,))
        self._markers.take_away(tenant)

    def holds(self, tenant: UUID) -> bool:
        return bool(self.versions(tenant))

    def destruction_delay(self) -> timedelta:
        return timedelta(0)

    def beyond_destruction(self) -> str:
        return "Backups and snapshots of Vault's storage keep the destroyed key for whoever can unseal them."

    # -- asking

    def _key_name(self, of: UUID | str) -> str:
        return f"{self._place.prefix}-{of}"

    def _existing(self, tenant: UUID) -> list[int]:
        if found := self.versions(tenant):
            return found
        raise self._client.refused(f"has no key {self._key_name(tenant)}: restore Vault. A lost key is never made anew")

    def _encrypt(self, name: str, version: int, key: bytes, bound_to: bytes) -> bytes:
        header = bytes(Header(TRANSIT, version))
        body = {
            "plaintext": base64.b64encode(key).decode(),
            "associated_data": base64.b64encode(length_prefixed(header, self.name.encode(), bound_to)).decode(),
            "key_version": version,
        }
        answer = self._ask("POST", f"encrypt/{name}", body)
        try:
            tag, numbered, text = str(answer.body["data"]["ciphertext"]).split(":")
            if (tag, numbered) != ("vault", f"v{version}"):
                raise ValueError("another version")
            return header + base64.b64decode(text, validate=True)
        except (KeyError, TypeError, ValueError):
            raise self._malformed() from None

    def _decrypt(self, name: str, wrapped: bytes, bound_to: bytes) -> bytes:
        header, body = Header.split(wrapped, TRANSIT)
        asked = {
            "ciphertext": f"vault:v{header.version}:{base64.b64encode(body).decode()}",
            "associated_data": base64.b64encode(length_prefixed(bytes(header), self.name.encode(), bound_to)).decode(),
        }
        answer = self._ask("POST", f"decrypt/{name}", asked, allowed=(BAD_REQUEST, NOT_FOUND))
        if answer.status != OK:
            raise self._client.refused(f"does not open the key wrapped by {name}: it belongs to another Vault, or is damaged")
        try:
            return base64.b64decode(answer.body["data"]["plaintext"], validate=True)
        except (KeyError, TypeError, ValueError):
            raise self._malformed() from None

    def _malformed(self) -> KeyUnavailable:
        return self._client.refused("answered with something that is not Vault's transit engine's")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None, allowed: tuple[int, ...] = ()) -> Answer:
        answer = self._send(method, f"/v1/{self._place.mount}/{path}", body, self._token())
        if answer.status == FORBIDDEN and self._place.role_id:  # the token may have been revoked: sign in once more
            with _lock:
                _tokens.pop(self._place, None)
            answer = self._send(method, f"/v1/{self._place.mount}/{path}", body, self._token())
        if answer.status in (OK, NO_CONTENT, *allowed):
            return answer
        raise self._failure(answer.status)

    def _failure(self, status: int) -> KeyUnavailable:
        if status in FOR_NOW:
            words = {429: "asks for fewer requests", 503: "is sealed or in maintenance"}
            return self._client.unreachable(words.get(status, f"does not work at the moment (status {status})"))
        if status == FORBIDDEN:
            return self._client.refused("does not let Cloister in: check its token or AppRole and their policy (docs/keys.md)")
        return self._client.refused(f"refused what Cloister asked (status {status})")

    def _send(self, method: str, path: str, body: dict[str, Any] | None, token: str) -> Answer:
        headers = {"Content-Type": "application/json", "X-Vault-Request": "true"}
        if token:
            headers["X-Vault-Token"] = token
        if self._place.namespace:
            headers["X-Vault-Namespace"] = self._place.namespace
        return self._client.send(method, path, headers, None if body is None else json.dumps(body).encode())

    def _token(self) -> str:
        if self._place.token:
            return self._place.token
        now = time.monotonic()
        with _lock:
            if (held := _tokens.get(self._place)) and held[0] > now:
                return held[1]
        asked = {"role_id": self._place.role_id, "secret_id": self._place.secret_id}
        answer = self._send("POST", "/v1/auth/approle/login", asked, "")
        if answer.status == BAD_REQUEST:
            raise self._failure(FORBIDDEN)
        if answer.status != OK:
            raise self._failure(answer.status)
        try:
            token, seconds = str(answer.body["auth"]["client_token"]), float(answer.body["auth"]["lease_duration"])
        except (KeyError, TypeError, ValueError):
            raise self._malformed() from None
        with _lock:
            _tokens[self._place] = (now + max(0.0, seconds * 0.8), token)
        return token
