"""A page as a picture: drawn in the sandbox, made a file of outside it, shown to whoever opened the page and to nobody else."""

import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from documents import ingestion, pictures, png, storage
from documents.extraction import pictures as drawn
from documents.extraction import sandbox as caller
from documents.extraction.pictures import COLOUR, GREY, SIDE, Picture
from documents.extraction.sandbox import Sandbox
from documents.models import Document
from documents.reasons import Reason, Unreadable
from tenants.audit.models import Entry
from tenants.context import workspace
from tests.documents import files
from tests.factories import DocumentFactory

Address = Callable[[str], str]
HEADING = "There is no picture of page 1"


def decoded(file: bytes) -> Picture:
    """What a PNG file shows, read by its chunks as ISO/IEC 15948 has it; only what we write is understood."""
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    place, chunks = 8, []
    while place < len(file):
        (length,) = struct.unpack_from(">I", file, place)
        kind, body = file[place + 4 : place + 8], file[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", file, place + 8 + length) == (zlib.crc32(kind + body),)
        chunks.append((kind, body))
        place += 12 + length
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    channels = {(8, 0, 0, 0, 0): GREY, (8, 2, 0, 0, 0): COLOUR}[tuple(rest)]
    wide, lines, above, rows = width * channels, zlib.decompress(chunks[1][1]), bytes(width * channels), []
    for start in range(0, len(lines), wide + 1):
        row = lines[start + 1 : start + 1 + wide]
        if lines[start] == 2:
            row = bytes((here + over) % 256 for here, over in zip(row, above, strict=True))
        above = row
        rows.append(row)
    return Picture(width, height, channels, b"".join(rows))


def painted(size: str = "0 0 595 842", drawing: bytes = b"1 0 0 rg 0 421 595 421 re f") -> bytes:
    """A PDF of one page, its upper half red unless said otherwise."""
    page = files.pdf(["x"]).replace(b"0 0 595 842", size.encode())
    return re.sub(rb"<< /Length \d+ >>\nstream\n.*\nendstream", b"<< /Length %d >>\nstream\n%s\nendstream" % (
        len(drawing), drawing), page)  # fmt: skip


# ---------------------------------------------------------------- drawing


def test_a_page_is_drawn_as_it_looks(sandbox: Sandbox) -> None:
    found = decoded(png.encoded(sandbox.draw([painted()], 1)))
    assert (found.width, found.height, found.channels) == (989, SIDE, COLOUR)
    pixels = [found.pixels[3 * (row * found.width + 500) :][:3] for row in (10, 690, 710, 1390)]
    assert pixels == [b"\xff\0\0", b"\xff\0\0", b"\xff\xff\xff", b"\xff\xff\xff"]


def test_a_page_without_colour_is_grey(sandbox: Sandbox) -> None:
    found = decoded(png.encoded(sandbox.draw([files.pdf(["black words", "more"])], 2)))
    assert found.channels == GREY
    assert 0 in found.pixels
    assert found.pixels.count(255) > 0.9 * len(found.pixels)


@pytest.mark.parametrize(
    ("size", "width", "height"),
    [
        ("0 0 1e9 1e9", 1082, SIDE),  # PDFium takes impossible sizes for a letter's
        ("0 0 14400 14400", SIDE, SIDE),
        ("0 0 842 595", SIDE, 989),
        ("0 0 14000 1", SIDE, 1),
        ("0 0 10 20", 40, 80),
    ],
)
def test_no_page_is_drawn_larger_than_the_limit(sandbox: Sandbox, size: str, width: int, height: int) -> None:
    found = sandbox.draw([painted(size)], 1)
    assert (found.width, found.height) == (width, height)


@pytest.mark.parametrize(
    ("document", "page", "reason"),
    [
        (files.pdf(["x"]), 2, Reason.DAMAGED),
        (files.pdf(["x"]), 0, Reason.DAMAGED),
        (files.pdf(["x"])[:300], 1, Reason.DAMAGED),
        (files.pdf(["x"], encrypt=True), 1, Reason.ENCRYPTED),
        (files.docx(files.paragraph("x")), 1, Reason.UNSUPPORTED),
        (b"<svg onload=alert(1)>", 1, Reason.UNSUPPORTED),
        (b"", 1, Reason.EMPTY),
    ],
)
def test_what_cannot_be_drawn_has_a_reason(sandbox: Sandbox, document: bytes, page: int, reason: Reason) -> None:
    with pytest.raises(Unreadable) as refused:
        sandbox.draw([document], page)
    assert refused.value.reason == reason


# ---------------------------------------------------------------- a child that is taken over


@pytest.fixture(scope="module")
def hostile() -> Iterator[Sandbox]:
    made = Sandbox("tests.documents.hostile")
    yield made
    made.close()


def header(width: int, height: int, channels: int, length: int, pixels: bytes = b"") -> bytes:
    return b"CLOISTER1D" + struct.pack("<IIII", width, height, channels, length) + pixels


@pytest.mark.parametrize(
    "answer",
    [
        b"\x89PNG\r\n\x1a\n",
        header(1, 1, GREY, 0),
        header(2, 1, GREY, 1, b"x"),
        header(1, 1, GREY, 2, b"xx"),
        header(1, 1, 2, 2, b"xx"),
        header(0, 1, GREY, 0),
        header(1, 1, GREY, 1, b"xx"),
        header(SIDE + 1, 1, GREY, SIDE + 1, b"x" * (SIDE + 1)),
        header(2**32 - 1, 2**32 - 1, COLOUR, 3, b"xxx"),
        header(1, 1, GREY, 2**32 - 1, b"x"),
        b"CLOISTER1P" + bytes(16),
    ],
)
def test_what_is_no_picture_counts_as_a_crash(hostile: Sandbox, answer: bytes) -> None:
    with pytest.raises(Unreadable) as refused:
        hostile.draw([f"raw {answer!r}".encode()], 1)
    assert (refused.value.reason, refused.value.detail) == (Reason.CRASHED, "answer")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("loop", Reason.TIMEOUT),
        (f"memory {1 << 30}", Reason.MEMORY),
        ("crash", Reason.CRASHED),
        ("socket AF_INET", Reason.CRASHED),
        (f"raw b'x' * {drawn.MAX_BYTES + 100_000}", Reason.TOO_LARGE),
    ],
)
def test_it_is_contained_and_the_next_page_is_drawn(
    hostile: Sandbox, monkeypatch: pytest.MonkeyPatch, command: str, reason: Reason
) -> None:
    monkeypatch.setattr(caller, "DRAWING_CPU", 1)
    with pytest.raises(Unreadable) as refused:
        hostile.draw([command.encode()], 1)
    assert refused.value.reason == reason
    assert hostile.draw([b"open /etc/passwd"], 1) == Picture(1, 1, GREY, b"\1")  # errno 1: not permitted


# ---------------------------------------------------------------- on the page, and by itself


@pytest.fixture
def document(workspace_a: Any, model_dir: Path) -> Document:
    with workspace(workspace_a):
        made = DocumentFactory(content=files.pdf(["first page", "second page", ""]), file_name="report.pdf")
        ingestion.ingest(made.id)
        return Document.objects.get(pk=made.pk)


@pytest.fixture(scope="module", autouse=True)
def closed() -> Iterator[None]:
    """The sandbox in which this process draws ends with these tests."""
    yield
    pictures.sandbox().close()


def opened(client: Client, path: str) -> str:
    """The address of the picture on a document's page."""
    found = re.search(r'<img src="([^"]+)"', client.get(path).content.decode())
    assert found
    return found[1]


@pytest.fixture
def path(address: Address, document: Document) -> str:
    return address(f"documents/{document.id}/")


def test_an_opened_page_shows_its_picture(client_viewer: Client, path: str) -> None:
    page = client_viewer.get(f"{path}?page=2").content.decode()
    assert 'alt="Picture of page 2" loading="lazy"' in page
    response = client_viewer.get(opened(client_viewer, f"{path}?page=2"))
    assert response.status_code == 200
    assert response["Content-Type"] == "image/png"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Disposition"] == "inline"
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert response["Cache-Control"] == "no-store"
    assert decoded(response.content).height == SIDE


def test_a_page_without_text_has_a_picture(client_viewer: Client, path: str) -> None:
    assert client_viewer.get(opened(client_viewer, f"{path}?page=3")).status_code == 200


def test_it_is_kept_nowhere(client_viewer: Client, path: str, listed: Callable[[], list[Path]]) -> None:
    picture = opened(client_viewer, path)
    before = listed()
    client_viewer.get(picture)
    assert listed() == before


def test_it_is_for_who_opened_the_page(client_viewer: Client, client_editor: Client, path: str, workspace_a: Any) -> None:
    """The record of openings is whole: there is no picture of a page that is not recorded as opened by who sees it."""
    first = opened(client_viewer, path)
    with workspace(workspace_a):
        recorded = Entry.objects.count()
    assert client_viewer.get(first).status_code == 200
    with workspace(workspace_a):
        assert Entry.objects.count() == recorded  # the picture is part of the opening
    proof = first.partition("?")[2]
    for client, picture in (
        (client_editor, first),
        (client_viewer, f"{path}pictures/2/?{proof}"),
        (client_viewer, f"{path}pictures/1/"),
        (client_viewer, f"{path}pictures/1/?opened=x"),
        (client_viewer, f"{path}pictures/99/?{proof}"),
    ):
        answer = client.get(picture)
        assert answer.status_code == 302
        assert re.fullmatch(re.escape(path) + r"\?page=\d+", answer["Location"])


def test_an_opening_of_yesterday_is_none(client_viewer: Client, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = opened(client_viewer, path)
    monkeypatch.setattr(pictures, "OPENED_SECONDS", -1)
    assert client_viewer.get(picture).status_code == 302


def test_who_may_not_see_the_document_any_more_gets_no_picture(
    client_viewer: Client, path: str, document: Document, workspace_a: Any
) -> None:
    picture = opened(client_viewer, path)
    with workspace(workspace_a):
        document.collection.restricted = True
        document.collection.save()
    assert client_viewer.get(picture).status_code == 404


def test_in_the_trash_it_has_none_and_taken_out_it_has(client_editor: Client, path: str) -> None:
    picture = opened(client_editor, path)
    client_editor.post(f"{path}delete/")
    assert client_editor.get(picture).status_code == 404
    client_editor.post(f"{path}restore/")
    assert client_editor.get(picture).status_code == 200


def test_an_erased_document_has_none(client_editor: Client, path: str) -> None:
    picture = opened(client_editor, path)
    client_editor.post(f"{path}delete/")
    client_editor.post(f"{path}erase/")
    assert client_editor.get(picture).status_code == 404


def proven(client: Client, path: str, document: Document, person: Any, number: int = 1) -> Any:
    """The answer to a picture whose page is taken as opened, whether it could be or not."""
    proof = pictures.proof_of_opening(document, number, person.pk)
    return client.get(f"{path}pictures/{number}/", {"opened": proof})


@pytest.mark.parametrize("number", [0, 4, 10**9])
def test_a_page_that_is_not_there(client_viewer: Client, path: str, document: Document, viewer: Any, number: int) -> None:
    assert proven(client_viewer, path, document, viewer, number).status_code == 404


def test_other_formats_have_none(client_viewer: Client, address: Address, viewer: Any, workspace_a: Any) -> None:
    with workspace(workspace_a):
        made = DocumentFactory(content=b"Words of a text.")
        ingestion.ingest(made.id)
    path = address(f"documents/{made.id}/")
    assert "<img" not in client_viewer.get(path).content.decode().partition("<main")[2]
    assert proven(client_viewer, path, made, viewer).status_code == 404


def test_large_files_have_none(
    client_viewer: Client, path: str, document: Document, viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MOST_BYTES", document.size - 1)
    assert "<img" not in client_viewer.get(path).content.decode().partition("<main")[2]
    assert proven(client_viewer, path, document, viewer).status_code == 404


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (files.pdf(["x"], encrypt=True), "The stored file keeps its password"),
        (files.pdf(["x"])[:300], "This page cannot be drawn"),
        (b"not a PDF any more", "This page cannot be drawn"),
    ],
)
def test_a_file_that_cannot_be_drawn_is_said(
    client_viewer: Client, address: Address, viewer: Any, workspace_a: Any, content: bytes, said: str
) -> None:
    with workspace(workspace_a):
        made = DocumentFactory(content=content, format="pdf", pages=1, state=Document.State.READY)
    answer = proven(client_viewer, address(f"documents/{made.id}/"), made, viewer)
    assert answer.status_code == 404
    assert HEADING in answer.content.decode()
    assert said in answer.content.decode()


def test_a_missing_file_is_said(client_viewer: Client, path: str, document: Document, workspace_a: Any) -> None:
    picture = opened(client_viewer, path)
    with workspace(workspace_a):
        storage.remove([document.stored_name])
    answer = client_viewer.get(picture)
    assert answer.status_code == 404
    assert "missing or was changed outside Cloister" in answer.content.decode()
    assert "first page" in client_viewer.get(path).content.decode()


def test_too_many_at_once_are_told_so(client_viewer: Client, path: str) -> None:
    picture = opened(client_viewer, path)
    for _ in range(pictures.PLACES):
        assert pictures._places.acquire(blocking=False)
    try:
        answer = client_viewer.get(picture)
    finally:
        for _ in range(pictures.PLACES):
            pictures._places.release()
    assert answer.status_code == 503
    assert "Too many pictures are being drawn just now" in answer.content.decode()
    for _ in range(pictures.PLACES + 1):  # a place is given back, whatever came of it
        assert client_viewer.get(picture).status_code == 200


def test_a_failure_gives_its_place_back(client_viewer: Client, path: str, document: Document, workspace_a: Any) -> None:
    picture = opened(client_viewer, path)
    with workspace(workspace_a):
        storage.remove([document.stored_name])
    for _ in range(pictures.PLACES + 1):
        assert client_viewer.get(picture).status_code == 404


def test_where_nothing_can_be_isolated_nothing_is_drawn(
    client_viewer: Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = opened(client_viewer, path)
    pictures.sandbox().close()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    answer = client_viewer.get(picture)
    assert answer.status_code == 503
    assert "cannot isolate the drawing of pages" in answer.content.decode()


def test_there_is_a_limit(client_viewer: Client, path: str, settings: Any) -> None:
    picture = opened(client_viewer, path)
    settings.RATE_PICTURE = (1, 10**9)
    assert [client_viewer.get(picture).status_code for _ in range(2)] == [200, 429]
