"""The query language: phrases, exclusions, and everything else standing for itself."""

import unicodedata
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from search.questions import Question, folded, loosened, parse, plain, stands_in

TYPED = st.text(alphabet=st.sampled_from(list('ab5é ß\t\n-–"“”„_.,(')) | st.characters(), max_size=80)
WORD = st.text(alphabet="abcdeé", min_size=1, max_size=6)


def test_a_question_without_operators_is_itself():
    assert parse("How do I quit my job?") == Question("How do I quit my job?", ("how", "do", "i", "quit", "my", "job"))


def test_each_operator():
    found = parse('Rent "Four Weeks" -Garages -"parking space" -sub-let flat')
    assert found.text == "Rent Four Weeks flat"
    assert found.words == ("rent", "four", "weeks", "flat")
    assert found.phrases == (("four", "weeks"),)
    assert found.excluded_words == ("garages",)
    assert found.excluded_phrases == (("parking", "space"), ("sub", "let"))


def test_quotes_as_telephones_type_them():
    assert parse("“four weeks” „zum Ende“").phrases == (("four", "weeks"), ("zum", "ende"))


@pytest.mark.parametrize(
    "text", ['"four weeks', 'four weeks"', '5" pipe and 6" pipe', "half-baked", "a - b", "--verbose", '-"four', "(-x)", "5−3"]
)
def test_what_is_no_operator_stands_for_itself(text: str):
    assert parse(text) == Question(text, folded(text))


def test_quotes_around_nothing_ask_for_nothing():
    assert parse('cat "" "?!" -"" dog') == Question("cat ?! dog", ("cat", "dog"))


def test_a_function_word_is_excluded_as_a_phrase_because_no_posting_knows_it():
    assert parse("cats -the").excluded_phrases == (("the",),)


@pytest.mark.parametrize("text", ["-cat", '-"cat" -dog', "  -cat  ", '""', ""])
def test_exclusions_alone_do_not_say_what_to_look_for(text: str):
    assert not parse(text).says_what


@given(TYPED)
@example("\N{CJK COMPATIBILITY IDEOGRAPH-2F800}")
def test_every_text_is_a_question_and_no_word_of_it_is_lost(text: str):
    found = parse(text)
    words = Counter(found.words) + Counter(found.excluded_words)
    for phrase in found.excluded_phrases:
        words += Counter(phrase)
    assert words == Counter(folded(unicodedata.normalize("NFC", text)))
    assert found.words == folded(found.text)
    assert all(stands_in(phrase, found.words) for phrase in found.phrases)


@given(st.lists(WORD, min_size=1, max_size=4), st.lists(WORD, max_size=4), st.lists(WORD, min_size=1, max_size=4))
def test_what_is_written_is_what_is_read(phrase: list[str], plain: list[str], excluded: list[str]):
    found = parse(f'"{" ".join(phrase)}" {" ".join(plain)} -"{" ".join(excluded)}"')
    assert found.phrases == (tuple(phrase),)
    assert found.excluded_phrases == (tuple(excluded),)
    assert found.words == (*phrase, *plain)


@given(st.lists(WORD, max_size=12), st.lists(WORD, min_size=1, max_size=3))
def test_a_phrase_stands_only_where_its_words_follow_each_other(words: list[str], phrase: list[str]):
    starts = range(len(words) - len(phrase) + 1)
    assert stands_in(tuple(phrase), tuple(words)) == any(words[i : i + len(phrase)] == phrase for i in starts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no operator", []),
        ('rent "four weeks" now', [("four weeks", False, "rent four weeks now")]),
        ("rent -garage now", [("garage", True, "rent now")]),
        ('rent -"parking space"', [("parking space", True, "rent")]),
        ('"half -baked" plan', [("half -baked", False, "half baked plan")]),
        ('"a b" -c', [("a b", False, "a b -c"), ("c", True, '"a b"')]),
        ('5" pipe', []),
    ],
)
def test_each_operator_can_be_left_out(text: str, expected: list[tuple[str, bool, str]]) -> None:
    assert [(each.words, each.excludes, each.text) for each in loosened(text)] == expected


@given(
    st.lists(st.sampled_from(["a", "b-a", '"a b"', '"a -b"', "-a", '-"b a"', "-b-a", '5"', "-", '""']), max_size=6).map(
        " ".join
    )
)
def test_leaving_out_an_operator_makes_no_other(text: str) -> None:
    def excluded(question: Question) -> int:
        return len(question.excluded_words) + len(question.excluded_phrases)

    for each in loosened(text):
        assert excluded(parse(each.text)) <= excluded(parse(text)) - each.excludes
    assert not parse(plain(text)).excluded_words
