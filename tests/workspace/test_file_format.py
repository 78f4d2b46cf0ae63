"""docs/file-format.md is enough to read what Cloister wrote: decoded here from that page, without Cloister's code."""

import base64
import hashlib
import hmac
import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from documents.models import Collection
from documents.receiving import collection_named
from tenants.models import TenantKey
from tenants.streams import EncryptingWriter

pytestmark = pytest.mark.django_db


def lp(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def derive(key: bytes, *parts: bytes, salt: bytes | None = None) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, lp(b"cloister/v1", *parts)).derive(key)


def subkey(tenant: Any, purpose: bytes) -> bytes:
    """From the keystore's file and the wrapped key in the database."""
    entry = json.loads((Path(settings.KEYS_DIR) / f"{tenant.id}.key").read_text())
    wrapped = bytes(TenantKey.objects.values_list("wrapped", flat=True).get(tenant_id=tenant.id, version=1))
    assert len(wrapped) == 66
    assert wrapped[:6] == bytes([2, 1]) + struct.pack(">I", 1)
    bound_to = lp(b"cloister/wrapped-key/v1", tenant.id.bytes, struct.pack(">I", 1))
    bound = lp(wrapped[:6], b"keystore", bound_to)
    key = AESGCM(base64.b64decode(entry["key"])).decrypt(wrapped[6:18], wrapped[18:], bound)
    return derive(key, purpose, tenant.id.bytes, struct.pack(">I", 1))


def test_a_value(in_workspace_a: Any) -> None:
    made = collection_named("Straße")
    blob = bytes(Collection.objects.values_list("name", flat=True).get(pk=made.pk))
    assert blob[:6] == bytes([1, 1]) + struct.pack(">I", 1)
    bound = lp(blob[:6], in_workspace_a.id.bytes, b"documents_collection", b"name", str(made.pk).encode())
    assert AESGCM(subkey(in_workspace_a, b"text")).decrypt(blob[6:18], blob[18:], bound) == "Straße".encode()


def test_a_digest(in_workspace_a: Any) -> None:
    made = collection_named("Straße")
    seed = derive(subkey(in_workspace_a, b"dedupe"), b"seed", b"digest")
    assert bytes(made.name_digest) == hmac.digest(seed, b"collection:strasse", hashlib.sha256)


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 200_000])
def test_a_file(in_workspace_a: Any, size: int) -> None:
    raw, name, plaintext = io.BytesIO(), str(uuid4()), bytes(range(256)) * 800
    writer = EncryptingWriter(raw, ("documents_document", "file", name))
    writer.write(plaintext[:size])
    writer.finish()
    written = raw.getvalue()
    assert len(written) == 81 + size + 16 * max(1, -(-size // 65536))
    assert b"".join(opened(in_workspace_a, written, name)) == plaintext[:size]


def opened(tenant: Any, written: bytes, name: str) -> Iterator[bytes]:
    header, body = written[:81], written[81:]
    assert (header[:4], header[4], struct.unpack(">II", header[5:13])) == (b"CLSF", 1, (65536, 1))
    salt, prefix, commitment = header[13:45], header[45:49], header[49:]
    context = (b"documents_document", b"file", name.encode())
    own = subkey(tenant, b"file")
    assert commitment == derive(own, b"file-commitment", *context, salt=salt)
    aead = AESGCM(derive(own, b"file-key", *context, salt=salt))
    segments = [body[start : start + 65552] for start in range(0, len(body), 65552)]
    for number, segment in enumerate(segments):
        last = 1 << 63 if number == len(segments) - 1 else 0
        yield aead.decrypt(prefix + struct.pack(">Q", number | last), segment, header)
