"""Plain text, Markdown and CSV: finding the encoding, and tables as "a | b"."""

import csv
import io
import re

from charset_normalizer import from_bytes

from documents.extraction.formats.tables import row

_MARKS = ((b"\xff\xfe\x00\x00", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
_SAMPLE = 64 << 10
_FENCE = re.compile(r"\s*(?:```|~~~)")
# What begins a block of its own: nothing, indented code, a heading, list item, quote, table row, rule, tag, definition.
_BLOCK = re.compile(r"\s*$|\s{4}|\t|\s*(?:[#>|<]|[-*+=]|\d+[.)]|\[[^\]]*\]:)")
# A line that the next one may continue: no heading, table row, tag, fence or underline, and no hard break at its end.
_RUNS_ON = re.compile(r"(?!\s*(?:#{1,6}\s|\||<|```|~~~|={3}|-{3}|\s{4}))\s*\S.*(?<!  )(?<!\\)$")


def decode(document: bytes, declared: str = "") -> str:
    """Text by byte order mark, as declared, as UTF-8, or by the likeliest encoding of a sample; never fails."""
    for mark, encoding in _MARKS:
        if document.startswith(mark):
            return document.decode(encoding, "replace")
    for encoding in (declared, "utf-8"):
        try:
            return document.decode(encoding) if encoding else document.decode("utf-8")
        except (UnicodeDecodeError, LookupError):
            continue
    best = from_bytes(document[:_SAMPLE]).best()
    return document.decode(best.encoding if best else "cp1252", "replace")


def read_plain(document: bytes) -> str:
    return decode(document)


def read_markdown(document: bytes) -> str:
    """As written, with the lines of a paragraph joined: a line break inside one means nothing in Markdown."""
    blocks: list[list[str]] = []  # lines that become one
    previous, fenced = "", False
    for line in decode(document).splitlines():
        fence = _FENCE.match(line)
        if fence:
            fenced = not fenced
        if not fence and not fenced and previous and not _BLOCK.match(line) and _RUNS_ON.match(previous):
            blocks[-1].append(line.strip())
        else:
            blocks.append([line])
        previous = line
    return "\n".join(" ".join(block) for block in blocks)


def read_csv(document: bytes) -> str:
    text = decode(document)
    csv.field_size_limit(len(text) + 1)
    try:
        dialect: type[csv.Dialect] | csv.Dialect = csv.Sniffer().sniff(text[:8192], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    try:
        return "\n".join(filter(None, map(row, csv.reader(io.StringIO(text), dialect))))
    except csv.Error:
        return text
