"""What a child says is believed only as far as it keeps to the form."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.extraction import answers
from documents.extraction.pages import Extraction, Origin, Page
from documents.extraction.pictures import COLOUR, GREY, SIDE, Picture
from documents.reasons import Reason, Unreadable

clean = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
extractions = st.lists(
    st.tuples(clean.map(lambda label: label[:100]), clean, st.sampled_from(Origin)), min_size=1, max_size=8
).map(lambda pages: Extraction("text", tuple(Page(n, *page) for n, page in enumerate(pages, 1))))


drawings = st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([GREY, COLOUR])).flatmap(
    lambda shape: st.binary(min_size=shape[0] * shape[1] * shape[2], max_size=shape[0] * shape[1] * shape[2]).map(
        lambda pixels: Picture(*shape, pixels)
    )
)


@given(extractions)
def test_what_is_packed_is_unpacked(extraction: Extraction) -> None:
    assert answers.unpack_pages(answers.pack_pages(extraction)) == extraction


@given(extractions, st.data())
def test_a_cut_answer_is_malformed(extraction: Extraction, data: st.DataObject) -> None:
    packed = answers.pack_pages(extraction)
    with pytest.raises(answers.Malformed):
        answers.unpack_pages(packed[: data.draw(st.integers(0, len(packed) - 1))])


@given(drawings)
def test_a_packed_picture_is_unpacked(picture: Picture) -> None:
    assert answers.unpack_picture(answers.pack_picture(picture)) == picture


@given(drawings, st.data())
def test_a_cut_picture_is_malformed(picture: Picture, data: st.DataObject) -> None:
    packed = answers.pack_picture(picture)
    with pytest.raises(answers.Malformed):
        answers.unpack_picture(packed[: data.draw(st.integers(0, len(packed) - 1))])


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_closed_set(body: bytes) -> None:
    for begins in (b"", *(answers.MAGIC + kind for kind in (b"", b"P", b"D", b"W", b"R"))):
        for unpack in (answers.unpack_pages, answers.unpack_picture, answers.unpack_words):
            with contextlib.suppress(answers.Malformed, Unreadable):
                unpack(begins + body)


def test_one_kind_is_not_taken_for_the_other() -> None:
    with pytest.raises(answers.Malformed):
        answers.unpack_picture(answers.pack_pages(Extraction("text", (Page(1, "", "x"),))))
    with pytest.raises(answers.Malformed):
        answers.unpack_pages(answers.pack_picture(Picture(1, 1, GREY, b"x")))


@pytest.mark.parametrize("shape", [(0, 1, 1, 0), (1, 0, 1, 0), (SIDE + 1, 1, 1, SIDE + 1), (1, 1, 2, 2), (1, 1, 1, 2)])
def test_a_shape_out_of_bounds_is_malformed(shape: tuple[int, int, int, int]) -> None:
    width, height, channels, length = shape
    with pytest.raises(answers.Malformed):
        answers.unpack_picture(answers.pack_picture(Picture(width, height, channels, bytes(length))))


@pytest.mark.parametrize(
    "extraction",
    [
        Extraction("text", ()),
        Extraction("Not A Format", (Page(1, "", "x"),)),
        Extraction("text", (Page(1, "L" * 200, "x"),)),
        Extraction("text", (Page(1, "", "nul \x00"),)),
    ],
)
def test_values_out_of_bounds_are_malformed(extraction: Extraction) -> None:
    with pytest.raises(answers.Malformed):
        answers.unpack_pages(answers.pack_pages(extraction))


@given(clean)
def test_packed_words_are_unpacked(words: str) -> None:
    assert answers.unpack_words(answers.pack_words(words)) == words
    with pytest.raises(answers.Malformed):
        answers.unpack_words(answers.pack_words(words)[:-1])


def test_a_page_of_no_known_origin_is_malformed() -> None:
    packed = answers.pack_pages(Extraction("text", (Page(1, "", "x"),)))
    with pytest.raises(answers.Malformed):
        answers.unpack_pages(packed[:-4] + len(Origin).to_bytes(4, "little"))


def test_a_refusal_carries_its_reason() -> None:
    with pytest.raises(Unreadable) as refused:
        answers.unpack_pages(answers.pack_refusal(Reason.ENCRYPTED, "PdfiumError", "pdf"))
    assert (refused.value.reason, refused.value.detail, refused.value.format) == (Reason.ENCRYPTED, "PdfiumError", "pdf")


def test_a_refusal_cannot_carry_content() -> None:
    with pytest.raises(answers.Malformed):
        answers.unpack_pages(answers.pack_refusal(Reason.ENCRYPTED, "the secret words"))
    with pytest.raises(answers.Malformed):
        answers.unpack_pages(answers.pack_refusal(Reason.ENCRYPTED, "", "the secret words"))
