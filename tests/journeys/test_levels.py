"""Open, sealed, open, cloaked, and another model: changed while people search and upload, and while the worker is killed."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.conftest import FURTHER_MODEL
from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place
from tests.journeys.test_kill import kill_the_worker, long_text, wait_until_sessions_ended
from tests.journeys.visitor import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("all_alive")]

CHANGES = (  # and the table that its worker is killed at
    ("open", "search_indexentry"),
    ("sealed", "search_sealedvectors"),
    ("open", None),
    ("cloaked", None),
)
SUBJECTS = ("lantern", "orchard", "glacier")


@pytest.fixture(scope="module")
def place(make_place: MakePlace) -> Place:
    made = make_place("Levels")
    made.wait_until_ready(made.upload(*((f"{subject}.txt", long_text(subject, 12)) for subject in SUBJECTS)))
    return made


def live(place: Place) -> str:
    ((level,),) = place.query("SELECT protection FROM search_vectorindex WHERE state = 'live'")
    return str(level)


def change(place: Place, level: str) -> None:
    assert place.owner.post(f"{place.path}protection/change/", {"level": level}).status == 200


def wait_for(place: Place, level: str) -> None:
    place.running.wait(lambda: live(place) == level, f"the workspace to be {level}", PATIENCE)
    removing = "SELECT count(*) FROM search_vectorindex WHERE state IN ('retiring', 'building')"
    place.running.wait(lambda: place.query(removing) == [(0,)], "what is removed to be gone", PATIENCE)


@contextmanager
def in_use(place: Place) -> Iterator[list[str]]:
    """Two people who search all the time, and one who uploads; what went wrong."""
    over, wrong = threading.Event(), list[str]()

    def search(subject: str) -> None:
        while not over.is_set():
            answer = place.search(f"Which section is about the {subject}?")
            if answer.status != 200 or subject not in answer.text.partition("result-title")[2]:
                wrong.append(f"search for {subject}: {answer.status}")

    def upload() -> None:
        while not over.wait(1):
            answer = place.send((f"late {uuid4()}.txt", b"A late document about a harbour."))
            if answer.status != 200:
                wrong.append(f"upload: {answer.status}")

    people = [threading.Thread(target=search, args=(subject,)) for subject in SUBJECTS[:2]] + [threading.Thread(target=upload)]
    for person in people:
        person.start()
    try:
        yield wrong
    finally:
        over.set()
        for person in people:
            person.join(PATIENCE)


def require_complete(place: Place) -> None:
    """Every passage is once in the index that is in use, and nothing else is."""
    place.running.wait(
        lambda: place.query("SELECT count(*) FROM documents_document WHERE state NOT IN ('ready', 'failed')") == [(0,)],
        "the uploads to end",
        PATIENCE,
    )
    (passages,) = place.query("SELECT count(*) FROM search_chunk")
    if live(place) == "sealed":
        assert place.query("SELECT sum(passages) FROM search_sealedvectors") == [passages]
    else:
        held = (
            "SELECT count(*) FROM search_indexentry WHERE index_id = (SELECT id FROM search_vectorindex WHERE state = 'live')"
        )
        assert place.query(held) == [passages]


def killed_at(place: Place, table: str, begin: Callable[[], None]) -> None:
    """The worker of what is begun, in the middle of its first batch, and again before the index takes over."""
    for held in (table, "search_vectorindex"):
        with place.held(held):
            if held == table:
                begin()
            place.running.wait(lambda held=held: bool(place.waiters(held)), f"a worker to reach {held}", PATIENCE)
            waiting = place.waiters(held)
            kill_the_worker(place.running)
        wait_until_sessions_ended(place, waiting)
        place.running.start_worker()


def test_a_workspace_changes_level_under_load_and_under_the_killing_of_its_worker(place: Place) -> None:
    with in_use(place) as wrong:
        for level, table in (
            ("open", "search_indexentry"),
            ("sealed", "search_sealedvectors"),
            ("open", None),
            ("cloaked", None),
        ):
            if table is not None:
                killed_at(place, table, lambda level=level: change(place, level))
            else:
                change(place, level)
            wait_for(place, level)
            if level == "sealed":
                require_no_vectors(place)
    assert wrong == []
    require_complete(place)
    for subject in SUBJECTS:
        assert subject in place.search(f"Which section is about the {subject}?").text


def require_no_vectors(place: Place) -> None:
    """No row of any column that the database can compare, and no index over one."""
    columns = place.query(
        "SELECT c.relname, a.attname FROM pg_attribute a "
        "JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid "
        "WHERE c.relnamespace = %s::regnamespace AND c.relkind = 'r' AND t.typname IN ('vector', 'halfvec', 'sparsevec')",
        f'"{place.schema}"',
    )
    assert columns == [("search_indexentry", "vector")]
    assert place.query("SELECT count(*) FROM search_indexentry") == [(0,)]
    assert place.query("SELECT pg_relation_size('search_indexentry')") == [(0,)]
    assert place.query("SELECT count(*) FROM pg_indexes WHERE schemaname = %s AND indexdef ~ 'hnsw'", place.schema) == [(0,)]


def test_a_workspace_changes_its_model_under_load_and_under_the_killing_of_its_worker(
    place: Place, further_models: Path
) -> None:
    def model() -> str:
        ((name,),) = place.query("SELECT model FROM search_vectorindex WHERE state = 'live'")
        return str(name)

    def begin() -> None:
        assert place.owner.post(f"{place.path}protection/model/", {"model": FURTHER_MODEL}).status == 200

    level, before = live(place), model()
    shutil.copytree(further_models / "cut", place.running.var / "models" / "cut")
    with in_use(place) as wrong:
        killed_at(place, "search_furthervector", begin)
        place.running.wait(lambda: model() == FURTHER_MODEL, "the workspace to have the other model", PATIENCE)
        wait_for(place, level)
        assert place.owner.post(f"{place.path}protection/back/", {}).status == 200
        assert model() == before
        assert place.owner.post(f"{place.path}protection/back/", {}).status == 200
    assert wrong == []
    require_complete(place)
    (passages,) = place.query("SELECT count(*) FROM search_chunk")
    assert place.query("SELECT count(*) FROM search_furthervector") == [passages]
    for subject in SUBJECTS:
        assert subject in place.search(f"Which section is about the {subject}?").text
    for what in ("back", "remove"):
        assert place.owner.post(f"{place.path}protection/{what}/", {}).status == 200
    wait_for(place, level)
    assert place.query("SELECT pg_relation_size('search_furthervector')") == [(0,)]
