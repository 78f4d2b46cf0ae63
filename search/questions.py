"""What a person typed, taken apart: what to look for, what must stand in a passage word for word, what must not.

    rent "four weeks" -garage -"parking space"

Refuses to know documents and indexes. Every text is a question: what is no operator stands for itself.
"""

import re
import unicodedata
from dataclasses import dataclass

from search import keywords
from search.languages import ENGLISH, FUNCTION_WORDS

Phrase = tuple[str, ...]  # words in order, case folded

# A phrase begins where no word is under way (5" is five inches) and ends at the next quote; with a minus before it, it is
# excluded. The minus itself follows a blank or begins the text: half-baked is one word, -5 is an exclusion.
_OPERATOR = re.compile(
    r'(?:(?P<minus>(?<!\S)-)|(?<![^\W_]))["“”„](?P<phrase>[^"“”„]*)["“”„]'
    r"|(?<!\S)-(?P<word>[^\W_]\S*)"
)


@dataclass(frozen=True, slots=True)
class Question:
    """`text` is what is embedded and scored: without operators, without what is excluded; `words` are its words."""

    text: str
    words: Phrase = ()
    phrases: tuple[Phrase, ...] = ()
    excluded_words: Phrase = ()
    excluded_phrases: tuple[Phrase, ...] = ()

    @property
    def says_what(self) -> bool:
        """Whether there is anything to look for, and not only what to leave out."""
        return bool(self.text)

    @property
    def narrows(self) -> bool:
        """Whether some passages are no answer, however close they are."""
        return bool(self.phrases or self.excluded_words or self.excluded_phrases)


def parse(text: str) -> Question:
    """Never fails: an unbalanced quote is an ordinary character."""
    text = unicodedata.normalize("NFC", text)  # as documents are
    kept: list[str] = []
    phrases: list[Phrase] = []
    excluded_words: list[str] = []
    excluded_phrases: list[Phrase] = []
    position = 0
    for found in _OPERATOR.finditer(text):
        kept.append(text[position : found.start()])
        position = found.end()
        words = folded(found["phrase"] or found["word"] or "")
        if found["word"] and len(words) == 1 and words[0] not in FUNCTION_WORDS[ENGLISH]:
            excluded_words += words
        elif found["word"] or found["minus"]:  # -well-known is two words; postings know no function words
            excluded_phrases += [words] if words else []
        else:
            kept.append(found["phrase"])
            phrases += [words] if words else []
    kept.append(text[position:])
    remaining = " ".join(" ".join(kept).split())
    return Question(remaining, folded(remaining), tuple(phrases), tuple(excluded_words), tuple(excluded_phrases))


@dataclass(frozen=True, slots=True)
class Loosened:
    """A text without one of its operators: the words of a phrase stay, what was excluded goes."""

    words: str  # that the operator was about
    excludes: bool
    text: str


def loosened(text: str) -> list[Loosened]:
    """The text once without each of its operators."""
    without = []
    for found in _OPERATOR.finditer(text):
        excludes = found["word"] is not None or found["minus"] is not None
        words = found["word"] or found["phrase"]
        if not folded(words):  # it says nothing
            continue
        kept = "" if excludes else _bare(found["phrase"])
        rest = text[: found.start()] + kept + text[found.end() :]
        without.append(Loosened(words.strip(), excludes, " ".join(rest.split())))
    return without


def plain(text: str) -> str:
    """The words to look for alone: no phrases, and nothing is left out."""
    return _bare(parse(text).text)


def _bare(text: str) -> str:
    """Without the dashes that would exclude a word, were they not in quotes any more."""
    return re.sub(r"(?<!\S)-+(?=\S)", "", text)


def folded(text: str) -> Phrase:
    """The words of a text in order, case folded and not stemmed."""
    return tuple(match.group().casefold() for match in keywords.words(text))


def stands_in(phrase: Phrase, words: Phrase) -> bool:
    """Whether the phrase's words follow each other somewhere among these."""
    return f" {' '.join(phrase)} " in f" {' '.join(words)} "
