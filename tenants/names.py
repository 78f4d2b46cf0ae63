"""What people type as one line: what a workspace or a person is called, and the reason for what is done to a workspace.

Such a line stands in pages, in mail subjects and in the console, so it is one line of characters that can be shown.
Refuses to know whose it is.
"""

from collections.abc import Callable

from django.core.exceptions import ValidationError

from tenants.errors import Refused

WORKSPACE_CHARACTERS = 100
PERSON_CHARACTERS = 200
REASON_CHARACTERS = 300
JOINERS = dict.fromkeys((0x200C, 0x200D))  # cannot be shown, but Persian words and many emoji are written with them


def of_workspace(text: str) -> str:
    """As it is stored: white space, line breaks too, made single spaces. Raises Refused."""
    line = _line(text)
    if not _can_be_shown(line) or len(line) > WORKSPACE_CHARACTERS:
        raise Refused(f"A workspace's name has 1 to {WORKSPACE_CHARACTERS} characters that can be shown.")
    return line


def of_person(text: str) -> str:
    """As it is stored; empty when the person gives none. Raises Refused."""
    line = _line(text)
    if line and (not _can_be_shown(line) or len(line) > PERSON_CHARACTERS):
        raise Refused(f"A name has at most {PERSON_CHARACTERS} characters, which can be shown.")
    return line


def told_of_person(text: str) -> str:
    """A name that another system gives, and that nobody is there to correct: what can be kept of it."""
    shown = "".join(each for each in _line(text) if each.isprintable() or ord(each) in JOINERS)[:PERSON_CHARACTERS]
    return _line(shown) if _can_be_shown(shown) else ""


def checked_reason(text: str) -> str:
    """Why something is done, as it is stored. Raises Refused."""
    line = _line(text)
    if not _can_be_shown(line) or len(line) > REASON_CHARACTERS:
        raise Refused(f"Give a reason of at most {REASON_CHARACTERS} characters, which can be shown.")
    return line


def of_description(text: str) -> str:
    """What a library holds, as it is stored. Raises Refused."""
    line = _line(text)
    if not _can_be_shown(line) or len(line) > REASON_CHARACTERS:
        raise Refused(f"Describe the library in at most {REASON_CHARACTERS} characters, which can be shown.")
    return line


def validated(check: Callable[[str], str], text: str) -> str:
    """`check` where a form or model cleans: what it refuses is a ValidationError."""
    try:
        return check(text)
    except Refused as refusal:
        raise ValidationError(str(refusal)) from None


def _line(text: str) -> str:
    return " ".join(text.split())


def _can_be_shown(line: str) -> bool:
    visible = line.translate(JOINERS)
    return bool(visible) and visible.isprintable()
