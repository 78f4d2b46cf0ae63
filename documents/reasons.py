"""Why a document could not be made searchable: a closed set, each with what happened and what to do. Knows no Django."""

from enum import StrEnum

READABLE = (
    "PDF, Word (.docx, .doc), PowerPoint (.pptx, .ppt), Excel (.xlsx, .xls), OpenDocument (.odt, .odp, .ods), HTML, Markdown, "
    "plain text, CSV, EPUB, e-mail (.eml, .msg), RTF, pictures of text (PNG, JPEG, TIFF, WebP, BMP, GIF), and ZIP archives of "
    "these"
)


class Reason(StrEnum):
    """Stored in the clear beside the state, so that failures can be counted and grouped without a key."""

    EMPTY = "empty"
    NO_TEXT = "no_text"
    NO_OCR = "no_ocr"
    ENCRYPTED = "encrypted"
    DAMAGED = "damaged"
    UNSUPPORTED = "unsupported"
    TOO_LARGE = "too_large"
    TOO_COMPLEX = "too_complex"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASHED = "crashed"
    UNREADABLE = "unreadable"
    INTERRUPTED = "interrupted"
    NO_SANDBOX = "no_sandbox"
    OUTAGE = "outage"
    NO_MODEL = "no_model"
    INTERNAL = "internal"
    NO_ROOM = "no_room"


# What happened, then what to do; both are shown to the person who uploaded the file.
SENTENCES: dict[Reason, tuple[str, str]] = {
    Reason.EMPTY: (
        "The file contains no text.",
        "Check that it was saved completely, then upload it again.",
    ),
    Reason.NO_TEXT: (
        "No words were found: the pages are blank, or pictures in which text recognition (OCR) found no words.",
        "Scan it again upright and at 300 dpi, then upload the new file.",
    ),
    Reason.NO_OCR: (
        "The pages are pictures, and this server has no text recognition (OCR).",
        "Ask your administrator to install it (apt-get install tesseract-ocr) and restart Cloister, then retry.",
    ),
    Reason.ENCRYPTED: (
        "The file is protected with a password, so its text cannot be read.",
        "Enter the password of a PDF on its page. Of other files save a copy without it, then upload the copy.",
    ),
    Reason.DAMAGED: (
        "The file is damaged or was not saved completely.",
        "Open it in the program that made it, save it again, then upload the new file.",
    ),
    Reason.UNSUPPORTED: (
        "Cloister cannot read this kind of file.",
        f"Save it as one of these, then upload it again: {READABLE}.",
    ),
    Reason.TOO_LARGE: (
        "The file holds more than one document may: 500 MB as a file, 200 MB unpacked (2 GB of a ZIP), 50 MB in one part, or "
        "64 MB of text.",
        "Split it into smaller files, then upload those.",
    ),
    Reason.TOO_COMPLEX: (
        "The file is built in a way that cannot be read safely: too many pages, parts or levels.",
        "Save it again in a simpler form or split it, then upload the result.",
    ),
    Reason.TIMEOUT: (
        "Reading the file took too long and was stopped.",
        "Retry once; if it stops again, split the file or save it in a simpler form.",
    ),
    Reason.MEMORY: (
        "Reading the file needed more memory than one document may use.",
        "Split it into smaller files, then upload those.",
    ),
    Reason.CRASHED: (
        "The file made its reader stop. It was contained; nothing else was touched.",
        "The file is damaged or built to do harm. Save it again from the program that made it, then upload the new file.",
    ),
    Reason.UNREADABLE: (
        "The stored file is missing or was changed outside Cloister.",
        "Delete the document, then upload the file again.",
    ),
    Reason.INTERRUPTED: (
        "The work on this document was cut off three times.",
        "Retry; if it happens again, tell your administrator: the worker stops while this file is read.",
    ),
    Reason.NO_SANDBOX: (
        "This server cannot isolate the reading of documents, so it reads none.",
        "Tell your administrator; retry when the server is repaired. The file is kept.",
    ),
    Reason.OUTAGE: (
        "A part of the server did not answer while this document was worked on: its disk or its queue.",
        "Retry; if it happens again, give your administrator the reference number. The file is kept.",
    ),
    Reason.NO_MODEL: (
        "The embedding model that this workspace is searched by is not installed on this server.",
        "Tell your administrator; retry when it is installed again. The file is kept.",
    ),
    Reason.NO_ROOM: (
        "This workspace has no room for all files of the archive.",
        "Those that fitted were kept. Delete documents you no longer need, or ask the administrator of this installation for "
        "more room, then retry: it goes on with the others.",
    ),
    Reason.INTERNAL: (
        "Cloister made a mistake while working on this document.",
        "Retry; if it happens again, give your administrator the reference number.",
    ),
}

# Worth a second try with the same bytes; for the others only a different file helps.
RETRYABLE = frozenset({
    Reason.NO_OCR, Reason.TIMEOUT, Reason.MEMORY, Reason.CRASHED, Reason.INTERRUPTED, Reason.NO_SANDBOX, Reason.OUTAGE,
    Reason.NO_MODEL, Reason.INTERNAL, Reason.NO_ROOM,
})  # fmt: skip
# What passes by itself, since it is not about the file: Cloister tries again, after so many seconds each time.
HEALS = frozenset({Reason.INTERRUPTED, Reason.NO_SANDBOX, Reason.OUTAGE})
WAITS = (60, 600)


class Unreadable(Exception):
    """No text could be taken from a file; `reason` says why. `detail` is for the log: a class name, never content.

    `format`: what the file was found to be, empty when that is not known.
    """

    def __init__(self, reason: Reason, detail: str = "", format_name: str = "") -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.detail = detail
        self.format = format_name
