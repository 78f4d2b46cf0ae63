"""kill -9 of a real worker and a real web server, and a Redis that forgets everything: nothing is lost, doubled or left behind.

A stage is held by locking the table that ends it: the process waits there, is killed there, and no timing decides. What
becomes of single documents, stage by stage and format by format, is in test_faults.
"""

import os
import signal
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import UUID

import psutil
import pytest
import redis
import rq

from tenants.keys.providers import Keystore
from tests.journeys.conftest import MakePlace, revive
from tests.journeys.place import Place
from tests.journeys.visitor import PATIENCE, Visitor
from tests.running import Running

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("all_alive")]


def long_text(subject: str, paragraphs: int) -> bytes:
    """About one passage for each paragraph."""
    filler = "The account goes on at length with words that fill a passage and say nothing new. " * 14
    return "\n\n".join(f"Section {n} is about the {subject} of year {1000 + n}. {filler}" for n in range(paragraphs)).encode()


@pytest.fixture(scope="module")
def place(make_place: MakePlace) -> Place:
    return make_place("Durable")


def children_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def kill_the_worker(running: Running) -> None:
    """SIGKILL to the worker alone: what it has started must find out by itself."""
    process = running.processes.pop("worker")
    children = children_of(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, PATIENCE)
    assert alive == [], "processes of a killed worker live on"


def wait_for_holder(place: Place, table: str) -> None:
    place.running.wait(lambda: bool(place.waiters(table)), f"the worker to reach {table}", PATIENCE)


def wait_until_sessions_ended(place: Place, pids: list[int]) -> None:
    """The database notices that its client is gone as soon as it has something to do."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)"
    place.running.wait(lambda: place.query(query, pids) == [(0,)], "the killed worker's sessions to end", PATIENCE)


def assert_exactly_once(place: Place, document: UUID, found_by: str) -> None:
    progress = place.progress(document)
    assert (progress.state, progress.reason) == ("ready", "")
    assert progress.chunks_done == progress.chunks_total > 0
    chunks = place.query("SELECT sequence, id FROM search_chunk WHERE document_id = %s ORDER BY sequence", document)
    assert [sequence for sequence, _ in chunks] == list(range(progress.chunks_total))
    entries = place.query("SELECT chunk_id FROM search_indexentry WHERE document_id = %s", document)
    assert sorted(entry for (entry,) in entries) == sorted(chunk for _, chunk in chunks)
    assert place.query("SELECT count(*) FROM search_terms WHERE document_id = %s", document) == [(1,)]
    pages = place.query("SELECT number FROM documents_page WHERE document_id = %s ORDER BY number", document)
    (stored,) = place.query("SELECT pages FROM documents_document WHERE id = %s", document)
    assert [number for (number,) in pages] == list(range(1, stored[0] + 1))
    found = place.search(found_by)
    assert found.text.count(f'href="{place.path}documents/{document}/?page=') == 1, found.words


def files_of(place: Place) -> set[str]:
    return {path.name for path in (place.running.var / "files" / place.id.hex).glob("??/*")}


def known_files(place: Place) -> set[str]:
    return {name for (name,) in place.query("SELECT stored_name FROM documents_document")}


def test_waiting_documents_survive_a_worker_and_a_redis(running: Running, place: Place) -> None:
    """The one it works on, those that wait, and one that comes while nobody listens; then the queue itself is lost."""
    with place.held("documents_page"):
        documents = place.upload(*[(f"queued {n}.txt", long_text(f"orchard {n}", 2)) for n in range(4)])
        wait_for_holder(place, "documents_page")
        waiting = place.waiters("documents_page")
        kill_the_worker(running)
        documents += place.upload(("nobody listens.txt", long_text("orchard 4", 2)))
        assert [place.progress(document).state for document in documents].count("queued") == 4
        redis_of(running).flushdb()
    wait_until_sessions_ended(place, waiting)
    running.start_worker()
    place.wait_until_ready(documents)
    for number, document in enumerate(documents):
        assert_exactly_once(place, document, f"orchard {number}")


def test_a_redis_that_forgets_under_a_living_worker(running: Running, place: Place) -> None:
    with place.held("documents_page"):
        documents = place.upload(*[(f"forgotten {n}.txt", long_text(f"meadow {n}", 2)) for n in range(3)])
        wait_for_holder(place, "documents_page")
        redis_of(running).flushdb()
    place.wait_until_ready(documents)
    assert running.is_alive("worker")
    known = [registered.pid for registered in rq.Worker.all(connection=redis_of(running))]
    assert known == [running.processes["worker"].pid], "nobody could tell whether this worker lives"
    for number, document in enumerate(documents):
        assert_exactly_once(place, document, f"meadow {number}")


def redis_of(running: Running) -> "redis.Redis":
    return redis.Redis.from_url(running.environment("worker")["REDIS_URL"])


def test_an_evaluation_survives_its_worker(running: Running, place: Place) -> None:
    documents = place.upload(*[(f"judged {n}.txt", f"The lighthouse number {n} has {n} lamps.".encode()) for n in range(3)])
    place.wait_until_ready(documents)
    rows = "".join(f"How many lamps has lighthouse {n}?,judged {n % 3}.txt,1\n" for n in range(80))
    judged = place.owner.post(
        f"{place.path}evaluation/upload/",
        {"name": "Lighthouses"},
        [("file", ("judged.csv", f"question,document,grade\n{rows}".encode()))],
    )
    with place.held("search_answer"):
        page = place.owner.post(f"{judged.path}run/")
        run = UUID(page.path.split("/")[-2])
        wait_for_holder(place, "search_answer")
        waiting = place.waiters("search_answer")
        assert "Preparing 80 questions" in page.text or "Waiting" in page.text
        kill_the_worker(running)
    wait_until_sessions_ended(place, waiting)
    assert place.query("SELECT state FROM search_run WHERE id = %s", run) == [("working",)]

    running.start_worker()  # and once more, when some are answered
    answered = "SELECT count(*) FROM search_answer WHERE run_id = %s"
    running.wait(lambda: place.query(answered, run) > [(0,)], "the first answers", PATIENCE)
    with place.held("search_answer"):
        waiting = place.waiters("search_answer")
        kill_the_worker(running)
        kept = place.query("SELECT id FROM search_answer WHERE run_id = %s", run)
    wait_until_sessions_ended(place, waiting)
    running.start_worker()
    running.wait(lambda: place.owner.get(f"{page.path}status/").status == 286, "the run to end", PATIENCE)
    report = place.owner.get(f"{page.path}export.json").json()
    assert report["state"] == "ready"
    assert report["queries"] == len(report["questions"]) == 80
    answers = place.query("SELECT id, question_id FROM search_answer WHERE run_id = %s", run)
    assert len({question for _, question in answers}) == len(answers) == 80
    assert set(kept) <= {(answer,) for answer, _ in answers}


def test_a_workspace_survives_the_worker_that_makes_it(running: Running, place: Place) -> None:
    staff = Visitor(running.url)
    staff.choose_password(running.manage("create_admin", "staff@durable.example")["password_link"])
    staff.sign_in("staff@durable.example")
    with place.held("tenants_tenantkey"):
        opening = staff.post("/workspaces/new/", {"name": "Half made", "slug": "half-made"})
        assert opening.path == "/workspaces/half-made/opening/"
        wait_for_holder(place, "tenants_tenantkey")
        waiting = place.waiters("tenants_tenantkey")
        kill_the_worker(running)
        assert staff.get("/w/half-made/").status == 404
    wait_until_sessions_ended(place, waiting)
    (row,) = place.query("SELECT id, schema_name, db_role, status FROM tenants_tenant WHERE slug = 'half-made'")
    identity, schema, role, status = row
    made = "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = %s), (SELECT count(*) FROM pg_roles WHERE rolname = %s)"
    assert status == "pending"
    assert place.query(made, schema, role) == [(0, 0)]

    running.start_worker()
    running.wait(lambda: staff.get("/workspaces/half-made/opening/").path == "/w/half-made/", "the workspace", PATIENCE)
    assert place.query(made, schema, role) == [(1, 1)]
    assert place.query("SELECT count(*) FROM tenants_tenantkey WHERE tenant_id = %s", identity) == [(1,)]
    running.wait(lambda: list(Keystore(running.keys).pending()) == [], "the wrapping key to be activated", PATIENCE)
    assert "Nothing can be found yet" in staff.get("/w/half-made/").text


@pytest.fixture
def half_an_upload(running: Running, place: Place) -> Iterator[socket.socket]:
    """An upload of which the last byte never comes, as far as the server has taken it."""
    visitor = place.owner
    visitor.get(f"{place.path}documents/")
    boundary = "half"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n{visitor.token}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="half.txt"\r\n\r\n'
    ).encode() + b"Half of a secret text. " * 40_000
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in visitor.cookies)
    head = (
        f"POST {place.path}documents/upload/ HTTP/1.1\r\nHost: {urlsplit(running.url).netloc}\r\nCookie: {cookies}\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\nContent-Length: {2 * len(body)}\r\n\r\n"
    )
    before = files_of(place)
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(head.encode() + body)
        running.wait(lambda: bool(files_of(place) - before), "the upload to begin", PATIENCE)
        yield connection


def test_half_an_upload_is_never_served(running: Running, place: Place, half_an_upload: socket.socket) -> None:
    rows = place.query("SELECT count(*) FROM documents_document")
    running.kill("web")
    orphans = files_of(place) - known_files(place)
    assert len(orphans) == 1
    (orphan,) = orphans
    assert orphan.endswith(".part")
    path = next((running.var / "files" / place.id.hex).glob(f"??/{orphan}"))
    assert b"secret text" not in path.read_bytes()
    revive(running)
    assert place.query("SELECT count(*) FROM documents_document") == rows
    assert "half.txt" not in place.owner.get(f"{place.path}documents/").text
    # a sweep leaves what may still be arriving, and takes what nobody has written to for hours
    restart_the_worker(running, place)
    assert path.exists()
    long_ago = time.time() - 7 * 3600
    os.utime(path, (long_ago, long_ago))
    forget_sweeps(running)
    restart_the_worker(running, place)
    running.wait(lambda: not path.exists(), "the orphan to be removed", PATIENCE)
    assert files_of(place) == known_files(place)


def restart_the_worker(running: Running, place: Place) -> None:
    """And wait until its first sweep is over: it takes jobs only after that."""
    if "worker" in running.processes:
        kill_the_worker(running)
    running.start_worker()
    place.wait_until_ready(place.upload(("after the sweep.txt", b"A sentence.")))


def forget_sweeps(running: Running) -> None:
    """As if the hour had passed after which files are looked at again."""
    known = redis_of(running)
    assert known.delete(*known.scan_iter("*swept:orphans"))


def test_an_upload_cut_off_leaves_nothing(running: Running, place: Place, half_an_upload: socket.socket) -> None:
    rows = place.query("SELECT count(*) FROM documents_document")
    half_an_upload.close()
    running.wait(lambda: files_of(place) == known_files(place), "the half file to be removed", PATIENCE)
    assert place.query("SELECT count(*) FROM documents_document") == rows
