"""What helps when a search finds nothing: which words occur nowhere, and which part of what was asked kept everything out.

All of it is found out among the collections the member may see, by the searches they could ask themselves: nothing is said
of what is hidden. Runs only then, and asks a handful of searches at most.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from search import questions
from search.loaded import term_index
from search.questions import Question
from search.ranking import Mode

MOST_OPERATORS = 5  # of one question that are tried one by one
UNFILTERED = {"q", "collection", "mode"}  # of what was asked, all that is no filter

Asked = dict[str, str]
FindsSomething = Callable[[Asked], bool]


@dataclass(frozen=True, slots=True)
class Way:
    """A search that finds something, and what the button says that asks it."""

    words: str
    asked: Asked


@dataclass(frozen=True, slots=True)
class Help:
    """`missing` words stand in no document the member may see."""

    missing: list[str]
    ways: list[Way]


def help_with(asked: Asked, visible: frozenset[UUID], finds_something: FindsSomething) -> Help:
    """`finds_something` tells of a search like `asked` whether it finds any document.

    Offered are those that differ from it in one thing; only when none of them finds anything, those that differ in more.
    """
    for fewer in (_one_thing_less, _no_operators, _nothing_but_words):
        ways = [way for way in fewer(asked) if finds_something(way.asked)]
        if ways:
            break
    return Help(missing_words(questions.parse(asked["q"]), visible), ways)


def missing_words(question: Question, visible: frozenset[UUID]) -> list[str]:
    """Those that no form of occurs there, each once."""
    index = term_index()
    mask = index.matching(visible)
    missing = []
    for word in dict.fromkeys(question.words):
        if not index.asked(word):
            continue
        having = index.having(word)
        if not (having if mask is None else having & mask).any():
            missing.append(word)
    return missing


def _one_thing_less(asked: Asked) -> Iterator[Way]:
    if asked["collection"]:
        yield Way("Search all collections", {**asked, "collection": ""})
    if set(asked) - UNFILTERED:
        yield Way("Search without the filters", _unfiltered(asked))
    for each in questions.loosened(asked["q"])[:MOST_OPERATORS]:
        if questions.parse(each.text).says_what:
            words = "Search without leaving out" if each.excludes else "Search without the quotes around"
            yield Way(f"{words} “{each.words}”", {**asked, "q": each.text})
    if asked["mode"] == Mode.WORDS:
        yield Way("Search by meaning only", {**asked, "mode": str(Mode.MEANING)})


def _no_operators(asked: Asked) -> Iterator[Way]:
    if questions.parse(asked["q"]).narrows:
        yield Way("Search without quotes and minus signs", {**asked, "q": questions.plain(asked["q"])})


def _nothing_but_words(asked: Asked) -> Iterator[Way]:
    least = {**_unfiltered(asked), "q": questions.plain(asked["q"]), "collection": "", "mode": str(Mode.MEANING)}
    if least != asked:
        without = " and without filters" if set(asked) - UNFILTERED else ""
        yield Way(f"Search all collections for these words, by meaning only{without}", least)


def _unfiltered(asked: Asked) -> Asked:
    return {name: value for name, value in asked.items() if name in UNFILTERED}
