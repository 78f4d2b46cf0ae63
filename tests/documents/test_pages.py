"""Text is cleaned of what is not text, and cut into parts without losing a word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.extraction.pages import clean, flowing, parts, sheets


@given(st.text(st.sampled_from("ab \n#é🙂"), max_size=600), st.integers(4, 80))
def test_parts_keep_every_word_and_the_limit(text: str, limit: int) -> None:
    found = parts(text, limit)
    assert all(0 < len(part) <= limit for part in found)
    assert "".join("".join(found).split()) == "".join(text.split())


@given(st.text(st.characters()))
def test_cleaned_text_can_be_stored(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert "\x00" not in cleaned
    assert "\r" not in cleaned
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\n\n \n\n\nb", "a\n\nb"),
        ("a\ud83d\ude42b", "a🙂b"),
        ("a\ud83db", "ab"),
        ("Mu\u0308ller, a\u0301rbol, \u212b", "Müller, árbol, Å"),
        ("tab\tstays\x0bline\x0cfeed", "tab\tstays\nline\nfeed"),
    ],
)
def test_clean(dirty: str, expected: str) -> None:
    assert clean(dirty) == expected


def test_a_single_part_has_no_label() -> None:
    assert flowing(["words"]) == [("", "words")]
    assert flowing(["one", "", "two"]) == [("Part 1", "one"), ("Part 2", "two")]


def test_an_empty_sheet_keeps_its_place() -> None:
    assert sheets([("Sheet A", ""), ("Sheet B", "x")]) == [("Sheet A", ""), ("Sheet B", "x")]
