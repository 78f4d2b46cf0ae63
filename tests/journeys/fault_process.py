"""Workers, and whoever puts files in, as processes that stop where a test wants to strike. Run by tests.journeys.fault_place.

python -m tests.journeys.fault_process BUS: a clean process with everything imported, which forks one process for each line
of JSON it reads, and answers with its id. A process that passes a stage whose name is a file in BUS makes that file
"reached" and waits until it is gone. The product is not changed for it: its own functions are wrapped here.
"""

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

import django

BUS = Path(sys.argv[1])
STAGES = ("receiving", "queued", "reading", "recognising", "read", "embedding", "publishing", "unlocking", "unpacking")
BATCH = 2  # passages: what has three is embedded in two transactions
SECONDS_BETWEEN_SWEEPS = 1
WAITS = (0.1, 0.2)  # seconds until what can heal is tried again
SLOWEST_WAKING = 16  # RQ waits 15 s less
PIPE = 4096  # bytes: the least there is


def stop_at(stage: str) -> None:
    try:
        (BUS / stage).rename(BUS / "reached")
    except FileNotFoundError:
        return
    while (BUS / "reached").exists():
        time.sleep(0.003)


def nothing(*_: Any, **__: Any) -> None: ...


def wrap(owner: Any, name: str, *, before: Callable[..., None] = nothing, after: Callable[..., None] = nothing) -> None:
    original = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        before(*args, **kwargs)
        result = original(*args, **kwargs)
        after(*args, **kwargs)
        return result

    setattr(owner, name, wrapper)


def stop_everywhere() -> None:
    from documents import ingestion, ledger, quotas, storage, unpacking
    from documents.extraction import sandbox
    from documents.extraction.zygote import READ, RECOGNISE
    from documents.models import Document
    from search import indexing

    def last_batch(document_id: UUID, *_: Any) -> None:
        """Before the commit of the last one: what came before it is stored."""
        document = Document.objects.get(pk=document_id)
        if document.chunks_done == document.chunks_total:
            stop_at("embedding")

    def another_file(*_: Any, archive: UUID, **__: Any) -> None:
        """It is received, and its reader still has more than the pipe holds."""
        if Document.objects.filter(archive=archive).count() == 2:
            stop_at("unpacking")

    wrap(quotas, "reserve", before=lambda *_: stop_at("receiving"))
    wrap(ledger, "begin", before=lambda *_: stop_at("queued"))
    wrap(ledger, "planned", before=lambda *_, **__: stop_at("read"))
    wrap(ledger, "unlocked", before=lambda *_: stop_at("unlocking"))
    wrap(unpacking, "receive", after=another_file)
    wrap(indexing, "add", after=last_batch)
    wrap(indexing, "publish", after=lambda *_: stop_at("publishing"))

    asked, drained = sandbox.Sandbox._ask, sandbox._drain
    tasks = {READ: "reading", RECOGNISE: "recognising"}
    task = [""]

    def ask(self: Any, source: int, request: dict[str, Any], *rest: Any) -> Any:
        task[0] = tasks.get(request["task"], "")
        return asked(self, source, request, *rest)

    class FullPipes:
        """`os`, but the pipe that a child is to answer through is full: however quick it is, it is there when we strike."""

        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def pipe(self) -> tuple[int, int]:
            read, write = os.pipe()
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE)
            if task[0]:
                os.write(write, bytes(PIPE))
            return read, write

    def drain(read: int, *rest: Any, **more: Any) -> Any:
        if task[0]:
            stop_at(task[0])
            os.read(read, PIPE)
        return drained(read, *rest, **more)

    sandbox.Sandbox._ask, sandbox._drain = ask, drain  # type: ignore[method-assign]
    sandbox.os = FullPipes()  # type: ignore[assignment]
    ingestion.BATCH = BATCH
    storage.KEPT_FREE_BYTES = 0  # the disk is a small one
    ledger.WAITS = WAITS  # type: ignore[assignment]


def preload() -> None:
    from documents import ingestion, ledger, unlocking  # noqa: F401
    from search import embeddings, indexing  # noqa: F401
    from tenants import sweeping, worker  # noqa: F401
    from tests.self_test import registries_without
    from workspace import middleware  # noqa: F401

    for name, others in registries_without():  # a canary would be stopped in the place of the test's document
        setattr(sweeping, name, others)


# ---------------------------------------------------------------- what a forked process does


def work(**_: Any) -> None:
    from django.core.management import call_command

    from documents import ingestion
    from tenants import worker
    from workspace.management.commands import worker as command

    def left(*_: Any) -> None:
        (BUS / "left").touch()

    original = ingestion.ingest

    def ingest(document_id: UUID) -> bool:
        try:
            return original(document_id)
        finally:
            left()

    ingestion.ingest = ingest
    command.new_worker = lambda **_: worker.new_worker(  # type: ignore[assignment]
        worker_ttl=SLOWEST_WAKING, maintenance_interval=SECONDS_BETWEEN_SWEEPS
    )
    call_command("worker")


def create(**_: Any) -> dict[str, str]:
    from tenants.provisioning import create_workspace

    tenant, _made = create_workspace("Faults", "faults")
    return {"id": str(tenant.id), "schema": tenant.schema_name}


def receive(ids: list[str], forms: list[str], **_: Any) -> None:
    from documents import storage
    from documents.receiving import collection_named
    from documents.receiving import receive as received

    with _inside():
        collection = collection_named("Faults")
        for pk, form in zip(ids, forms, strict=True):
            specimen = SPECIMENS[form]
            name = f"{pk}-{specimen.name}"  # of its own: no two are versions of one document
            received(storage.store(UUID(pk), [specimen.content]), name, collection)


def unlock(pk: str, **_: Any) -> None:
    from documents.models import Document
    from documents.unlocking import unlock as unlocked
    from tests.documents.files import PASSWORD

    with _inside():
        unlocked(Document.objects.get(pk=pk), PASSWORD)


def look(ids: list[str], **_: Any) -> dict[str, dict[str, Any]]:
    """What is stored of each: texts as digests, for the answer goes through a file."""
    from hashlib import sha256

    from documents.models import Document, Page
    from search.models import Chunk, IndexEntry, Terms

    def digest(text: str) -> str:
        return sha256(text.encode()).hexdigest()[:16]

    def of(document: Document) -> dict[str, Any]:
        mine = {"document_id": document.id}
        return {
            "state": document.state,
            "reason": document.reason,
            "pages": [(page.number, page.origin, digest(page.text)) for page in Page.objects.filter(**mine)],
            "passages": [
                (chunk.sequence, chunk.page, chunk.start, chunk.end, digest(chunk.text))
                for chunk in Chunk.objects.filter(**mine).order_by("sequence", "id")
            ],
            "entries": list(
                IndexEntry.objects.filter(**mine, chunk__document_id=document.id)
                .order_by("chunk__sequence")
                .values_list("chunk__sequence", flat=True)
            ),
            "entries_at_all": IndexEntry.objects.filter(**mine).count(),
            "terms": Terms.objects.filter(pk=document.id).count(),
            "counted": [document.pages, document.chunks_done, document.chunks_total],
            "files": [
                (digest(each.reference.partition("/")[2]), each.version, each.size, each.state)
                for each in Document.objects.filter(archive=document.id)
            ],
        }

    with _inside():
        return {str(document.id): of(document) for document in Document.objects.filter(pk__in=ids)}


def _inside() -> Any:
    from tenants.context import workspace
    from tenants.models import Tenant

    return workspace(Tenant.objects.get(slug="faults"))


# ---------------------------------------------------------------- the process that forks


def run(request: dict[str, Any]) -> None:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(BUS / "processes.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream, number in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(stream, number)
    answer = globals()[request["do"]](**request)
    if answer is not None:
        path = BUS / f"answer-{os.getpid()}"
        path.with_suffix(".part").write_text(json.dumps(answer))
        path.with_suffix(".part").rename(path)


def reap(_number: int, _frame: FrameType | None) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        (BUS / f"ended-{pid}").write_text(str(os.waitstatus_to_exitcode(status)))


def main() -> None:
    from documents.extraction.confinement import die_with_parent

    signal.signal(signal.SIGCHLD, reap)
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                die_with_parent(signal.SIGKILL)
                run(json.loads(line))
                code = 0
            except SystemExit as ended:
                code = int(ended.code or 0) if not isinstance(ended.code, str) else 1
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    django.setup()
    from tests.documents.specimens import specimens

    SPECIMENS = specimens()
    preload()
    stop_everywhere()
    main()
