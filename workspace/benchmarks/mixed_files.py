"""Files as people have them, files that lie on this machine, and files made to do harm. Knows nothing of what becomes of them.

Those that are made are the same on every run; which ones a machine has to offer differs, and none of them is needed.
"""

import gzip
import io
import random
import zipfile
import zlib
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from html import escape
from itertools import cycle, islice
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from workspace.benchmarks import material

SEED = 20261127
CHARACTERS = 2000  # of a made text: some three passages
SHIPPED = ("/usr/share/doc", "/usr/share/man", "/usr/share/info", "/usr/share/fonts", "/usr/share/icons", "/usr/share/pixmaps")
SHIPPED_BYTES = 12_000  # of a file taken from there, at most
MOST_LISTED = 20_000
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_CONTENT_TYPES = (
    '<Types><Override ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.main+xml"/></Types>'
)

File = tuple[str, bytes]


def files(count: int) -> Iterator[tuple[str, File]]:
    """(kind, file): "made", "shipped" or "hostile", in turn, each kind over and over with other contents."""
    chance = random.Random(SEED)  # noqa: S311 - nothing secret
    kinds = {"made": _made(), "shipped": _shipped(chance), "hostile": _hostile(chance)}
    order = cycle(("made", "shipped", "made", "hostile", "shipped", "hostile"))
    for number, kind in enumerate(islice(order, count)):
        found = next(kinds[kind], None)
        if found is None:
            kind, found = "made", next(kinds["made"])
        name, content = found
        yield kind, (f"{number:04} {name}", content)


# ---------------------------------------------------------------- as people have them


def _made() -> Iterator[File]:
    builders = cycle(_BUILDERS.items())
    while True:
        for name, text in material.articles():
            form, build = next(builders)
            yield f"{Path(name).stem}.{form}", build(text[:CHARACTERS])


def _zipped(members: dict[str, str | bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def _lines(text: str) -> list[str]:
    return [escape("".join(sign for sign in line if sign.isprintable())) for line in text.splitlines()]


def _docx(text: str) -> bytes:
    return _word("".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in _lines(text)))


def _word(body: str, before: str = "") -> bytes:
    document = f'{before}<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>'
    return _zipped({"[Content_Types].xml": _CONTENT_TYPES, "word/document.xml": document})


def _odt(text: str) -> bytes:
    space = "urn:oasis:names:tc:opendocument:xmlns"
    body = "".join(f"<text:p>{line}</text:p>" for line in _lines(text))
    return _zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": f'<office:document-content xmlns:office="{space}:office:1.0" xmlns:text="{space}:text:1.0">'
            f"<office:body><office:text>{body}</office:text></office:body></office:document-content>",
            "META-INF/manifest.xml": "<manifest/>",
        }
    )


def _epub(text: str) -> bytes:
    chapter = f"<html><body>{''.join(f'<p>{line}</p>' for line in _lines(text))}</body></html>"
    return _zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="book.opf"/></rootfiles></container>',
            "book.opf": '<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="c" href="c.xhtml" '
            'media-type="application/xhtml+xml"/></manifest><spine><itemref idref="c"/></spine></package>',
            "c.xhtml": chapter,
        }
    )


def _mail(text: str) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ada@example.org", "bob@example.org", "What it says"
    message.set_content(text)
    return message.as_bytes()


def _page(text: str) -> Image.Image:
    """The head of a page as a scanner shows it."""
    picture = Image.new("L", (1240, 500), "white")
    drawn = ImageDraw.Draw(picture)
    for row, line in enumerate(text.splitlines()[:10]):
        drawn.text((60, 20 + 45 * row), line[:70], fill="black", font=ImageFont.load_default(28))
    return picture


def _picture(form: str) -> Callable[[str], bytes]:
    def build(text: str) -> bytes:
        target = io.BytesIO()
        _page(text).save(target, form)
        return target.getvalue()

    return build


_BUILDERS: dict[str, Callable[[str], bytes]] = {
    "txt": str.encode,
    "md": lambda text: f"# About it\n\n{text}".encode(),
    "pdf": material.pdf,
    "docx": _docx,
    "html": lambda text: f"<!doctype html><html><body><pre>{escape(text)}</pre></body></html>".encode(),
    "odt": _odt,
    "csv": lambda text: "".join(f'{n},"{line}"\n' for n, line in enumerate(_lines(text))).encode(),
    "eml": _mail,
    "epub": _epub,
    "rtf": lambda text: b"{\\rtf1\\ansi " + "\\par ".join(_lines(text)).encode("ascii", "replace") + b"}",
    "png": _picture("PNG"),
    "scan.pdf": _picture("PDF"),
}


# ---------------------------------------------------------------- as this machine has them


def _shipped(chance: random.Random) -> Iterator[File]:
    listed = (path for place in SHIPPED for path in Path(place).rglob("*"))
    paths = sorted(path for path in islice(listed, MOST_LISTED) if path.is_file() and not path.is_symlink())
    chance.shuffle(paths)
    for path in paths:
        try:
            content = path.read_bytes() if path.stat().st_size <= SHIPPED_BYTES else b""
            if path.suffix == ".gz" and chance.random() < 0.8:  # manual pages and changelogs, as people would save them
                path, content = path.with_suffix(""), gzip.decompress(content)[:SHIPPED_BYTES]
        except (OSError, EOFError, zlib.error):
            continue
        if content:
            yield path.name, content


# ---------------------------------------------------------------- made to do harm


def _hostile(chance: random.Random) -> Iterator[File]:
    made = _made()
    while True:
        for name, build in _HARM.items():
            yield name, build()
        for harm in (_cut, _damaged, _renamed, _cut, _damaged, _renamed) * 4:
            yield harm(next(made), chance)


def _cut(file: File, chance: random.Random) -> File:
    name, content = file
    return f"cut {name}", content[: chance.randrange(len(content) or 1)]


def _damaged(file: File, chance: random.Random) -> File:
    name, content = file
    changed = bytearray(content)
    for _ in range(max(1, len(changed) // 200)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return f"damaged {name}", bytes(changed)


def _renamed(file: File, chance: random.Random) -> File:
    name, content = file
    return f"renamed {Path(name).stem}.{chance.choice(list(_BUILDERS))}", content


def _bomb() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", _CONTENT_TYPES)
        with archive.open("word/document.xml", "w", force_zip64=True) as member:
            for _ in range(400):
                member.write(bytes(1 << 20))
    return target.getvalue()


def _huge_picture() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    side = (60_000).to_bytes(4, "big")
    pixels = chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", side + side + b"\x08\0\0\0\0") + pixels + chunk(b"IEND", b"")


def _entities() -> str:
    names = [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "ha"}">' for n in range(10)]
    return f"<!DOCTYPE w:document [{''.join(names)}]>"


_HARM: dict[str, Callable[[], bytes]] = {
    "nothing.txt": bytes,
    "blank.txt": lambda: b" \n\t" * 2000,
    "nul.txt": lambda: bytes(20_000),
    "noise.bin": lambda: random.Random(SEED).randbytes(50_000),  # noqa: S311
    "noise.pdf": lambda: b"%PDF-1.7\n" + random.Random(SEED).randbytes(50_000),  # noqa: S311
    "noise.docx": lambda: b"PK\x03\x04" + random.Random(SEED).randbytes(50_000),  # noqa: S311
    "noise.doc": lambda: bytes.fromhex("d0cf11e0a1b11ae1") + random.Random(SEED).randbytes(50_000),  # noqa: S311
    "one line.txt": lambda: b"word " * 3_000,
    "no words.txt": lambda: b"x" * 10_000,
    "deep.html": lambda: b"<div>" * 100_000 + b"deep",
    "deep.docx": lambda: _word("<w:p>" * 20_000),
    "laughs.docx": lambda: _word("<w:p><w:r><w:t>&a9;</w:t></w:r></w:p>", _entities()),
    "bomb.docx": _bomb,
    "wide.csv": lambda: b"," * 100_000,
    "huge.png": _huge_picture,
    "loop.pdf": lambda: (
        b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n"
        b"<< /Type /Pages /Kids [2 0 R] /Count 100000 >>\nendobj\ntrailer << /Root 1 0 R >>\n"
    ),
    "program.pdf": lambda: b"\x7fELF" + bytes(5000),
    "brackets.rtf": lambda: b"{\\rtf1 " + b"{" * 200_000,
}
