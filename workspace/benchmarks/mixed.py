"""A batch of files of every kind, good, odd and hostile, through a real worker: what becomes of each, and at what cost.

Against the least that the same batch can cost: reading each file in the sandbox and embedding what was read.
"""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db.models import F, Max, Min, QuerySet, Sum

from documents import storage
from documents.extraction.sandbox import Sandbox
from documents.ingestion import HEADED, chunker
from documents.models import Document, Stage
from documents.reasons import Unreadable
from documents.receiving import collection_named, receive
from search.embeddings import embedder
from tenants.context import workspace
from tenants.errors import Refused
from tenants.provisioning import create_workspace
from workspace.benchmarks.ingestion import refuse_beside_a_worker
from workspace.benchmarks.measuring import Comparison, Setting
from workspace.benchmarks.mixed_files import File, files
from workspace.embedded.account import prepare_child
from workspace.installation import CHECKOUT

SIDES = {
    "product": "one worker process, from the first document that is begun to the last that has ended",
    "reference": "each file read in a sandbox and what was read embedded, in this process, one after the other",
}
FILES = 1000
LOOK_SECONDS = 0.05  # at the memory of readers, which live for milliseconds
LOOKS_BETWEEN_COUNTS = 40
LOG_SHOWN = 2000  # bytes
STUCK_SECONDS = 600.0  # without any document ending: longer than the limits of a reader


def run(say: Callable[[str], None], *, count: int = FILES) -> Comparison:
    """Raises Refused when a document does not end."""
    refuse_beside_a_worker()
    batch = list(files(count))
    tenant, _ = create_workspace("Benchmark", f"bench-{secrets.token_hex(6)}")
    with workspace(tenant):
        kinds = {_queued(file): kind for kind, file in batch}
        say(f"{len(kinds)} files are queued.")
        with tempfile.TemporaryFile() as log, _worker(log) as worker:
            seconds, peaks = _until_ended(Document.objects.filter(pk__in=kinds), worker, log, say)
            alive = worker.poll() is None
        figures = {**peaks, **_what_became(kinds), "time_share": _time_share(seconds)}
    say(f"{len(kinds) / seconds:.2f} files/s: {figures}")
    bare, peak = _bare([file for _, file in batch])
    figures["reader_peak_mb"] = max(round(peak / 1024), peaks["reader_peak_mb"])
    detail = {"files": len(kinds), "worker_alive": alive, **figures}
    setting = Setting(f"{len(kinds)} files", len(kinds) / seconds, len(kinds) / bare, "higher", detail)
    return Comparison("mixed", "files/s", SIDES, [setting])


def _queued(file: File) -> UUID:
    name, content = file
    return receive(storage.store(uuid4(), [content]), name, collection_named("Benchmark")).id


@contextmanager
def _worker(log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, str(CHECKOUT / "manage.py"), "worker"],
        cwd=CHECKOUT,
        stdout=log,
        stderr=log,
        preexec_fn=prepare_child(None, signal.SIGTERM),
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _end_of(log: IO[bytes]) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_SHOWN))
    return log.read().decode(errors="replace")


def _until_ended(
    documents: QuerySet[Document], worker: subprocess.Popen[bytes], log: IO[bytes], say: Callable[[str], None]
) -> tuple[float, dict[str, int]]:
    """Seconds from the first that was begun to the last that ended, and the most memory that worker and readers held."""
    count = documents.count()
    peaks = {"worker_peak_mb": 0, "reader_peak_mb": 0}
    ended, moved, looks = 0, time.monotonic(), 0
    while ended < count:
        looks += 1
        for name, pids in (("worker_peak_mb", [worker.pid]), ("reader_peak_mb", _grandchildren(worker.pid))):
            peaks[name] = max(peaks[name], *(_peak_mb(pid) for pid in pids), 0)
        if looks % LOOKS_BETWEEN_COUNTS == 0 and (now := documents.exclude(state__in=Document.UNFINISHED).count()) > ended:
            if now // 100 > ended // 100:
                say(f"{now} of {count} have ended.")
            ended, moved = now, time.monotonic()
        if worker.poll() is not None:
            said = f"The worker ended with code {worker.returncode}, when {ended} of {count} documents had ended."
            raise Refused(f"{said} The last it said:\n{_end_of(log)}")
        if time.monotonic() - moved > STUCK_SECONDS:
            raise Refused(f"{count - ended} of {count} documents do not end.")
        time.sleep(LOOK_SECONDS)
    took = documents.aggregate(seconds=Max("finished_at") - Min("started_at"))["seconds"]
    return took.total_seconds(), peaks


def _what_became(kinds: dict[UUID, str]) -> dict[str, Any]:
    documents = Document.objects.filter(pk__in=kinds)
    rows = list(documents.values_list("id", "state", "reason"))
    return {
        "states": dict(Counter(state for _, state, _ in rows)),
        "by_kind": {
            kind: dict(Counter(state for pk, state, _ in rows if kinds[pk] == kind)) for kind in sorted(set(kinds.values()))
        },
        "reasons": dict(Counter(reason for _, _, reason in rows if reason)),
        "passages": documents.aggregate(sum=Sum("chunks_done"))["sum"],
    }


def _time_share(seconds: float) -> dict[str, float]:
    """What part of the time files were read, and passages embedded and stored; the rest is between documents."""
    took = Stage.objects.order_by().values("name").annotate(sum=Sum(F("ended_at") - F("started_at")))
    shares = {row["name"]: round(row["sum"].total_seconds() / seconds, 3) for row in took if row["sum"]}
    return shares | {"between": round(max(0.0, 1 - sum(shares.values())), 3)}


def _bare(batch: list[File]) -> tuple[float, int]:
    """Seconds, and the most KiB a reader held."""
    model, cutter = embedder(), chunker()
    sandbox = Sandbox(languages=settings.OCR_LANGUAGES)
    sandbox.layers()
    began = time.perf_counter()
    try:
        for name, content in batch:
            with suppress(Unreadable):
                read = sandbox.extract([content], name.rpartition(".")[2])
                headed = read.format in HEADED
                texts = [piece.text for page in read.pages for piece in cutter.pieces(page.text, markdown=headed)]
                if texts:
                    model.embed(texts)
        return time.perf_counter() - began, sandbox.peak_kib
    finally:
        sandbox.close()


def _grandchildren(pid: int) -> list[int]:
    """Of the worker: the readers, which its sandbox forks."""
    return [reader for zygote in _children(pid) for reader in _children(zygote)]


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _peak_mb(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    return 0
