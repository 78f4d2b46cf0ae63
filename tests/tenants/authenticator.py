"""A device that holds passkeys, in software: it answers WebAuthn's two ceremonies as a browser would hand them on."""

import hashlib
import secrets
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import Aaguid, AttestationObject, AttestedCredentialData, AuthenticatorData, CollectedClientData

PRESENT, VERIFIED = AuthenticatorData.FLAG.UP, AuthenticatorData.FLAG.UV


class Authenticator:
    def __init__(self, origin: str = "http://testserver", *, verifies: bool = True) -> None:
        self.origin, self.rp_id = origin, origin.partition("://")[2].partition(":")[0]
        self.flags = PRESENT | VERIFIED if verifies else PRESENT
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.id = secrets.token_bytes(16)
        self.handle = ""
        self.uses = 0

    def _said(self, kind: str, options: dict[str, Any]) -> CollectedClientData:
        return CollectedClientData.create(kind, websafe_decode(options["challenge"]), self.origin)

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """Answer to navigator.credentials.create()."""
        self.handle = options["user"]["id"]
        said = self._said("webauthn.create", options)
        public = AttestedCredentialData.create(Aaguid(b"\0" * 16), self.id, ES256.from_cryptography_key(self.key.public_key()))
        about = AuthenticatorData.create(self._rp(), self.flags | AuthenticatorData.FLAG.AT, 0, bytes(public))
        attested = AttestationObject.create("none", about, {})
        response = {"clientDataJSON": websafe_encode(said), "attestationObject": websafe_encode(attested)}
        return self._credential(response) | {"clientExtensionResults": {"credProps": {"rk": True}}}

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        """Answer to navigator.credentials.get()."""
        self.uses += 1
        said = self._said("webauthn.get", options)
        about = AuthenticatorData.create(self._rp(), self.flags, self.uses)
        signature = self.key.sign(bytes(about) + hashlib.sha256(said).digest(), ec.ECDSA(SHA256()))
        response = {
            "clientDataJSON": websafe_encode(said),
            "authenticatorData": websafe_encode(about),
            "signature": websafe_encode(signature),
            "userHandle": self.handle,
        }
        return self._credential(response) | {"clientExtensionResults": {}}

    def _rp(self) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest()

    def _credential(self, response: dict[str, str]) -> dict[str, Any]:
        return {"id": websafe_encode(self.id), "rawId": websafe_encode(self.id), "type": "public-key", "response": response}
