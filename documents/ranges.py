"""Which bytes of a file a request asks for (RFC 9110, section 14). Knows no file and no key.

One range is honoured. Several are answered with the whole file, as a server may, and so is what cannot be understood.
"""

import re

_ONE = re.compile(r"([0-9]*)-([0-9]*)")
_DIGITS = 18  # more than any file has bytes, and fewer than would take time to read


class Unsatisfiable(Exception):
    """A range that lies outside the file."""


def asked(header: str, size: int) -> tuple[int, int] | None:
    """Start and stop of the one range asked for, or None for the whole file. Raises Unsatisfiable."""
    unit, equals, listed = header.partition("=")
    wanted = [part for part in (each.strip(" \t") for each in listed.split(",")) if part]
    if unit.strip(" \t").lower() != "bytes" or not equals or len(wanted) != 1:
        return None
    found = _ONE.fullmatch(wanted[0])
    if found is None or found[0] == "-":
        return None
    first, last = found.groups()
    if not first:
        if not (length := _number(last)):
            raise Unsatisfiable
        return (max(0, size - length), size) if size else None  # no part of an empty file could be named in an answer
    start = _number(first)
    stop = _number(last) + 1 if last else size
    if last and stop <= start:
        return None  # the last byte before the first: no range at all
    if start >= size:
        raise Unsatisfiable
    return start, min(stop, size)


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return 10**_DIGITS if len(digits) > _DIGITS else int(digits or "0")
