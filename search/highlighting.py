"""Marks the words of a question in a passage and cuts the part worth showing. Pure text in, escaped HTML out."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from html import escape

from django.utils.safestring import SafeString, mark_safe

from search import keywords
from search.languages import ENGLISH, FUNCTION_WORDS, stem
from search.questions import Phrase

SNIPPET = 420  # code points, about five lines
LEAD = 80  # kept before the first marked word, so that the sentence can be understood

AS_TYPED = frozenset({"text", "csv"})  # formats whose signs are the author's own
_HEADING = ("# ", re.compile(r"^ {0,3}#{1,6} +(\S[^\n]*?)[ #]*$\n*", re.MULTILINE), r"\1 · ")
_MARKDOWN = (  # what must be in the text for the expression to be worth trying, the expression, what takes its place
    ("---", re.compile(r"^[ |:-]*---[ |:-]*$\n?", re.MULTILINE), ""),
    ("```", re.compile(r"^ *```[^\n]*\n?", re.MULTILINE), ""),
    ("](", re.compile(r"!?\[([^][\n]*)\]\([^)\s]*\)"), r"\1"),
    ("|", re.compile(r"^ *\| *| *\| *$", re.MULTILINE), ""),
    ("|", re.compile(r" *\| *"), " · "),
    ("- ", re.compile(r"^ *- +", re.MULTILINE), "• "),
    _HEADING,
)


@dataclass(frozen=True)
class Snippet:
    """The part of a passage that is shown; `html` is safe. `words` are the wanted ones as they first stand in the passage,
    each form once.
    """

    html: SafeString
    cut_before: bool
    cut_after: bool
    words: tuple[str, ...]


def readable(text: str, form: str) -> str:
    """A passage without the signs that stand for layout: headings of every format, and what Markdown adds."""
    if form in AS_TYPED:
        return text
    for needed, sign, instead in _MARKDOWN if form == "markdown" else (_HEADING,):
        if needed in text:
            text = sign.sub(instead, text)
    if form == "markdown":
        text = text.replace("**", "").replace("`", "")
    return text.removesuffix(" · ")


def stems(question: str, language: str = ENGLISH) -> frozenset[str]:
    """What is looked for in a text in this language: stems of the question's words, function words left out."""
    found = (match.group() for match in keywords.words(question))
    return frozenset(stem(word, language) for word in found if word.casefold() not in FUNCTION_WORDS[language])


def matches(
    text: str, wanted: frozenset[str], phrases: Collection[Phrase] = (), language: str = ENGLISH
) -> list[tuple[int, int]]:
    """Start and end of each phrase, whole, and of each word outside of them whose stem is wanted."""
    if not phrases:
        return [found.span() for found in _likely(text, wanted, language) if stem(found.group(), language) in wanted]
    words = list(keywords.words(text))
    folded = tuple(word.group().casefold() for word in words)
    spans = []
    i = 0
    while i < len(words):
        length = max((len(phrase) for phrase in phrases if folded[i : i + len(phrase)] == phrase), default=0)
        if length or stem(words[i].group(), language) in wanted:
            spans.append((words[i].start(), words[i + max(length, 1) - 1].end()))
        i += max(length, 1)
    return spans


def _likely(text: str, wanted: frozenset[str], language: str) -> Iterable[re.Match[str]]:
    """Words of the text, in English without those that begin with another letter than all wanted: a stem there begins as its
    word does, and stemming a word that was not met before takes longer than all else here.
    """
    if language != ENGLISH:
        return keywords.words(text)
    return _beginning_with(frozenset(each[0] for each in wanted)).finditer(text)


@lru_cache(maxsize=1024)
def _beginning_with(letters: frozenset[str]) -> re.Pattern[str]:
    """Of what keywords.words finds, the words that begin with one of these, and those that begin with no ASCII letter at all,
    of which some do too once their case is folded. First the one sign that is looked for, so that the rest of a text is
    skipped; by what it is not, which compiles in a thirtieth of the time, and that in ranges, which compile in two thirds.
    """
    wanted = [code for code in range(128) if chr(code).lower() in letters]
    between = zip([-1, *wanted], [*wanted, 128], strict=True)
    others = "".join(rf"\x{one + 1:02x}-\x{other - 1:02x}" for one, other in between if other - one > 1)
    return re.compile(rf"[^{others}](?<=[^\W_])(?<![^\W_].)[^\W_]*", re.DOTALL)


def snippet(text: str, wanted: frozenset[str], phrases: Collection[Phrase] = (), language: str = ENGLISH) -> Snippet:
    """The stretch of `text` with the most different wanted words and the most of the phrases, both marked."""
    words = matches(text, wanted, language=language)
    spans = matches(text, wanted, phrases, language) if phrases else words
    forms: dict[str, str] = {}
    for a, b in words:
        forms.setdefault(text[a:b].casefold(), text[a:b])
    start, end = _stretch(text, [(a, b, stem(text[a:b], language)) for a, b in spans], SNIPPET)
    marked = [(a, b) for a, b in spans if start <= a and b <= end]
    return Snippet(
        html=mark(text, marked, start, end),
        cut_before=start > 0,
        cut_after=end < len(text),
        words=tuple(forms.values()),
    )


def mark(text: str, spans: list[tuple[int, int]], start: int, end: int) -> SafeString:
    """text[start:end] as HTML with the spans in <mark>; everything else is escaped."""
    parts = []
    position = start
    for a, b in spans:
        parts += [escape(text[position:a]), "<mark>", escape(text[a:b]), "</mark>"]
        position = b
    parts.append(escape(text[position:end]))
    return mark_safe("".join(parts))  # noqa: S308  # every part of the text is escaped above


def _stretch(text: str, found: list[tuple[int, int, str]], length: int) -> tuple[int, int]:
    if len(text) <= length:
        return 0, len(text)
    best, most = 0, -1
    for a, _, _ in found:
        begin = max(0, a - LEAD)
        inside = {words: len(words.split()) ** 2 for c, d, words in found if begin <= c and d <= begin + length}
        worth = sum(inside.values())  # a phrase is worth more than its words apart
        if worth > most:
            best, most = begin, worth
    start = min(best, len(text) - length)
    end = start + length
    if start > 0:  # begin and end at a blank
        blank = text.find(" ", start, start + LEAD)
        start = blank + 1 if blank >= 0 and not any(a <= blank < b for a, b, _ in found) else start
    if end < len(text):
        blank = text.rfind(" ", end - LEAD, end)
        end = blank if blank >= 0 and not any(a <= blank < b <= end for a, b, _ in found) else end
    return start, end
