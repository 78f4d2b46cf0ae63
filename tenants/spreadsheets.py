"""Tables that people open in a spreadsheet: CSV whose cells come from uploads, and are never run."""

import csv
import io
from collections.abc import Iterable
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet executes a cell that begins with one of these


def harmless(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def line(cells: Iterable[Any]) -> str:
    """One line of CSV, as a spreadsheet may open it."""
    return as_csv([[harmless(cell) for cell in cells]])


def as_csv(rows: Iterable[Iterable[Any]]) -> str:
    """CSV with the cells as they are, to be read by a program."""
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()
