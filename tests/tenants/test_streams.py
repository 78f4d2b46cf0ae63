"""Encrypted files: what comes out is what went in, or nothing."""

import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.ciphers import Tampered
from tenants.context import workspace
from tenants.streams import HEADER, SEGMENT_BYTES, TAG_BYTES, EncryptingWriter, decrypt_chunks

pytestmark = pytest.mark.django_db
PLACE = ("documents_file", "abc")
quick = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
sizes = st.sampled_from([0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES, 200_000])


def encrypt(plaintext: bytes, place: tuple[str, ...] = PLACE, step: int = 10_000) -> bytes:
    raw = io.BytesIO()
    writer = EncryptingWriter(raw, place)
    for start in range(0, len(plaintext), step):
        writer.write(plaintext[start : start + step])
    assert writer.finish() == len(plaintext)
    return raw.getvalue()


def decrypt(blob: bytes, place: tuple[str, ...] = PLACE) -> bytes:
    return b"".join(decrypt_chunks(io.BytesIO(blob), place))


@quick
@given(size=sizes, step=st.integers(1, 200_000))
def test_it_gives_back_what_was_put_in(in_workspace_a, size, step):
    plaintext = bytes(i % 251 for i in range(size))
    assert decrypt(encrypt(plaintext, step=max(step, size // 50 + 1))) == plaintext


@quick
@given(data=st.data())
def test_every_flipped_bit_is_noticed(in_workspace_a, data):
    blob = bytearray(encrypt(b"x" * (SEGMENT_BYTES + 100)))
    bit = data.draw(st.integers(0, len(blob) * 8 - 1))
    blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Exception) as caught:  # noqa: PT011
        decrypt(bytes(blob))
    assert type(caught.value).__name__ in {"Tampered", "KeyUnavailable"}


def test_truncation_at_and_inside_a_segment_is_noticed(in_workspace_a):
    blob = encrypt(b"x" * (3 * SEGMENT_BYTES))
    whole = SEGMENT_BYTES + TAG_BYTES
    for length in (0, 10, HEADER.size, HEADER.size + whole, HEADER.size + 2 * whole, len(blob) - 1):
        with pytest.raises(Tampered):
            decrypt(blob[:length])


def test_reordered_repeated_and_foreign_segments_are_noticed(in_workspace_a):
    whole = SEGMENT_BYTES + TAG_BYTES
    first, second = (encrypt(letter * (2 * SEGMENT_BYTES + 5)) for letter in (b"a", b"b"))
    head, one, two, last = (
        first[: HEADER.size],
        first[81 : 81 + whole],
        first[81 + whole : 81 + 2 * whole],
        first[81 + 2 * whole :],
    )
    foreign = second[81 : 81 + whole]
    for mixed in (
        head + two + one + last,
        head + one + one + last,
        head + foreign + two + last,
        second[:81] + one + two + last,
    ):
        with pytest.raises(Tampered):
            decrypt(mixed)


def test_a_file_does_not_open_under_another_name_or_in_another_workspace(workspace_a, workspace_b):
    with workspace(workspace_a):
        blob = encrypt(b"secret")
        with pytest.raises(Tampered):
            decrypt(blob, ("documents_file", "abd"))
    with workspace(workspace_b), pytest.raises(Tampered):
        decrypt(blob)


def test_nothing_readable_is_written(in_workspace_a):
    assert b"secret" not in encrypt(b"secret" * 50_000)
