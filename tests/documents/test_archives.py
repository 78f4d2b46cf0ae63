"""ZIP archives: each file becomes a document once, whatever is in the archive and whatever strikes while it is opened."""

import io
import random
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from documents import erasing, exporting, ingestion, ledger, quotas, storage, trash, unpacking
from documents.extraction import members
from documents.extraction.formats import zipped
from documents.extraction.members import LeftOut, Member, Reader, Spoilt
from documents.extraction.sandbox import Sandbox
from documents.fields import add_field
from documents.importing import import_folder
from documents.models import Document, Page, Usage, Value
from documents.reasons import Reason, Unreadable
from documents.receiving import collection_named, receive
from tenants.audit.models import Entry
from tenants.context import workspace
from tenants.models import Tenant
from tests.documents import files

State = Document.State
Refusal = Callable[[bytes, str], Reason]
Unpacked = Callable[[bytes], dict[str, bytes | LeftOut]]


@pytest.fixture
def unpacked(sandbox: Sandbox) -> Unpacked:
    """What comes of each file by its path: its bytes, or why it is left out."""

    def unpack(archive: bytes) -> dict[str, bytes | LeftOut]:
        found: dict[str, bytes | LeftOut] = {}

        def take(member: Member) -> None:
            try:
                found[member.path] = member.left_out or b"".join(member.pieces)
            except Spoilt as spoilt:
                found[member.path] = spoilt.why

        sandbox.unpack([archive], take)
        return found

    return unpack


def entry(name: str, **attributes: Any) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    for attribute, value in attributes.items():
        setattr(made, attribute, value)
    return made


def written(entries: Iterable[tuple[zipfile.ZipInfo, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for info, content in entries:
            with warnings.catch_warnings(action="ignore"):  # of names that come twice
                archive.writestr(info, content, compression)
    return target.getvalue()


def flagged(archive: bytes, name: bytes) -> bytes:
    """With the mark of encryption on the file of that name."""
    changed = bytearray(archive)
    for mark, flags, head in ((b"PK\x03\x04", 6, 30), (b"PK\x01\x02", 8, 46)):
        place = changed.find(mark)
        while changed[place + head : place + head + len(name)] != name:
            place = changed.index(mark, place + 1)
        changed[place + flags] |= 1
    return bytes(changed)


# ---------------------------------------------------------------- in the sandbox


class TestWhatIsInIt:
    def test_files_come_as_they_are(self, unpacked: Unpacked) -> None:
        large = random.Random(1).randbytes(700_000)
        made = {"a.txt": b"words", "deep/er/large.bin": large, "größe.txt": "ä".encode(), "empty/": b""}
        assert unpacked(files.zipped(made)) == {k: v for k, v in made.items() if k != "empty/"}
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            assert unpacked(files.zipped({"a.txt": "words" * 99}, method)) == {"a.txt": b"words" * 99}

    def test_names_are_read_in_the_encoding_they_were_written_in(self, unpacked: Unpacked) -> None:
        archive = files.zipped({"gr0sse.txt": "1", "./dir\\./b.txt": "2"})
        assert set(unpacked(archive.replace(b"gr0sse", b"gr\x94\xe1en"))) == {"größen.txt", "dir/b.txt"}
        assert set(unpacked(archive.replace(b"gr0sse", "größ".encode()))) == {"größ.txt", "dir/b.txt"}

    def test_what_is_left_out_is_said(self, unpacked: Unpacked) -> None:
        link = entry("link", external_attr=(stat.S_IFLNK | 0o777) << 16, create_system=3)
        made = [
            (entry("kept.txt"), b"words"),
            (link, b"/etc/passwd"),
            (entry("../up.txt"), b"x"),
            (entry("/etc/absolute.txt"), b"x"),
            (entry("C:\\windows.txt"), b"x"),
            (entry("__MACOSX/._kept.txt"), b"x"),
            (entry("a/.DS_Store"), b"x"),
            (entry("Thumbs.db"), b"x"),
            (entry("empty.txt"), b""),
            (entry("twice.txt"), b"first"),
            (entry("twice.txt"), b"second"),
            (entry("n" * 60_000), b"x"),
            (entry("dense.bin"), bytes(20_000_000)),
            (entry("locked.txt"), b"secret"),
        ]
        found = unpacked(flagged(written(made), b"locked.txt"))
        assert found.pop("n" * 1000) is LeftOut.NAME
        assert found == {
            "kept.txt": b"words",
            "link": LeftOut.LINK,
            "../up.txt": LeftOut.OUTSIDE,
            "/etc/absolute.txt": LeftOut.OUTSIDE,
            "C:/windows.txt": LeftOut.OUTSIDE,
            "__MACOSX/._kept.txt": LeftOut.SYSTEM,
            "a/.DS_Store": LeftOut.SYSTEM,
            "Thumbs.db": LeftOut.SYSTEM,
            "empty.txt": LeftOut.EMPTY,
            "twice.txt": b"second",
            "dense.bin": LeftOut.TOO_DENSE,
            "locked.txt": LeftOut.ENCRYPTED,
        }

    def test_archives_within_are_opened_and_documents_are_not(self, unpacked: Unpacked) -> None:
        letter = files.docx(files.paragraph("words"))
        third = files.zipped({"too deep.txt": "x"})
        second = files.zipped({"deep.txt": "deep", "third.zip": third})
        first = files.zipped({"b.txt": "b", "second": second})
        assert unpacked(files.zipped({"a.txt": "a", "x/first.zip": first, "letter.docx": letter})) == {
            "a.txt": b"a",
            "x/first/b.txt": b"b",
            "x/first/second files/deep.txt": b"deep",
            "x/first/second files/third.zip": LeftOut.NESTED,
            "letter.docx": letter,
        }

    def test_what_is_no_archive_becomes_a_document_whatever_is_in_it(self, unpacked: Unpacked) -> None:
        """Whether it can be read is for its own reader to say, with its own reason."""
        large = files.zipped({"[Content_Types].xml": "x", "ppt/film.mp4": bytes(52_500_000)})
        many = files.zipped({"META-INF/MANIFEST.MF": "x"} | {f"{n}.class": "x" for n in range(5001)}, zipfile.ZIP_STORED)
        made = {"film.pptx": large, "program.jar": many, "signs.txt": b"PKW;1\nLKW;2\n", "PK.bin": b"PK"}
        assert unpacked(files.zipped(made)) == made

    def test_what_may_be_an_archive_and_is_too_large_to_be_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(zipped, "HELD_BYTES", 100)
        frames = zipped.unpack(files.zipped({"inner.zip": files.zipped({"a.txt": "a"}), "large.txt": "b" * 101}))
        found: dict[str, LeftOut | None] = {}
        Reader(lambda: next(frames, b"")).each(lambda member: found.update({member.path: member.left_out}))
        assert found == {"inner.zip": LeftOut.HELD, "large.txt": None}

    def test_what_other_programs_keep_in_a_zip_is_no_archive_of_files(self, refusal: Refusal) -> None:
        for sign in ("META-INF/MANIFEST.MF", "Index/Document.iwa", "[Content_Types].xml"):
            assert refusal(files.zipped({sign: "x", "a.txt": "words"}), "zip") == Reason.UNSUPPORTED


class TestHarm:
    def test_nothing_that_can_be_taken(self, refusal: Refusal) -> None:
        assert refusal(files.zipped({}), "zip") == Reason.EMPTY
        assert refusal(files.zipped({"a/": "", ".DS_Store": "x", "b.txt": ""}), "zip") == Reason.EMPTY
        assert refusal(flagged(files.zipped({"a.txt": "x"}), b"a.txt"), "zip") == Reason.ENCRYPTED

    def test_too_many_files(self, refusal: Refusal) -> None:
        names = [(entry(str(number)), b"") for number in range(10_001)]
        assert refusal(written(names, zipfile.ZIP_STORED), "zip") == Reason.TOO_COMPLEX

    def test_files_that_share_their_bytes(self, refusal: Refusal) -> None:
        archive = files.zipped({"a": "words " * 1000, "b": "words " * 1000})
        second = archive.rfind(b"PK\x03\x04")
        assert (
            refusal(archive.replace(struct.pack("<I", second) + b"b", struct.pack("<I", 0) + b"b"), "zip") == Reason.TOO_COMPLEX
        )

    def test_it_says_to_be_too_large(self, refusal: Refusal, unpacked: Unpacked) -> None:
        content = random.Random(2).randbytes(1000)
        archive = files.zipped({f"{n}.bin": content for n in range(6)}, zipfile.ZIP_STORED)
        size = struct.pack("<II", 1000, 1000)
        assert refusal(archive.replace(size, struct.pack("<II", 400_000_000, 400_000_000)), "zip") in (
            Reason.TOO_LARGE, Reason.TOO_COMPLEX,
        )  # fmt: skip
        lies = archive.replace(size, struct.pack("<II", 1000, 2000))
        assert set(unpacked(lies).values()) == {LeftOut.DAMAGED}
        lies = archive.replace(size, struct.pack("<II", 1000, 500))
        assert set(unpacked(lies).values()) == {LeftOut.DAMAGED}

    def test_bombs_within_are_bounded_together(self, unpacked: Unpacked, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each archive is within the limits; the files of all of them are not."""
        many = files.zipped({f"{n}.txt": "x" for n in range(4000)}, zipfile.ZIP_STORED)
        found = unpacked(files.zipped({f"{n}.zip": many for n in range(3)}))
        assert len(found) == members.MAX_FILES + 1
        assert list(found.values())[-1] is LeftOut.TOO_MUCH

    def test_a_damaged_file_costs_no_other(self, unpacked: Unpacked) -> None:
        archive = files.zipped(
            {"a.txt": "first", "b.txt": "second", "c.zip": files.zipped({"d": "x"})[:-9]}, zipfile.ZIP_STORED
        )
        found = unpacked(archive.replace(b"first", b"fIrst", 1))
        assert found == {"a.txt": LeftOut.DAMAGED, "b.txt": b"second", "c.zip": LeftOut.DAMAGED}

    def test_mutilated_archives_end(self, sandbox: Sandbox, unpacked: Unpacked) -> None:
        chance, ended = random.Random(4), set()
        inner = files.zipped({"c.txt": "third" * 50})
        methods = (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
        made = [files.zipped({"a.txt": "first" * 50, "b/b.txt": "second", "c.zip": inner}, method) for method in methods]
        for turn in range(90):
            original = made[turn % 3]
            document = bytearray(original[: chance.randrange(1, len(original))] if turn % 4 == 0 else original)
            for _ in range(chance.randrange(1, 12)):
                document[chance.randrange(len(document))] = chance.randrange(256)
            try:
                unpacked(bytes(document))
            except Unreadable as unreadable:
                ended.add(unreadable.reason)
        assert ended <= {Reason.DAMAGED, Reason.TOO_COMPLEX, Reason.TOO_LARGE}


class TestTheChannel:
    """A child that was taken over says what it likes."""

    @staticmethod
    def heard(said: bytes, step: int = 7) -> list[tuple[str, bytes]]:
        pieces = iter([said[start : start + step] for start in range(0, len(said), step)])
        found: list[tuple[str, bytes]] = []
        Reader(lambda: next(pieces, b"")).each(lambda member: found.append((member.path, b"".join(member.pieces))))
        return found

    def test_it_is_read_in_whatever_pieces_it_comes(self) -> None:
        frame = members.pack_file(1, 1, "x", 1)
        said = (
            members.pack_file(1, 2, "a", 40) + members.pack_piece(frame[:20]) + members.pack_piece(frame.ljust(40, b"Z")[20:])
        )
        said += members.pack_end() + members.pack_file(2, 2, "b", 9, LeftOut.LINK) + members.pack_done()
        for step in (1, 7, 1000):
            (name, content), (other, nothing) = self.heard(said, step)
            assert (name, len(content), other, nothing) == ("a", 40, "b", b"")

    @pytest.mark.parametrize(
        "said",
        [
            members.pack_piece(b"x"),
            members.pack_file(2, 2, "a", 1),
            members.pack_file(1, 0, "a", 1),
            members.pack_file(1, 1, "", 1),
            members.pack_file(1, members.MAX_FILES + 2, "a", 1, LeftOut.LINK),
            members.pack_file(1, 1, "a", 0),
            members.pack_file(1, 1, "a", members.MAX_FILE_BYTES + 1),
            members.pack_file(1, 1, "a", 1) + members.pack_piece(b"xx"),
            members.pack_file(1, 1, "a", 1) + members.pack_piece(b""),
            members.pack_file(1, 1, "a", 1) + members.pack_end(),
            members.pack_file(1, 1, "a", 1) + members.pack_done(),
            members.pack_file(1, 1, "a", 1) + members.pack_file(2, 2, "b", 1),
            members.pack_file(1, 1, "a", 1)[:-2] + b"\xff" + b"a",
            b"B" + struct.pack("<I", 1 << 31),
            b"R" + struct.pack("<I", 5) + b"words",
            b"?" + struct.pack("<I", 0),
        ],
    )  # fmt: skip
    def test_what_does_not_keep_to_the_form_ends_it(self, said: bytes) -> None:
        with pytest.raises(members.Malformed):
            self.heard(said + members.pack_done())

    def test_what_is_cut_off_is_noticed(self) -> None:
        said = members.pack_file(1, 1, "a", 4) + members.pack_piece(b"word") + members.pack_end() + members.pack_done()
        for length in range(len(said)):
            with pytest.raises(members.Cut):
                self.heard(said[:length])
        assert self.heard(said) == [("a", b"word")]

    def test_it_gives_its_reason(self) -> None:
        for before in (b"", members.pack_file(1, 1, "a", 4) + members.pack_piece(b"wo")):
            with pytest.raises(members.Declined) as declined:
                self.heard(before + members.pack_refusal(Reason.MEMORY))
            assert declined.value.why.reason == Reason.MEMORY


# ---------------------------------------------------------------- in a workspace


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it and clean up."""


CONTENT = {
    "a.txt": "the first letter",
    "deep/b.md": "# Second\n\nletter",
    "c.bin": b"\x7fELF" + bytes(99),
    "d.txt": "the last one",
}


def put(content: bytes, name: str = "letters.zip", **more: Any) -> Document:
    return receive(storage.store(uuid4(), [content]), name, collection_named("Post"), **more)


def out_of(archive: Document) -> dict[str, str]:
    """Its documents by reference: their bytes and their version."""
    found = Document.objects.filter(archive=archive.pk).order_by("created_at")
    assert len({each.reference for each in found}) == len(found)
    return {
        each.reference: f"{b''.join(storage.read(each.pk, each.stored_name))[:20].decode()} {each.version}" for each in found
    }


def text(archive: Document) -> str:
    return "\n".join(page.text for page in Page.objects.filter(document=archive))


EXPECTED = {
    "letters/a.txt": "the first letter 1",
    "letters/deep/b.md": "# Second\n\nletter 1",
    "letters/c.bin": f"\x7fELF{chr(0) * 16} 1",
    "letters/d.txt": "the last one 1",
}


@pytest.mark.usefixtures("in_workspace_a", "model_dir")
class TestItsDocuments:
    def test_each_file_becomes_one(self, workspace_a: Tenant) -> None:
        collection = collection_named("Post")
        field = add_field(collection, "State", "keyword")
        archive = put(files.zipped({**CONTENT, "e.txt": "", ".hidden": "x"}), created_by_id=7, values={field.pk: "open"})
        ingestion.ingest(archive.pk)
        archive.refresh_from_db()
        assert (archive.state, archive.format, archive.reason) == (State.READY, "zip", "")
        assert out_of(archive) == EXPECTED
        made = Document.objects.filter(archive=archive.pk)
        assert {(each.created_by_id, each.state, each.collection_id) for each in made} == {(7, State.QUEUED, collection.pk)}
        assert Value.objects.filter(document__in=made).count() == 4
        assert Usage.objects.get().documents == 5
        assert Entry.objects.filter(event="document.uploaded").count() == 5
        said = text(archive)
        assert said.startswith("4 documents of 5 files, 1 left out.")
        assert "e.txt (0 bytes): left out, it is empty" in said
        assert "1 file hidden or added by a system" in said
        for each in made:
            ingestion.ingest(each.pk)
        assert {each.file_name: each.state for each in made.all()} == {
            "a.txt": State.READY, "b.md": State.READY, "d.txt": State.READY, "c.bin": State.FAILED,
        }  # fmt: skip

    @pytest.mark.parametrize("place", ["store 1", "store 3", "receive 1", "receive 3", "extracted 1"])
    def test_cut_off_anywhere_the_next_run_makes_the_rest(self, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
        archive = put(files.zipped(CONTENT))
        name, _, count = place.partition(" ")
        owner: Any = {"store": storage, "receive": unpacking, "extracted": ledger}[name]
        original, calls = getattr(owner, name), [0]

        def dying(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] == int(count):
                raise Killed
            return original(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, dying)
            with pytest.raises(Killed):
                ingestion.ingest(archive.pk)
        before = out_of(archive)
        assert len(before) == (4 if name == "extracted" else int(count) - 1)
        ingestion.ingest(archive.pk)
        archive.refresh_from_db()
        assert (archive.state, out_of(archive)) == (State.READY, EXPECTED)
        assert text(archive).startswith("4 documents of 4 files.")

    def test_files_that_come_in_are_progress(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A worker that dies again and again, each time a file further, comes to an end."""
        archive = put(files.zipped({f"{number}.txt": f"letter {number}" for number in range(6)}))
        original = unpacking.receive

        def dying(*args: Any, **kwargs: Any) -> Any:
            if made:
                raise Killed
            made.append(original(*args, **kwargs))

        for _ in range(6):
            made: list[Document] = []
            with monkeypatch.context() as patch:
                patch.setattr(unpacking, "receive", dying)
                try:
                    ingestion.ingest(archive.pk)
                except Killed:
                    continue
        ingestion.ingest(archive.pk)
        archive.refresh_from_db()
        assert (archive.state, len(out_of(archive))) == (State.READY, 6)

    def test_it_takes_turns_with_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unpacking, "TURN_SECONDS", 0)
        archive = put(files.zipped(CONTENT))
        for turn in range(1, 4):
            ingestion.ingest(archive.pk)
            archive.refresh_from_db()
            assert (archive.state, archive.attempts, len(out_of(archive))) == (State.QUEUED, 0, turn)
        ingestion.ingest(archive.pk)
        archive.refresh_from_db()
        assert (archive.state, out_of(archive)) == (State.READY, EXPECTED)

    def test_what_was_deleted_meanwhile_does_not_come_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unpacking, "TURN_SECONDS", 0)
        archive = put(files.zipped(CONTENT))
        ingestion.ingest(archive.pk)
        ingestion.ingest(archive.pk)
        erased, thrown = Document.objects.filter(archive=archive.pk).order_by("created_at")
        erasing.erase([erased.pk])
        trash.trash([thrown.pk], None)
        for _ in range(3):
            ingestion.ingest(archive.pk)
        archive.refresh_from_db()
        assert archive.state == State.READY
        assert list(out_of(archive)) == list(EXPECTED)[1:]
        assert text(archive).startswith("2 documents of 4 files, 2 left out.")
        assert text(archive).count("left out, it was deleted after it had come out of the archive") == 2
        assert erasing.look_for_returned() == 0

    def test_unchanged_it_is_one_turn_in_which_nothing_is_stored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        content = {**CONTENT, "large.bin": random.Random(6).randbytes(2_000_000)}
        first, again = put(files.zipped(content)), put(files.zipped(content), "letters.zip")
        ingestion.ingest(first.pk)
        monkeypatch.setattr(unpacking, "TURN_SECONDS", 0)
        monkeypatch.setattr(storage, "store", None)
        ingestion.ingest(again.pk)
        again.refresh_from_db()
        assert again.state == State.READY
        assert text(again).startswith("0 documents of 5 files, 5 here already.")

    def test_what_was_here_before_takes_nothing_of_the_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = put(files.zipped(CONTENT))
        ingestion.ingest(first.pk)
        clock = [0.0]

        def taking(seconds: float, verb: Callable[..., Any]) -> Callable[..., Any]:
            def done(*args: Any, **kwargs: Any) -> Any:
                clock[0] += seconds
                return verb(*args, **kwargs)

            return done

        monkeypatch.setattr(unpacking, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        monkeypatch.setattr(unpacking, "same_bytes", taking(unpacking.TURN_SECONDS, unpacking.same_bytes))
        monkeypatch.setattr(unpacking, "receive", taking(unpacking.TURN_SECONDS / 5, unpacking.receive))
        again = put(files.zipped({**CONTENT, **{f"new {number}.txt": str(number) for number in range(4)}}))
        ingestion.ingest(again.pk)
        again.refresh_from_db()
        assert (again.state, len(out_of(again))) == (State.READY, 4)

    def test_again_with_changes_it_brings_new_versions(self) -> None:
        field = add_field(collection_named("Post"), "State", "keyword")
        first = put(files.zipped(CONTENT), values={field.pk: "open"})
        ingestion.ingest(first.pk)
        changed = Document.objects.filter(archive=first.pk).order_by("created_at")[0].values.get()
        changed.value = "closed"
        changed.save()
        for each in Document.objects.filter(archive=first.pk):
            ingestion.ingest(each.pk)
        corrected = files.zipped({**CONTENT, "a.txt": "the first, corrected", "new.txt": "one more"})
        second = put(corrected, values={field.pk: "open"})
        assert second.version == 2
        ingestion.ingest(second.pk)
        assert out_of(second) == {
            "letters/a.txt": "the first, corrected 2",
            "letters/c.bin": EXPECTED["letters/c.bin"].replace(" 1", " 2"),  # it failed: tried again
            "letters/new.txt": "one more 1",
        }
        values = Value.objects.filter(document__archive=second.pk).select_related("document")
        assert {each.document.file_name: each.value for each in values} == {
            "a.txt": "closed", "c.bin": "open", "new.txt": "open",
        }  # fmt: skip
        assert "d.txt (12 bytes): here already" in text(second)
        assert text(second).startswith("3 documents of 5 files, 2 here already.")

    def test_what_is_left_of_it_does_not_go_over_a_newer_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = put(files.zipped(CONTENT))
        with monkeypatch.context() as patch:
            patch.setattr(unpacking, "TURN_SECONDS", 0)
            ingestion.ingest(first.pk)
        second = put(files.zipped({"d.txt": "the last, corrected"}))
        with monkeypatch.context() as patch:
            patch.setattr(unpacking, "TURN_SECONDS", 0)
            ingestion.ingest(first.pk)
        assert list(out_of(first)) == list(EXPECTED)[:2]  # nobody has opened the other yet
        ingestion.ingest(second.pk)
        ingestion.ingest(first.pk)
        first.refresh_from_db()
        assert (first.state, list(out_of(first))) == (State.READY, list(EXPECTED)[:2])
        assert "d.txt (12 bytes): left out, a newer version of the archive has been opened" in text(first)
        assert out_of(second) == {"letters/d.txt": "the last, corrected 1"}

    def test_of_too_many_files_it_says_that_there_are_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unpacking, "MAX_FILES", 3)  # of the text alone: ten thousand take minutes
        archive = put(files.zipped(CONTENT))
        ingestion.ingest(archive.pk)
        assert text(archive).endswith("What comes after these was not looked at.")

    def test_without_room_for_all_it_says_so_and_goes_on_later(
        self, workspace_a: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        archive = put(files.zipped(CONTENT))
        held = quotas._held
        with monkeypatch.context() as patch:
            patch.setattr(quotas, "_held", lambda usage: quotas.Held(usage.documents, usage.bytes, 3, None))
            ingestion.ingest(archive.pk)
        assert quotas._held is held
        archive.refresh_from_db()
        assert (archive.state, archive.reason, archive.format) == (State.FAILED, Reason.NO_ROOM, "zip")
        assert list(out_of(archive)) == list(EXPECTED)[:2]
        assert archive.can_be_retried
        ledger.retry_all([archive.pk])
        ingestion.ingest(archive.pk)
        archive.refresh_from_db()
        assert (archive.state, out_of(archive)) == (State.READY, EXPECTED)

    def test_cancelled_it_stops_before_the_next_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        archive = put(files.zipped(CONTENT))
        original = unpacking.receive

        def cancelling(*args: Any, **kwargs: Any) -> Any:
            ledger.cancel_all([archive.pk])
            return original(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(unpacking, "receive", cancelling)
            ingestion.ingest(archive.pk)
        archive.refresh_from_db()
        assert (archive.state, list(out_of(archive))) == (State.CANCELLED, ["letters/a.txt"])
        ledger.retry_all([archive.pk])
        ingestion.ingest(archive.pk)
        assert out_of(archive) == EXPECTED

    def test_a_file_that_spoils_half_way_leaves_nothing(self, listed: Callable[[], list[Path]]) -> None:
        content = random.Random(3).randbytes(600_000)
        spoilt = files.zipped({"a.bin": content, "b.txt": "words"}, zipfile.ZIP_STORED)
        archive = put(spoilt.replace(content[-50:], content[-50:][::-1]))
        ingestion.ingest(archive.pk)
        assert out_of(archive) == {"letters/b.txt": "words 1"}
        assert "a.bin (600.0\N{NO-BREAK SPACE}kB): left out, it is damaged" in text(archive)
        assert len(listed()) == 2

    def test_names_made_to_mislead(self) -> None:
        names = ["a\u202efdp.exe", "b\x07.txt", "c\n: here already.txt", "same\u200e.txt", "same.txt", "x/" * 600 + "deep.txt"]
        archive = put(files.zipped(dict.fromkeys(names, "words")), "o\u202ed.zip")
        ingestion.ingest(archive.pk)
        assert sorted(out_of(archive)) == ["od/afdp.exe", "od/b.txt", "od/c: here already.txt", "od/same.txt"]
        assert "\u202e" not in text(archive)
        assert "left out, its path is too long" in text(archive)
        assert "same.txt (5 bytes): left out, another file" in text(archive)

    def test_no_document_out_of_an_archive_is_opened_again(self) -> None:
        """The sandbox hands out no archive. One that was taken over may: it would have no end."""
        child = put(files.zipped({"a.txt": "x"}), "inner.zip", archive=uuid4())
        ingestion.ingest(child.pk)
        child.refresh_from_db()
        assert (child.state, child.reason) == (State.FAILED, Reason.TOO_COMPLEX)
        assert not out_of(child)

    def test_exported_and_imported_nothing_is_lost_or_doubled(self, tmp_path: Path) -> None:
        archive = put(files.zipped(CONTENT))
        ingestion.ingest(archive.pk)
        kept = b"".join(storage.read(archive.pk, archive.stored_name))
        with zipfile.ZipFile(io.BytesIO(b"".join(exporting.archive()))) as exported:
            exported.extractall(tmp_path)
        assert (tmp_path / "archives" / "Post" / "letters.zip").read_bytes() == kept
        done = import_folder(tmp_path / "files" / "Post", "Again")
        assert {each.reference for each in Document.objects.filter(pk__in=done.documents)} == set(EXPECTED)
        again = import_folder(tmp_path / "archives" / "Post", "Again")
        ingestion.ingest(again.documents[0])
        assert Document.objects.filter(collection=again.collection).count() == 5


# ---------------------------------------------------------------- on the screen


def test_its_page_leads_to_its_documents_and_back(
    client_editor: Client, client_viewer: Client, address: Callable[[str], str], workspace_a: Tenant, model_dir: Path
) -> None:
    with workspace(workspace_a):
        archive = put(files.zipped({**CONTENT, "locked.txt": "", "markup <b>.txt": "x"}))
        put(b"of its own", "other.txt")
        ingestion.ingest(archive.pk)
        child = Document.objects.filter(archive=archive.pk).order_by("created_at")[0]
    shown = client_viewer.get(address(f"documents/{archive.pk}/")).content.decode()
    assert "5 documents came out of this archive" in shown
    assert "markup &lt;b&gt;.txt (1 byte)" in shown
    assert "ZIP archive" in shown
    listed = client_viewer.get(address(f"documents/?archive={archive.pk}")).content.decode()
    assert "other" not in listed.partition("<tbody>")[2]
    assert listed.count('id="d-') == 5
    assert (
        f'href="{address(f"documents/{archive.pk}/")}"' in client_viewer.get(address(f"documents/{child.pk}/")).content.decode()
    )
    said = {child: "It came out of “letters.zip”, which holds it", archive: "5 documents that came out of it stay until they"}
    for each, words in said.items():
        client_editor.post(address(f"documents/{each.pk}/delete/"))
        assert words in client_editor.get(address(f"documents/{each.pk}/erase/")).content.decode()
        client_editor.post(address(f"documents/{each.pk}/restore/"))
    client_editor.post(address("documents/act/"), {"do": "cancel", "which": "all", "query": f"archive={archive.pk}"})
    with workspace(workspace_a):
        left = Document.objects.exclude(state=State.CANCELLED)
        assert {each.file_name for each in left} == {"letters.zip", "other.txt"}
    assert "A ZIP is opened" in client_editor.get(address("documents/upload/")).content.decode()
