"""Files that are broken or built to do harm: each ends with a reason a person understands, quickly, and the next is read."""

import random
import zipfile
from collections.abc import Callable
from io import BytesIO

import pytest

from documents.extraction.sandbox import Sandbox
from documents.reasons import SENTENCES, Reason, Unreadable
from tests.documents import files

Refusal = Callable[[bytes, str], Reason]


@pytest.mark.parametrize("document", [b"", b"   \n\t ", b"\0" * 500, files.docx(""), files.xlsx({"A": []}), files.pptx([""])])
def test_empty(refusal: Refusal, document: bytes) -> None:
    assert refusal(document, "docx") == Reason.EMPTY


def test_a_scanned_pdf_has_no_text_layer(refusal: Refusal) -> None:
    assert refusal(files.pdf(["", ""]), "pdf") == Reason.NO_TEXT


@pytest.mark.parametrize("document", [files.pdf(["secret"], encrypt=True), files.ole(encrypted=True)])
def test_encrypted(refusal: Refusal, document: bytes) -> None:
    assert refusal(document, "pdf") == Reason.ENCRYPTED


def test_encrypted_zip(refusal: Refusal) -> None:
    document = bytearray(files.docx(files.paragraph("x")))
    for mark in (b"PK\x01\x02", b"PK\x03\x04"):
        offset = 8 if mark == b"PK\x01\x02" else 6
        place = document.find(mark)
        while place >= 0:
            document[place + offset] |= 1
            place = document.find(mark, place + 4)
    assert refusal(bytes(document), "docx") == Reason.ENCRYPTED


def test_encrypted_epub(refusal: Refusal) -> None:
    locked = '<encryption><CipherReference URI="OEBPS/ch%201.xhtml"/></encryption>'
    assert refusal(files.epub(["<p>x"], {"META-INF/encryption.xml": locked}), "epub") == Reason.ENCRYPTED


@pytest.mark.parametrize(
    ("document", "extension"),
    [
        (files.pdf(["x" * 200] * 3)[:600], "pdf"),
        (files.docx(files.paragraph("x"))[:300], "docx"),
        (files.docx("<w:p><w:r>"), "docx"),
        (files.epub(["<p>x"])[:-30], "epub"),
        (files.zipped({"META-INF/container.xml": "<a/>"}), "epub"),
    ],
)
def test_damaged(refusal: Refusal, document: bytes, extension: str) -> None:
    assert refusal(document, extension) == Reason.DAMAGED


@pytest.mark.parametrize(
    "document",
    [
        b"MZ" + bytes(200) + b"x",
        files.ole(encrypted=False),
        files.zipped({"META-INF/MANIFEST.MF": "Main-Class: a", "a.class": "words"}),
        random.Random(1).randbytes(5000),
    ],
)
def test_unsupported(refusal: Refusal, document: bytes) -> None:
    assert refusal(document, "txt") == Reason.UNSUPPORTED


def test_a_zip_bomb_is_refused_before_it_is_unpacked(refusal: Refusal) -> None:
    assert refusal(files.bomb(300 << 20), "docx") == Reason.TOO_LARGE


def test_a_zip_bomb_that_lies_about_its_size(refusal: Refusal) -> None:
    document = files.bomb(60 << 20)
    honest = (60 << 20).to_bytes(4, "little")
    assert refusal(document.replace(honest, (1000).to_bytes(4, "little")), "docx") in (Reason.DAMAGED, Reason.TOO_LARGE)


def test_a_zip_of_too_many_parts(refusal: Refusal) -> None:
    parts = {str(n): "" for n in range(5001)}
    assert refusal(files.zipped({"[Content_Types].xml": "", **parts}, zipfile.ZIP_STORED), "docx") == Reason.TOO_COMPLEX


def test_entities_neither_grow_nor_read_files(refusal: Refusal, sandbox: Sandbox) -> None:
    kinds = {"[Content_Types].xml": "wordprocessingml"}
    levels = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    laughs = f'<!DOCTYPE l [<!ENTITY a "ha">{levels}]><w:document xmlns:w="w"><w:p><w:t>&j;</w:t></w:p></w:document>'
    assert refusal(files.zipped({**kinds, "word/document.xml": laughs}), "docx") in (Reason.TOO_COMPLEX, Reason.EMPTY)
    outside = (
        '<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
        '<w:document xmlns:w="w"><w:p><w:r><w:t>hi &a;</w:t></w:r></w:p></w:document>'
    )
    found = sandbox.extract([files.zipped({**kinds, "word/document.xml": outside})], "docx")
    assert found.pages[0].text == "hi"


@pytest.mark.parametrize(
    ("document", "extension"),
    [
        (b"<html>" + b"<div>" * 300_000 + b"deep", "html"),
        (files.docx("<w:sdt>" * 3000 + "</w:sdt>" * 3000), "docx"),
        (files.opendocument("text", "<text:section>" * 3000 + "</text:section>" * 3000), "odt"),
        (b"From: x\nTo: y\nSubject: z\n" + b"Content-Type: message/rfc822\n\nFrom: x\n" * 200 + b"\nx", "eml"),
    ],
)
def test_deep_nesting_is_refused_at_once(refusal: Refusal, document: bytes, extension: str) -> None:
    assert refusal(document, extension) == Reason.TOO_COMPLEX


def test_nesting_a_browser_would_show_is_read(sandbox: Sandbox) -> None:
    found = sandbox.extract([b"<html>" + b"<div>" * 2000 + b"deep words"], "html")
    assert found.pages[0].text == "deep words"


def test_a_sheet_with_a_cell_at_the_far_corner_is_contained(sandbox: Sandbox) -> None:
    with zipfile.ZipFile(BytesIO(files.xlsx({"A": [["x"]]}))) as archive:
        members: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
    sheet = bytes(members["xl/worksheets/s1.xml"])  # type: ignore[arg-type]
    members["xl/worksheets/s1.xml"] = sheet.replace(b"</row>", b'</row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>')
    with pytest.raises(Unreadable) as refused:
        sandbox.extract([files.zipped(members)], "xlsx")
    assert refused.value.reason in (Reason.MEMORY, Reason.CRASHED)
    assert sandbox.extract([b"the next one"], "txt").pages[0].text == "the next one"


def test_a_sheet_that_repeats_its_words_without_end_is_contained(sandbox: Sandbox) -> None:
    words = "<text:p>words</text:p></table:table-cell>"
    cell = f'<table:table-cell office:value-type="string" table:number-columns-repeated="16384">{words}'
    line = f'<table:table-row table:number-rows-repeated="100000">{cell}</table:table-row>'
    with pytest.raises(Unreadable) as refused:
        sandbox.extract([files.opendocument("spreadsheet", f'<table:table table:name="A">{line}</table:table>')], "ods")
    assert refused.value.reason in (Reason.DAMAGED, Reason.MEMORY, Reason.CRASHED)
    assert sandbox.extract([b"the next one"], "txt").pages[0].text == "the next one"


def test_text_that_repeats_its_cells_without_end_is_read(sandbox: Sandbox) -> None:
    cell = '<table:table-cell table:number-columns-repeated="999999"><text:p>word</text:p></table:table-cell>'
    table = f"<table:table><table:table-row>{cell * 3}</table:table-row></table:table>"
    found = sandbox.extract([files.opendocument("text", table)], "odt")
    assert found.pages[0].text.count("word") == 1000


def test_text_beyond_the_limit_is_refused(refusal: Refusal) -> None:
    assert refusal(b"some words of a very long text\n" * (2_300_000), "txt") == Reason.TOO_LARGE


def test_mutilated_files_end_with_pages_or_a_reason(sandbox: Sandbox) -> None:
    chance = random.Random(20)
    originals = {
        "pdf": files.pdf(["hello world"] * 3),
        "docx": files.docx(files.paragraph("hello") * 5),
        "pptx": files.pptx([files.shape("a"), files.shape("b")]),
        "xlsx": files.xlsx({"A": [["x", 1.0]] * 3}),
        "xls": files.xls({"A": [["x", 1.0]] * 3}),
        "odt": files.opendocument("text", "<text:p>hello</text:p>" * 5),
        "ods": files.opendocument("spreadsheet", '<table:table table:name="A"><table:table-row/></table:table>'),
        "epub": files.epub(["<p>one", "<p>two"]),
        "eml": files.eml("subject", "body", "<p>html", {"a": b"b"}),
        "rtf": files.rtf("hello"),
        "html": b"<html><table><tr><td>a<td>b</table><ul><li>c",
    }
    for extension, original in originals.items():
        for turn in range(15):
            document = bytearray(original[: chance.randrange(1, len(original))] if turn % 2 else original)
            for _ in range(chance.randrange(1, 20)):
                document[chance.randrange(len(document))] = chance.randrange(256)
            assert _outcome(sandbox, bytes(document), extension) not in (Reason.INTERNAL, Reason.TIMEOUT)


def _outcome(sandbox: Sandbox, document: bytes, extension: str) -> Reason | int:
    try:
        return len(sandbox.extract([document], extension).pages)
    except Unreadable as unreadable:
        return unreadable.reason


def test_every_reason_says_what_happened_and_what_to_do() -> None:
    assert set(SENTENCES) == set(Reason)
    for happened, advice in SENTENCES.values():
        assert happened.endswith(".")
        assert advice.endswith(".")
        assert not any(word in (happened + advice).lower() for word in ("please", "oops", "successfully", "!"))
