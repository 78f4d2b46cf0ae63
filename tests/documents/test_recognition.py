"""Words out of pictures and scanned pages: in the real sandbox, with Debian's tesseract, page by page."""

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from PIL import Image

from documents import ingestion, ledger
from documents.extraction.pages import Extraction, Origin
from documents.extraction.sandbox import Sandbox
from documents.models import Document, Page
from documents.reasons import Reason, Unreadable
from search import indexing
from search.models import Chunk
from tenants.context import workspace
from tests.documents import files
from tests.factories import DocumentFactory

Extract = Callable[[bytes, str], Extraction]
WORDS = "The harbour master counts the ships"
GERMAN = "Größe und Gewicht der Straßenbahn"


@pytest.fixture(scope="module")
def without() -> Iterator[Sandbox]:
    """A sandbox where no text recognition is installed."""
    made = Sandbox()
    yield made
    made.close()


def origins(extraction: Extraction) -> list[Origin]:
    return [page.origin for page in extraction.pages]


def refused(sandbox: Sandbox, document: bytes, **options: Any) -> Unreadable:
    with pytest.raises(Unreadable) as refusal:
        sandbox.extract([document], "", **options)
    return refusal.value


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
def test_the_words_of_a_picture(extract: Extract, form: str) -> None:
    found = extract(files.saved(files.picture(WORDS), form), "txt")
    assert found.format == form.lower()
    assert (found.pages[0].label, found.pages[0].text) == ("", WORDS)
    assert origins(found) == [Origin.RECOGNISED]


def test_german_words(extract: Extract) -> None:
    assert extract(files.saved(files.picture(GERMAN), "PNG"), "png").pages[0].text == GERMAN


def test_a_tiff_has_pages(extract: Extract) -> None:
    first, blank, last = files.picture(WORDS), files.picture(""), files.picture("Second sheet of the fax")
    found = extract(files.saved(first, "TIFF", save_all=True, append_images=[blank, last]), "tif")
    assert [(page.label, page.text) for page in found.pages] == [
        ("Page 1", WORDS),
        ("Page 2", ""),
        ("Page 3", "Second sheet of the fax"),
    ]
    assert origins(found) == [Origin.RECOGNISED, Origin.EMPTY, Origin.RECOGNISED]


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_colours_of_every_kind(extract: Extract, mode: str) -> None:
    drawn = files.picture(WORDS)
    if mode == "I;16":
        drawn = Image.frombytes(mode, drawn.size, b"".join(struct.pack("<H", 257 * value) for value in drawn.tobytes()))
    else:
        drawn = drawn.convert(mode)
    assert extract(files.saved(drawn, "TIFF"), "tif").pages[0].text == WORDS


def test_what_is_transparent_is_white(extract: Extract) -> None:
    drawn = files.picture(WORDS)
    see_through = Image.new("RGBA", drawn.size)  # black, and nothing of it is seen
    see_through.putalpha(drawn.point(lambda value: 255 - value))
    assert extract(files.saved(see_through, "PNG"), "png").pages[0].text == WORDS


def test_a_picture_turned_by_the_camera_is_read_upright(extract: Extract) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # EXIF 2.3, Orientation: to be turned by 90 degrees clockwise
    drawn = files.picture(WORDS).transpose(Image.Transpose.ROTATE_90)
    assert extract(files.saved(drawn, "JPEG", exif=turned), "jpg").pages[0].text == WORDS


def test_a_mixed_pdf_is_read_page_by_page(extract: Extract) -> None:
    found = extract(files.scanned(["Typed page", files.picture(WORDS), "", files.picture("")]), "pdf")
    assert [page.text for page in found.pages] == ["Typed page", WORDS, "", ""]
    assert origins(found) == [Origin.EXTRACTED, Origin.RECOGNISED, Origin.EMPTY, Origin.EMPTY]


def test_a_stamp_in_letters_does_not_hide_the_picture(extract: Extract) -> None:
    stamped = files.stamped(files.saved(files.picture(f"{WORDS}\n{GERMAN}"), "PDF", resolution=200.0), "Seen 7 May")
    found = extract(stamped, "pdf")
    assert origins(found) == [Origin.RECOGNISED]
    assert WORDS in found.pages[0].text


def test_without_recognition_pictures_are_refused_and_say_what_to_install(without: Sandbox) -> None:
    for document in (files.saved(files.picture(WORDS), "PNG"), files.scanned([files.picture(WORDS)])):
        assert refused(without, document).reason == Reason.NO_OCR


def test_without_recognition_the_other_pages_are_read(without: Sandbox) -> None:
    found = without.extract([files.scanned(["Typed page", files.picture(WORDS)])], "pdf")
    assert [page.text for page in found.pages] == ["Typed page", ""]
    assert origins(found) == [Origin.EXTRACTED, Origin.FAILED]


def test_languages_that_are_not_installed_are_left_out() -> None:
    for wanted, loaded in (("xyz", ""), ("eng+xyz", "eng"), ("deu", "deu"), ("../../etc/passwd", "")):
        made = Sandbox(languages=wanted)
        try:
            assert made.layers()["languages"] == loaded
        finally:
            made.close()


def test_pictures_without_words_are_refused(sandbox: Sandbox) -> None:
    for document in (files.saved(files.picture(""), "PNG"), files.scanned([files.picture("")])):
        assert refused(sandbox, document).reason == Reason.NO_TEXT


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
def test_a_cut_picture_is_refused(sandbox: Sandbox, form: str) -> None:
    whole = files.saved(files.picture(WORDS), form)
    for length in (24, len(whole) // 2):
        assert refused(sandbox, whole[:length]).reason in (Reason.DAMAGED, Reason.UNSUPPORTED, Reason.NO_TEXT)


def test_a_picture_that_claims_to_be_huge_is_refused_before_it_is_decoded(sandbox: Sandbox) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
    assert refused(sandbox, bomb).reason == Reason.TOO_LARGE


def test_a_page_that_ends_its_reader_costs_no_other() -> None:
    hostile = Sandbox("tests.documents.hostile", languages="eng")
    try:
        found = hostile.extract([b"scanned 2"], "")
        assert origins(found) == [Origin.FAILED, Origin.RECOGNISED, Origin.FAILED]
        assert refused(hostile, b"scanned none").reason == Reason.CRASHED
    finally:
        hostile.close()


def test_pages_left_when_the_time_is_up_have_failed(sandbox: Sandbox) -> None:
    document = files.scanned(["Typed page", files.picture(WORDS)])
    assert origins(sandbox.extract([document], "pdf", seconds=-1)) == [Origin.EXTRACTED, Origin.FAILED]
    assert refused(sandbox, files.scanned([files.picture(WORDS)]), seconds=-1).reason == Reason.TIMEOUT


def test_every_page_has_one_origin_and_none_is_left_over(sandbox: Sandbox, without: Sandbox) -> None:
    document = files.scanned(["Typed page", "", files.picture(WORDS), files.picture("")])
    ends = (Origin.EXTRACTED, Origin.RECOGNISED, Origin.EMPTY, Origin.FAILED)
    for found in (sandbox.extract([document], ""), without.extract([document], "")):
        assert sum(len(found.numbers(origin)) for origin in ends) == len(found.pages) == 4


# ---------------------------------------------------------------- what people see


@pytest.fixture
def ingested(workspace_a: Any, model_dir: Path) -> Callable[[bytes], Document]:
    def ingest(content: bytes) -> Document:
        with workspace(workspace_a):
            made = DocumentFactory(content=content, file_name="scan")
            ingestion.ingest(made.id)
            return Document.objects.get(pk=made.pk)

    return ingest


def test_a_page_says_that_it_was_recognised_and_the_document_counts(
    client_viewer: Client, address: Callable[[str], str], ingested: Callable[[bytes], Document]
) -> None:
    document = ingested(files.scanned(["Typed page", files.picture(WORDS), ""]))
    assert document.state == Document.State.READY
    typed, recognised = (
        client_viewer.get(address(f"documents/{document.id}/?page={number}")).content.decode() for number in (1, 2)
    )
    assert "3: 1 with text, 1 recognised in pictures, 1 empty" in typed
    assert "so some can be wrong" not in typed
    assert WORDS in recognised
    assert "so some can be wrong" in recognised


def test_pages_that_are_not_recognised_are_named_with_the_reason(
    client_viewer: Client,
    address: Callable[[str], str],
    ingested: Callable[[bytes], Document],
    without: Sandbox,
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(ingestion, "sandbox", lambda: without)
    document = ingested(files.scanned(["Typed page", files.picture(WORDS)]))
    page = client_viewer.get(address(f"documents/{document.id}/?page=2")).content.decode()
    assert "1 of 2 pages could not be read and are not searchable: 2. The pages are pictures, and this server has no" in page
    assert "This page could not be read and is not searchable." in page
    assert "2: 1 with text, 1 could not be read" in page


def test_a_picture_is_shown_beside_its_words(
    client_viewer: Client, address: Callable[[str], str], ingested: Callable[[bytes], Document]
) -> None:
    document = ingested(files.saved(files.picture(WORDS).convert("RGB"), "JPEG"))
    shown = client_viewer.get(address(f"documents/{document.id}/")).context["picture"]
    assert client_viewer.get(shown).content.startswith(b"\x89PNG")


def test_a_cancelled_document_is_recognised_no_further(
    workspace_a: Any, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion, "_SECONDS_BETWEEN_LOOKS", 0.0)
    with workspace(workspace_a):
        made = DocumentFactory(content=files.scanned(["Typed page", *[files.picture(WORDS)] * 3]), file_name="scan.pdf")
        seen = []

        def looked(document_id: Any, done: int, total: int, real: Any = ledger.reading) -> None:
            seen.append((done, total))
            if len(seen) == 2:
                ledger.cancel_all([document_id])
            real(document_id, done=done, total=total)
            assert Document.objects.values_list("pages_read", "pages_total").get(pk=document_id) == (done, total)

        monkeypatch.setattr(ledger, "reading", looked)
        ingestion.ingest(made.id)
        assert seen == [(1, 4), (2, 4)]
        assert Document.objects.get(pk=made.pk).state == Document.State.CANCELLED
        assert not Page.objects.filter(document_id=made.pk).exists()


def test_pages_that_could_not_be_read_are_read_again_when_they_can_be(
    client_editor: Client,
    address: Callable[[str], str],
    ingested: Callable[[bytes], Document],
    without: Sandbox,
    workspace_a: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(ingestion, "sandbox", lambda: without)
        document = ingested(files.scanned(["Typed page", files.picture(WORDS)]))
    whole = ingested(files.scanned(["Typed page"]))
    page, rows = address(f"documents/{document.id}/"), address("documents/?state=unread")
    assert "choose Read again" in client_editor.get(page).content.decode()
    listed = client_editor.get(rows).content.decode()
    assert "1 of 2 pages could not be read" in listed
    assert str(whole.id) not in listed
    assert (
        client_editor.post(address("documents/act/"), {"which": "all", "query": "state=unread", "do": "read-again"}).status_code
        == 302
    )
    with workspace(workspace_a):
        assert indexing.published([document.id]), "it is found meanwhile"
        assert Document.objects.get(pk=whole.id).state == Document.State.READY
        assert Document.objects.get(pk=document.id).state == Document.State.QUEUED
        ingestion.ingest(document.id)
        again = Document.objects.get(pk=document.id)
        assert (again.state, again.pages, again.pages_unread, again.detail) == (Document.State.READY, 2, 0, "")
        assert WORDS in Page.objects.get(document_id=document.id, number=2).text
        assert Chunk.objects.filter(document_id=document.id, page=2).count() == 1
    assert "Read again" not in client_editor.get(page).content.decode()
    client_editor.post(address(f"documents/{document.id}/retry/"))
    with workspace(workspace_a):
        assert Document.objects.get(pk=document.id).state == Document.State.READY, "nothing is missing"


def test_how_many_pages_are_read_is_shown(client_viewer: Client, address: Callable[[str], str], workspace_a: Any) -> None:
    with workspace(workspace_a):
        document = DocumentFactory()
        ledger.begin(document.id)
        ledger.reading(document.id, done=12, total=200)
    for path in ("documents/", f"documents/{document.id}/", f"documents/{document.id}/status/"):
        assert "12 of 200 pages" in client_viewer.get(address(path)).content.decode()
    with workspace(workspace_a):
        ledger.begin(document.id)  # its worker was killed, another took it up
        assert Document.objects.get(pk=document.id).pages_total == 0
