"""The clean process that forks one locked-in child per document. It never reads a document and holds nothing worth stealing.

Started by `sandbox.py` as a fresh interpreter with an empty environment: forking from a process with keys would hand them on.
"""

import contextlib
import encodings
import importlib
import json
import mmap
import os
import pkgutil
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, NoReturn

from documents.extraction import answers, confinement, members, progress, recognition, seccomp
from documents.reasons import Reason, Unreadable

# What a child may be asked for: a function of the readers' module, and how its result is written down.
# A password may follow what they are asked about.
READ, DRAW, RECOGNISE = "read", "draw", "recognise"  # about an extension → Extraction; a page's number → Picture; → str
PACKED: dict[str, Callable[[Any], bytes]] = {
    READ: answers.pack_pages,
    DRAW: answers.pack_picture,
    RECOGNISE: answers.pack_words,
}
UNPACK = "unpack"  # about nothing → frames of `members`, written as they come
PROBE = "probe"  # or to try what it must not be able to do


def main(control_descriptor: int, readers: str, languages: str) -> None:
    """Serve requests until the caller goes away. `readers` names the module with the functions that may be asked for.

    `languages`: those in which text is to be recognised ("eng+deu"), none where it is empty.
    """
    control = socket.socket(fileno=control_descriptor)
    try:
        module = _load(readers)
        recognised = recognition.load(languages) if languages else ""
        if len(os.listdir("/proc/self/task")) != 1:
            raise OSError("a parser started a thread; forking would not be safe")
        program = seccomp.program()
        layers = _confine() | {"languages": recognised}
    except (seccomp.SeccompUnavailable, OSError, ImportError) as error:
        control.send(json.dumps({"failed": str(error)[:500]}).encode())
        return
    control.send(json.dumps(layers).encode())
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 4096, 2)
        if not message:
            return
        document, output = descriptors
        ended = _run(json.loads(message), document, output, control, program, module)
        control.send(json.dumps(ended).encode())


def _load(readers: str) -> ModuleType:
    module = importlib.import_module(readers)
    for codec in pkgutil.iter_modules(encodings.__path__):  # imported on first use otherwise, which the lock-down refuses
        if codec.name not in ("mbcs", "oem", "cp65001"):
            importlib.import_module(f"encodings.{codec.name}")
    return module


def _confine() -> dict[str, Any]:
    namespaces = confinement.enter_namespaces()
    confinement.refuse_inspection()
    if not confinement.refuse_new_privileges():
        raise OSError("PR_SET_NO_NEW_PRIVS refused")
    return {
        "limits": True,
        "no_new_privs": True,
        "seccomp": True,  # proven by the probe, in the first child
        "namespaces": namespaces,
        "landlock": confinement.landlock_everything(),
        "account": os.geteuid() != 0,
    }


def _run(
    request: dict[str, Any], document: int, output: int, control: socket.socket, program: bytes, readers: ModuleType
) -> dict[str, Any]:
    child = os.fork()
    if child == 0:
        _child(request, document, output, program, readers)
    os.close(document)
    os.close(output)
    handle = os.pidfd_open(child)
    # The caller says nothing now: news from it means that it is gone. PR_SET_PDEATHSIG would not do here, as it follows the
    # caller's thread, not its process (prctl(2)).
    watched: list[Any] = [handle, control]
    news = select.select(watched, [], [], request["wall"])[0]
    if handle not in news:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    os.close(handle)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "late": not news,
        "peak_kib": usage.ru_maxrss,
        "cpu": usage.ru_utime + usage.ru_stime,
    }


def _child(request: dict[str, Any], document: int, output: int, program: bytes, readers: ModuleType) -> NoReturn:
    code = 70
    try:
        os.dup2(document, 0)
        os.dup2(output, 1)
        confinement.close_from(3)
        confinement.die_with_parent(signal.SIGKILL)
        size = os.fstat(0).st_size
        view = mmap.mmap(0, size, mmap.MAP_PRIVATE, mmap.PROT_READ) if size else b""
        confinement.limit_resources(request["memory"] + 2 * size, request["cpu"])  # the document and a copy of it
        seccomp.install(program)
        # From here on nothing but computing.
        code = 1
        task = request["task"]
        if task == READ:
            progress.hear(lambda done, total: os.write(1, answers.pack_told(done, total)))
        for body in _said(task, bytes(view), request.get("about", []), readers):
            while body:
                body = body[os.write(1, body) :]
        code = 0
    finally:
        os._exit(code)


def _said(task: str, document: bytes, about: list[Any], readers: ModuleType) -> Iterable[bytes]:
    if task == PROBE:
        return [_probe()]
    if task == UNPACK:
        return _frames(readers.unpack(document))
    return [_answer(document, about, getattr(readers, task), PACKED[task])]


def _answer(document: bytes, about: list[Any], read: Callable[..., object], packed: Callable[[Any], bytes]) -> bytes:
    try:
        answer = packed(read(document, *about))
    except Exception as error:
        return answers.pack_refusal(*_refusal(error))
    return answer if len(answer) <= answers.MAX_BYTES else answers.pack_refusal(Reason.TOO_LARGE)


def _frames(unpacked: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from unpacked
    except Exception as error:
        yield members.pack_refusal(*_refusal(error))


def _refusal(error: Exception) -> tuple[Reason, str, str]:
    """The reason that what a reader raises comes down to, a detail for the log, and the format as far as it is known."""
    match error:
        case Unreadable():
            return error.reason, error.detail, error.format
        case MemoryError():
            return Reason.MEMORY, "", ""
        case RecursionError():
            return Reason.TOO_COMPLEX, "RecursionError", ""
        case ImportError():  # a reader that imports late: ours to mend, not the file's fault
            return Reason.INTERNAL, type(error).__name__, ""
        case _:  # whatever a parser raises on malformed bytes
            return Reason.DAMAGED, type(error).__name__, ""


def _probe() -> bytes:
    """Each of these must fail. Sockets and new programs end the process instead, so they are tried by the tests."""
    attempts: dict[str, Callable[[], object]] = {
        "open": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "list": lambda: os.listdir("/"),
        "write": lambda: os.open("/cloister-probe", os.O_WRONLY | os.O_CREAT),
        "execute": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
        "fork": os.fork,
    }
    for name, attempt in attempts.items():
        with contextlib.suppress(OSError):
            attempt()
            return f"{name} is possible".encode()
    return b"locked"


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
