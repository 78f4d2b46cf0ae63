"""How a row of a table is written in text, the same for every format: "a | b"."""

import re
from collections.abc import Iterable

_EMPTY_RUN = re.compile(r"(?: \| ){4,}")
_SPACE = re.compile(r"\s+")


def row(cells: Iterable[str]) -> str:
    """Cells keep their place; trailing empty ones go and long runs of empty ones shrink. Empty when every cell is."""
    texts = [_SPACE.sub(" ", cell).strip() for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return _EMPTY_RUN.sub(" | ", " | ".join(texts)) if texts else ""
