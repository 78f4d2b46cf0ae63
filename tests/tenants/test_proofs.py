"""A receipt that was changed anywhere is no receipt."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tenants.proofs import RECEIPT, Forged, canonical, check_receipt, fingerprint, signed_bytes

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
BODY: dict[str, Any] = {
    "receipt": "6a1c5b0e-6f4f-4b8b-9a53-0f6f0c5f3a11", "at": "2026-11-26T10:00:00+00:00", "kind": "documents",
    "workspace": {"id": "0d9c", "name": "Ümlaut & Sons"}, "what": ["a", "b"], "counts": {"documents": 2, "bytes": 12},
    "keys": [{"version": 1, "fingerprint": "00ff"}], "verified": {"documents": 0}, "cannot_reach": ["Backups."],
}  # fmt: skip


def signed(body: Any, kind: str = RECEIPT) -> dict[str, Any]:
    signature = base64.b64encode(KEY.sign(signed_bytes(kind, body))).decode()
    return {"format": kind, "body": body, "public_key": PUBLIC, "signature": signature}


def test_what_was_signed_is_genuine_however_it_is_laid_out():
    for indent in (None, 1, 4):
        document = json.loads(json.dumps(signed(BODY), indent=indent, ensure_ascii=bool(indent)))
        assert check_receipt(document, PUBLIC) == BODY


def test_every_changed_byte_of_the_body_is_noticed():
    whole, document = canonical(BODY), signed(BODY)
    for place in range(len(whole)):
        for change in (1, 0x20):
            changed = whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :]
            try:
                body = json.loads(changed)
            except ValueError:
                continue  # no JSON any more
            if canonical(body) == whole:
                continue  # the same words
            with pytest.raises(Forged):
                check_receipt({**document, "body": body}, PUBLIC)


@given(st.integers(0, 63), st.integers(1, 255))
@settings(deadline=None, max_examples=200)
def test_every_changed_byte_of_the_signature_is_noticed(place: int, change: int):
    document = signed(BODY)
    raw = bytearray(base64.b64decode(document["signature"]))
    raw[place] ^= change
    with pytest.raises(Forged):
        check_receipt({**document, "signature": base64.b64encode(bytes(raw)).decode()}, PUBLIC)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
@settings(deadline=None, max_examples=200)
def test_no_other_body_takes_its_place(body: Any):
    if body != BODY:
        with pytest.raises(Forged):
            check_receipt({**signed(BODY), "body": body}, PUBLIC)


@given(json_values)
@settings(deadline=None, max_examples=200)
def test_what_is_no_receipt_is_refused_in_words(document: Any):
    with pytest.raises(Forged):
        check_receipt(document, PUBLIC)


def test_another_key_is_noticed_when_the_right_one_is_known():
    other = Ed25519PrivateKey.generate()
    public = base64.b64encode(other.public_key().public_bytes_raw()).decode()
    signature = base64.b64encode(other.sign(signed_bytes(RECEIPT, BODY))).decode()
    forged = {"format": RECEIPT, "body": BODY, "public_key": public, "signature": signature}
    assert check_receipt(forged) == BODY, "genuine of its own key: which is why the right one is kept elsewhere"
    with pytest.raises(Forged, match=fingerprint(public)):
        check_receipt(forged, PUBLIC)
    with pytest.raises(Forged):
        check_receipt({**forged, "public_key": PUBLIC}, PUBLIC)


def test_a_log_is_no_receipt():
    with pytest.raises(Forged, match="no receipt"):
        check_receipt(signed(BODY, "cloister-audit-log/1"), PUBLIC)
