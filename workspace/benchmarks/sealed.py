"""Nearest passages of a sealed workspace, against an encrypted vector index sold for that: cyborgdb-core, all its caches on.

Both get the same vectors and are asked in turn; both are held against comparing with everything. The rival runs in an
environment of its own and without a network, since it reports its use to its makers.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import numpy.typing as npt

from search import indexes
from search.embeddings import embedder
from search.loaded import sealed_index, terms_of
from search.models import Protection
from search.pool import pool
from tenants.context import workspace
from tenants.errors import Refused
from tenants.keys.keyring import keyring
from tenants.provisioning import create_workspace
from workspace.benchmarks import filling, material
from workspace.benchmarks.measuring import Comparison, Setting, typical

SIDES = {
    "product": "the vectors of a sealed workspace: from its row in the database to the ten nearest passages",
    "reference": "cyborgdb-core on a local disk, trained, every cache on, with its own settings for a query",
}
SIZES = (5_000, 50_000, 200_000)
DEPTH = 10
RIVAL = "cyborgdb-core==0.18.0"
LISTS_PATIENCE = 180  # seconds in which the inverted lists are trained

Matrix = npt.NDArray[np.float32]


def run(say: Callable[[str], None], *, rounds: int = 200, vectors: int | None = None) -> Comparison:
    """`rounds` questions at each size, or at one of so many `vectors`."""
    settings: list[Setting] = []
    with tempfile.TemporaryDirectory() as directory:
        python = _environment(Path(directory), say)
        questions = embedder().embed(material.questions(rounds))
        for size in SIZES if vectors is None else (vectors,):
            made = filling.make(size).vectors
            say(f"{size} vectors: the rival's index")
            place = Path(directory) / str(size)
            place.mkdir()
            np.save(place / "vectors.npy", made)
            with _rival(python, place, questions) as rival:
                settings += _compared(made, questions, rival, say)
    return Comparison("sealed", "ms", SIDES, settings)


def _compared(made: Matrix, questions: Matrix, rival: "_Rival", say: Callable[[str], None]) -> Iterator[Setting]:
    exact = [set(np.argpartition(-(made @ question), DEPTH)[:DEPTH].tolist()) for question in questions]
    tenant, _ = create_workspace("Benchmark", f"bench-{token_hex(6)}")
    with workspace(tenant):
        pool().budget = 4 * 1024**3
        say(f"{len(made)} vectors: stored and published")
        places = filling.store(made, None, Protection.SEALED)
        first, first_rival = [], []
        for number in range(3):
            pool().clear()
            keyring.forget(tenant.pk)
            began = time.perf_counter()
            _nearest(questions[number], places)
            first.append(time.perf_counter() - began)
            first_rival.append(rival.first(number))
        held = sealed_index(indexes.live())
        deadline = time.monotonic() + LISTS_PATIENCE
        while any(segment.wants_lists and segment.lists is None for segment in held.segments) and time.monotonic() < deadline:
            time.sleep(0.2)
        say(f"{len(made)} vectors: {len(questions)} questions")
        times, times_rival, found, found_rival = [], [], 0, 0
        for number, question in enumerate(questions):
            began = time.perf_counter()
            near = _nearest(question, places)
            times.append(time.perf_counter() - began)
            seconds, near_rival = rival.ask(number)
            times_rival.append(seconds)
            found += len(exact[number] & set(near))
            found_rival += len(exact[number] & set(near_rival))
        asked = DEPTH * len(questions)
        lists = [segment.lists for segment in held.segments]
        detail = {
            "vectors": len(made),
            "recall@10": round(found / asked, 4),
            "recall@10_reference": round(found_rival / asked, 4),
            "memory_mb": round(held.nbytes / 1e6, 1),
            "memory_mb_reference": round(rival.memory_mb, 1),
            "lists": [{"probes": each.probes, "recall": round(each.recall, 4)} for each in lists if each is not None],
        }
        warm, restart = typical(times, times_rival), typical(first, first_rival)
        yield Setting(f"{len(made)} vectors, warm p50", 1000 * warm[0], 1000 * warm[1], "lower", detail)
        yield Setting(f"{len(made)} vectors, first after a restart", 1000 * restart[0], 1000 * restart[1], "lower", detail)


def _nearest(question: Matrix, places: dict[tuple[Any, int], int]) -> list[int]:
    """From asking which index is live, as every search does, to the passages."""
    live = indexes.live()
    terms = terms_of(live)
    rows, _ = sealed_index(live).nearest(question, terms, None, DEPTH)
    return [places[place] for place in terms.passages(rows)]


# ---------------------------------------------------------------- the rival

SCRIPT = """
import json, sys, time
import numpy as np, cyborgdb_core as rival

vectors, questions = np.load("vectors.npy"), None
key, ids = bytes(range(32)), [str(number) for number in range(len(vectors))]
where = rival.StorageConfig.disk("index", cache_vectors=True, cache_metadata=True, cache_ids=True, cache_metadata_index=True)

def resident():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS"))) / 1024

if sys.argv[1] == "build":
    index = rival.Client("", where).create_index("benchmark", key, dimension=vectors.shape[1], metric="cosine")
    for start in range(0, len(vectors), 10000):
        index.upsert(ids[start:start + 10000], vectors[start:start + 10000], index_key=key)
    if len(vectors) >= 10000:
        index.train(index_key=key)
else:
    del vectors
    before = resident()
    for line in sys.stdin:
        question = np.array(json.loads(line), dtype=np.float32)
        began = time.perf_counter()
        if "index" not in globals():
            index = rival.Client("", where).load_index("benchmark", key)
        found = index.query(question, top_k=10, index_key=key)
        seconds = time.perf_counter() - began
        answer = {"seconds": seconds, "ids": [int(each["id"]) for each in found], "mb": resident() - before}
        print(json.dumps(answer), flush=True)
"""


def _environment(directory: Path, say: Callable[[str], None]) -> Path:
    say("an environment for the rival")
    python = directory / "rival" / "bin" / "python"
    commands = [
        [sys.executable, "-m", "venv", str(directory / "rival")],
        [str(python), "-m", "pip", "install", "--quiet", RIVAL, "numpy"],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused(f"The rival, {RIVAL}, cannot be installed: {done.stderr.strip()[-300:]}")
    return python


class _Rival:
    """A process of it, asked over a pipe; times are its own."""

    def __init__(self, python: Path, place: Path, questions: Matrix) -> None:
        self._command = ["unshare", "-rn", str(python), "-c", SCRIPT]
        self._place, self._questions = place, questions
        self._process: subprocess.Popen[str] | None = None
        self.memory_mb = 0.0
        built = subprocess.run([*self._command, "build"], cwd=place, capture_output=True, text=True, check=False)
        if built.returncode:
            raise Refused(f"The rival's index cannot be built: {built.stderr.strip()[-300:]}")

    def first(self, number: int) -> float:
        """Seconds of the first question to a new process, its imports left out."""
        self.end()
        self._process = subprocess.Popen(
            [*self._command, "ask"], cwd=self._place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self.ask(number)[0]

    def ask(self, number: int) -> tuple[float, list[int]]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(self._questions[number].tolist()) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        self.memory_mb = max(self.memory_mb, answer["mb"])
        return answer["seconds"], answer["ids"]

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def _rival(python: Path, place: Path, questions: Matrix) -> Iterator[_Rival]:
    rival = _Rival(python, place, questions)
    try:
        yield rival
    finally:
        rival.end()
