"""A reader for the sandbox that does what a hostile document would make a broken parser do. Loaded by the zygote alone."""

import errno
import os
import signal
import socket
import sys
import threading

from documents.extraction import answers
from documents.extraction.pages import Extraction, Origin, Page
from documents.extraction.pictures import GREY, Picture


def read(document: bytes, extension: str) -> Extraction:
    """Do what the document says ("open /etc/passwd") and answer with what came of it."""
    verb, _, rest = document.decode().partition(" ")
    if verb == "scanned":  # three pages that are pictures
        return Extraction("pdf", tuple(Page(number, "", "", Origin.SCANNED) for number in (1, 2, 3)))
    try:
        said = _ACTIONS[verb](rest)
    except OSError as error:
        said = f"refused {error.errno}"
    return Extraction("text", (Page(1, "", str(said)),))


def draw(document: bytes, page: int) -> Picture:
    """The same, asked for a picture: one pixel, as bright as the number of the refusal."""
    said = read(document, "").pages[0].text
    return Picture(1, 1, GREY, bytes([int(said.removeprefix("refused "))]))


def recognise(document: bytes, page: int) -> str:
    """The words of the page the document names; on any other page it crashes."""
    return "words" if document.decode().endswith(str(page)) else _crash("")


def _open(path: str) -> str:
    with open(path, "rb") as file:
        return f"read {len(file.read())}"


def _socket(family: str) -> str:
    socket.socket(getattr(socket, family), socket.SOCK_STREAM)
    return "connected"


def _thread(_: str) -> str:
    try:
        threading.Thread(target=lambda: None).start()
    except RuntimeError:
        return "refused"
    return "started"


def _raw(answer: str) -> str:
    body = eval(answer)  # the test chooses the bytes
    while body:
        body = body[os.write(1, body) :]
    os._exit(0)


def _tell(rest: str) -> str:
    """Word of each "done/total", as a reader that takes long gives it."""
    for word in rest.split():
        done, _, total = word.partition("/")
        os.write(1, answers.pack_told(int(done), int(total)))
    return "told"


def _loop(_: str) -> str:
    while True:
        pass


def _crash(_: str) -> str:
    import ctypes

    ctypes.string_at(0)
    return "alive"


def _descriptors(_: str) -> str:
    found = []
    for number in range(8):
        try:
            os.lseek(number, 0, os.SEEK_CUR)
        except OSError as error:
            if error.errno == errno.EBADF:
                continue
        found.append(number)
    return f"{found} {sorted(os.environ)}"


_ACTIONS = {
    "open": _open,
    "list": lambda path: os.listdir(path),
    "write": lambda path: os.open(path, os.O_WRONLY | os.O_CREAT),
    "socket": _socket,
    "execute": lambda path: os.execv(path, [path]),
    "fork": lambda _: os.fork(),
    "kill": lambda pid: os.kill(int(pid), 9),
    "thread": _thread,
    "memory": lambda count: len(bytearray(int(count))),
    "tell": _tell,
    "tell_and_loop": lambda rest: _loop(_tell(rest)),
    "loop": _loop,
    "ignore_and_loop": lambda rest: _loop(str(signal.signal(signal.SIGXCPU, signal.SIG_IGN))),
    "crash": _crash,
    "raw": _raw,
    "flood": lambda _: "x" * (answers.MAX_BYTES + 1),
    "descriptors": _descriptors,
    "modules": lambda _: str("django" in sys.modules),
}
