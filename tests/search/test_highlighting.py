"""Marked words and the stretch of a passage that is shown."""

from hypothesis import given
from hypothesis import strategies as st

from search.highlighting import mark, matches, readable, snippet, stems
from search.keywords import words
from search.languages import stem
from search.questions import folded


def test_words_are_marked_by_their_stem_and_keep_their_form():
    shown = snippet("Notice periods: a Contract ends.", stems("the contracts"))
    assert shown.html == "Notice periods: a <mark>Contract</mark> ends."
    assert snippet("Contract, contract and CONTRACTS", stems("the contracts")).words == ("Contract", "CONTRACTS")


def test_text_of_a_document_cannot_become_markup():
    shown = snippet('<script>alert("contract")</script> & more', stems("contract script"))
    assert "<script>" not in shown.html
    assert "&lt;<mark>script</mark>&gt;" in shown.html
    assert "&amp; more" in shown.html


def test_function_words_of_the_question_are_not_marked():
    assert "<mark>" not in snippet("the end of it", stems("what is the of")).html


def test_the_stretch_with_most_different_words_is_shown():
    text = "pump " * 30 + "filler words without meaning " * 30 + "the pump drives the valve by pressure " + "tail " * 100
    shown = snippet(text, stems("pump valve pressure"))
    assert "<mark>valve</mark>" in shown.html
    assert "<mark>pressure</mark>" in shown.html
    assert shown.cut_before
    assert shown.cut_after


def test_a_passage_without_the_words_begins_at_its_beginning():
    shown = snippet("alpha " * 200, stems("omega"))
    assert not shown.cut_before
    assert shown.html.startswith("alpha")
    assert "<mark>" not in shown.html


def test_a_phrase_is_marked_whole_and_shown():
    text = "Four of the weeks. " * 40 + "He gave four weeks of notice. " + "Weeks. " * 60
    shown = snippet(text, stems("four weeks of notice"), [("four", "weeks", "of", "notice")])
    assert "<mark>four weeks of notice</mark>" in shown.html
    assert "<mark>Four</mark> of the <mark>weeks</mark>" in shown.html
    assert "<mark>Weeks</mark>" not in snippet(text, frozenset(), [("four", "weeks")]).html


@given(st.text(max_size=1500), st.text(max_size=60))
def test_without_the_marks_it_is_the_escaped_text(text: str, question: str):
    from html import unescape

    shown = snippet(text, stems(question), [folded(question)] if folded(question) else [])
    plain = unescape(shown.html.replace("<mark>", "").replace("</mark>", ""))
    assert plain in text
    assert len(plain) <= 420
    assert shown.html.count("<mark>") == shown.html.count("</mark>")


def test_words_are_marked_in_the_language_of_the_text():
    text = "Die Reparaturen an den Häusern: der Straße wegen."
    assert snippet(text, stems("the reparatur haus strasse", "de"), language="de").words == ("Reparaturen", "Häusern", "Straße")
    assert snippet(text, stems("die der den", "de"), language="de").words == ()
    assert snippet(text, stems("reparatur haus"), language="en").words == ()


MIXED = st.text(alphabet="aAbfiszkK_ -.,09éßſKﬁ”", max_size=200)


@given(MIXED, MIXED.map(stems))
def test_no_word_is_passed_over_for_how_it_begins(text: str, wanted: frozenset[str]):
    every = [word.span() for word in words(text) if stem(word.group(), "en") in wanted]
    assert matches(text, wanted) == [(a, b) for a, b in every if text[a].casefold()[0] in {each[0] for each in wanted}] == every


def test_spans_lie_where_the_words_are():
    text = "Die Übergänge, übergang"
    assert [text[a:b] for a, b in matches(text, stems("übergang"))] == ["übergang"]
    assert mark("a<b", [(0, 1)], 0, 3) == "<mark>a</mark>&lt;b"


def test_the_signs_of_layout_are_left_out():
    page = "# Keys\n\nSee **both** [lists](a.md) of `keys`.\n\n| Who | What |\n|---|---|\n| Ada | all |\n\n- one\n"
    assert " ".join(readable(page, "markdown").split()) == "Keys · See both lists of keys. Who · What Ada · all • one"
    assert readable("## Notice\nThree months | weeks", "docx") == "Notice · Three months | weeks"


def test_plain_text_is_shown_as_its_author_typed_it():
    assert readable("# a comment\n| 1 ** 2", "text") == "# a comment\n| 1 ** 2"
