"""Which format some bytes are: the content decides, the extension only among kinds of text. Runs in the sandbox."""

import re

from documents.extraction.archives import Archive
from documents.reasons import Reason, Unreadable

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Kinds of text cannot be told apart for certain, so the extension has a say; text of any other name is plain text.
TEXT_EXTENSIONS = {
    "md": "markdown", "markdown": "markdown", "mkd": "markdown",
    "html": "html", "htm": "html", "xhtml": "html",
    "csv": "csv", "tsv": "csv",
    "eml": "eml",
}  # fmt: skip
_HTML = re.compile(rb"\s*(?:<\?xml[^>]{0,200}\?>\s*|<!--.{0,2000}?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S)
_MAIL_HEADER = re.compile(rb"(?:[!-9;-~]+:[^\n]*\n(?:[ \t][^\n]*\n)*){3,}", re.I)
_MAIL_SIGNS = re.compile(rb"^(?:from|to|subject|date|message-id|received|mime-version|return-path|delivered-to):", re.I | re.M)
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_SIGNATURES = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"\x7fELF",
    b"MZ",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"7z\xbc\xaf",
    b"Rar!",
)


def detect(document: bytes, extension: str) -> str:
    """The name of a format in `formats.READERS`. Raises Unreadable: empty, encrypted, damaged, unsupported."""
    if not document.strip(b"\x00\t\n\r \x0b\x0c"):
        raise Unreadable(Reason.EMPTY)
    if b"%PDF-" in document[:1024]:
        return "pdf"
    if document.startswith(b"PK"):
        return _zipped(document)
    if document.startswith(OLE):
        # An encrypted .docx is an OLE container; other OLE containers are Office before 2007 and Outlook messages.
        encrypted = "EncryptedPackage".encode("utf-16-le") in document
        raise Unreadable(Reason.ENCRYPTED if encrypted else Reason.UNSUPPORTED, "ole")
    if document.lstrip()[:5] == b"{\\rtf":
        return "rtf"
    return _text(document, extension.lower())


def _zipped(document: bytes) -> str:
    archive = Archive(document)
    if archive.has("META-INF/container.xml") or archive.read("mimetype", b"").strip() == b"application/epub+zip":
        return "epub"
    if archive.has("[Content_Types].xml"):
        kinds = archive.read("[Content_Types].xml")
        for sign, name in ((b"wordprocessingml", "docx"), (b"presentationml", "pptx"), (b"spreadsheetml", "xlsx")):
            if sign in kinds:
                return name
    raise Unreadable(Reason.UNSUPPORTED, "zip")


def _text(document: bytes, extension: str) -> str:
    head = document[:8192]
    if not head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16 is full of NUL
        if head.startswith(_SIGNATURES) or len(_BINARY.findall(head)) > len(head) // 200:
            raise Unreadable(Reason.UNSUPPORTED, "binary")
        if _HTML.match(head.removeprefix(b"\xef\xbb\xbf")):
            return "html"
        header = _MAIL_HEADER.match(head.replace(b"\r\n", b"\n"))
        if header and len(_MAIL_SIGNS.findall(header[0])) >= 3:
            return "eml"
    return TEXT_EXTENSIONS.get(extension, "text")
