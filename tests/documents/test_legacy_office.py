"""Word, PowerPoint and Outlook as they kept files before 2007, read in the real sandbox: their words, structure, and what is
built to do harm.
"""

import random
import struct
from collections.abc import Callable

import pytest

from documents.extraction.containers import Container
from documents.extraction.pages import Extraction
from documents.extraction.sandbox import Sandbox
from documents.reasons import Reason, Unreadable
from tests.documents import files

Extract = Callable[[bytes, str], Extraction]
Refusal = Callable[[bytes, str], Reason]
PLAIN, HEADING, SECOND_HEADING = bytes([0, 0]), bytes([1, 0]), bytes([2, 0])  # styles
CELL = PLAIN + bytes.fromhex("162401")  # sprmPFInTable
ROW = CELL + bytes.fromhex("172401")  # sprmPFTtp
LETTER = [("Report\r", HEADING), ("Before it began.\r", PLAIN), ("Wide: Größe → 東京\r", PLAIN)]
SUBJECT, SENDER, ADDRESS, TO, BODY, HTML, RTF = 0x0037, 0x0C1A, 0x5D01, 0x0E04, 0x1000, 0x1013, 0x1009


def text(extraction: Extraction) -> str:
    return "\n---\n".join(page.text for page in extraction.pages)


def name(words: str) -> dict[str, bytes]:
    """An attachment of that name."""
    return {"__substg1.0_3707001F": words.encode("utf-16-le")}


# ---------------------------------------------------------------- Word


def test_doc(extract: Extract) -> None:
    found = extract(files.doc(LETTER), "txt")
    assert found.format == "doc"
    assert text(found) == "# Report\n\nBefore it began.\nWide: Größe → 東京"


def test_doc_tables_keep_their_cells(extract: Extract) -> None:
    table = [("Item\x07", CELL), ("Cost\x07", CELL), ("\x07", ROW), ("Two\r", CELL), ("lines\x07", CELL), ("\x07", CELL)]
    document = files.doc([("Prices\r", SECOND_HEADING), *table, ("\x07", ROW), ("After.\r", PLAIN)])
    assert text(extract(document, "doc")) == "## Prices\n\nItem | Cost\nTwo lines\nAfter."


def test_doc_fields_show_their_results(extract: Extract) -> None:
    field = '\x13 HYPERLINK "https://example.org" \x14the \x13 PAGE \x147\x15th page\x15'
    assert text(extract(files.doc([(f"See {field}.\r", PLAIN), ("x\r", PLAIN)]), "doc")) == "See the 7th page.\nx"


def test_doc_of_word_95(extract: Extract) -> None:
    head = bytearray(0x300)
    struct.pack_into("<HH6xH", head, 0, 0xA5DC, 104, 0)
    words = "Die Straße\rZweite Zeile\rA\x07B\x07\x07".encode("cp1252")
    struct.pack_into("<II", head, 0x18, len(head), len(head) + len(words))
    document = files.compound({"WordDocument": bytes(head) + words})
    assert text(extract(document, "doc")) == "Die Straße\nZweite Zeile\nA | B"


def test_doc_with_a_password(refusal: Refusal) -> None:
    assert refusal(files.doc(LETTER, flags=0x0100), "doc") == Reason.ENCRYPTED


def test_doc_whose_pieces_repeat_the_same_letters_without_end(refusal: Refusal) -> None:
    count = 300
    ends = struct.pack(f"<{count + 1}I", *range(0, (count + 1) * 1_000_000, 1_000_000))
    pieces = ends + struct.pack("<HIH", 0, 0x40000000, 0) * count
    clx = b"\2" + struct.pack("<I", len(pieces)) + pieces
    head = bytearray(1_100_000)
    struct.pack_into("<HH6xH", head, 0, 0xA5EC, 0xC1, 0x0200)
    struct.pack_into("<II", head, 154 + 8 * 33, 0, len(clx))
    assert refusal(files.compound({"WordDocument": bytes(head), "1Table": clx}), "doc") == Reason.TOO_LARGE


# ---------------------------------------------------------------- PowerPoint


def test_ppt(extract: Extract) -> None:
    found = extract(files.ppt([("Harbour", "Ships and quays", "Speak slowly"), ("Zürich", "Größe → groß", "")]), "pot")
    assert found.format == "ppt"
    assert [(page.label, page.text) for page in found.pages] == [
        ("Slide 1", "# Harbour\n\nShips and quays\n\nNotes:\nSpeak slowly"),
        ("Slide 2", "# Zürich\n\nGröße → groß"),
    ]


def test_ppt_with_a_password(refusal: Refusal) -> None:
    assert refusal(files.ppt([("a", "b", "c")], token=0xF3D1C4DF), "ppt") == Reason.ENCRYPTED


def test_ppt_whose_edits_lead_back_to_themselves(refusal: Refusal) -> None:
    document = files.ppt([("a", "b", "c")])
    stream = Container(document).read("PowerPoint Document")
    edits = [at for at in range(len(stream) - 8) if stream[at : at + 8] == struct.pack("<HHI", 0, 0x0FF5, 28)]
    looped = bytearray(stream)
    for at in edits:
        struct.pack_into("<I", looped, at + 16, edits[-1])
    user = Container(document).read("Current User")
    assert refusal(files.compound({"PowerPoint Document": bytes(looped), "Current User": user}), "ppt") == Reason.DAMAGED


def test_ppt_of_boxes_in_boxes(refusal: Refusal) -> None:
    original = Container(files.ppt([("a", "b" * 400, "c")]))
    stream, user = original.read("PowerPoint Document"), original.read("Current User")
    at = next(at for at in range(len(stream)) if stream[at : at + 4] == struct.pack("<HH", 0xF, 0x03EE))
    deep = bytearray(stream)
    (length,) = struct.unpack_from("<I", deep, at + 4)
    for level in range(length // 8):
        struct.pack_into("<HHI", deep, at + 8 + 8 * level, 0xF, 0xF003, length)
    assert refusal(files.compound({"PowerPoint Document": bytes(deep), "Current User": user}), "ppt") == Reason.TOO_COMPLEX


# ---------------------------------------------------------------- Outlook


def test_msg(extract: Extract) -> None:
    strings = {SUBJECT: "Berth 7", SENDER: "Ada", ADDRESS: "ada@example.org", TO: "Bob; Carol", BODY: "It is free.\r\n"}
    noon = (133_515_072_000_000_000).to_bytes(8, "little")
    inner = files.embedded(files.msg({SUBJECT: "Before", BODY: "Is it free?"}))
    found = extract(files.compound(files.msg(strings, [name("plan.pdf"), inner], fixed={0x0039: noon})), "eml")
    assert found.format == "msg"
    assert text(found) == (
        "# Berth 7\n\nFrom: Ada <ada@example.org>\nTo: Bob; Carol\nDate: Sun, 04 Feb 2024 08:00:00 +0000\n\nIt is free.\n\n"
        "Attachment: plan.pdf\n\nForwarded message:\n\n# Before\n\nIs it free?"
    )


def test_msg_in_a_code_page(extract: Extract) -> None:
    document = files.msg({SUBJECT: "Причал"}, code_page="cp1251", fixed={0x3FFD: struct.pack("<Q", 1251)})
    assert text(extract(files.compound(document), "msg")) == "# Причал"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (HTML, b"<html><meta charset=utf-8><table><tr><td>a<td>b</table>"),
        (RTF, struct.pack("<II4sI", 34, 22, b"MELA", 0) + rb"{\rtf1\ansi a | b\par}"),
        # [MS-OXRTFCP] 4.2.1.1 with its own words: "{\rtf1 WXYZWXYZWXYZWXYZWXYZ}"
        (RTF, bytes.fromhex("1a0000001c0000004c5a4675e2d44b51410004205758595a0d6e7d010eb0")),
    ],
)
def test_msg_whose_body_is_formatted(extract: Extract, kind: int, body: bytes) -> None:
    document = files.compound(files.msg({SUBJECT: "s"}, binary={kind: body}))
    expected = "WXYZ" * 5 if body[8:12] == b"LZFu" else "a | b"
    assert text(extract(document, "msg")).removeprefix("# s\n\n") == expected


def test_msg_in_msg_without_end(refusal: Refusal) -> None:
    message = files.msg({SUBJECT: "s"})
    for _ in range(12):
        message = files.msg({SUBJECT: "s"}, [files.embedded(message)])
    assert refusal(files.compound(message), "msg") == Reason.TOO_COMPLEX


# ---------------------------------------------------------------- the container


def test_streams_of_every_size_are_read() -> None:
    streams = {f"storage/{size}": random.Random(size).randbytes(size) for size in (0, 1, 63, 64, 4095, 4096, 70_000)}
    container = Container(files.compound(streams))
    assert {path: container.read(path) for path in streams} == streams


@pytest.mark.parametrize("content", ["WordDocument", "PowerPoint Document", "Workbook"])
def test_what_lies_in_a_storage_does_not_decide(refusal: Refusal, content: str) -> None:
    assert refusal(files.compound({f"ObjectPool/{content}": bytes(5000)}), "doc") == Reason.UNSUPPORTED


def test_a_chain_that_leads_back_to_itself_is_refused(refusal: Refusal) -> None:
    document = bytearray(files.doc(LETTER))
    (table,) = struct.unpack_from("<I", document, 76)
    at = (table + 1) * 512
    for place in range(128):
        struct.pack_into("<I", document, at + 4 * place, place)
    assert refusal(bytes(document), "doc") == Reason.DAMAGED


def test_a_table_of_tables_that_leads_back_to_itself_is_refused(refusal: Refusal) -> None:
    document = bytearray(files.doc(LETTER))
    struct.pack_into("<I", document, 68, 0)  # the first sector lists further ones, last itself
    struct.pack_into("<I", document, 512 + 508, 0)
    assert refusal(bytes(document), "doc") == Reason.DAMAGED


def test_a_stream_that_claims_to_be_huge_is_refused(refusal: Refusal) -> None:
    document = files.doc(LETTER)
    size = struct.pack("<Q", len(Container(document).read("WordDocument")))
    assert refusal(document.replace(size, struct.pack("<Q", 0xFFFFFFF0)), "doc") == Reason.DAMAGED


def test_mutilated_files_end_with_pages_or_a_reason(sandbox: Sandbox) -> None:
    chance = random.Random(8)
    originals = (
        files.doc([*LETTER, ("a\x07", CELL), ("\x07", ROW)]),
        files.ppt([("a", "b", "c"), ("d", "e", "f")]),
        files.compound(files.msg({SUBJECT: "s", BODY: "b"}, [name("x"), files.embedded(files.msg({BODY: "i"}))])),
    )
    for original in originals:
        for turn in range(25):
            document = bytearray(original[: chance.randrange(512, len(original))] if turn % 3 == 0 else original)
            for _ in range(chance.randrange(1, 20)):
                document[chance.randrange(8, len(document))] = chance.choice([0, 255, chance.randrange(256)])
            assert _outcome(sandbox, bytes(document)) not in (Reason.INTERNAL, Reason.TIMEOUT, Reason.CRASHED, Reason.MEMORY)


def _outcome(sandbox: Sandbox, document: bytes) -> Reason | int:
    try:
        return len(sandbox.extract([document], "doc").pages)
    except Unreadable as unreadable:
        return unreadable.reason
