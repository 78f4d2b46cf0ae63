"""Which language a text is in, and the forms of its words that count as one."""

import unicodedata
from importlib import import_module

import pytest
import snowballstemmer
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from search.languages import _LANGUAGES, ENGLISH, FUNCTION_WORDS, WORD, detect, stem
from tests.search.paragraphs import PARAGRAPHS


@pytest.mark.parametrize("language", FUNCTION_WORDS)
def test_a_paragraph_is_recognised(language: str):
    assert detect([PARAGRAPHS[language]]) == language
    assert detect([PARAGRAPHS[language].upper()]) == language


@pytest.mark.parametrize("language", FUNCTION_WORDS)
def test_every_sentence_of_one_is_that_or_taken_for_english(language: str):
    for sentence in PARAGRAPHS[language].split(". "):
        assert detect([sentence]) in (language, ENGLISH)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "東京の天気は晴れです",
        "Heizkessel, Leitungen, Reparaturen",
        "Rue de la Paix; Rue de la Gare; Rue de la Poste",
        "x = a + i * n - d; y = s / l; e, o, u, y, à",
        "The Museo de la Reina and the Palais de la Cité are in the guide, which is by the author of Das Haus.",
        "def main(self): return self.a if self.i in self.n else None",
        f"{PARAGRAPHS['en']} {PARAGRAPHS['de'][:100]}",
    ],
)
def test_what_is_not_clear_is_english(text: str):
    assert detect([text]) == ENGLISH


def test_most_of_the_text_decides():
    assert detect([PARAGRAPHS["fr"]] * 3 + [PARAGRAPHS["en"]]) == "fr"
    assert detect([PARAGRAPHS["en"]] * 3 + [PARAGRAPHS["fr"]]) == ENGLISH


@pytest.mark.parametrize(
    ("language", "forms"),
    [
        ("de", ("Reparatur", "Reparaturen", "REPARATUREN")),
        ("de", ("Haus", "Häuser", "Hauses", "Haeuser")),
        ("de", ("prüfen", "pruefen", "prufen")),
        ("de", ("Straße", "Strasse", "STRASSEN")),
        ("fr", ("réparation", "réparations", "reparations")),
        ("fr", ("locataire", "locataires", "LOCATAIRES")),
        ("fr", ("remplacer", "remplacés", "remplacées")),
        ("es", ("inspección", "inspecciones", "inspeccion")),
        ("es", ("reparación", "reparaciones")),
        ("es", ("caldera", "calderas")),
        ("it", ("caldaia", "caldaie")),
        ("pt", ("reparação", "reparações")),
        ("sv", ("panna", "pannor", "pannorna")),
        ("ru", ("инженер", "инженера", "инженеры")),
    ],
)
def test_forms_of_a_word_share_a_stem(language: str, forms: tuple[str, ...]):
    assert len({stem(form, language) for form in forms}) == 1


def test_english_keeps_its_accents():
    assert stem("café") != stem("cafe")
    assert stem("Résumés") == stem("résumé")


def test_function_words_are_written_as_they_are_compared():
    for words in FUNCTION_WORDS.values():
        assert all(word == unicodedata.normalize("NFC", word.casefold()) and word.isalpha() for word in words)


@given(st.from_regex(r"[^\W_]{1,12}(ed|ing|ly|ies|s|ness|ful|y|'s)?", fullmatch=True))
def test_a_stem_begins_as_its_english_word_does(word: str):
    """By which the marking of words passes over most of a text (search.highlighting)."""
    assert stem(word)[0] == word[0].casefold()[0]


@pytest.mark.parametrize("language", FUNCTION_WORDS)
def test_stems_are_what_snowball_has_in_python(language: str):
    """What is stored was stemmed by either: an installation that lacks the quick one must find it all the same."""
    name = _LANGUAGES[language][0]
    quick = snowballstemmer.stemmer(name)
    assert isinstance(quick, Stemmer.Stemmer)
    plain = getattr(import_module(f"snowballstemmer.{name}_stemmer"), f"{name.capitalize()}Stemmer")()
    words = {word.casefold() for text in PARAGRAPHS.values() for word in WORD.findall(text)} | FUNCTION_WORDS[language]
    endings = {word[-length:] for word in words for length in (1, 2, 3, 4)}
    made = {word + ending for word in sorted(words)[::7] for ending in sorted(endings)[::5]}
    assert [word for word in sorted(words | made) if quick.stemWord(word) != plain.stemWord(word)] == []
