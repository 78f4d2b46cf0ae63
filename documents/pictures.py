"""A page of a PDF or of a picture's file as a picture, drawn each time it is asked for and kept nowhere.

The sandbox answers with bare pixels, and the picture's file is made of them here. A child that a document has taken over
can so choose colours and nothing else: were it to answer with a PNG, what it wrote would be read by the decoder of the
reader's browser, where a check of its header would prove little.

The web process has a sandbox of its own and draws by itself: a page takes some 50 ms, and through the queue its picture
would lie in Redis. One is drawn at a time, which bounds the memory: the file, and what the sandbox allows beside it.
"""

import functools
import logging
from threading import BoundedSemaphore, Lock

from django.core.signing import BadSignature, TimestampSigner

from documents import png, storage
from documents.extraction.pictures import IMAGES
from documents.extraction.sandbox import Sandbox, SandboxUnavailable
from documents.models import Document
from documents.reasons import SENTENCES, Reason, Unreadable
from tenants.ciphers import Tampered

logger = logging.getLogger(__name__)

DRAWN = IMAGES | {"pdf"}  # no other format says how a page looks
MOST_BYTES = 100_000_000  # of a file whose pages are drawn
PLACES = 3  # one is drawn, two wait; who comes then is told so at once
OPENED_SECONDS = 12 * 3600  # for so long an opened page shows its picture
SALT = "documents.pictures.opened"

_places = BoundedSemaphore(PLACES)
_turn = Lock()


class NoPicture(Exception):
    """A page without a picture: the message says why. `is_passing`: asking again later may help."""

    def __init__(self, sentence: str, *, is_passing: bool = False) -> None:
        super().__init__(sentence)
        self.is_passing = is_passing


def can_have(document: Document) -> bool:
    """Whether its pages can be drawn."""
    return document.format in DRAWN and document.size <= MOST_BYTES


def draw(document: Document, number: int) -> bytes:
    """A page as a PNG file. Raises NoPicture."""
    if not can_have(document) or not 0 < number <= document.pages:
        raise NoPicture(f"Only pages of a PDF or a picture of at most {MOST_BYTES // 1_000_000} MB have a picture.")
    if not _places.acquire(blocking=False):
        raise NoPicture("Too many pictures are being drawn just now.", is_passing=True)
    try:
        with _turn:  # one whole file in memory
            drawn = sandbox().draw(storage.read(document.id, document.stored_name), number)
        return png.encoded(drawn)
    except (storage.FileMissing, Tampered):
        raise NoPicture(SENTENCES[Reason.UNREADABLE][0]) from None
    except Unreadable as unreadable:
        logger.info("no picture of page %d of %s: %s %s", number, document, unreadable.reason.value, unreadable.detail)
        if unreadable.reason is Reason.ENCRYPTED:
            raise NoPicture(
                "The stored file keeps its password, so its pages have no pictures. Download it to see them."
            ) from None
        raise NoPicture(
            "This page cannot be drawn: its file is damaged, or drawing it takes too much time or memory."
        ) from None
    except SandboxUnavailable as error:
        logger.error("%s", error)
        raise NoPicture("This server cannot isolate the drawing of pages, so it draws none.", is_passing=True) from None
    finally:
        _places.release()


def proof_of_opening(document: Document, number: int, person_id: int) -> str:
    """Says that this person opened this page just now, which was recorded: its picture is part of that and not recorded."""
    opening = _opening(document, number, person_id)
    return TimestampSigner(salt=SALT).sign(opening).removeprefix(f"{opening}:")


def is_opened(document: Document, number: int, person_id: int, proof: str) -> bool:
    """Whether they have opened the page, as the proof says, and not long ago."""
    try:
        TimestampSigner(salt=SALT).unsign(f"{_opening(document, number, person_id)}:{proof}", max_age=OPENED_SECONDS)
    except BadSignature:
        return False
    return True


def _opening(document: Document, number: int, person_id: int) -> str:
    return f"{document.id} {number} {person_id}"


@functools.cache
def sandbox() -> Sandbox:
    """The one in which this process draws."""
    return Sandbox()
