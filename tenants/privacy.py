"""Keeps content out of logs, job results and error reports: an exception is described by its type and place only.

Messages of exceptions quote what they failed on (a line of a document, a query, a key), so they are never written down.
"""

import logging
import re
import traceback
from types import TracebackType
from typing import Any

SECRET_PART = re.compile(r"(/invitation/|/accounts/password/reset/key/|/accounts/confirm-email/|/s/)[^\s\"]+")


def without_secrets(path: str) -> str:
    """A path or log line without what works like a password: the secret part of links that let somebody in."""
    return SECRET_PART.sub(r"\1…", path)


def describe_exception(error: BaseException | None) -> str:
    """Type and frames, innermost last, without messages, arguments or source lines."""
    if error is None:
        return "no exception"
    lines = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = traceback.extract_tb(current.__traceback__)
        places = " < ".join(f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in reversed(frames[-12:]))
        lines.append(f"{type(current).__module__}.{type(current).__qualname__} at {places or 'unknown place'}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "; from ".join(lines)


def _short(path: str) -> str:
    _, marker, library = path.rpartition("site-packages/")
    return library if marker else "/".join(path.split("/")[-3:])


class PrivateFormatter(logging.Formatter):
    """A log formatter that prints no exception message, no local value and no link that lets somebody in."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        kind: tuple[type[BaseException] | None, BaseException | None, TracebackType | None] = ei
        return describe_exception(kind[1])

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - the name is logging's
        return ""
