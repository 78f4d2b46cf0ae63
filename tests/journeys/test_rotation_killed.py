"""The worker is killed -9 ten times while a workspace's key is changed, and people search and upload all the time.

Nothing is lost: every document opens, every byte comes back, a search finds the same, and no ciphertext of the old key is left.
"""

import random
import re
import threading
import time
from typing import Any
from uuid import UUID

import pytest

from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place, files_below
from tests.journeys.visitor import PATIENCE
from tests.running import Running

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("all_alive")]

KILLS = 10
SEED = 20261126
SUBJECTS = ("harvest", "vintage", "orchard", "granary", "cooperage", "apiary")
QUESTIONS = ("harvest of the north field", "who keeps the apiary", "casks of the cooperage")


def text_about(subject: str, number: int) -> bytes:
    filler = f"The {subject} is described at length, with the weather, the people and the prices of that year. " * 12
    return "\n\n".join(f"Entry {n} of volume {number} about the {subject}. {filler}" for n in range(8)).encode()


def found_by(place: Place, question: str, collection: str) -> list[str]:
    """The documents found in the collection that nobody adds to, best first."""
    found = place.search(question, collection=collection).text
    return list(dict.fromkeys(re.findall(r"/documents/([0-9a-f-]{36})/\?page=", found)))


def old_ciphertexts(place: Place, version: int) -> dict[str, int]:
    """Values and files whose header names another version, counted by an administrator who knows the format alone."""
    found = {}
    columns = place.query(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s AND data_type = 'bytea'",
        place.schema,
    )
    for table, column in columns:
        if column in {"name_digest", "content_digest", "digest"}:
            continue
        ((old,),) = place.query(
            f'SELECT count(*) FROM "{table}" WHERE "{column}" IS NOT NULL '  # names of the catalogue
            f"AND substring(\"{column}\" from 1 for 6) <> '\\x0101'::bytea || int4send(%s)",
            version,
        )
        if old:
            found[f"{table}.{column}"] = old
    for path in files_below(place.running.var / "files" / place.id.hex):
        if path.read_bytes()[9:13] != version.to_bytes(4, "big"):
            found[path.name] = 1
    return found


class People:
    """Members who search, open and upload until they are told to stop; what went wrong is kept."""

    def __init__(self, place: Place, archive: str, expected: dict[str, list[str]], contents: dict[UUID, bytes]) -> None:
        self.place, self.archive, self.expected, self.contents = place, archive, expected, contents
        self.letters = place.collection("Letters")
        self.wrong: list[str] = []
        self.uploaded: dict[UUID, bytes] = {}
        self.searches = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> "People":
        self._thread.start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._over.set()
        self._thread.join(PATIENCE)

    def _live(self) -> None:
        number, originals = 0, list(self.contents)
        while not self._over.is_set():
            try:
                for question, documents in self.expected.items():
                    found = found_by(self.place, question, self.archive)
                    self.searches += 1
                    if found != documents:
                        self.wrong.append(f"{question}: {found} instead of {documents}")
                pick = originals[number % len(originals)]
                if self.place.download(pick).body != self.contents[pick]:
                    self.wrong.append(f"{pick} came back otherwise")
                if number % 5 == 0 and len(self.uploaded) < 4:
                    content = f"Late letter {number} on quite another matter, the lighthouse.\n".encode() * 600
                    (document,) = self.place.upload((f"late {number}.txt", content), collection=self.letters)
                    self.uploaded[document] = content
            except Exception as error:
                self.wrong.append(repr(error))
            number += 1
            time.sleep(0.05)


def a_point(place: Place, version: int, chance: random.Random) -> str:
    """Where to kill it next: at the next table that only the worker writes to meanwhile, or where it says how far it is."""
    old = {name.partition(".")[0] for name in old_ciphertexts(place, version)}
    tables = (
        "documents_collection", "documents_field", "documents_page", "documents_value", "search_answer", "search_chunk",
        "search_cloak", "search_facts", "search_judgment", "search_judgmentset", "search_question", "search_sharedsearch",
        "search_terms",
    )  # fmt: skip
    left = [table for table in tables if table in old]
    return left[0] if left and chance.random() < 0.7 else "tenants_keyrotation"


def workers_waiting(place: Place, table: str) -> list[int]:
    waiting = place.waiters(table)
    query = "SELECT pid FROM pg_stat_activity WHERE pid = ANY(%s) AND application_name = 'cloister-worker'"
    return [pid for (pid,) in place.query(query, waiting)]


def kill_at(place: Place, table: str, chance: random.Random) -> None:
    """A worker is started, and killed where it wants to write to the table."""
    running = place.running
    with place.held(table):
        running.start_worker()
        running.wait(lambda: bool(workers_waiting(place, table)), f"the worker to reach {table}", PATIENCE)
        time.sleep(chance.uniform(0, 0.2))
        sessions = workers_waiting(place, table)
        running.kill("worker")
    ended = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)"
    running.wait(lambda: place.query(ended, sessions) == [(0,)], "the killed worker's session to end", PATIENCE)


def test_nothing_is_lost(running: Running, make_place: MakePlace) -> None:
    place = make_place("Rekeyed")
    contents, archive = {}, place.collection("Archive")
    for number, subject in enumerate(SUBJECTS):
        content = text_about(subject, number)
        (document,) = place.upload((f"{subject}.txt", content), collection=archive)
        contents[document] = content
    place.wait_until_ready(list(contents))
    expected = {question: found_by(place, question, archive) for question in QUESTIONS}
    assert all(expected.values())
    chance = random.Random(SEED)
    state = "SELECT state, done, total FROM public.tenants_keyrotation WHERE tenant_id = %s"
    running.kill("worker")
    with People(place, archive, expected, contents) as people:
        version = running.manage("rotate_keys", place.slug)["version"]
        for _ in range(KILLS):
            kill_at(place, a_point(place, version, chance), chance)
            assert place.query(state, place.id)[0][0] == "running"
        running.start_worker()
        running.wait(lambda: place.query(state, place.id)[0][0] == "done", "the rotation to end", PATIENCE)
    assert people.wrong == []
    assert people.searches > 10
    assert people.uploaded
    place.wait_until_ready(list(people.uploaded))
    for document, content in {**contents, **people.uploaded}.items():
        assert place.download(document).body == content
        assert place.owner.get(f"{place.path}documents/{document}/").status == 200
    assert old_ciphertexts(place, version) == {}
    assert {question: found_by(place, question, archive) for question in QUESTIONS} == expected
    assert not [path for path in files_below(running.var / "files" / place.id.hex) if path.suffix]
