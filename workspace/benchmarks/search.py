"""A search over HTTP, as a browser asks for it, against the least it can cost: an empty page, the model, the index."""

import http.client
import secrets
import time
from collections.abc import Callable, Sequence
from uuid import UUID

import numpy as np

from documents import ingestion
from documents.importing import import_texts
from search.embeddings import embedder
from search.indexing import live_cloak, vector_text
from search.models import LIVE_INDEX, Chunk
from search.querying import OVER_FETCH
from search.sources import CorpusText
from tenants.context import workspace
from tenants.database import connection
from tenants.errors import Refused
from tenants.people import create_person
from tenants.provisioning import create_workspace
from workspace.benchmarks import material
from workspace.benchmarks.ingestion import refuse_beside_a_worker
from workspace.benchmarks.measuring import Comparison, Setting
from workspace.benchmarks.serving import Browser, web_server
from workspace.benchmarks.urls import EMPTY

SIDES = {
    "product": "a search by HTTP: middleware, embedding, index, keywords, decryption, reranking, passages, page",
    "reference": "an empty page behind the same middleware, the bare question embedding, the bare candidate query",
}
CANDIDATES = (
    "SELECT chunk_id FROM search_indexentry WHERE index_id = %s ORDER BY vector::halfvec(384) <=> %s::halfvec(384) LIMIT %s"
)
WARM_UP = 12  # questions: kernels of every width, connections and caches of every thread


def run(say: Callable[[str], None], *, rounds: int = 200, passages: int = 3000) -> Comparison:
    """`rounds` different questions, once warm, in a workspace of some `passages` passages."""
    refuse_beside_a_worker()
    with web_server() as port:
        slug, password = f"bench-{secrets.token_hex(6)}", secrets.token_urlsafe(16)
        email = f"{slug}@benchmark.invalid"
        owner = create_person(email, password)
        tenant, _ = create_workspace("Benchmark", slug, owner)
        with workspace(tenant):
            stored = fill(passages, say)
        browser = Browser(port, email, password)
        try:
            address = f"/w/{slug}/"
            asked = material.questions(WARM_UP + rounds)
            measured = []
            for number, question in enumerate(asked):
                product = _product(browser, address, question)
                empty = _empty(browser, address)
                with workspace(tenant):
                    measured.append((product, empty, *_bare(question)))
                if number == WARM_UP:
                    say(f"{len(asked) - WARM_UP} questions to {stored} passages")
        finally:
            browser.close()
    return Comparison("search", "ms", SIDES, _settings(measured[WARM_UP:], stored))


def _settings(measured: Sequence[tuple[float, ...]], passages: int) -> list[Setting]:
    times = 1000 * np.array(measured)
    product, floor = times[:, 0], times[:, 1:].sum(axis=1)
    parts = dict(zip(("empty_page", "embedding", "candidates"), np.median(times[:, 1:], axis=0).round(3).tolist(), strict=True))
    detail = {"passages": passages, "questions": len(measured), "floor_parts_p50": parts}
    return [
        Setting(f"p{share}", float(np.percentile(product, share)), float(np.percentile(floor, share)), "lower", detail)
        for share in (50, 95)
    ]


def fill(passages: int, say: Callable[[str], None]) -> int:
    """Import and ingest articles until there are so many passages; how many there are then."""
    stored = 0
    for number, (name, text) in enumerate(material.articles()):
        if stored >= passages:
            break
        done = import_texts([CorpusText(str(number), name, text)], "Benchmark")
        for document in done.documents:
            ingestion.ingest(document)
        if number % 10 == 0:
            stored = Chunk.objects.count()
        if number % 50 == 0:
            say(f"{stored} of {passages} passages stored")
    return Chunk.objects.count()


def _product(browser: Browser, address: str, question: str) -> float:
    began = time.perf_counter()
    status, page = browser.post(address, {"q": question, "collection": "", "page": ""}, htmx=True)
    took = time.perf_counter() - began
    if status != http.client.OK or b'class="result-title"' not in page:
        raise Refused(f"The search answered {status}, without a result.")
    return took


def _empty(browser: Browser, address: str) -> float:
    began = time.perf_counter()
    status, _ = browser.post(f"{address}{EMPTY}", {})
    took = time.perf_counter() - began
    if status != http.client.OK:
        raise Refused(f"The empty page answered {status}.")
    return took


def _bare(question: str) -> tuple[float, float]:
    """Seconds for the embedding and for the candidates."""
    model, cloak = embedder(), live_cloak()
    began = time.perf_counter()
    vector = model.embed_query(question)
    embedded = time.perf_counter() - began
    parameters = [LIVE_INDEX, vector_text(cloak.disguise_query(vector)), OVER_FETCH]
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")  # the schema and the role are set by now
        began = time.perf_counter()
        cursor.execute(CANDIDATES, parameters)
        found: list[tuple[UUID]] = cursor.fetchall()
        searched = time.perf_counter() - began
    if not found:
        raise Refused("The index has no candidates.")
    return embedded, searched
