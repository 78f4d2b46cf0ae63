"""Comparing every passage against asking the index: where each is quicker, and that the product takes the quicker one.

Both ways are the product's own (search.candidates), from the question's vector to exact cosines, and are asked in turn.
"""

from collections.abc import Callable, Iterator
from itertools import cycle
from secrets import token_hex

import numpy as np

from documents.models import Collection
from search import building, candidates, indexes, ranking
from search.candidates import Stages
from search.embeddings import embedder
from search.loaded import terms_of
from search.models import Protection
from tenants.context import workspace
from tenants.provisioning import create_workspace
from workspace.benchmarks import filling, material
from workspace.benchmarks.ingestion import refuse_beside_a_worker
from workspace.benchmarks.measuring import Comparison, Setting, alternate, median, typical

SIDES = {
    "product": f"the way a search takes: up to {candidates.SCAN_BELOW} matching passages all compared, above that the index",
    "reference": "the other way, on the same questions in turn",
}
SIZES = (200, 400, 800, 1600, 3200, 6400)
LEVELS = ("cloaked", "open")


def run(say: Callable[[str], None], *, rounds: int = 60, passages: int | None = None) -> Comparison:
    """`rounds` questions at each size and level, or at the one size."""
    refuse_beside_a_worker()
    questions = embedder().embed(material.questions(rounds))
    settings: list[Setting] = []
    for size in SIZES if passages is None else (passages,):
        tenant, _ = create_workspace("Benchmark", f"bench-{token_hex(6)}")
        with workspace(tenant):
            say(f"{size} passages: stored and published")
            filling.store(filling.make(size).vectors, None, Protection.CLOAKED)
            for level in LEVELS:
                if indexes.live().protection != level:
                    building.work(building.begin(level).id)
                for setting in _compared(size, level, questions):
                    say(f"{setting.name}: {setting.detail['exact_ms']} ms exact, {setting.detail['index_ms']} ms by the index")
                    settings.append(setting)
    return Comparison("scan", "ms", SIDES, settings)


def _compared(size: int, level: str, questions: np.ndarray) -> Iterator[Setting]:
    """Of the whole workspace, and of as many passages by their rows, as a phrase or an exclusion lets through."""
    live = indexes.live()
    terms = terms_of(live)
    documents = terms.documents(list(Collection.objects.values_list("id", flat=True)))
    nothing, every = np.zeros(0, dtype=np.int64), np.arange(terms.rows)
    asked = (question for question in cycle(questions) for _ in range(2))  # each both ways

    def index() -> None:
        candidates.through_index(live, terms, next(asked), None, nothing, min(ranking.WINDOW, size), None, Stages())

    def scan() -> None:
        candidates.scan(live, terms, next(asked)[None], documents)

    def rows() -> None:
        candidates.compared(live, terms, next(asked), every)

    for name, exact in (("whole workspace", scan), ("narrowed", rows)):
        alternate(index, exact, 3)  # warm
        through, compared = alternate(index, exact, len(questions))
        pair = (compared, through) if size <= candidates.SCAN_BELOW else (through, compared)
        product, reference = typical(*pair)
        detail = {
            "passages": size,
            "level": level,
            "index_ms": round(1000 * median(through), 3),
            "exact_ms": round(1000 * median(compared), 3),
        }
        yield Setting(f"{size} passages, {level}, {name}", 1000 * product, 1000 * reference, "lower", detail)
