"""Nearest passages of an open and of a cloaked workspace, against pgvector alone: psycopg and a table of the same vectors.

Both have an HNSW index with the same settings and are asked in turn; both are held against comparing with everything.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import psycopg
from django.db import connections
from pgvector import HalfVector
from pgvector.psycopg import register_vector
from psycopg import sql

from search import candidates, indexes
from search.building import BUILD_MEMORY
from search.candidates import Stages
from search.embeddings import embedder
from search.indexes import Live
from search.keywords import TermIndex
from search.loaded import terms_of
from search.models import Protection, VectorIndex
from search.sources import sources
from tenants.context import workspace
from tenants.database import connection
from tenants.provisioning import create_workspace
from workspace.benchmarks import filling, material
from workspace.benchmarks.measuring import Comparison, Setting, typical

SIDES = {
    "product": "open: the candidates of a search, as rows of its word index with their exact cosines; cloaked, end to "
    "end: disguise the question, fetch more than is wanted, decrypt, rank exactly, the ten nearest passages",
    "reference": "pgvector's halfvec HNSW of the same vectors, m, ef_construction and ef_search through psycopg, as many ids",
}
PASSAGES, DEPTH = 50_000, 10
NOISE = 0.1  # with more the nearest are hardly nearer than others, and at these settings no graph finds 0.98 of them

Matrix = npt.NDArray[np.float32]
Places = dict[tuple[Any, int], int]


@dataclass
class Asked:
    """Seconds and hits of both sides, question by question."""

    times: list[float] = field(default_factory=list)
    times_reference: list[float] = field(default_factory=list)
    found: int = 0
    found_reference: int = 0


def run(say: Callable[[str], None], *, rounds: int = 300, vectors: int = PASSAGES) -> Comparison:
    """`rounds` different questions to `vectors` passages at each level."""
    made = filling.make(vectors, NOISE)
    texts, questions = made.texts(), embedder().embed(material.questions(rounds))
    exact = [set(np.argpartition(-(made.vectors @ question), DEPTH)[:DEPTH].tolist()) for question in questions]
    settings = []
    with psycopg.connect(**_login(), autocommit=True) as rival:
        register_vector(rival)
        for level, name in ((Protection.OPEN, "candidates"), (Protection.CLOAKED, "end to end")):
            tenant, _ = create_workspace("Benchmark", f"bench-{token_hex(6)}")
            with workspace(tenant):
                say(f"{level}: {vectors} passages")
                places = filling.store(made.vectors, texts, level, say)
                with _bare(rival, made.vectors) as table:
                    say(f"{level}: {rounds} questions")
                    asked = _ask(level, questions, exact, places, rival, table)
            settings.append(_setting(f"{level}, {name}", asked, vectors))
    return Comparison("hnsw", "ms", SIDES, settings)


def _ask(
    level: Protection,
    questions: Matrix,
    exact: list[set[int]],
    places: Places,
    rival: psycopg.Connection[Any],
    table: sql.Identifier,
) -> Asked:
    live = indexes.live()
    index, collections = terms_of(live), sources().everything()
    amount = candidates.over_fetch(live, index.chunks, None)[0] if level == Protection.OPEN else DEPTH
    statement = sql.SQL("SELECT id FROM {} ORDER BY vector <=> %s LIMIT %s").format(table)

    def ask(question: Matrix) -> Any:
        if level == Protection.OPEN:
            return candidates.fetch(live, index, question, amount, worded=candidates.NO_ROWS)
        return _nearest(live, index, question, collections)

    def ask_rival(question: Matrix) -> list[int]:
        return [number for (number,) in rival.execute(statement, [HalfVector(question), amount])]

    for question in questions[:DEPTH]:  # connections, caches and the cloak
        ask(question), ask_rival(question)
    asked = Asked()
    for question, expected in zip(questions, exact, strict=True):
        began = time.perf_counter()
        ask(question)
        between = time.perf_counter()
        near_rival = ask_rival(question)
        asked.times.append(between - began)
        asked.times_reference.append(time.perf_counter() - between)
        near = {places[place] for place in _nearest(live, index, question, collections)}
        asked.found += len(near & expected)
        asked.found_reference += len(set(near_rival[:DEPTH]) & expected)
    return asked


def _nearest(live: Live, index: TermIndex, question: Matrix, collections: frozenset[UUID]) -> list[tuple[UUID, int]]:
    """The ten nearest passages, as a search without words finds them."""
    nothing = np.zeros(0, dtype=np.int64)
    found, _ = candidates.gather(
        live, index, question, None, nothing, collections, matching=index.chunks, narrowed=False, stages=Stages()
    )
    return index.passages(found.rows[np.argsort(-found.dense)[:DEPTH]])


def _setting(name: str, asked: Asked, vectors: int) -> Setting:
    product, reference = typical(asked.times, asked.times_reference)
    of = DEPTH * len(asked.times)
    p95, p95_reference = (round(1000 * float(np.percentile(times, 95)), 3) for times in (asked.times, asked.times_reference))
    detail = {
        "vectors": vectors,
        "recall@10": round(asked.found / of, 4),
        "recall@10_reference": round(asked.found_reference / of, 4),
        "p95": p95,
        "p95_reference": p95_reference,
    }
    return Setting(name, 1000 * product, 1000 * reference, "lower", detail)


# ---------------------------------------------------------------- the rival


def _login() -> dict[str, Any]:
    """As the operator, who may make tables."""
    known = connections["operator"].settings_dict
    names = {"host": "HOST", "port": "PORT", "dbname": "NAME", "user": "USER", "password": "PASSWORD"}
    return {name: known[key] for name, key in names.items() if known[key]}


@contextmanager
def _bare(rival: psycopg.Connection[Any], vectors: Matrix) -> Iterator[sql.Identifier]:
    """A table of the vectors in a schema of its own, its index like that of the current workspace."""
    graph = VectorIndex.objects.get(state=VectorIndex.State.LIVE)
    with connection.cursor() as cursor:
        cursor.execute("SHOW hnsw.ef_search")
        (ef_search,) = cursor.fetchone()
    schema = sql.Identifier(f"bench_{token_hex(6)}")
    table = sql.Identifier(schema.as_string().strip('"'), "passage")
    rival.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
    try:
        rival.execute(sql.SQL("CREATE TABLE {} (id bigint PRIMARY KEY, vector halfvec({}))").format(table, vectors.shape[1]))
        with rival.cursor().copy(sql.SQL("COPY {} FROM STDIN WITH (FORMAT BINARY)").format(table)) as copy:
            copy.set_types(["bigint", "halfvec"])
            for number, vector in enumerate(vectors):
                copy.write_row((number, HalfVector(vector)))
        rival.execute(sql.SQL("SET maintenance_work_mem = {}").format(BUILD_MEMORY))
        rival.execute(
            sql.SQL("CREATE INDEX ON {} USING hnsw (vector halfvec_cosine_ops) WITH (m = {}, ef_construction = {})").format(
                table, graph.m, graph.ef_construction
            )
        )
        rival.execute(sql.SQL("VACUUM ANALYZE {}").format(table))
        rival.execute(sql.SQL("SET hnsw.ef_search = {}").format(int(ef_search)))
        yield table
    finally:
        rival.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))
