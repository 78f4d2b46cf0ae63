"""A large file goes through the web server and the worker in constant memory; what is too large to be read says so.

CLOISTER_LARGE_UPLOAD=2000000000 sends as many bytes; without it they are few more than a document may have that is read.
"""

import http.client
import json
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from documents.extraction.sandbox import LARGEST_BYTES
from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place
from tests.running import Running

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("all_alive")]

BYTES = int(os.environ.get("CLOISTER_LARGE_UPLOAD", LARGEST_BYTES + 10_000_000))
BOUND = 300_000_000 if BYTES >= 2_000_000_000 else 64_000_000  # above idle, of web and worker each
LINE = b"The heron stands in the shallow water and waits for the frogs, as it did the year before.\n"
PIECE = LINE * (1_000_000 // len(LINE))


class Resident:
    """Peaks of the memory of a process and all its children, above what they held at first, in bytes by part.

    gunicorn serves in a child, and the worker reads documents in children of a zygote: those are `sandbox`, and have a limit
    of their own.
    """

    def __init__(self, pids: dict[str, int]) -> None:
        self._roots, self._ended = pids, threading.Event()
        for _, process in self._processes():
            (process / "clear_refs").write_text("5")  # peaks begin anew (proc(5))
        self.idle = self._sums("VmRSS")
        self.peaks = Counter(self.idle)
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Resident":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever became of the test: a thread that goes on keeps the process from ending."""
        self._ended.set()
        self._thread.join()

    @property
    def above_idle(self) -> dict[str, int]:
        return {part: peak - self.idle[part] for part, peak in self.peaks.items()}

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            for part, size in self._sums("VmHWM").items():
                self.peaks[part] = max(self.peaks[part], size)

    def _sums(self, name: str) -> Counter[str]:
        sums: Counter[str] = Counter()
        for part, process in self._processes():
            with suppress(OSError):
                sums[part] += sum(
                    int(line.split()[1]) * 1024
                    for line in (process / "status").read_text().splitlines()
                    if line.startswith(f"{name}:")
                )
        return sums

    def _processes(self) -> Iterator[tuple[str, Path]]:
        waiting = list(self._roots.items())
        while waiting:
            part, pid = waiting.pop()
            process = Path(f"/proc/{pid}")
            with suppress(OSError):
                part = "sandbox" if b"zygote" in (process / "cmdline").read_bytes() else part
                children = " ".join(each.read_text() for each in process.glob("task/*/children"))
                waiting += [(part, int(child)) for child in children.split()]
                yield part, process


def _part(size: int) -> Iterator[bytes]:
    while size:
        yield PIECE[:size]
        size -= min(size, len(PIECE))


def _send_in_pieces(place: Place, size: int) -> tuple[int, str]:
    """As a browser's script sends a large file, one piece after the other on one connection."""
    cookies = "; ".join(f"{cookie.name}={cookie.value or ''}" for cookie in place.owner.cookies)
    connection = http.client.HTTPConnection(urlsplit(place.running.url).netloc, timeout=600)

    def ask(method: str, path: str, body: Iterator[bytes], length: int, kind: str) -> tuple[int, str]:
        headers = {"Content-Type": kind, "Content-Length": str(length), "Cookie": cookies, "Origin": place.running.url}
        connection.request(method, path, body, {**headers, "X-CSRFToken": place.owner.token})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    form = urlencode({"collection": place.collection("Large"), "name": "large.txt", "size": size, "modified": "1"}).encode()
    urlencoded = "application/x-www-form-urlencoded"
    status, said = ask("POST", f"{place.path}documents/arriving/", iter([form]), len(form), urlencoded)
    while status == 200 and (at := json.loads(said))["offset"] < size:
        length = min(at["piece_bytes"], size - at["offset"])
        url = f"{at['url']}?offset={at['offset']}"
        status, said = ask("PUT", url, _part(length), length, "application/octet-stream")
    return ask("POST", at["complete"], iter([]), 0, urlencoded) if status == 200 else (status, said)


def _send(place: Place, size: int) -> tuple[int, str]:
    """The upload form with one text of `size` bytes, made while it is sent."""
    boundary = secrets.token_hex(16)
    cookies = {cookie.name: cookie.value or "" for cookie in place.owner.cookies}
    collection = place.collection("Large")
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("csrfmiddlewaretoken", place.owner.token), ("collection", collection))
    )
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="large.txt"\r\n\r\n'
    tail = f"\r\n--{boundary}--\r\n"

    def body() -> Iterator[bytes]:
        yield head.encode()
        yield from _part(size)
        yield tail.encode()

    connection = http.client.HTTPConnection(urlsplit(place.running.url).netloc, timeout=600)
    connection.request(
        "POST",
        f"{place.path}documents/upload/",
        body(),
        {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + size + len(tail)),
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
            "Accept": "application/json",
            "Origin": place.running.url,
        },
    )
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@pytest.mark.parametrize("send", [_send, _send_in_pieces])
def test_a_large_file_is_taken_in_constant_memory(
    running: Running, make_place: MakePlace, capsys: pytest.CaptureFixture[str], send: Callable[[Place, int], tuple[int, str]]
) -> None:
    place = make_place("Heron")
    place.wait_until_ready(place.upload(("small.txt", LINE)))  # what a process loads with its first file is not the file's
    with Resident({name: running.processes[name].pid for name in ("web", "worker")}) as resident:
        status, said = send(place, BYTES)
        assert status == 200, said[:500]
        rows = place.query("SELECT id, size FROM documents_document ORDER BY size DESC LIMIT 1")
        assert rows[0][1] == BYTES
        progress = place.wait_until_final([rows[0][0]])[rows[0][0]]
        assert (progress.state, progress.reason) == ("failed", "too_large")  # kept and told why
    found = resident.above_idle
    assert min(resident.idle["web"], resident.idle["worker"]) > 100_000_000, "those that work are not among the measured"
    with capsys.disabled():
        print(
            f"\n{BYTES:,} bytes by {send.__name__}; above idle: "
            + ", ".join(f"{name} {size:,}" for name, size in found.items()),
            resident.idle,
        )
    assert max(found["web"], found["worker"]) < BOUND
