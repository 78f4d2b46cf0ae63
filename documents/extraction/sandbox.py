"""The caller's side of the sandbox: a document goes in; its text, a picture of a page, its files, or a reason comes out.

Fails closed: see `REQUIRED`.

Knows how the child ended and checks what it said; knows no format. What the child answers is treated as hostile throughout.
"""

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from documents.extraction import answers, members, pictures
from documents.extraction.members import Member
from documents.extraction.pages import Extraction, Origin, Page
from documents.extraction.pictures import Picture
from documents.extraction.progress import Told
from documents.extraction.zygote import DRAW, PROBE, READ, RECOGNISE, UNPACK
from documents.reasons import Reason, Unreadable

REQUIRED = ("limits", "no_new_privs", "seccomp")  # without these nothing is parsed; the other layers are depth
MEMORY_BYTES = 1 << 30
LARGEST_BYTES = 500_000_000  # of a document, which is held in memory while it is read; a larger one is not to be given here
CPU_SECONDS = 30
WALL_SECONDS = 90.0
DOCUMENTS_PER_ZYGOTE = 200  # children share its address layout, so it is replaced now and then, and after every crash
START_SECONDS = 60
# For one picture, somebody waits: less of everything. A usual page takes 10 ms.
DRAWING_BYTES, DRAWING_CPU, DRAWING_WALL = 512 << 20, 5, 10.0
# A full page takes some 4 to 6 s of CPU to recognise; pages that are left when the time for all is up have failed.
RECOGNISING_CPU, RECOGNISING_WALL, RECOGNISING_ALL = 40, 120.0, 2 * 3600.0
# The files of an archive go where they come from no faster than whoever takes them stores them; silence is no such wait.
UNPACKING_CPU, UNPACKING_WALL, UNPACKING_SILENCE = 120, 2 * 3600.0, 60.0
FORMATS = "documents.extraction.formats"
_NEARLY = 0.9  # of a limit: what the kernel says was used is counted otherwise than what it limits

_ROOT = str(Path(__file__).resolve().parents[2])
# -I: no environment variable, user site or working directory reaches the interpreter's path.
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from documents.extraction import zygote;"
    " zygote.main(int(sys.argv[2]), sys.argv[3], sys.argv[4])"
)

_REASON_BY_SIGNAL = {
    signal.SIGXCPU: Reason.TIMEOUT,
    signal.SIGKILL: Reason.TIMEOUT,  # who ignores the first is ended by the hard limit
    signal.SIGABRT: Reason.MEMORY,  # native code that gets no memory aborts
}


Answer = TypeVar("Answer")


class SandboxUnavailable(Exception):
    """Documents cannot be isolated here: a fault of the installation, not of a file. No document is parsed."""


class Sandbox:
    """One zygote, started when first needed and replaced when worn out. Threads may share it: they take turns.

    `languages`: those in which the words of pictures are recognised ("eng+deu"), as far as they are installed.
    """

    def __init__(self, readers: str = FORMATS, *, languages: str = "", root: str = _ROOT) -> None:
        self._readers = readers
        self._languages = languages
        self._root = root
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._served = 0
        self._owner = os.getpid()
        self._layers: dict[str, Any] = {}
        self.peak_kib = 0  # the most that one of its children has held so far

    def layers(self) -> dict[str, Any]:
        """What holds here: limits, no_new_privs, seccomp, namespaces, landlock, account; and the languages of recognition.

        Raises SandboxUnavailable.
        """
        with self._turn:
            self._ready()
            return dict(self._layers)

    def extract(
        self,
        document: Iterable[bytes],
        extension: str,
        *,
        password: str = "",
        progress: Told = lambda done, total: None,
        seconds: float = RECOGNISING_ALL,
        memory: int = MEMORY_BYTES,
        cpu: int = CPU_SECONDS,
        wall: float = WALL_SECONDS,
    ) -> Extraction:
        """Read a document given in pieces. Raises Unreadable (the file's fault) or SandboxUnavailable (ours).

        The pieces go to sealed memory that has no name and no file: nothing is written to a disk. Pages that are pictures
        are recognised one by one, for `seconds` in all. `progress` hears now and then how many pages are done, of how many,
        and before each picture; what it raises ends it.
        The zygote hears the password: with one, use a sandbox of its own and close it.
        """
        secret = [password] if password else []
        request = {"task": READ, "about": [extension[:16], *secret], "memory": memory, "cpu": cpu, "wall": wall}
        with _sealed(document) as source:
            extraction = self._answered(source, request, answers.MAX_BYTES, answers.unpack_pages, progress)
            if extraction.numbers(Origin.SCANNED):
                extraction = self._recognised(source, extraction, secret, progress, seconds)
        return extraction

    def draw(self, document: Iterable[bytes], page: int) -> Picture:
        """A picture of a page, counted from 1. Takes the document and raises as `extract` does."""
        limits = {"memory": DRAWING_BYTES, "cpu": DRAWING_CPU, "wall": DRAWING_WALL}
        with _sealed(document) as source:
            request = {"task": DRAW, "about": [page], **limits}
            return self._answered(source, request, pictures.MAX_BYTES, answers.unpack_picture)

    def unpack(self, document: Iterable[bytes], take: Callable[[Member], object]) -> None:
        """Give each file of an archive to `take` in the archive's order, its bytes in pieces, a few of which are in memory.

        Takes the document and raises as `extract` does; what `take` raises ends it.
        """
        limits = {"memory": MEMORY_BYTES, "cpu": UNPACKING_CPU, "wall": UNPACKING_WALL}
        request = {"task": UNPACK, "about": [], **limits}

        def drain(read: int) -> Unreadable | None:
            try:
                members.Reader(lambda: _spoken(read)).each(take)
            except members.Declined as declined:
                return declined.why
            except members.Cut:
                return Unreadable(Reason.CRASHED, "answer")  # unless how it ended says otherwise
            except answers.Malformed:
                raise Unreadable(Reason.CRASHED, "answer") from None
            return None

        with _sealed(document) as source, self._turn:
            self._ready()
            unreadable, ended = self._ask(source, request, drain)
            self._count(ended)
        _refuse_unless_ended_well(request, ended)
        if unreadable:
            raise unreadable

    def _recognised(self, source: int, extraction: Extraction, secret: list[str], progress: Told, seconds: float) -> Extraction:
        """With the words of its pictures: a child for each, so that one which cannot be read costs no other."""
        can = bool(self.layers()["languages"])
        until = time.monotonic() + seconds
        room = answers.MAX_BYTES
        why: Reason | None = None
        pages: list[Page] = []
        done, total = len(extraction.pages) - len(extraction.numbers(Origin.SCANNED)), len(extraction.pages)
        for page in extraction.pages:
            if page.origin is Origin.SCANNED:
                progress(done, total)
                done += 1
                try:
                    if not can or time.monotonic() > until:
                        raise Unreadable(Reason.TIMEOUT if can else Reason.NO_OCR)
                    page = self._with_words(source, page, secret)
                except Unreadable as unreadable:
                    why = unreadable.reason
                    page = replace(page, origin=Origin.FAILED)
            room -= len(page.text)
            if room < 0:
                raise Unreadable(Reason.TOO_LARGE, "words", extraction.format)
            pages.append(page)
        read = Extraction(extraction.format, tuple(pages), why)
        if not read.has_text:
            raise Unreadable(why or Reason.NO_TEXT, "picture", extraction.format)
        return read

    def _with_words(self, source: int, page: Page, secret: list[str]) -> Page:
        limits = {"memory": MEMORY_BYTES, "cpu": RECOGNISING_CPU, "wall": RECOGNISING_WALL}
        request = {"task": RECOGNISE, "about": [page.number, *secret], **limits}
        try:
            words = self._answered(source, request, answers.MAX_WORDS, answers.unpack_words)
        except Unreadable as unreadable:
            if unreadable.reason is not Reason.INTERRUPTED:
                raise
            words = self._answered(source, request, answers.MAX_WORDS, answers.unpack_words)  # it was not the page
        if len(words) > len(page.text):  # a scanned page can bear a stamp in letters, which is in the picture, too
            return replace(page, text=words, origin=Origin.RECOGNISED)
        return replace(page, origin=Origin.EXTRACTED if page.text else Origin.EMPTY)

    def _answered(
        self,
        source: int,
        request: dict[str, Any],
        most: int,
        unpack: Callable[[bytes], Answer],
        progress: Told = lambda done, total: None,
    ) -> Answer:
        def drain(read: int) -> bytes:
            return _drain(read, time.monotonic() + request["wall"] + 5, most, progress)

        with self._turn:
            self._ready()
            answer, ended = self._ask(source, request, drain)
            self._count(ended)
        if ended["status"] != 0 and not ended["late"] and len(answer) > most:
            raise Unreadable(Reason.TOO_LARGE, "answer")
        _refuse_unless_ended_well(request, ended)
        try:
            return unpack(answer)
        except answers.Malformed:
            self.close()
            raise Unreadable(Reason.CRASHED, "answer") from None

    def _count(self, ended: dict[str, Any]) -> None:
        self._served += 1
        self.peak_kib = max(self.peak_kib, ended["peak_kib"])
        if ended["status"] != 0 or self._served >= DOCUMENTS_PER_ZYGOTE:
            self._stop()

    def close(self) -> None:
        with self._turn:
            self._stop()

    def _ready(self) -> None:
        if self._owner != os.getpid():  # after a fork the zygote belongs to the parent: leave it alone, start our own
            self._process = self._control = None
            self._owner = os.getpid()
        if self._process is None or self._process.poll() is not None:
            self._stop()
            self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _START, self._root, str(theirs.fileno()), self._readers, self._languages],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8", "OMP_THREAD_LIMIT": "1"},  # no threads: text recognition would start some
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            why = f"{error.filename}: {error.strerror}"
            raise SandboxUnavailable(f"the extraction sandbox did not start ({why}); documents are not parsed") from None
        finally:
            theirs.close()
        ours.settimeout(START_SECONDS)
        self._control = ours
        self._served = 0
        try:
            self._layers = json.loads(ours.recv(4096) or b"null") or {"failed": "it stopped at once"}
        except (TimeoutError, OSError):
            self._layers = {"failed": "it did not answer"}
        missing = [layer for layer in REQUIRED if not self._layers.get(layer)]
        if missing:
            self._stop()
            why = self._layers.get("failed") or f"missing: {', '.join(missing)}"
            raise SandboxUnavailable(f"the extraction sandbox did not start ({why}); documents are not parsed")
        trial = {"task": PROBE, "memory": MEMORY_BYTES, "cpu": 5, "wall": START_SECONDS}
        with _sealed([b"x"]) as source:
            until = time.monotonic() + START_SECONDS
            probe, ended = self._ask(source, trial, lambda read: _drain(read, until, answers.MAX_BYTES))
        if ended["status"] != 0 or probe != b"locked":  # the lock-down is tried, not believed
            self._stop()
            said = probe[:60].decode("ascii", "replace")
            raise SandboxUnavailable(f"the extraction sandbox does not hold ({said}); documents are not parsed")

    def _ask(self, source: int, request: dict[str, Any], drain: Callable[[int], Answer]) -> tuple[Answer, dict[str, Any]]:
        """What `drain` makes of the descriptor that a child answers through, and how the child ended."""
        assert self._control is not None
        read, write = os.pipe()
        ended = None
        try:
            with suppress(ConnectionError):
                socket.send_fds(self._control, [json.dumps(request).encode()], [source, write])
            os.close(write)
            write = -1
            answer = drain(read)
            os.close(read)  # a child that says too much gets EPIPE
            read = -1
            with suppress(TimeoutError, ConnectionError):  # it has said everything, and is at its end
                self._control.settimeout(min(request["wall"], RECOGNISING_WALL) + 10)
                ended = json.loads(self._control.recv(4096) or b"null")
        except BaseException:  # of whoever hears of the progress: a child still reads, and would answer the next question
            self._stop()
            raise
        finally:
            for handle in (read, write):
                if handle >= 0:
                    os.close(handle)
        if ended is None:
            self._stop()
            raise SandboxUnavailable("the extraction sandbox stopped")
        return answer, ended

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def _sealed(document: Iterable[bytes]) -> Iterator[int]:
    """A descriptor of memory without a name that holds the document and can no longer be changed."""
    source = os.memfd_create("document", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(source, "wb", closefd=False) as file:
            file.writelines(document)
        fcntl.fcntl(
            source,
            fcntl.F_ADD_SEALS,
            fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE,
        )
        yield source
    finally:
        os.close(source)


def _refuse_unless_ended_well(request: dict[str, Any], ended: dict[str, Any]) -> None:
    """Raises Unreadable, as the child was ended."""
    if ended["late"]:
        raise Unreadable(Reason.TIMEOUT, "wall")
    if ended["status"] != 0:
        ended_by = signal.Signals(-ended["status"]) if ended["status"] < 0 else None
        if ended_by is signal.SIGKILL and ended["cpu"] < _NEARLY * request["cpu"]:  # by the system, short of memory
            raise Unreadable(Reason.INTERRUPTED, ended_by.name)
        reason = _REASON_BY_SIGNAL.get(ended_by, Reason.CRASHED) if ended_by else Reason.CRASHED
        raise Unreadable(reason, ended_by.name if ended_by else "exit")


def _spoken(read: int) -> bytes:
    """What a child says next; nothing once it has ended. Raises Unreadable when it is silent for too long."""
    if not select.select([read], [], [], UNPACKING_SILENCE)[0]:
        raise Unreadable(Reason.TIMEOUT, "silence")
    return os.read(read, 1 << 16)


def _drain(read: int, deadline: float, most: int, progress: Told = lambda done, total: None) -> bytes:
    answer = bytearray()
    come = 0
    while come <= most:
        if not select.select([read], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        piece = os.read(read, 1 << 16)
        if not piece:
            break
        answer += piece
        come += len(piece)
        while told := answers.take_told(answer):
            progress(*told)
    return bytes(answer)
