"""Documents made in code, one builder per format, so that no test depends on a file nobody can read in a review."""

import ctypes
import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from email.message import EmailMessage
from xml.sax.saxutils import escape

import pypdfium2
from PIL import Image

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
A = "http://schemas.openxmlformats.org/drawingml/2006/main"
P = "http://schemas.openxmlformats.org/presentationml/2006/main"
S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
M = "http://schemas.openxmlformats.org/officeDocument/2006/math"
MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"
OPEN = "urn:oasis:names:tc:opendocument:xmlns"
RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
NAMESPACES = f'xmlns:w="{W}" xmlns:a="{A}" xmlns:p="{P}" xmlns:r="{R}" xmlns:m="{M}" xmlns:mc="{MC}"'
OFFICE = "application/vnd.openxmlformats-officedocument"


def zipped(members: Mapping[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def relations(targets: Iterable[tuple[str, str, str]]) -> str:
    rows = "".join(f'<Relationship Id="{i}" Type="{R}/{kind}" Target="{target}"/>' for i, kind, target in targets)
    return f'<Relationships xmlns="{RELATIONS}">{rows}</Relationships>'


def pdf(pages: Sequence[str], *, encrypt: bool = False) -> bytes:
    """A PDF drawn by hand: one line of Helvetica per line of text. A page of "" is blank. Encrypted, it opens with PASSWORD."""
    lock = _Lock() if encrypt else None
    objects: dict[int, bytes] = {}
    kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(pages)))
    objects[1] = b"<< /Type /Catalog /Pages 2 0 R >>"
    objects[2] = f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode()
    objects[3] = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    for index, text in enumerate(pages):
        number = 4 + 2 * index
        lines = []
        for row, line in enumerate(text.splitlines()):
            shown = line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
            lines.append(f"BT /F1 11 Tf 50 {780 - 14 * row} Td ({shown}) Tj ET")
        drawing = "\n".join(lines).encode("cp1252")
        if lock:
            drawing = lock.closed(number + 1, drawing)
        objects[number] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {number + 1} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>"
        ).encode()
        objects[number + 1] = b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing)
    return _written(objects, lock)


def _written(objects: dict[int, bytes], lock: "_Lock | None") -> bytes:
    trailer = f"/Size {len(objects) + 1 + bool(lock)} /Root 1 0 R"
    if lock:
        number = len(objects) + 1
        objects[number] = lock.dictionary
        trailer += f" /Encrypt {number} 0 R /ID [<{'11' * 16}> <{'11' * 16}>]"
    body = b"%PDF-1.7\n"
    offsets = {}
    for number, content in objects.items():
        offsets[number] = len(body)
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offsets[number] for number in sorted(objects))
    table = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table
    return body + table + f"trailer\n<< {trailer} >>\nstartxref\n{len(body)}\n%%EOF\n".encode()


PASSWORD = "Öffne dich 7"


class _Lock:
    """The standard encryption of PDF 1.4 with RC4 of 128 bits (ISO 32000-1, 7.6.3)."""

    PADDING = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
    PERMISSIONS = -44

    def __init__(self) -> None:
        padded = (PASSWORD.encode("latin-1") + self.PADDING)[:32]
        owner = self._nineteen(_hashed(padded, 51), padded)
        permissions = self.PERMISSIONS.to_bytes(4, "little", signed=True)
        self.key = _hashed(padded + owner + permissions + b"\x11" * 16, 51)
        user = self._nineteen(self.key, hashlib.md5(self.PADDING + b"\x11" * 16).digest()) + bytes(16)
        self.dictionary = (
            f"<< /Filter /Standard /V 2 /R 3 /Length 128 /O <{owner.hex()}> /U <{user.hex()}> /P {self.PERMISSIONS} >>".encode()
        )

    def closed(self, number: int, content: bytes) -> bytes:
        return _rc4(hashlib.md5(self.key + number.to_bytes(3, "little") + bytes(2)).digest(), content)

    @staticmethod
    def _nineteen(key: bytes, content: bytes) -> bytes:
        for turn in range(20):
            content = _rc4(bytes(byte ^ turn for byte in key), content)
        return content


def _hashed(content: bytes, times: int) -> bytes:
    for _ in range(times):
        content = hashlib.md5(content).digest()
    return content


def _rc4(key: bytes, content: bytes) -> bytes:
    box, j = list(range(256)), 0
    for i in range(256):
        j = (j + box[i] + key[i % len(key)]) % 256
        box[i], box[j] = box[j], box[i]
    i = j = 0
    found = bytearray()
    for byte in content:
        i = (i + 1) % 256
        j = (j + box[i]) % 256
        box[i], box[j] = box[j], box[i]
        found.append(byte ^ box[(box[i] + box[j]) % 256])
    return bytes(found)


def locked_scan(words: str) -> bytes:
    """An encrypted PDF of one page, which is a picture of these words. Opens with PASSWORD."""
    shown, lock = picture(words), _Lock()
    width, height = shown.size
    drawing = lock.closed(4, b"q %d 0 0 %d 0 %d cm /I Do Q" % (595, 595 * height // width, 842 - 595 * height // width))
    pixels = lock.closed(5, zlib.compress(shown.tobytes()))
    image = f"/Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceGray /BitsPerComponent 8 /Filter /FlateDecode"
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        3: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /XObject << /I 5 0 R >> >> >>",
        4: b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing),
        5: b"<< %s /Length %d >>\nstream\n%s\nendstream" % (image.encode(), len(pixels), pixels),
    }
    return _written(objects, lock)


def stamped(document: bytes, words: str) -> bytes:
    """A PDF with these words in letters at the foot of its first page."""
    pdfium = pypdfium2.raw
    opened = pypdfium2.PdfDocument(document)
    letters = pdfium.FPDFPageObj_NewTextObj(opened, b"Helvetica", 9.0)
    units = (words + "\0").encode("utf-16-le")
    pdfium.FPDFText_SetText(letters, (ctypes.c_ushort * (len(units) // 2)).from_buffer_copy(units))
    pdfium.FPDFPageObj_Transform(letters, 1, 0, 0, 1, 20, 5)
    pdfium.FPDFPage_InsertObject(opened[0], letters)
    pdfium.FPDFPage_GenerateContent(opened[0])
    target = io.BytesIO()
    opened.save(target)
    return target.getvalue()


def picture(lines: str) -> Image.Image:
    """The head of a page as a scanner at 200 dpi shows it, in grey."""
    shown: Image.Image = pypdfium2.PdfDocument(pdf([lines]))[0].render(scale=200 / 72, grayscale=True).to_pil()
    return shown.crop((0, 0, shown.width, 400))


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    target = io.BytesIO()
    picture.save(target, form, **options)
    return target.getvalue()


def scanned(pages: Sequence[str | Image.Image]) -> bytes:
    """A PDF of pages with a text layer, given as text, and pages that are one picture."""
    whole = pypdfium2.PdfDocument.new()
    for page in pages:
        drawn = pdf([page]) if isinstance(page, str) else saved(page, "PDF", resolution=200.0)
        whole.import_pages(pypdfium2.PdfDocument(drawn))
    target = io.BytesIO()
    whole.save(target)
    return target.getvalue()


def paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f'<w:p>{properties}<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p>'


def docx(body: str, extra: Mapping[str, str] | None = None) -> bytes:
    """A Word document with this body (WordprocessingML)."""
    return zipped(
        {
            "[Content_Types].xml": f'<Types><Override ContentType="{OFFICE}.wordprocessingml.document.main+xml"/></Types>',
            "_rels/.rels": relations([("rId1", "officeDocument", "word/document.xml")]),
            "word/document.xml": f"<w:document {NAMESPACES}><w:body>{body}</w:body></w:document>",
            **(extra or {}),
        }
    )


def shape(text: str, place: str = "body") -> str:
    lines = "".join(f"<a:p><a:r><a:t>{escape(line)}</a:t></a:r></a:p>" for line in text.splitlines())
    return f'<p:sp><p:nvSpPr><p:nvPr><p:ph type="{place}"/></p:nvPr></p:nvSpPr><p:txBody>{lines}</p:txBody></p:sp>'


def pptx(slides: Sequence[str], notes: Mapping[int, str] | None = None) -> bytes:
    """A presentation; a slide is the XML of its shapes. Files are numbered backwards, so that order must come from the list."""
    notes = notes or {}
    count = len(slides)
    members: dict[str, str | bytes] = {
        "[Content_Types].xml": f'<Types><Override ContentType="{OFFICE}.presentationml.presentation.main+xml"/></Types>',
        "_rels/.rels": relations([("rId1", "officeDocument", "ppt/presentation.xml")]),
        "ppt/presentation.xml": f"<p:presentation {NAMESPACES}><p:sldIdLst>"
        + "".join(f'<p:sldId id="{256 + n}" r:id="rId{n}"/>' for n in range(count))
        + "</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": relations(
            (f"rId{n}", "slide", f"slides/slide{count - n}.xml") for n in range(count)
        ),
    }
    for n, shapes in enumerate(slides):
        name = f"slide{count - n}.xml"
        members[f"ppt/slides/{name}"] = f"<p:sld {NAMESPACES}><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:sld>"
        if n in notes:
            members[f"ppt/slides/_rels/{name}.rels"] = relations([("rId1", "notesSlide", f"../notesSlides/n{n}.xml")])
            members[f"ppt/notesSlides/n{n}.xml"] = (
                f"<p:notes {NAMESPACES}><p:cSld><p:spTree>{shape('7', 'sldNum')}{shape(notes[n])}</p:spTree></p:cSld></p:notes>"
            )
    return zipped(members)


def xlsx(sheets: Mapping[str, Sequence[Sequence[str | float | None]]]) -> bytes:
    members: dict[str, str | bytes] = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        f'<Override PartName="/xl/workbook.xml" ContentType="{OFFICE}.spreadsheetml.sheet.main+xml"/></Types>',
        "_rels/.rels": relations([("rId1", "officeDocument", "xl/workbook.xml")]),
        "xl/workbook.xml": f'<workbook xmlns="{S}" xmlns:r="{R}"><sheets>'
        + "".join(f'<sheet name="{escape(name)}" sheetId="{n}" r:id="rId{n}"/>' for n, name in enumerate(sheets, 1))
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": relations(
            (f"rId{n}", "worksheet", f"worksheets/s{n}.xml") for n in range(1, len(sheets) + 1)
        ),
    }
    for n, rows in enumerate(sheets.values(), 1):
        lines = "".join(
            f'<row r="{r}">' + "".join(_cell(f"{chr(65 + c)}{r}", value) for c, value in enumerate(cells)) + "</row>"
            for r, cells in enumerate(rows, 1)
        )
        members[f"xl/worksheets/s{n}.xml"] = f'<worksheet xmlns="{S}"><sheetData>{lines}</sheetData></worksheet>'
    return zipped(members)


def _cell(place: str, value: str | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f'<c r="{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
    return f'<c r="{place}"><v>{value}</v></c>'


def epub(chapters: Sequence[str], extra: Mapping[str, str] | None = None) -> bytes:
    """A book; files are named backwards, so that order must come from the spine."""
    count = len(chapters)
    items = "".join(f'<item id="c{n}" href="ch%20{count - n}.xhtml" media-type="application/xhtml+xml"/>' for n in range(count))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(count))
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
            "OEBPS/book.opf": f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}</manifest>'
            f"<spine>{spine}</spine></package>",
            **{f"OEBPS/ch {count - n}.xhtml": text for n, text in enumerate(chapters)},
            **(extra or {}),
        }
    )


def eml(subject: str, body: str, html: str = "", attachments: Mapping[str, bytes] | None = None) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Ada <ada@example.org>", "Bob <bob@example.org>", subject
    message.set_content(body)
    if html:
        message.add_alternative(html, subtype="html")
    for name, content in (attachments or {}).items():
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()


def rtf(text: str) -> bytes:
    units = memoryview(text.encode("utf-16-le")).cast("h")  # signed, as RTF writes them; a pair for what is beyond 16 bits
    escaped = "".join(chr(unit) if 0 < unit < 128 else f"\\u{unit}?" for unit in units)
    return b"{\\rtf1\\ansi\\deff0 " + escaped.replace("\n", "\\par ").encode() + b"}"


def bomb(size: int = 1500 << 20) -> bytes:
    """A Word document that unpacks to `size` bytes."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types>wordprocessingml</Types>")
        with archive.open("word/document.xml", "w", force_zip64=True) as member:
            for _ in range(size >> 20):
                member.write(bytes(1 << 20))
    return target.getvalue()


def ole(encrypted: bool) -> bytes:
    """An OLE container: an encrypted .docx, or one of a program that is not known."""
    return compound({"EncryptedPackage" if encrypted else "Contents": bytes(5000), "DataSpaces/Version": bytes(76)})


def opendocument(kind: str, body: str, manifest: str = "<manifest/>") -> bytes:
    """An OpenDocument file: kind is "text", "presentation" or "spreadsheet", body what stands in that element."""
    names = " ".join(f'xmlns:{name}="{OPEN}:{uri}"' for name, uri in (
        ("office", "office:1.0"), ("text", "text:1.0"), ("table", "table:1.0"), ("draw", "drawing:1.0"),
        ("presentation", "presentation:1.0"),
    ))  # fmt: skip
    content = f"<office:document-content {names}><office:body><office:{kind}>{body}</office:{kind}></office:body>"
    return zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": content + "</office:document-content>",
            "META-INF/manifest.xml": manifest,
        }
    )


def xls(sheets: Mapping[str, Sequence[Sequence[str | float]]]) -> bytes:
    """An Excel workbook of before 2007: BIFF8 records ([MS-XLS]) in an OLE container ([MS-CFB]) with one stream."""

    def record(kind: int, content: bytes) -> bytes:
        return struct.pack("<HH", kind, len(content)) + content

    def begin(kind: int) -> bytes:
        return record(0x0809, struct.pack("<HHHHII", 0x0600, kind, 0, 1997, 0, 6))

    def cell(row: int, column: int, value: str | float) -> bytes:
        place = struct.pack("<HHH", row, column, 0)
        if isinstance(value, str):
            return record(0x0204, place + struct.pack("<HB", len(value), 1) + value.encode("utf-16-le"))
        return record(0x0203, place + struct.pack("<d", value))

    end = record(0x000A, b"")
    pages = [
        begin(0x10) + b"".join(cell(r, c, value) for r, cells in enumerate(rows) for c, value in enumerate(cells)) + end
        for rows in sheets.values()
    ]
    listed = [struct.pack("<HBB", 0, len(name), 0) + name.encode() for name in sheets]
    place = len(begin(5)) + sum(len(record(0x85, bytes(4) + entry)) for entry in listed) + len(end)
    entries = b""
    for entry, page in zip(listed, pages, strict=True):
        entries += record(0x85, struct.pack("<I", place) + entry)
        place += len(page)
    stream = begin(5) + entries + end + b"".join(pages)
    return compound({"Workbook": stream.ljust(4096, b"\0")})


NOWHERE, END = 0xFFFFFFFF, 0xFFFFFFFE


def compound(streams: Mapping[str, bytes]) -> bytes:
    """An OLE container ([MS-CFB]) of streams by path; those below 4,096 bytes lie in the stream of small ones."""
    names = sorted({"/".join(path.split("/")[:depth]) for path in streams for depth in range(1, path.count("/") + 2)})
    minis, mini_table, sectors, table = b"", [], [], []

    def kept(content: bytes) -> int:
        start = len(sectors)
        pieces = [content[at : at + 512].ljust(512, b"\0") for at in range(0, len(content), 512)]
        sectors.extend(pieces)
        table.extend([*range(start + 1, start + len(pieces)), END][: len(pieces)])
        return start if pieces else END

    starts = {}
    for path, content in streams.items():
        if len(content) >= 4096:
            starts[path] = kept(content)
            continue
        begin, count = len(mini_table), -(-len(content) // 64)
        starts[path] = begin if count else END
        minis += content.ljust(64 * count, b"\0")
        mini_table += [*range(begin + 1, begin + count), END][:count]

    def entry(name: str, kind: int, right: int, child: int, start: int, size: int) -> bytes:
        written = name.encode("utf-16-le")
        head = struct.pack("<64sHBBIII", written, len(written) + 2, kind, 1, NOWHERE, right, child)
        return head + bytes(36) + struct.pack("<IQ", start, size)

    def of(parent: str) -> list[str]:
        return [name for name in names if name.rpartition("/")[0] == parent]

    def first(parent: str) -> int:
        return 1 + names.index(of(parent)[0]) if of(parent) else NOWHERE

    root = kept(minis)
    directory = entry("Root Entry", 5, NOWHERE, first(""), root, len(minis))
    for name in names:
        beside = of(name.rpartition("/")[0])
        place = beside.index(name) + 1
        right = 1 + names.index(beside[place]) if place < len(beside) else NOWHERE
        kind = 2 if name in streams else 1
        size = len(streams.get(name, b""))
        directory += entry(name.rpartition("/")[2], kind, right, first(name), starts.get(name, 0), size)
    listed, small = kept(directory), kept(struct.pack(f"<{len(mini_table)}I", *mini_table))
    count = -(-len(table) // 127)
    tables = list(range(len(sectors), len(sectors) + count))
    full = [*table, *[0xFFFFFFFD] * count]
    body = struct.pack(f"<{128 * count}I", *full, *[NOWHERE] * (128 * count - len(full)))
    header = struct.pack(
        "<8s16sHHHHH6s9I", bytes.fromhex("d0cf11e0a1b11ae1"), b"", 0x3E, 3, 0xFFFE, 9, 6, b"", 0, count, listed, 0, 4096,
        small, 1 if mini_table else 0, END, 0,
    )  # fmt: skip
    return header + struct.pack("<109I", *tables, *[NOWHERE] * (109 - count)) + b"".join(sectors) + body


def doc(paragraphs: Sequence[tuple[str, bytes]], *, flags: int = 0) -> bytes:
    """A Word document of before 2007 ([MS-DOC]): text with the mark at its end, and its style and properties.

    The first half of it lies in a piece of one byte a letter, the rest in one of two, as Word writes what it edits.
    """
    text = "".join(words for words, _ in paragraphs)
    half = len("".join(words for words, _ in paragraphs[: len(paragraphs) // 2]))
    begin = 1024
    wide = begin + half + half % 2
    body = text[:half].encode("cp1252").ljust(wide - begin, b"\0") + text[half:].encode("utf-16-le")
    place, ends, properties, packed = 0, [begin], b"", b""
    at = 510
    for words, wanted in paragraphs:
        place += len(words)
        ends.append(begin + place if place <= half else wide + 2 * (place - half))
        filled = wanted + bytes(len(wanted) % 2)
        at -= 2 + len(filled)
        packed = bytes([0, len(filled) // 2]) + filled + packed
        properties += bytes([at // 2]) + bytes(12)
    page = struct.pack(f"<{len(ends)}I", *ends) + properties
    page = page.ljust(510 - len(packed), b"\0") + packed + bytes([0, len(paragraphs)])
    main = (bytes(begin) + body).ljust(4096, b"\0")
    bins = struct.pack("<III", begin, ends[-1], len(main) // 512)
    pieces = struct.pack("<IIIHIHHIH", 0, half, len(text), 0, begin * 2 | 0x40000000, 0, 0, wide, 0)
    clx = b"\1\2\0ab\2" + struct.pack("<I", len(pieces)) + pieces
    fib = bytearray(begin)
    struct.pack_into("<HH6xH", fib, 0, 0xA5EC, 0xC1, 0x0200 | flags)
    struct.pack_into("<II", fib, 154 + 8 * 33, 0, len(clx))
    struct.pack_into("<II", fib, 154 + 8 * 13, len(clx), len(bins))
    return compound({"WordDocument": bytes(fib) + main[begin:] + page, "1Table": clx + bins})


def _atom(kind: int, content: bytes, instance: int = 0) -> bytes:
    return struct.pack("<HHI", instance << 4, kind, len(content)) + content


def _holding(kind: int, *inside: bytes, instance: int = 0) -> bytes:
    return struct.pack("<HHI", instance << 4 | 0xF, kind, sum(map(len, inside))) + b"".join(inside)


def ppt(slides: Sequence[tuple[str, str, str]], *, token: int = 0xE391C05F) -> bytes:
    """A presentation of before 2007 ([MS-PPT]): (title, in the outline; text of a shape; notes) of each slide.

    An older edit, which the last one replaces, lies before it, as PowerPoint leaves it.
    """
    places, stream = {}, b""

    def put(number: int, record: bytes) -> None:
        nonlocal stream
        places[number] = len(stream)
        stream += record

    def text(kind: int, words: str) -> bytes:
        return _atom(0x0F9F, struct.pack("<I", kind)) + _atom(0x0FA0, words.encode("utf-16-le"))

    def shapes(*boxes: bytes) -> bytes:
        return _holding(0x040C, _holding(0xF002, _holding(0xF003, *(_holding(0xF004, _atom(0xF00D, box)) for box in boxes))))

    outline = notes = b""
    for number, (title, words, spoken) in enumerate(slides):
        outline += _atom(0x03F3, struct.pack("<5I", 10 + number, 0, 1, 256 + number, 0)) + text(0, title)
        notes += _atom(0x03F3, struct.pack("<5I", 40 + number, 0, 0, 512 + number, 0))
        head = _atom(0x03EF, bytes(16) + struct.pack("<II", 512 + number, 0))
        shown = _atom(0x0FA8, words.encode("latin-1")) if words.isascii() else _atom(0x0FA0, words.encode("utf-16-le"))
        put(10 + number, _holding(0x03EE, head, shapes(_atom(0x0F9E, bytes(4)), _atom(0x0F9F, bytes([4, 0, 0, 0])) + shown)))
        put(40 + number, _holding(0x03F0, shapes(text(4, "7"), text(2, spoken))))
    put(1, _holding(0x03E8, _holding(0x0FF0, text(0, "An older title"))))
    earlier = _edit(0, len(stream), {1: places[1]})
    older, stream = len(stream) + earlier[1], stream + earlier[0]
    put(1, _holding(0x03E8, _holding(0x0FF0, outline), _holding(0x0FF0, notes, instance=2)))
    newer = _edit(older, len(stream), places)
    place, stream = len(stream) + newer[1], stream + newer[0]
    user = _atom(0x0FF6, struct.pack("<III", 0x14, token, place) + bytes(12))
    return compound({"PowerPoint Document": stream, "Current User": user})


def _edit(earlier: int, at: int, places: Mapping[int, int]) -> tuple[bytes, int]:
    """Where the objects are, and what leads there: the records, and the place of the second in them."""
    body = b"".join(struct.pack("<II", number | 1 << 20, place) for number, place in places.items())
    directory = _atom(0x1772, body)
    return directory + _atom(0x0FF5, struct.pack("<7I", 0, 0, earlier, at, 1, 0, 0)), len(directory)


def msg(
    strings: Mapping[int, str],
    attachments: Sequence[Mapping[str, bytes]] = (),
    *,
    binary: Mapping[int, bytes] | None = None,
    fixed: Mapping[int, bytes] | None = None,
    code_page: str = "",
) -> dict[str, bytes]:
    """The streams of an Outlook message ([MS-OXMSG]) for `compound`: its strings, attachments, and other properties."""
    kind = "001E" if code_page else "001F"
    entries = b"".join(struct.pack("<HHI8s", 0, name, 6, value) for name, value in (fixed or {}).items())
    streams = {"__properties_version1.0": bytes(32) + entries}
    for name, value in strings.items():
        streams[f"__substg1.0_{name:04X}{kind}"] = value.encode(code_page or "utf-16-le")
    for name, content in (binary or {}).items():
        streams[f"__substg1.0_{name:04X}0102"] = content
    for number, attached in enumerate(attachments):
        streams |= {f"__attach_version1.0_#{number:08X}/{path}": content for path, content in attached.items()}
    return streams


def embedded(message: Mapping[str, bytes]) -> dict[str, bytes]:
    """A message as an attachment of another; its properties have a shorter head."""
    head = "__properties_version1.0"
    within = {**message, head: message[head][:24] + message[head][32:]}
    return {f"__substg1.0_3701000D/{path}": content for path, content in within.items()}
