"""Outlook messages (.msg): headers, the body, forwarded messages, names of attachments, written as `mail` writes them.

Names and numbers of properties are those of [MS-OXMSG], [MS-OXPROPS] and [MS-OXRTFCP].
"""

import datetime
import struct
from collections.abc import Iterator

from documents.extraction.containers import Container
from documents.extraction.formats.plain import decode
from documents.extraction.formats.rtf import read_rtf
from documents.extraction.formats.web import read_html
from documents.reasons import Reason, Unreadable

_SUBJECT, _SENDER, _ADDRESS, _SMTP, _TO, _CC = 0x0037, 0x0C1A, 0x0C1F, 0x5D01, 0x0E04, 0x0E03
_BODY, _HTML, _RTF = 0x1000, 0x1013, 0x1009
_SUBMITTED, _DELIVERED = 0x0039, 0x0E06
_CODE_PAGES = (0x3FFD, 0x3FDE)  # of the message, else of the internet
_LONG_NAME, _SHORT_NAME, _SHOWN_NAME = 0x3707, 0x3704, 0x3001
_UNICODE, _BYTES, _BINARY = "001F", "001E", "0102"
_PROPERTIES = "__properties_version1.0"
_EMBEDDED = "__substg1.0_3701000D"
_EPOCH = datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC)
_UTF_8 = 65001
# [MS-OXRTFCP] 2.1.2.1: what the dictionary holds before the first byte.
_DICTIONARY = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans SerifSymbolArial"
    rb"Times New RomanCourier{\colortbl\red0\green0\blue0" + b"\r\n" + rb"\par \pard\plain\f0\fs20\b\i\u\tab\tx"
)


def read_msg(document: bytes) -> str:
    return "\n\n".join(filter(None, _message(Container(document), "")))


def _message(container: Container, storage: str) -> Iterator[str]:
    """Messages are nested no deeper than a container may be."""
    fixed = _fixed(container, storage)
    page = next((struct.unpack("<I", fixed[name][:4])[0] for name in _CODE_PAGES if name in fixed), 0)

    def said(name: int, within: str = storage) -> str:
        return " ".join(_string(container, within, name, page).split())

    if subject := said(_SUBJECT):
        yield f"# {subject}"
    address = said(_SMTP) or said(_ADDRESS)
    sender = f"{said(_SENDER)} <{address}>" if "@" in address and address != said(_SENDER) else said(_SENDER) or address
    headers = {"From": sender, "To": said(_TO), "Cc": said(_CC), "Date": _moment(fixed)}
    yield "\n".join(f"{name}: {value}" for name, value in headers.items() if value)
    yield _body(container, storage, page)
    for name in sorted(container.children(storage)):
        if name.lower().startswith("__attach_version1.0_"):
            attachment = _under(storage, name)
            forwarded = _under(attachment, _EMBEDDED)
            if container.has(_under(forwarded, _PROPERTIES)):
                yield "Forwarded message:"
                yield from _message(container, forwarded)
            elif called := said(_LONG_NAME, attachment) or said(_SHORT_NAME, attachment) or said(_SHOWN_NAME, attachment):
                yield f"Attachment: {called}"


def _body(container: Container, storage: str, page: int) -> str:
    if plain := _string(container, storage, _BODY, page).strip():
        return plain
    html = container.read(_stream(storage, _HTML, _BINARY), b"")
    if html or (html := _string(container, storage, _HTML, page).encode()):
        return read_html(html)
    packed = container.read(_stream(storage, _RTF, _BINARY), b"")
    return read_rtf(_unpacked(packed)).strip() if packed else ""


def _fixed(container: Container, storage: str) -> dict[int, bytes]:
    """Properties whose value takes eight bytes at most, by name."""
    body = container.read(_under(storage, _PROPERTIES))
    entries = body[32 if not storage else 24 :]
    return {struct.unpack_from("<H", entries, at + 2)[0]: entries[at + 8 : at + 16] for at in range(0, len(entries) - 15, 16)}


def _string(container: Container, storage: str, name: int, page: int) -> str:
    wide = container.read(_stream(storage, name, _UNICODE), b"")
    if wide:
        return wide.decode("utf-16-le", "replace")
    return decode(container.read(_stream(storage, name, _BYTES), b""), "utf-8" if page == _UTF_8 else f"cp{page}")


def _moment(fixed: dict[int, bytes]) -> str:
    """The time of sending, else of delivery: hundreds of nanoseconds since 1601."""
    for name in (_SUBMITTED, _DELIVERED):
        (ticks,) = struct.unpack("<Q", fixed.get(name, bytes(8)))
        if 0 < ticks < 1 << 62:
            try:
                return (_EPOCH + datetime.timedelta(microseconds=ticks // 10)).strftime("%a, %d %b %Y %H:%M:%S +0000")
            except OverflowError:
                continue
    return ""


def _stream(storage: str, name: int, kind: str) -> str:
    return _under(storage, f"__substg1.0_{name:04X}{kind}")


def _under(storage: str, name: str) -> str:
    return f"{storage}/{name}" if storage else name


def _unpacked(packed: bytes) -> bytes:
    """RTF as Outlook compresses it; what it takes is bounded by the size of its input."""
    size, length, kind = struct.unpack_from("<I4s4s", packed)[0], packed[4:8], packed[8:12]
    if kind == b"MELA":
        return packed[16 : 16 + struct.unpack("<I", length)[0]]
    if kind != b"LZFu":
        raise Unreadable(Reason.DAMAGED, "rtf")
    ring = bytearray(_DICTIONARY.ljust(4096, b"\0"))
    write, at, end, found = len(_DICTIONARY), 16, min(len(packed), size + 4), bytearray()
    while at < end:
        flags, at = packed[at], at + 1
        for bit in range(8):
            if at + (flags >> bit & 1) >= end:
                return bytes(found)
            if not flags >> bit & 1:
                piece, at = packed[at : at + 1], at + 1
            else:
                reference, at = int.from_bytes(packed[at : at + 2], "big"), at + 2
                if reference >> 4 == write:
                    return bytes(found)
                piece = b""
                for step in range((reference & 0xF) + 2):  # may read what it writes
                    letter = ring[(reference >> 4) + step & 0xFFF]
                    ring[write + step & 0xFFF] = letter
                    piece += bytes([letter])
            for letter in piece:
                ring[write] = letter
                write = write + 1 & 0xFFF
            found += piece
    return bytes(found)
