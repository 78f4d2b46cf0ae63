"""What a child says is believed only as far as it keeps to the form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.extraction import answers
from documents.extraction.pages import Extraction, Page
from documents.reasons import Reason, Unreadable

clean = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
extractions = st.lists(st.tuples(clean.map(lambda label: label[:100]), clean), min_size=1, max_size=8).map(
    lambda pages: Extraction("text", tuple(Page(n, *page) for n, page in enumerate(pages, 1)), (1,) if len(pages) > 2 else ())
)


@given(extractions)
def test_what_is_packed_is_unpacked(extraction: Extraction) -> None:
    assert answers.unpack(answers.pack_pages(extraction)) == extraction


@given(extractions, st.data())
def test_a_cut_answer_is_malformed(extraction: Extraction, data: st.DataObject) -> None:
    packed = answers.pack_pages(extraction)
    with pytest.raises(answers.Malformed):
        answers.unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_closed_set(body: bytes) -> None:
    for answer in (body, answers.MAGIC + body, answers.MAGIC + b"P" + body, answers.MAGIC + b"R" + body):
        try:
            answers.unpack(answer)
        except (answers.Malformed, Unreadable):
            continue


@pytest.mark.parametrize(
    "extraction",
    [
        Extraction("text", ()),
        Extraction("Not A Format", (Page(1, "", "x"),)),
        Extraction("text", (Page(1, "L" * 200, "x"),)),
        Extraction("text", (Page(1, "", "nul \x00"),)),
        Extraction("text", (Page(1, "", "x"),), unread=(2,)),
    ],
)
def test_values_out_of_bounds_are_malformed(extraction: Extraction) -> None:
    with pytest.raises(answers.Malformed):
        answers.unpack(answers.pack_pages(extraction))


def test_a_refusal_carries_its_reason() -> None:
    with pytest.raises(Unreadable) as refused:
        answers.unpack(answers.pack_refusal(Reason.ENCRYPTED, "PdfiumError"))
    assert (refused.value.reason, refused.value.detail) == (Reason.ENCRYPTED, "PdfiumError")


def test_a_refusal_cannot_carry_content() -> None:
    with pytest.raises(answers.Malformed):
        answers.unpack(answers.pack_refusal(Reason.ENCRYPTED, "the secret words"))
