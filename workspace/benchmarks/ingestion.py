"""From a file to something that is found, against the least it can cost: the model's work on the same passages.

And how long somebody waits whose one file comes while a batch of another workspace is worked on.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

from django.utils import timezone

from documents import ingestion, storage
from documents.models import Document
from documents.receiving import collection_named, receive
from search.embeddings import embedder
from search.models import Chunk
from tenants.context import workspace
from tenants.errors import Refused
from tenants.jobs import worker_is_listening
from tenants.models import Tenant
from tenants.provisioning import create_workspace
from tenants.worker import new_worker
from workspace.benchmarks import material
from workspace.benchmarks.measuring import Comparison, Setting, typical

SIDES = {
    "product": "store encrypted, decrypt, extract in the sandbox, chunk, embed, encrypt, disguise, index (HNSW), publish",
    "reference": "search.embeddings alone on the same passages at once, which it takes in batches of 32 of like length",
}
CHARACTERS = 150_000
LONG_PAGE_LINES = 12  # of a PDF of so many pages: about a passage a page
SMALL_FILE = 700  # characters: a passage
SLICE = 50  # small files worked on between two looks at the bare model


def run(
    say: Callable[[str], None], *, rounds: int = 5, characters: int = CHARACTERS, pages: int = 0, files: int = 0
) -> Comparison:
    """`rounds` documents of each format, every one ingested and then its passages embedded bare.

    With `pages` also one PDF of so many pages; with `files` so many small files, through the queue and a worker in this
    process, and in the midst of them a file of another workspace.
    """
    refuse_beside_a_worker()
    tenant, _ = create_workspace("Benchmark", f"bench-{secrets.token_hex(6)}")
    with workspace(tenant):
        warm_up = material.volumes(1, 2000)[0]
        _ingest("warm-up.txt", warm_up.encode())
        volumes = material.volumes(rounds, characters)
        headed = material.volumes(rounds, characters, headed=True)
        settings = [
            _compared("plain text", [(f"{number}.txt", text.encode()) for number, text in enumerate(volumes)], say),
            _compared("PDF", [(f"{number}.pdf", material.pdf(text)) for number, text in enumerate(volumes)], say),
            _compared("Markdown", [(f"{number}.md", text.encode()) for number, text in enumerate(headed)], say),
        ]
        if pages:
            settings.append(_compared(f"PDF of {pages:,} pages", [("long.pdf", _long_pdf(pages))], say))
    if files:
        settings += _through_the_queue(tenant, files, say)
    return Comparison("ingestion", "passages/s", SIDES, settings)


def refuse_beside_a_worker() -> None:
    """It would take the documents that are to be measured here, and its own work would be in the figures."""
    if worker_is_listening():
        raise Refused("A worker is running: use bin/manage benchmark, which has services of its own.")


def _compared(name: str, files: list[tuple[str, bytes]], say: Callable[[str], None]) -> Setting:
    product, reference, passages = [], [], 0
    for number, (file_name, content) in enumerate(files, start=1):
        began = time.perf_counter()
        document = _ingest(file_name, content)
        took = time.perf_counter() - began
        found, bare = _bare([document.id])
        product.append(found / took)
        reference.append(found / bare)
        passages += found
        say(f"{name}: {number} of {len(files)}, {found} passages, {product[-1] / reference[-1]:.2f}")
    detail = {"documents": len(files), "passages": passages, "bytes": sum(len(content) for _, content in files)}
    return Setting(name, *typical(product, reference), "higher", detail)


def _through_the_queue(tenant: Tenant, files: int, say: Callable[[str], None]) -> list[Setting]:
    """Small files as a worker takes them, a slice at a time, and the passages of each slice embedded bare.

    Half-way a file of another workspace comes.
    """
    other, _ = create_workspace("Benchmark", f"bench-{secrets.token_hex(6)}")
    with workspace(other):
        _ingest("warm-up.txt", b"warm")
    _work(None)  # the jobs of what was ingested without them
    with workspace(tenant):
        for number, text in enumerate(material.paragraphs(files, SMALL_FILE)):
            _receive(f"small-{number}.txt", text.encode())
    product, reference, passages, done = [], [], 0, 0
    late: tuple[int, float] | None = None
    rest = 0.0  # seconds of work on the batch since the other's file came
    while done < files:
        since, began, ended = timezone.now(), time.perf_counter(), list[UUID]()
        while not ended:  # a job may find its document done
            if not _work(min(SLICE, max(1, files // 4))):
                raise Refused("The worker did not bring the small files to their end.")
            with workspace(tenant):
                ready = Document.objects.filter(finished_at__gte=since, state=Document.State.READY)
                ended = list(ready.values_list("id", flat=True))
        took = time.perf_counter() - began
        with workspace(tenant):
            found, bare = _bare(ended)
            done = files - Document.objects.filter(state__in=Document.UNFINISHED).count()
        passages += found
        product.append(found / took)
        reference.append(found / bare)
        say(f"small files: {done} of {files}, {product[-1] / reference[-1]:.2f}")
        if late:
            rest += took
        elif done * 2 >= files:
            late = _late(other)
            with workspace(tenant):  # some were before it
                done = files - Document.objects.filter(state__in=Document.UNFINISHED).count()
    assert late, "half of the files come before all of them"
    jobs, waited = late
    beside = {"unit": "s", "jobs": jobs, "share_of_the_rest": round(waited / (waited + rest), 4)}
    return [
        Setting(f"{files:,} small files", *typical(product, reference), "higher", {"documents": done, "passages": passages}),
        Setting("a file of another workspace half-way, against the rest", waited, waited + rest, "lower", beside),
    ]


def _late(tenant: Tenant) -> tuple[int, float]:
    """How many jobs and seconds it takes until a file that comes now is found."""
    began, jobs = time.perf_counter(), 0
    with workspace(tenant):
        document = _receive("late.txt", b"It came late.")
    while document.is_unfinished:
        if not _work(1):
            raise Refused("The late document is unfinished and nothing is queued. Look at what the log says of it.")
        jobs += 1
        with workspace(tenant):
            document.refresh_from_db()
    return jobs, time.perf_counter() - began


def _work(jobs: int | None) -> bool:
    """As a worker does, in this process. Whether there was anything to do."""
    return new_worker().work(burst=True, max_jobs=jobs, logging_level="WARNING")


def _long_pdf(pages: int) -> bytes:
    width = material.LINE_CHARACTERS
    flowing = " ".join(" ".join(material.paragraphs(pages * 2, 1000)).split())
    lines = [flowing[at * width : (at + 1) * width] for at in range(pages * LONG_PAGE_LINES)]
    return material.pdf("\n".join(lines), LONG_PAGE_LINES)


def _receive(file_name: str, content: bytes) -> Document:
    return receive(storage.store(uuid4(), [content]), file_name, collection_named("Benchmark"))


def _ingest(file_name: str, content: bytes) -> Document:
    """What upload and worker do with a file."""
    document = _receive(file_name, content)
    ingestion.ingest(document.id)
    document.refresh_from_db()
    if document.state != Document.State.READY:
        raise Refused(f"{file_name} did not become ready: {document.state}, {document.reason} {document.detail}")
    return document


def _bare(documents: Sequence[UUID]) -> tuple[int, float]:
    """How many passages these have, and seconds for embedding them alone."""
    read = Chunk._meta.get_field("text").reader()
    rows = Chunk.objects.filter(document_id__in=documents).order_by("document_id", "sequence").values_list("id", "text")
    texts = [read(pk, text) for pk, text in rows]
    model = embedder()
    began = time.perf_counter()
    model.embed(texts)
    return len(texts), time.perf_counter() - began
