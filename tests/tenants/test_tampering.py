"""Whoever may write to the disk and the database changes, moves or mixes ciphertexts: nothing but what was put in opens."""

import base64
import io
import struct
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.ciphers import InstallationCipher, Tampered, cipher
from tenants.context import workspace
from tenants.keys.keyring import PURPOSES, derive, keyring, provider, wrap_binding
from tenants.keys.providers import KeyUnavailable
from tenants.models import TenantKey
from tenants.sessions import SessionStore
from tenants.streams import HEADER, SEALED_BYTES, SEGMENT_BYTES, DecryptingReader, EncryptingWriter, decrypt_chunks

pytestmark = pytest.mark.django_db
PLACE = ("documents_document", "file", "5a1c")
CELL = ("documents_page", "text", "1")
PLAIN = bytes(i % 251 for i in range(2 * SEGMENT_BYTES + 300))
quick = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def encrypt(plaintext: bytes, place: tuple[str, ...] = PLACE) -> bytes:
    writer = EncryptingWriter(raw := io.BytesIO(), place)
    writer.write(plaintext)
    writer.finish()
    return raw.getvalue()


def whole(blob: bytes, place: tuple[str, ...] = PLACE) -> bytes:
    return b"".join(decrypt_chunks(io.BytesIO(blob), place))


def ranged(blob: bytes, place: tuple[str, ...] = PLACE) -> bytes:
    reader = DecryptingReader(io.BytesIO(blob), place)
    return b"".join(reader.read(0, reader.size))


def refuses(read: Callable[[], Any]) -> None:
    with pytest.raises((Tampered, KeyUnavailable)):
        read()


def flipped(blob: bytes, bit: int) -> bytes:
    changed = bytearray(blob)
    changed[bit // 8 % len(blob)] ^= 1 << bit % 8
    return bytes(changed)


@pytest.fixture
def other_version(in_workspace_a: Any) -> int:
    """A second key the ring already holds; its row may only be written by another login."""
    tenant, until = in_workspace_a.id, time.monotonic() + 600
    for purpose in PURPOSES:
        subkey = derive(bytes(range(32)), purpose.encode(), tenant.bytes, struct.pack(">I", 2))
        keyring._subkeys[tenant, 2, purpose] = (until, subkey)
    return 2


@quick
@given(bit=st.integers(0, 1 << 24))
def test_a_bit_of_a_file(in_workspace_a: Any, bit: int) -> None:
    for read in (whole, ranged):
        refuses(lambda read=read: read(flipped(encrypt(PLAIN), bit)))


@quick
@given(cut=st.integers(1, 2 * SEALED_BYTES + 400), more=st.binary(min_size=1, max_size=40))
def test_a_file_cut_or_lengthened(in_workspace_a: Any, cut: int, more: bytes) -> None:
    blob = encrypt(PLAIN)
    for changed in (blob[:-cut], blob + more, blob + blob[HEADER.size : HEADER.size + cut]):
        refuses(lambda changed=changed: whole(changed))
        refuses(lambda changed=changed: DecryptingReader(io.BytesIO(changed), PLACE))


@quick
@given(start=st.integers(0, len(PLAIN) + 10), length=st.integers(0, len(PLAIN)))
def test_any_range_is_what_was_put_in(in_workspace_a: Any, start: int, length: int) -> None:
    reader = DecryptingReader(io.BytesIO(encrypt(PLAIN)), PLACE)
    assert reader.size == len(PLAIN)
    assert b"".join(reader.read(start, start + length)) == PLAIN[start : start + length]


def test_segments_elsewhere(workspace_a: Any, workspace_b: Any) -> None:
    with workspace(workspace_b):
        abroad = encrypt(PLAIN)
    with workspace(workspace_a):
        blob = encrypt(PLAIN)
        others = (encrypt(PLAIN), encrypt(PLAIN, (*PLACE[:2], "other")), abroad)
        one, two = (slice(HEADER.size + n * SEALED_BYTES, HEADER.size + (n + 1) * SEALED_BYTES) for n in (0, 1))
        head, last = blob[: HEADER.size], blob[two.stop :]
        mixed = [head + blob[two] + blob[one] + last, head + blob[one] + blob[one] + last, head + last]
        for other in others:
            mixed += [head + other[one] + blob[two] + last, other[: HEADER.size] + blob[HEADER.size :]]
            mixed += [blob[: two.stop] + other[two.stop :]]
        mixed += [abroad, others[1]]
        for changed in mixed:
            refuses(lambda changed=changed: whole(changed))
            refuses(lambda changed=changed: ranged(changed))


def test_a_file_under_another_version(other_version: int) -> None:
    blob = encrypt(PLAIN)
    for read in (whole, ranged):
        refuses(lambda read=read: read(blob[:9] + struct.pack(">I", other_version) + blob[13:]))


@quick
@given(plaintext=st.binary(max_size=80), bit=st.integers(0, 2000), cut=st.integers(1, 120), more=st.binary(min_size=1))
def test_a_value_changed(other_version: int, plaintext: bytes, bit: int, cut: int, more: bytes) -> None:
    text = cipher("text")
    blob = text.encrypt(CELL, plaintext)
    of_the_other_version = blob[:2] + struct.pack(">I", other_version) + blob[6:]
    for changed in (flipped(blob, bit), blob[:-cut], blob + more, of_the_other_version):
        refuses(lambda changed=changed: text.decrypt(CELL, changed))


@quick
@given(elsewhere=st.tuples(st.text(max_size=20), st.text(max_size=6), st.text(max_size=3)))
def test_a_value_moved(workspace_a: Any, workspace_b: Any, elsewhere: tuple[str, str, str]) -> None:
    with workspace(workspace_a):
        blob = cipher("text").encrypt(CELL, b"secret")
        if elsewhere != CELL:
            refuses(lambda: cipher("text").decrypt(elsewhere, blob))
        refuses(lambda: cipher("vector").decrypt(CELL, blob))
    with workspace(workspace_b):
        refuses(lambda: cipher("text").decrypt(CELL, blob))


@quick
@given(bit=st.integers(0, 2000), cut=st.integers(1, 60))
def test_what_belongs_to_the_installation(bit: int, cut: int) -> None:
    place = ("tenants_outgoingmail", "sealed_body", "1")
    blob = InstallationCipher().encrypt(place, b"a link")
    for changed in (flipped(blob, bit), blob[:-cut], blob + b"x"):
        refuses(lambda changed=changed: InstallationCipher().decrypt(place, changed))
    refuses(lambda: InstallationCipher().decrypt((*place[:2], "2"), blob))


@quick
@given(bit=st.integers(0, 479), cut=st.integers(1, 60))
def test_a_wrapped_workspace_key(workspace_a: Any, workspace_b: Any, bit: int, cut: int) -> None:
    def unwrap(tenant: UUID, wrapped: bytes, version: int = 1) -> bytes:
        return provider().unwrap(tenant, wrapped, wrap_binding(tenant, version))

    wrapped = bytes(TenantKey.objects.values_list("wrapped", flat=True).get(tenant=workspace_a, version=1))
    assert len(unwrap(workspace_a.id, wrapped)) == 32
    for changed in (flipped(wrapped, bit), wrapped[:-cut], wrapped + b"x"):
        refuses(lambda changed=changed: unwrap(workspace_a.id, changed))
    refuses(lambda: unwrap(workspace_a.id, wrapped, 2))
    refuses(lambda: unwrap(workspace_b.id, wrapped))


@quick
@given(bit=st.integers(0, 2000), cut=st.integers(1, 60))
def test_a_session(bit: int, cut: int) -> None:
    mine, theirs = SessionStore("a" * 32), SessionStore("b" * 32)
    stored = mine.encode({"user": 1})
    assert mine.decode(stored) == {"user": 1}
    blob = base64.b64decode(stored)
    for changed in (flipped(blob, bit), blob[:-cut], blob + b"x"):
        assert mine.decode(base64.b64encode(changed)) == {}
    assert theirs.decode(stored) == {}
