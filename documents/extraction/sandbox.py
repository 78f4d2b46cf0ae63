"""The caller's side of the sandbox: a document goes in; its text, a picture of a page, or a reason comes out.

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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from documents.extraction import answers, pictures
from documents.extraction.pages import Extraction
from documents.extraction.pictures import Picture
from documents.extraction.zygote import DRAW, PROBE, READ
from documents.reasons import Reason, Unreadable

REQUIRED = ("limits", "no_new_privs", "seccomp")  # without these nothing is parsed; the other layers are depth
MEMORY_BYTES = 1 << 30
CPU_SECONDS = 30
WALL_SECONDS = 90.0
DOCUMENTS_PER_ZYGOTE = 200  # children share its address layout, so it is replaced now and then, and after every crash
START_SECONDS = 60
# For one picture, somebody waits: less of everything. A usual page takes 10 ms.
DRAWING_BYTES, DRAWING_CPU, DRAWING_WALL = 512 << 20, 5, 10.0
FORMATS = "documents.extraction.formats"

_ROOT = str(Path(__file__).resolve().parents[2])
# -I: no environment variable, user site or working directory reaches the interpreter's path.
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from documents.extraction import zygote;"
    " zygote.main(int(sys.argv[2]), sys.argv[3])"
)

_REASON_BY_SIGNAL = {
    signal.SIGXCPU: Reason.TIMEOUT,
    signal.SIGKILL: Reason.TIMEOUT,  # the hard CPU limit ends with SIGKILL
    signal.SIGABRT: Reason.MEMORY,  # native code that gets no memory aborts
}


Answer = TypeVar("Answer")


class SandboxUnavailable(Exception):
    """Documents cannot be isolated here: a fault of the installation, not of a file. No document is parsed."""


class Sandbox:
    """One zygote, started when first needed and replaced when worn out. Threads may share it: they take turns."""

    def __init__(self, readers: str = FORMATS, *, root: str = _ROOT) -> None:
        self._readers = readers
        self._root = root
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._served = 0
        self._owner = os.getpid()
        self._layers: dict[str, Any] = {}

    def layers(self) -> dict[str, Any]:
        """What holds here: limits, no_new_privs, seccomp, namespaces, landlock, account. Raises SandboxUnavailable."""
        with self._turn:
            self._ready()
            return dict(self._layers)

    def extract(
        self,
        document: Iterable[bytes],
        extension: str,
        *,
        memory: int = MEMORY_BYTES,
        cpu: int = CPU_SECONDS,
        wall: float = WALL_SECONDS,
    ) -> Extraction:
        """Read a document given in pieces. Raises Unreadable (the file's fault) or SandboxUnavailable (ours).

        The pieces go to sealed memory that has no name and no file: nothing is written to a disk.
        """
        request = {"task": READ, "about": extension[:16], "memory": memory, "cpu": cpu, "wall": wall}
        return self._answered(document, request, answers.MAX_BYTES, answers.unpack_pages)

    def draw(self, document: Iterable[bytes], page: int) -> Picture:
        """A picture of a page of a PDF, counted from 1. Takes the document and raises as `extract` does."""
        limits = {"memory": DRAWING_BYTES, "cpu": DRAWING_CPU, "wall": DRAWING_WALL}
        return self._answered(document, {"task": DRAW, "about": page, **limits}, pictures.MAX_BYTES, answers.unpack_picture)

    def _answered(
        self, document: Iterable[bytes], request: dict[str, Any], most: int, unpack: Callable[[bytes], Answer]
    ) -> Answer:
        with self._turn:
            self._ready()
            answer, ended = self._ask(document, request, most)
            self._served += 1
            if ended["status"] != 0 or self._served >= DOCUMENTS_PER_ZYGOTE:
                self._stop()
        if ended["late"]:
            raise Unreadable(Reason.TIMEOUT, "wall")
        if ended["status"] != 0:
            if len(answer) > most:
                raise Unreadable(Reason.TOO_LARGE, "answer")
            ended_by = signal.Signals(-ended["status"]) if ended["status"] < 0 else None
            reason = _REASON_BY_SIGNAL.get(ended_by, Reason.CRASHED) if ended_by else Reason.CRASHED
            raise Unreadable(reason, ended_by.name if ended_by else "exit")
        try:
            return unpack(answer)
        except answers.Malformed:
            self.close()
            raise Unreadable(Reason.CRASHED, "answer") from None

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
                [sys.executable, "-I", "-c", _START, self._root, str(theirs.fileno()), self._readers],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8"},
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
        probe, ended = self._ask([b"x"], trial, answers.MAX_BYTES)
        if ended["status"] != 0 or probe != b"locked":  # the lock-down is tried, not believed
            self._stop()
            said = probe[:60].decode("ascii", "replace")
            raise SandboxUnavailable(f"the extraction sandbox does not hold ({said}); documents are not parsed")

    def _ask(self, document: Iterable[bytes], request: dict[str, Any], most: int) -> tuple[bytes, dict[str, Any]]:
        assert self._control is not None
        source = os.memfd_create("document", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        read, write = os.pipe()
        try:
            with open(source, "wb", closefd=False) as file:
                file.writelines(document)
            fcntl.fcntl(
                source,
                fcntl.F_ADD_SEALS,
                fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE,
            )
            socket.send_fds(self._control, [json.dumps(request).encode()], [source, write])
            os.close(write)
            write = -1
            answer = _drain(read, time.monotonic() + request["wall"] + 5, most)
            os.close(read)  # a child that says too much gets EPIPE
            read = -1
            self._control.settimeout(request["wall"] + 10)
            ended = json.loads(self._control.recv(4096) or b"null")
        except (TimeoutError, ConnectionError):
            ended = None
        finally:
            for handle in (source, read, write):
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


def _drain(read: int, deadline: float, most: int) -> bytes:
    answer = bytearray()
    while len(answer) <= most:
        if not select.select([read], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        piece = os.read(read, 1 << 16)
        if not piece:
            break
        answer += piece
    return bytes(answer)
