"""Wrapping keys in AWS KMS: a key for each workspace, found by its alias, which never leaves KMS.

Speaks KMS's JSON itself, with requests signed by AWS Signature Version 4: the few calls needed are no reason for the AWS
SDK. KMS deletes a key only after a waiting period, during which whoever may can take the deletion back.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from tenants.keys.providers.base import Header, KeyUnavailable, ProviderUnreachable, length_prefixed
from tenants.keys.providers.remote import Client, Remote

KMS = 3
FOR_NOW = {"ThrottlingException", "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException",
           "LimitExceededException", "ServiceUnavailableException"}  # fmt: skip
NOT_LET_IN = {"AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException",
              "ExpiredTokenException", "IncompleteSignature", "InvalidClientTokenId",
              "MissingAuthenticationToken", "SignatureDoesNotMatch"}  # fmt: skip


@dataclass(frozen=True)
class KMSPlace:
    region: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    endpoint: str = ""
    prefix: str = "cloister"
    waiting_days: int = 7
    ca_file: str = ""

    @property
    def address(self) -> str:
        return self.endpoint or f"https://kms.{self.region}.amazonaws.com"


def signature(
    method: str, path: str, headers: Mapping[str, str], body: bytes, at: str, region: str, service: str, secret: str
) -> tuple[str, str]:
    """AWS Signature Version 4 of a request without a query: the names of the signed headers, and the signature in hex.

    `at`: the time as 20150830T123600Z, which the headers say too.
    """
    canonical = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    names = ";".join(sorted(canonical))
    lines = "".join(f"{name}:{canonical[name]}\n" for name in sorted(canonical))
    request = f"{method}\n{path}\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{at[:8]}/{region}/{service}/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    return names, hmac.digest(key, to_sign.encode(), hashlib.sha256).hex()


class _Said(Exception):
    """KMS answered with an exception of this name. For this module only."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class AWSKMS(Remote):
    name = "aws-kms"

    def __init__(self, directory: Path, place: KMSPlace) -> None:
        super().__init__(directory, self.name)
        self._place = place
        self._client = Client("AWS KMS", place.address, place.ca_file)

    def __repr__(self) -> str:
        return f"<AWSKMS {self._place.address}>"

    def create_installation_key(self, key: bytes | None = None) -> None:
        if not self._installation.path.exists():
            if self._described(self._alias("installation")) is None:
                self._make("installation", 1)
            self._installation.create(lambda made: self._encrypt("installation", 1, made, self.INSTALLATION_BINDING), key)

    def installation_key(self) -> bytes:
        return self._installation.read(lambda wrapped: self._decrypt("installation", wrapped, self.INSTALLATION_BINDING))

    def create(self, tenant: UUID) -> None:
        if not self.holds(tenant):
            self._markers.put(tenant)
            self._make(tenant, 1)

    def _make(self, of: UUID | str, version: int) -> None:
        key_id = self._new_key(of, version)
        try:
            self._ask("CreateAlias", AliasName=self._alias(of), TargetKeyId=key_id)
        except _Said as said:
            self._schedule_deletion(key_id)  # another process was first: its key stands
            if said.kind != "AlreadyExistsException":
                raise self._failure(said.kind) from None

    def wrap(self, tenant: UUID, key: bytes, bound_to: bytes) -> bytes:
        return self._encrypt(str(tenant), self._existing(tenant)[-1], key, bound_to)

    def unwrap(self, tenant: UUID, wrapped: bytes, bound_to: bytes) -> bytes:
        return self._decrypt(str(tenant), wrapped, bound_to)

    def rotate(self, tenant: UUID) -> None:
        current = self._described(self._alias(tenant))
        if current is None:
            raise self._missing(tenant)
        old_id, version = current
        new_id = self._new_key(tenant, version + 1)
        self._point(self._previous(tenant), old_id)  # before the old one loses its name
        self._point(self._alias(tenant), new_id)

    def versions(self, tenant: UUID) -> list[int]:
        described = [self._described(alias) for alias in (self._previous(tenant), self._alias(tenant))]
        return sorted({version for _, version in filter(None, described)})

    def prune(self, tenant: UUID) -> None:
        current, previous = self._described(self._alias(tenant)), self._described(self._previous(tenant))
        if current is None:
            raise self._missing(tenant)
        if previous:
            if previous[0] != current[0]:
                self._schedule_deletion(previous[0])
            self._delete_alias(self._previous(tenant))

    def destroy(self, tenant: UUID) -> None:
        for alias in (self._previous(tenant), self._alias(tenant)):
            if found := self._described(alias, also_dying=True):
                self._schedule_deletion(found[0])
                self._delete_alias(alias)
        self._markers.take_away(tenant)

    def holds(self, tenant: UUID) -> bool:
        return bool(self.versions(tenant))

    def destruction_delay(self) -> timedelta:
        return timedelta(days=self._place.waiting_days)

    def beyond_destruction(self) -> str:
        days = self._place.waiting_days
        return f"For {days} days administrators of the AWS account can take the deletion of the key back."

    # -- asking

    def _alias(self, of: UUID | str) -> str:
        return f"alias/{self._place.prefix}/{of}"

    def _previous(self, of: UUID | str) -> str:
        return f"{self._alias(of)}/previous"

    def _existing(self, tenant: UUID) -> list[int]:
        if found := self.versions(tenant):
            return found
        raise self._missing(tenant)

    def _missing(self, of: UUID | str) -> KeyUnavailable:
        return self._client.refused(
            f"has no key {self._alias(of)} in use: cancel its deletion there. A lost key is never made anew"
        )

    def _described(self, alias: str, *, also_dying: bool = False) -> tuple[str, int] | None:
        """The id and version of the key an alias names; None where there is none, or it waits for its deletion."""
        try:
            found = self._ask("DescribeKey", KeyId=alias)
        except _Said as said:
            if said.kind == "NotFoundException":
                return None
            raise self._failure(said.kind) from None
        try:
            about = found["KeyMetadata"]
            if about["KeyState"] == "PendingDeletion" and not also_dying:
                return None
            return str(about["KeyId"]), int(str(about["Description"]).rpartition(" ")[2])
        except (KeyError, TypeError, ValueError):
            raise self._malformed() from None

    def _new_key(self, of: UUID | str, version: int) -> str:
        said = f"Cloister, wrapping key of {of}, version {version}"
        answer = self._must("CreateKey", Description=said, KeyUsage="ENCRYPT_DECRYPT", KeySpec="SYMMETRIC_DEFAULT")
        try:
            return str(answer["KeyMetadata"]["KeyId"])
        except (KeyError, TypeError):
            raise self._malformed() from None

    def _point(self, alias: str, key_id: str) -> None:
        try:
            self._ask("CreateAlias", AliasName=alias, TargetKeyId=key_id)
        except _Said as said:
            if said.kind != "AlreadyExistsException":
                raise self._failure(said.kind) from None
            self._must("UpdateAlias", AliasName=alias, TargetKeyId=key_id)

    def _delete_alias(self, alias: str) -> None:
        self._must("DeleteAlias", {"NotFoundException"}, AliasName=alias)

    def _schedule_deletion(self, key_id: str) -> None:
        gone = {"KMSInvalidStateException", "NotFoundException"}  # it waits already, or is gone
        self._must("ScheduleKeyDeletion", gone, KeyId=key_id, PendingWindowInDays=self._place.waiting_days)

    def _context(self, header: bytes, bound_to: bytes) -> dict[str, str]:
        return {"cloister": base64.b64encode(length_prefixed(header, self.name.encode(), bound_to)).decode()}

    def _encrypt(self, of: str, version: int, key: bytes, bound_to: bytes) -> bytes:
        header = bytes(Header(KMS, version))
        answer = self._must(
            "Encrypt",
            KeyId=self._alias(of),
            Plaintext=base64.b64encode(key).decode(),
            EncryptionContext=self._context(header, bound_to),
        )
        try:
            return header + base64.b64decode(answer["CiphertextBlob"], validate=True)
        except (KeyError, TypeError, ValueError):
            raise self._malformed() from None

    def _decrypt(self, of: str, wrapped: bytes, bound_to: bytes) -> bytes:
        """Always under a key named by us: KMS would take whichever key the ciphertext names, a stranger's too."""
        header, body = Header.split(wrapped, KMS)
        asked = {
            "CiphertextBlob": base64.b64encode(body).decode(),
            "EncryptionContext": self._context(bytes(header), bound_to),
        }
        for alias in (self._alias(of), self._previous(of)):
            try:
                answer = self._ask("Decrypt", KeyId=alias, **asked)
            except _Said as said:
                if said.kind in {"IncorrectKeyException", "NotFoundException"}:
                    continue
                if said.kind == "InvalidCiphertextException":
                    break
                raise self._failure(said.kind) from None
            try:
                return base64.b64decode(answer["Plaintext"], validate=True)
            except (KeyError, TypeError, ValueError):
                raise self._malformed() from None
        problem = f"does not open the key wrapped by {self._alias(of)}: it belongs to another account, or is damaged"
        raise self._client.refused(problem)

    def _malformed(self) -> KeyUnavailable:
        return self._client.refused("answered with something that is not KMS's")

    def _failure(self, kind: str) -> KeyUnavailable:
        if kind in FOR_NOW:
            return self._client.unreachable("does not work at the moment, or asks for fewer requests")
        if kind in NOT_LET_IN:
            return self._client.refused("does not let Cloister in: check its credentials and their policy (docs/keys.md)")
        if kind in {"KMSInvalidStateException", "DisabledException"}:
            return self._client.refused("has disabled a key, or waits to delete it: enable it there")
        known = kind if kind.isalnum() and len(kind) < 60 else "an unknown reason"
        return self._client.refused(f"refused what Cloister asked ({known})")

    def _must(self, action: str, suffered: set[str] | None = None, /, **asked: Any) -> dict[str, Any]:
        try:
            return self._ask(action, **asked)
        except _Said as said:
            if said.kind in (suffered or set()):
                return {}
            raise self._failure(said.kind) from None

    def _ask(self, action: str, /, **asked: Any) -> dict[str, Any]:
        body, at = json.dumps(asked).encode(), datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        headers = {
            "Host": urlsplit(self._place.address).netloc,
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Date": at,
            "X-Amz-Target": f"TrentService.{action}",
        }
        if self._place.session_token:
            headers["X-Amz-Security-Token"] = self._place.session_token
        place = self._place
        names, signed = signature("POST", "/", headers, body, at, place.region, "kms", place.secret_access_key)
        credential = f"{place.access_key_id}/{at[:8]}/{place.region}/kms/aws4_request"
        headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signed}"
        answer = self._client.send("POST", "/", headers, body)
        if answer.status == 200:
            return answer.body
        kind = str(answer.body.get("__type", "")).rpartition("#")[2]
        if answer.status >= 500 or answer.status == 429:
            raise ProviderUnreachable(str(self._failure("KMSInternalException")))
        raise _Said(kind)
