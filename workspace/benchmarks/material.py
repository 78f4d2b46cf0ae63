"""Text to measure with that every installation has: Cloister's own documentation and what Python says about itself.

The same on every run of one Python version. Knows nothing of what is measured with it.
"""

import ast
import sysconfig
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics

from documents.ingestion import chunker

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PAGE_LINES = 50
LINE_CHARACTERS = 90


def articles() -> Iterator[tuple[str, str]]:
    """Names and texts of some hundred bytes to some ten thousand, about 2 MB in all."""
    yield from _documentation()
    yield from sorted(topics.items())
    yield from _docstrings()


def passages(count: int) -> list[str]:
    """Passages as the product cuts them."""
    pieces = (piece.text for _, text in articles() for piece in chunker().pieces(text))
    return list(islice(pieces, count))


def volumes(count: int, characters: int, *, headed: bool = False) -> list[str]:
    """Texts of about so many characters each, all different; `headed`: each article below its name as a Markdown heading."""
    found: list[str] = []
    volume = ""
    for name, text in articles():
        volume += f"# {name}\n\n{text}\n\n" if headed else text + "\n\n"
        if len(volume) >= characters:
            found.append(volume)
            volume = ""
        if len(found) == count:
            break
    return found


def paragraphs(count: int, characters: int) -> list[str]:
    """Short texts of at most so many characters, over again from the first when there are not so many."""
    found = (text[at : at + characters] for _, text in articles() for at in range(0, len(text), characters))
    different = list(islice(found, count))
    return [different[number % len(different)] for number in range(count)]


def questions(count: int) -> list[str]:
    """Different questions of eight words, a few from each article: found by meaning and by word."""
    found: dict[str, None] = {}
    for _, text in articles():
        sentences = ([word for word in sentence.split() if word.isalpha()] for sentence in text.split(". "))
        found |= dict.fromkeys(" ".join(words[:8]) for words in islice((w for w in sentences if len(w) >= 12), 4))
        if len(found) >= count:
            break
    return list(found)[:count]


def pdf(text: str, page_lines: int = PAGE_LINES) -> bytes:
    """A PDF of pages of Helvetica with that text, one line below the other."""
    lines = [line[at : at + LINE_CHARACTERS] for line in text.splitlines() for at in range(0, len(line), LINE_CHARACTERS)]
    pages = [lines[at : at + page_lines] for at in range(0, len(lines), page_lines)]
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for page in pages:
        escaped = (line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for line in page)
        drawing = "BT /F1 10 Tf 14 TL 50 790 Td\n" + "\n".join(f"({line}) Tj T*" for line in escaped) + "\nET"
        content = drawing.encode("cp1252", "replace")
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (len(objects) + 2)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    return _numbered(objects)


def _numbered(objects: list[bytes]) -> bytes:
    """A file of PDF objects, the first being its root."""
    body = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    end = b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return bytes(body) + end % (size, table, size, len(body))


def _documentation() -> Iterator[tuple[str, str]]:
    for path in sorted((CHECKOUT / "docs").glob("*.md")):
        yield path.stem, path.read_text()


def _docstrings() -> Iterator[tuple[str, str]]:
    """Of each module of the standard library and its packages' modules, all docstrings together."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted([*library.glob("*.py"), *library.glob("[a-z]*/[a-z]*.py")]):
        name = path.relative_to(library).as_posix()
        if name.startswith(("site-packages", "dist-packages", "test/", "idlelib/", "lib2to3/", "pydoc_data/")):
            continue
        try:
            nodes = ast.walk(ast.parse(path.read_bytes()))
        except (SyntaxError, ValueError):
            continue
        documented = (n for n in nodes if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef))
        text = "\n\n".join(said for node in documented if (said := ast.get_docstring(node)))
        if text:
            yield name, text
