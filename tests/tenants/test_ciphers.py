"""Values encrypted under a workspace's key open where they were put and nowhere else."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.ciphers import OVERHEAD, InstallationCipher, Tampered, cipher, digest, seed
from tenants.context import workspace
from tenants.keys.keyring import derive, length_prefixed

pytestmark = pytest.mark.django_db
PLACE = ("documents_page", "text", "1")
quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@quick
@given(plaintext=st.binary(max_size=300))
def test_it_gives_back_what_was_put_in(in_workspace_a, plaintext):
    blob = cipher("text").encrypt(PLACE, plaintext)
    assert len(blob) == len(plaintext) + OVERHEAD
    assert cipher("text").decrypt(PLACE, blob) == plaintext


@quick
@given(plaintext=st.binary(min_size=1, max_size=60), data=st.data())
def test_every_flipped_bit_is_noticed(in_workspace_a, plaintext, data):
    blob = bytearray(cipher("text").encrypt(PLACE, plaintext))
    bit = data.draw(st.integers(0, len(blob) * 8 - 1))
    blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises((Tampered, Exception)) as caught:
        cipher("text").decrypt(PLACE, bytes(blob))
    assert type(caught.value).__name__ in {"Tampered", "KeyUnavailable"}  # the latter: the version's bits


@quick
@given(cut=st.integers(1, 60))
def test_every_truncation_is_noticed(in_workspace_a, cut):
    blob = cipher("text").encrypt(PLACE, b"x" * 40)
    with pytest.raises(Tampered):
        cipher("text").decrypt(PLACE, blob[:-cut])


@pytest.mark.parametrize("elsewhere", [
    ("documents_page", "text", "2"),
    ("documents_page", "label", "1"),
    ("documents_document", "text", "1"),
    ("documents_page", "text1", ""),
    ("documents_pagetext", "", "1"),
])  # fmt: skip
def test_it_does_not_open_in_another_place(in_workspace_a, elsewhere):
    blob = cipher("text").encrypt(PLACE, b"secret")
    with pytest.raises(Tampered):
        cipher("text").decrypt(elsewhere, blob)


def test_it_does_not_open_in_another_workspace_or_for_another_purpose(workspace_a, workspace_b):
    with workspace(workspace_a):
        blob = cipher("text").encrypt(PLACE, b"secret")
        with pytest.raises(Tampered):
            cipher("vector").decrypt(PLACE, blob)
    with workspace(workspace_b), pytest.raises(Tampered):
        cipher("text").decrypt(PLACE, blob)


def test_the_same_text_never_looks_the_same_twice(in_workspace_a):
    assert cipher("text").encrypt(PLACE, b"secret") != cipher("text").encrypt(PLACE, b"secret")


def test_digests_agree_within_a_workspace_and_differ_between_two(workspace_a, workspace_b):
    with workspace(workspace_a):
        first = digest("dedupe", "Contracts")
        assert digest("dedupe", "Contracts") == first != digest("dedupe", "contracts")
        assert seed("cloak", "a-b", "c") != seed("cloak", "a", "b-c")
    with workspace(workspace_b):
        assert digest("dedupe", "Contracts") != first


@given(st.lists(st.binary(max_size=8), max_size=5), st.lists(st.binary(max_size=8), max_size=5))
def test_length_prefixed_parts_are_never_confused(left, right):
    assert (length_prefixed(*left) == length_prefixed(*right)) == (left == right)


def test_derived_keys_differ_by_every_part():
    key = b"k" * 32
    assert (
        len({derive(key, b"a", b"bc"), derive(key, b"ab", b"c"), derive(key, b"a", b"b"), derive(key, b"a", b"bc", salt=b"s")})
        == 4
    )


def test_what_belongs_to_the_installation_is_bound_to_its_place():
    blob = InstallationCipher().encrypt(("tenants_outgoingmail", "body", "1"), b"link")
    assert InstallationCipher().decrypt(("tenants_outgoingmail", "body", "1"), blob) == b"link"
    with pytest.raises(Tampered):
        InstallationCipher().decrypt(("tenants_outgoingmail", "body", "2"), blob)
