"""Which format some bytes are: the content decides, the extension only among kinds of text. Runs in the sandbox."""

import re

from documents.extraction.archives import Archive, key, open_zip
from documents.extraction.containers import SIGNATURE, Container
from documents.extraction.members import ZIP
from documents.reasons import Reason, Unreadable

_ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
# What is in a zip that is no archive of files: in documents, and in programs and other things that are not read.
_NO_FILES = frozenset({
    "mimetype", "meta-inf/container.xml", "[content_types].xml",
    "meta-inf/manifest.mf", "androidmanifest.xml", "index/document.iwa",
})  # fmt: skip
_STREAMS = {
    "WordDocument": "doc",
    "PowerPoint Document": "ppt",
    "Workbook": "xls",
    "Book": "xls",
    "__properties_version1.0": "msg",
}
# Kinds of text cannot be told apart for certain, so the extension has a say; text of any other name is plain text.
TEXT_EXTENSIONS = {
    "md": "markdown", "markdown": "markdown", "mkd": "markdown",
    "html": "html", "htm": "html", "xhtml": "html",
    "csv": "csv", "tsv": "csv",
    "eml": "eml",
}  # fmt: skip
OPEN_DOCUMENTS = {
    b"application/vnd.oasis.opendocument." + kind + template: name
    for kind, name in ((b"text", "odt"), (b"presentation", "odp"), (b"spreadsheet", "ods"))
    for template in (b"", b"-template")
}
_HTML = re.compile(rb"\s*(?:<\?xml[^>]{0,200}\?>\s*|<!--.{0,2000}?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S)
_MAIL_HEADER = re.compile(rb"(?:[!-9;-~]+:[^\n]*\n(?:[ \t][^\n]*\n)*){3,}", re.I)
_MAIL_SIGNS = re.compile(rb"^(?:from|to|subject|date|message-id|received|mime-version|return-path|delivered-to):", re.I | re.M)
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes of the second header, the only sign beyond "BM"
_SIGNATURES = (
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
    if is_zip(document):
        return _zipped(document)
    if document.startswith(SIGNATURE):
        return _contained(document)
    if document.lstrip()[:5] == b"{\\rtf":
        return "rtf"
    if name := _picture(document):
        return name
    return _text(document, extension.lower())


def is_zip(head: bytes) -> bool:
    """By how it begins: an archive of files, or what documents and programs are kept in."""
    return head.startswith(_ZIP_SIGNATURES)


def is_archive(document: bytes) -> bool:
    """Whether a zip holds files, and is no document. Raises Unreadable when its directory is damaged."""
    return _NO_FILES.isdisjoint(map(key, open_zip(document).namelist()))


def _contained(document: bytes) -> str:
    """An OLE container: an encrypted .docx, Office before 2007, an Outlook message. Its streams are known by their names."""
    container = Container(document)
    if container.has("EncryptedPackage"):
        raise Unreadable(Reason.ENCRYPTED, "ole")
    for stream, name in _STREAMS.items():
        if container.has(stream):
            return name
    raise Unreadable(Reason.UNSUPPORTED, "ole")


def _zipped(document: bytes) -> str:
    if is_archive(document):
        return ZIP
    archive = Archive(document)
    kind = archive.read("mimetype", b"").strip()
    if kind in OPEN_DOCUMENTS:
        return OPEN_DOCUMENTS[kind]
    if archive.has("META-INF/container.xml") or kind == b"application/epub+zip":
        return "epub"
    if archive.has("[Content_Types].xml"):
        kinds = archive.read("[Content_Types].xml")
        for sign, name in ((b"wordprocessingml", "docx"), (b"presentationml", "pptx"), (b"spreadsheetml", "xlsx")):
            if sign in kinds:
                return name
    raise Unreadable(Reason.UNSUPPORTED, "zip")


def _picture(document: bytes) -> str:
    for signature, name in _PICTURES:
        if document.startswith(signature):
            return name
    if document.startswith(b"RIFF") and document[8:12] == b"WEBP":
        return "webp"
    if document.startswith(b"BM") and int.from_bytes(document[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    return ""


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
