"""Marks the words of a question in a passage and cuts the part worth showing. Pure text in, escaped HTML out."""

import re
from dataclasses import dataclass
from html import escape

from django.utils.safestring import SafeString, mark_safe

from search import keywords

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
    """The part of a passage that is shown; `html` is safe. `words` are those marked, as they stand in the text."""

    html: SafeString
    words: tuple[str, ...]
    cut_before: bool
    cut_after: bool


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


def stems(question: str) -> frozenset[str]:
    """What is looked for: stems of the question's words, function words left out."""
    found = (match.group() for match in keywords.words(question))
    return frozenset(keywords.stem(word) for word in found if word.casefold() not in keywords.STOP_WORDS)


def matches(text: str, wanted: frozenset[str]) -> list[tuple[int, int]]:
    """Start and end of each word whose stem is wanted."""
    return [match.span() for match in keywords.words(text) if keywords.stem(match.group()) in wanted]


def snippet(text: str, wanted: frozenset[str], length: int = SNIPPET) -> Snippet:
    """The stretch of `text` with the most different wanted words, the words marked."""
    spans = matches(text, wanted)
    start, end = _stretch(text, spans, length)
    marked = [(a, b) for a, b in spans if start <= a and b <= end]
    return Snippet(
        html=mark(text, marked, start, end),
        words=tuple(dict.fromkeys(text[a:b].casefold() for a, b in marked)),
        cut_before=start > 0,
        cut_after=end < len(text),
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


def _stretch(text: str, spans: list[tuple[int, int]], length: int) -> tuple[int, int]:
    if len(text) <= length:
        return 0, len(text)
    best, most = 0, -1
    found = [(a, b, keywords.stem(text[a:b])) for a, b in spans]
    for a, _ in spans:
        begin = max(0, a - LEAD)
        stems_inside = {stem for c, d, stem in found if begin <= c and d <= begin + length}
        if len(stems_inside) > most:
            best, most = begin, len(stems_inside)
    start = min(best, len(text) - length)
    end = start + length
    if start > 0:  # begin and end at a blank
        blank = text.find(" ", start, start + LEAD)
        start = blank + 1 if blank >= 0 and not any(a <= blank < b for a, b in spans) else start
    if end < len(text):
        blank = text.rfind(" ", end - LEAD, end)
        end = blank if blank >= 0 else end
    return start, end
