"""Signs what leaves as a proof (receipts, exported logs) with the installation's Ed25519 key (RFC 8032).

The key follows from the installation key. What is signed is checked by `tenants.proofs`, which needs neither.
"""

import base64
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tenants.keys.keyring import derive, provider
from tenants.proofs import signed_bytes


def _private_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(derive(provider().installation_key(), b"signing"))


def public_key() -> str:
    """In base64: what people keep to check signatures with."""
    return base64.b64encode(_private_key().public_key().public_bytes_raw()).decode()


def signed(kind: str, body: Any) -> dict[str, Any]:
    """The document to hand out: see `tenants.proofs.check_signature`. `body` is of JSON's types."""
    key = _private_key()
    return {
        "format": kind,
        "body": body,
        "public_key": base64.b64encode(key.public_key().public_bytes_raw()).decode(),
        "signature": base64.b64encode(key.sign(signed_bytes(kind, body))).decode(),
    }
