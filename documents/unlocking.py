"""A PDF with a password is read with it once, here and now; afterwards nobody has the password.

The web process reads it itself: through the queue the password would lie in Redis and in the worker's memory. It goes to a
sandbox of its own, which ends with it, so that no later document could find it in the memory a child inherits. What it
opened, the text, is stored as any other text is, and the worker goes on from there.
"""

import logging
from threading import BoundedSemaphore

from django.conf import settings

from documents import jobs, ledger, storage
from documents.extraction.sandbox import Sandbox, SandboxUnavailable
from documents.models import Document
from documents.reasons import SENTENCES, Reason, Unreadable
from tenants.ciphers import Tampered
from tenants.errors import Refused

logger = logging.getLogger(__name__)

MOST_BYTES = 100_000_000  # of a PDF that is read in the web process
READING_CPU, READING_WALL = 20, 30.0
RECOGNISING_SECONDS = 20.0  # somebody waits: pages that are pictures beyond it count as not read
_place = BoundedSemaphore(1)  # which bounds the memory


def unlock(document: Document, password: str) -> None:
    """Store the text that the password opens, and queue the work on it. Raises Refused when it does not open the PDF."""
    if document.size > MOST_BYTES:
        limit = f"{MOST_BYTES // 1_000_000} MB"
        raise Refused(f"A PDF of more than {limit} cannot be opened here. Save a copy without the password, then upload that.")
    if not _place.acquire(blocking=False):
        raise Refused("Another PDF is being opened just now. Try again in a minute.")
    box = Sandbox(languages=settings.OCR_LANGUAGES)
    try:
        extraction = box.extract(
            storage.read(document.id, document.stored_name),
            "pdf",
            password=password,
            cpu=READING_CPU,
            wall=READING_WALL,
            seconds=RECOGNISING_SECONDS,
        )
    except Unreadable as unreadable:
        logger.info("%s was not unlocked: %s %s", document, unreadable.reason.value, unreadable.detail)
        if unreadable.reason is Reason.ENCRYPTED:
            raise Refused("This password does not open the PDF. Check upper and lower case, then try again.") from None
        raise Refused(" ".join(SENTENCES[unreadable.reason])) from None
    except (storage.FileMissing, Tampered):
        raise Refused(" ".join(SENTENCES[Reason.UNREADABLE])) from None
    except SandboxUnavailable as error:
        logger.error("%s", error)
        raise Refused(" ".join(SENTENCES[Reason.NO_SANDBOX])) from None
    finally:
        box.close()
        _place.release()
    ledger.unlocked(document.id, extraction)
    jobs.begin_again([document.id])
