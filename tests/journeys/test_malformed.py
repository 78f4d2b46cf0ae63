"""Garbage through the real upload: every file ends ready, or failed with a sentence to act on; the server lives on."""

import re
import socket
import unicodedata
from collections.abc import Iterator
from html import escape
from urllib.parse import unquote, urlsplit

import pytest

from documents.reasons import SENTENCES, Reason
from tests.documents import files
from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place
from tests.journeys.visitor import Visitor, encode
from tests.running import Running

pytestmark = pytest.mark.slow

PROSE = b"The weather station on the roof measures the wind."
BROKEN: dict[str, tuple[str, bytes, set[Reason]]] = {
    "0 bytes": ("nothing.pdf", b"", {Reason.EMPTY}),
    "only spaces": ("blank.txt", b" \n\t\r\n  ", {Reason.EMPTY}),
    "an empty Word file": ("blank.docx", files.docx(""), {Reason.EMPTY}),
    "a PDF of pictures": ("scan.pdf", files.pdf([""]), {Reason.NO_TEXT}),
    "a truncated PDF": ("truncated.pdf", files.pdf(["Some words on a page"])[:120], {Reason.DAMAGED}),
    "an encrypted PDF": ("locked.pdf", files.pdf(["Secret"], encrypt=True), {Reason.ENCRYPTED}),
    "an encrypted Word file": ("locked.docx", files.ole(encrypted=True), {Reason.ENCRYPTED}),
    "a truncated old Word file": ("old.doc", files.doc([("x\r", b"\0\0")])[:1500], {Reason.DAMAGED}),
    "a truncated Word file": ("cut.docx", files.docx(files.paragraph("words " * 200))[:-200], {Reason.DAMAGED}),
    "a zip bomb": ("bomb.docx", files.bomb(300 << 20), {Reason.TOO_LARGE, Reason.TOO_COMPLEX, Reason.MEMORY}),
    "a program": ("report.pdf", b"\x7fELF" + bytes(range(256)) * 40, {Reason.UNSUPPORTED, Reason.DAMAGED}),
    "a picture": ("photo.png", b"\x89PNG\r\n\x1a\n" + bytes(500), {Reason.DAMAGED}),
    "a Java archive": ("letters.jar", files.zipped({"META-INF/MANIFEST.MF": "x", "letter.txt": "words"}), {Reason.UNSUPPORTED}),
    "an archive that contains nothing": ("letters.zip", files.zipped({"letters/": ""}), {Reason.EMPTY}),
    "deep HTML": ("deep.html", b"<div>" * 200_000, {Reason.TOO_COMPLEX, Reason.EMPTY, Reason.DAMAGED, Reason.CRASHED}),
}
READABLE: dict[str, tuple[str, bytes]] = {
    "text named as PDF": ("really text.pdf", PROSE),
    "a PDF named as text": ("really pdf.txt", files.pdf([PROSE.decode()])),
    "no extension": ("README", PROSE),
    "bytes of another code page": ("latin.txt", "Die Straße über den Fluß führt nach Köln.".encode("latin-1") * 5),
}
FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
NAMES: dict[str, tuple[str, str]] = {  # sent, kept
    "300 characters": ("Ж" * 296 + ".txt", "Ж" * 296 + ".txt"),
    "300 characters of three bytes": ("長" * 296 + ".txt", "長" * 296 + ".txt"),
    "more than 300": ("ж" * 400 + ".txt", "ж" * 296 + ".txt"),
    "right to left": ("تقرير سنوي.txt", "تقرير سنوي.txt"),
    "a reversed extension": ("invoice\u202efdp.txt", "invoicefdp.txt"),
    "emoji": (f"{FAMILY} 🏔️ holiday.txt", f"{FAMILY} 🏔️ holiday.txt".replace("\u200d", "")),  # Django drops the joiner
    "decomposed": ("Resume\u0301.txt", "Resumé.txt"),
    "a path upwards": ("../../../../etc/cron.d/evil.txt", "evil.txt"),
    "a Windows path": (r"C:\Users\ada\..\notes.txt", "notes.txt"),
    "markup": ("<img src=x onerror=alert(1)>&amp;.txt", "<img src=x onerror=alert(1)>&.txt"),
    "a format string": ("%s {0} ${PATH} `id` 'x';--.txt", "%s {0} ${PATH} `id` 'x';--.txt"),
    "control characters": ("tab\tbell\x07null\x00.txt", "tabbellnull.txt"),
}


@pytest.fixture(scope="module")
def place(make_place: MakePlace) -> Place:
    return make_place("Garbage")


@pytest.fixture(autouse=True)
def _both_live_on(running: Running, place: Place) -> Iterator[None]:
    """Whatever came in: the same processes go on serving, and nothing lies around without a row."""
    said = len(running.log("worker"))
    before = {name: process.pid for name, process in running.processes.items()}
    yield
    assert {name: process.pid for name, process in running.processes.items()} == before
    assert running.is_alive("web")
    assert running.is_alive("worker")
    assert "found an unhandled exception" not in running.log("worker")[said:]
    place.wait_until_ready(place.upload(("still working.txt", PROSE)))
    kept = {path.name for path in (running.var / "files" / place.id.hex).glob("??/*")}
    assert kept == {name for (name,) in place.query("SELECT stored_name FROM documents_document")}


def test_what_cannot_be_read_says_why(place: Place) -> None:
    documents = dict(zip(BROKEN, place.upload(*[(name, content) for name, content, _ in BROKEN.values()]), strict=True))
    place.wait_until_final(list(documents.values()))
    for what, document in documents.items():
        progress = place.progress(document)
        assert progress.state == "failed", f"{what}: {progress}"
        assert progress.reason in BROKEN[what][2], f"{what}: {progress}"
        happened, to_do = SENTENCES[Reason(progress.reason)]
        page = place.owner.get(f"{place.path}documents/{document}/")
        assert escape(happened) in page.text
        assert escape(to_do) in page.text
        assert place.query("SELECT count(*) FROM search_chunk WHERE document_id = %s", document) == [(0,)]
        assert place.download(document).body == BROKEN[what][1]
    listed = place.owner.get(f"{place.path}documents/?state=failed").text
    assert listed.count("state-failed") >= len(BROKEN)


def test_a_wrong_name_does_not_matter(place: Place) -> None:
    documents = dict(zip(READABLE, place.upload(*READABLE.values()), strict=True))
    ended = place.wait_until_final(list(documents.values()))
    assert {what: ended[document].state for what, document in documents.items()} == dict.fromkeys(READABLE, "ready")
    assert "Straße über" in place.owner.get(f"{place.path}documents/{documents['bytes of another code page']}/").text


def test_names_of_every_kind(place: Place) -> None:
    documents = dict(zip(NAMES, place.upload(*[(sent, PROSE) for sent, _ in NAMES.values()]), strict=True))
    place.wait_until_ready(list(documents.values()))
    listed = place.owner.get(f"{place.path}documents/?page=1").text
    for what, document in documents.items():
        _, kept = NAMES[what]
        page = place.owner.get(f"{place.path}documents/{document}/")
        shown = re.search(r"<dt>File name</dt><dd>(.*?)</dd>", page.text)
        assert shown, what
        assert shown[1].replace("&#x27;", "'") == escape(kept, quote=False), what
        assert unicodedata.is_normalized("NFC", shown[1])
        given = place.download(document)
        assert given.body == PROSE
        header = str(given.headers["Content-Disposition"])
        assert header.startswith("attachment")
        said = re.search(r"filename\*=utf-8''(\S+)$|filename=\"(.*)\"$", header)
        assert said, header
        assert (unquote(said[1]) if said[1] else said[2].replace('\\"', '"').replace("\\\\", "\\")) == kept
    assert "<img src=x" not in listed


def test_a_hundred_files_at_once(place: Place) -> None:
    many = [(f"note {n:03}.txt", f"Note {n} is about the bridge with {n} arches.".encode()) for n in range(100)]
    documents = place.upload(*many)
    assert len(set(documents)) == 100
    place.wait_until_ready(documents)
    assert place.query(
        "SELECT count(*), count(DISTINCT document_id) FROM search_chunk WHERE document_id = ANY(%s)", documents
    ) == [(100, 100)]


def test_it_refuses_what_is_no_upload(running: Running, place: Place) -> None:
    rows = place.query("SELECT count(*) FROM documents_document")
    upload = f"{place.path}documents/upload/"
    token = {"X-CSRFToken": place.owner.token}
    body, content_type = encode({"collection": ""}, [("files", ("a.txt", PROSE))])
    bodies = {
        "nothing": (b"", content_type),
        "no boundary": (body, "multipart/form-data"),
        "another boundary": (body, "multipart/form-data; boundary=other"),
        "a boundary beyond reason": (body, f"multipart/form-data; boundary={'x' * 5000}"),
        "no end": (body[:-60], content_type),
        "no file name": (body.replace(b'; filename="a.txt"', b""), content_type),
        "another field": (body.replace(b'name="files"', b'name="other"'), content_type),
        "bad base64": (
            body.replace(b"octet-stream\r\n", b"octet-stream\r\nContent-Transfer-Encoding: base64\r\n"),
            content_type,
        ),
        "a name of dots": (body.replace(b"a.txt", b".."), content_type),
        "a name of 1,200 bytes": (body.replace(b"a.txt", "長".encode() * 400), content_type),
        "JSON": (b'{"files": []}', "application/json"),
        "bytes": (bytes(range(256)) * 50, content_type),
        "an unknown collection": (body.replace(b"\r\n\r\n\r\n", b"\r\n\r\n" + b"a" * 36 + b"\r\n"), content_type),
    }
    for what, (content, kind) in bodies.items():
        for accept in ("text/html", "application/json"):
            answer = place.owner.request("POST", upload, content, {**token, "Content-Type": kind, "Accept": accept})
            assert answer.status == 422, f"{what}: {answer.status}"
            if accept == "application/json":
                assert answer.json()["documents"] == []
                assert re.fullmatch(r"[A-Z].*\.", answer.json()["errors"][0]["message"]), what
            else:
                assert "not uploaded" in answer.text, what
    assert place.query("SELECT count(*) FROM documents_document") == rows


def test_huge_headers_and_lines(running: Running, place: Place) -> None:
    host = urlsplit(running.url).netloc
    for head in (
        f"GET /{'a' * 20_000} HTTP/1.1\r\nHost: {host}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Long: {'a' * 200_000}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {host}\r\n" + "".join(f"X-{n}: a\r\n" for n in range(2000)) + "\r\n",
        "\x00\x01\x02\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: -5\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ):
        assert said_to(running, head.encode("latin-1")).startswith(b"HTTP/1.1 4"), head[:60]
    proper = f"GET /health/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert said_to(running, proper.encode()).startswith(b"HTTP/1.1 200")


def said_to(running: Running, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
        try:
            connection.sendall(request)
            said = connection.recv(200)
        except ConnectionError:
            said = b""
    return said or b"HTTP/1.1 400 (closed without a word)"


def test_without_permission_nothing_is_stored(running: Running, place: Place) -> None:
    upload, rows = f"{place.path}documents/upload/", place.query("SELECT count(*) FROM documents_document")
    file = [("files", ("sneaked.txt", PROSE))]
    for headers in ({"X-CSRFToken": "a" * 64}, {"X-CSRFToken": ""}):
        for accept in ("text/html", "application/json"):
            assert place.owner.post(upload, {}, file, {**headers, "Accept": accept}).status == 403
    assert place.owner.post(upload, {}, file, {"Origin": "https://elsewhere.example"}).status == 403
    anonymous = Visitor(running.url)
    anonymous.get("/accounts/login/")
    assert anonymous.post(upload, {}, file).path == "/accounts/login/"
    assert anonymous.post(upload, {}, file, follow=False).status == 302
    viewer = place.member("viewer")
    refused = viewer.post(upload, {}, file)
    assert refused.status == 403
    assert "Editors, admins and owners" in refused.text
    assert place.query("SELECT count(*) FROM documents_document") == rows
