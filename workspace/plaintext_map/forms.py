"""How a word looks when somebody wrote it down: in other alphabets of bytes, in hex, in base64, packed.

Refuses to know where it is looked for.
"""

import base64
import zlib
from collections.abc import Iterable


def within_base64(value: bytes) -> list[bytes]:
    """How bytes look inside base64, whatever stands before and after them."""
    forms = []
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + value)
        whole = (before + len(value)) // 3 * 4  # later characters depend on what follows
        forms.append(encoded[(0, 2, 3)[before] : whole])
    return forms + [form.translate(bytes.maketrans(b"+/", b"-_")) for form in forms]


def forms_of_bytes(value: bytes) -> set[bytes]:
    """As it is, in hex and inside base64."""
    return {value, value.hex().encode(), value.hex().upper().encode(), *within_base64(value)}


def forms_of_word(word: str) -> list[bytes]:
    """In lower case, upper case and as a title; in UTF-8 and both UTF-16."""
    forms: set[bytes] = set()
    for written in (word, word.upper(), word.title()):
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            forms |= forms_of_bytes(written.encode(encoding))
    return sorted(forms)


class Needles:
    """Words in all their forms, to be looked for in bytes that come in pieces."""

    def __init__(self, words: Iterable[str]) -> None:
        forms = {form for word in words for form in forms_of_word(word)}
        # bytes.find is faster in short needles that others contain: those that hold another form say nothing new
        self.forms = sorted(form for form in forms if not any(other in form for other in forms if other is not form))
        self.longest = max(map(len, self.forms), default=1)

    def within(self, content: bytes) -> bool:
        return any(form in content for form in self.forms)

    def within_pieces(self, pieces: Iterable[bytes]) -> bool:
        """Also across the border of two pieces. Holds one piece at a time."""
        before = b""
        for piece in pieces:
            content = before + piece
            if self.within(content):
                return True
            before = content[-self.longest :]
        return False


def unpacked(value: bytes, most: int = 64 << 20) -> bytes:
    """With what it holds compressed, as RQ keeps a job; of that, at most so many bytes."""
    try:
        return value + zlib.decompressobj().decompress(value, most)
    except zlib.error:
        return value
