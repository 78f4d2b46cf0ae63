"""An owner freezes a workspace: real web and worker processes drop its keys, refuse it, and say so; a dead one does not."""

import os
import re
import signal
import threading
import time

import psutil
import pytest

from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place
from tests.journeys.visitor import PATIENCE, Answer, Visitor
from tests.running import Running

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("all_alive")]

WORDS = b"The cellar book names every cask and who sealed it.\n\n"


def freeze(place: Place, reason: str = "Somebody may be in it") -> Answer:
    return place.owner.post(f"{place.path}keys/freeze/", {"reason": reason})


def page(place: Place) -> str:
    return place.owner.get(f"{place.path}keys/").words


def web_pid(place: Place) -> int:
    """Of the process that answers, which gunicorn has started."""
    ((pid,),) = place.query("SELECT pid FROM public.tenants_process WHERE kind = 'web' ORDER BY started_at DESC LIMIT 1")
    return int(pid)


def web_pids(place: Place) -> set[int]:
    """Of the web processes that have begun, also of those that were killed since."""
    return {int(pid) for (pid,) in place.query("SELECT pid FROM public.tenants_process WHERE kind = 'web'")}


def holding(place: Place) -> set[int]:
    """Of those that said at their last beat that they keep something decrypted to search."""
    rows = place.query("SELECT pid FROM public.tenants_process WHERE kind = 'web' AND (memory->>'workspaces')::int > 0")
    return {int(pid) for (pid,) in rows}


def elsewhere(place: Place, url: str) -> Visitor:
    visitor = Visitor(url)
    visitor.sign_in(place.email)
    return visitor


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    made = make_place("Cellar")
    for (pid,) in made.query("SELECT pid FROM public.tenants_process"):
        if not psutil.pid_exists(pid):  # killed by a test before: would be named for a minute, as it has to be
            made.query("DELETE FROM public.tenants_process WHERE pid = %s RETURNING pid", pid)
    made.wait_until_ready(made.upload(("cellar book.txt", WORDS * 40)))
    return made


def test_every_process_drops_the_keys_and_refuses(running: Running, place: Place) -> None:
    ((document,),) = place.query("SELECT id FROM documents_document WHERE stored_name <> '' ORDER BY created_at DESC LIMIT 1")
    reader = place.member("viewer")
    assert "cask" in place.search("who sealed the cask").text
    frozen = freeze(place)
    assert frozen.status == 200
    running.wait(lambda: "Every process dropped the keys" in page(place), "the answers", 30)
    shown = page(place)
    seconds = [float(found) for found in re.findall(r"process \d+ on \S+ Confirmed ([\d.]+) s", shown)]
    assert len(seconds) >= 2
    assert min(seconds) >= 0
    assert {"Web process", "Worker process"} <= set(re.findall(r"(?:Web|Worker) process", shown))
    for visitor in (place.owner, reader):
        assert place.search("who sealed the cask", visitor).status == 503
        for path in ("", "documents/", f"documents/{document}/", f"documents/{document}/download/", "settings/"):
            refused = visitor.get(place.path + path)
            assert refused.status == 503, path
            assert b"cask" not in refused.body
            assert "is frozen" in refused.words
    assert place.send(("more.txt", WORDS)).status == 503
    assert reader.get(f"{place.path}keys/").status == 503
    # no job works in it
    before = place.query("SELECT count(*) FROM search_chunk")
    running.kill("worker")
    running.start_worker()
    time.sleep(4)
    assert place.query("SELECT count(*) FROM search_chunk") == before
    # one owner is enough where there is one
    assert "The keys are unfrozen" in place.owner.post(f"{place.path}keys/unfreeze/").words
    assert "cask" in place.search("who sealed the cask").text
    assert place.download(document).body == WORDS * 40
    place.wait_until_ready(place.upload(("after.txt", WORDS * 3)))


def test_the_memory_of_a_process_has_no_key_of_it_left(running: Running, place: Place) -> None:
    """What a process holds is asked of itself: a second search would need no keystore if any key were left."""
    assert "cask" in place.search("who sealed the cask").text
    freeze(place)
    running.wait(lambda: "Every process dropped the keys" in page(place), "the answers", 30)
    # unfrozen behind its back, and with the keystore's file away: what was in memory would still open it
    (running.keys / "witness" / "frozen" / str(place.id)).unlink()
    wrapping = running.keys / f"{place.id}.key"
    away = wrapping.rename(wrapping.with_suffix(".away"))
    try:
        assert place.search("who sealed the cask").status == 500
    finally:
        away.rename(wrapping)
    assert "cask" in place.search("who sealed the cask").text


def test_several_processes_behind_one_address_answer_alike_and_all_drop_the_keys(running: Running, place: Place) -> None:
    before = web_pids(place)
    with running.further_web(WEB_PROCESSES="2") as url:
        running.wait(lambda: len(web_pids(place) - before) == 2, "both processes to begin", 30)
        killed = min(web_pids(place) - before)
        os.kill(killed, signal.SIGKILL)  # gunicorn starts another, behind the same address
        running.wait(lambda: len(web_pids(place) - before - {killed}) == 2, "another to take its place", 30)
        visitors = [elsewhere(place, url) for _ in range(4)]

        def both_have_searched() -> bool:
            found = [place.search("who sealed the cask", visitor) for visitor in visitors]
            assert all("cask" in each.text for each in found)
            return len(holding(place) - before - {killed}) == 2

        running.wait(both_have_searched, "both to search", 60)
        freeze(place)
        assert {place.search("who sealed the cask", visitor).status for visitor in visitors} == {503}
        both = web_pids(place) - before - {killed}

        def have_answered() -> bool:
            shown = page(place)
            return all(re.search(rf"Web process {pid} on \S+ Confirmed", shown) for pid in both)

        running.wait(have_answered, "both to have dropped the keys", 30)
        assert not re.search(rf"Web process {killed} on \S+ Confirmed", page(place))
    assert "The keys are unfrozen" in place.owner.post(f"{place.path}keys/unfreeze/").words  # other files check every workspace


def test_a_killed_and_a_stopped_process_stay_unconfirmed(running: Running, place: Place) -> None:
    with running.further_web() as url:
        assert elsewhere(place, url).get(place.path).status == 200
        killed = web_pid(place)
    with running.further_web() as url:  # the one before was killed at the end of its block
        assert elsewhere(place, url).get(place.path).status == 200
        stopped = web_pid(place)
        assert stopped != killed
        os.kill(stopped, signal.SIGSTOP)
        try:
            freeze(place)
            running.wait(lambda: page(place).count("has not been seen since") == 2, "the silence to be noticed", 60)
            shown = page(place)
            for pid in (killed, stopped):
                assert re.search(rf"Web process {pid} on \S+ Unconfirmed", shown), shown
            assert "Every process" not in shown
            assert len(re.findall(r"process \d+ on \S+ Confirmed", shown)) >= 2
        finally:
            os.kill(stopped, signal.SIGCONT)
        answered = re.compile(rf"Web process {stopped} on \S+ Confirmed")
        running.wait(lambda: answered.search(page(place)) is not None, "its answer", 30)
        assert re.search(rf"Web process {killed} on \S+ Unconfirmed", page(place))
    place.owner.post(f"{place.path}keys/unfreeze/")
    assert place.search("who sealed the cask").status == 200


def test_work_under_way_ends(running: Running, place: Place) -> None:
    """An ingestion stops at its next batch, and goes on when it may; a download ends before its length."""
    long = "\n\n".join(f"Entry {n} on the cooperage. " + "The staves are bent over fire and bound. " * 20 for n in range(600))
    (big,) = place.upload(("big.bin", os.urandom(30_000_000)))
    (document,) = place.upload(("long.txt", long.encode()))
    running.wait(lambda: place.progress(document).chunks_done > 0, "the first batch", PATIENCE)
    got: list[int] = []

    def slowly() -> None:
        from urllib.request import Request

        visitor = elsewhere(place, running.url)
        with visitor._following.open(Request(f"{running.url}{place.path}documents/{big}/download/")) as response:
            total = 0
            try:
                while piece := response.read(200_000):
                    total += len(piece)
                    time.sleep(0.1)
            except Exception:  # cut off before its length
                pass
            got.append(total)

    reader = threading.Thread(target=slowly)
    reader.start()
    time.sleep(2)
    freeze(place)
    running.wait(lambda: "Every process dropped the keys" in page(place), "the answers", 90)
    reader.join(60)
    assert 0 < got[0] < 30_000_000
    done = place.progress(document)
    assert done.state == "embedding"
    time.sleep(2)
    assert place.progress(document) == done
    place.owner.post(f"{place.path}keys/unfreeze/")
    running.wait(lambda: place.progress(document).state == "ready", "the document to be ready", PATIENCE)


def test_the_command_freezes_and_unfreezes(running: Running, place: Place) -> None:
    answer = running.manage("freeze_workspace", place.slug, "--reason", "A drill")
    assert {each["state"] for each in answer["answers"]} == {"confirmed"}
    assert place.owner.get(place.path).status == 503
    running.manage("freeze_workspace", place.slug, "--reason", "The drill is over", "--unfreeze")
    assert place.owner.get(place.path).status == 200
