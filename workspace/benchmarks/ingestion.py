"""From a file to something that is found, against the least it can cost: the model's work on the same passages."""

import secrets
import time
from collections.abc import Callable
from uuid import uuid4

from documents import ingestion, storage
from documents.models import Document
from documents.receiving import collection_named, receive
from search.embeddings import embedder
from search.models import Chunk
from tenants.context import workspace
from tenants.errors import Refused
from tenants.jobs import worker_is_listening
from tenants.provisioning import create_workspace
from workspace.benchmarks import material
from workspace.benchmarks.measuring import Comparison, Setting, typical

SIDES = {
    "product": "store encrypted, decrypt, extract in the sandbox, chunk, embed, encrypt, disguise, index (HNSW), publish",
    "reference": "search.embeddings alone on the same passages at once, which it takes in batches of 32 of like length",
}
CHARACTERS = 150_000


def run(say: Callable[[str], None], *, rounds: int = 5, characters: int = CHARACTERS) -> Comparison:
    """`rounds` documents of each format, every one ingested and then its passages embedded bare."""
    refuse_beside_a_worker()
    tenant, _ = create_workspace("Benchmark", f"bench-{secrets.token_hex(6)}")
    with workspace(tenant):
        warm_up = material.volumes(1, 2000)[0]
        _ingest("warm-up.txt", warm_up.encode())
        volumes = material.volumes(rounds, characters)
        settings = [
            _compared("plain text", [(f"{number}.txt", text.encode()) for number, text in enumerate(volumes)], say),
            _compared("PDF", [(f"{number}.pdf", material.pdf(text)) for number, text in enumerate(volumes)], say),
        ]
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
        product.append(document.chunks_total / (time.perf_counter() - began))
        reference.append(document.chunks_total / _bare(document))
        passages += document.chunks_total
        say(f"{name}: {number} of {len(files)}, {document.chunks_total} passages, {product[-1] / reference[-1]:.2f}")
    detail = {"documents": len(files), "passages": passages, "bytes": sum(len(content) for _, content in files)}
    return Setting(name, *typical(product, reference), "higher", detail)


def _ingest(file_name: str, content: bytes) -> Document:
    """What upload and worker do with a file."""
    stored = storage.store(uuid4(), [content])
    document = receive(stored, file_name, collection_named("Benchmark"))
    ingestion.ingest(document.id)
    document.refresh_from_db()
    if document.state != Document.State.READY:
        raise Refused(f"{file_name} did not become ready: {document.state}, {document.reason} {document.detail}")
    return document


def _bare(document: Document) -> float:
    """Seconds for embedding the passages alone."""
    read = Chunk._meta.get_field("text").reader()
    rows = Chunk.objects.filter(document_id=document.id).order_by("sequence").values_list("id", "text")
    texts = [read(pk, text) for pk, text in rows]
    model = embedder()
    began = time.perf_counter()
    model.embed(texts)
    return time.perf_counter() - began
