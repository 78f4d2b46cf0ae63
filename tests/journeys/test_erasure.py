"""Erased is erased: killed in the middle, looked for in everything that is stored, and when an older backup is restored.

On an installation of its own, whose database is thrown away and brought back from a dump.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import psycopg
import pytest
import redis
from psycopg import sql

from tenants import proofs
from tests.journeys.place import Place, files_below
from tests.journeys.test_no_plaintext import forms_of_bytes, forms_of_word
from tests.running import ROOT, Running
from workspace.embedded import postgres

pytestmark = pytest.mark.slow

DATABASE = "erasing"
MARKER = "zxqvbnwkrtplmhgf"


@pytest.fixture(scope="module")
def administrator() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url("postgres"), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, administrator: psycopg.Connection[Any]) -> Iterator[Running]:
    installation = Running(tmp_path_factory.mktemp("erasing"), DATABASE, redis_number=5)
    installation.prepare()
    installation.start_web()
    installation.start_worker()
    yield installation
    installation.stop()
    administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(DATABASE)))


def url(database: str = DATABASE) -> str:
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{database}"))


def make(installation: Running, name: str) -> Place:
    owner = f"owner@{name.lower()}.example"
    made = installation.manage("create_workspace", name, "--slug", name.lower(), "--owner", owner)
    place = Place(installation, psycopg.connect(url(), autocommit=True), made, owner)
    done = "SELECT EXISTS (SELECT FROM search_sharedsearch)"
    installation.wait(lambda: place.query(done) == [(True,)], "the canaries")
    return place


def receipts_of(place: Place) -> list[dict[str, Any]]:
    rows = place.query("SELECT document FROM public.tenants_receipt WHERE tenant_id = %s", place.id)
    return [document for (document,) in rows]


def public_key(installation: Running) -> str:
    return str(installation.manage("installation_key")["public_key"])


def erase(place: Place, document: UUID) -> None:
    place.owner.post(f"{place.path}documents/{document}/delete/")
    answer = place.owner.post(f"{place.path}documents/{document}/erase/")
    assert "/receipts/" in answer.path, answer.words


def ciphertexts(place: Place, document: UUID) -> list[bytes]:
    """Of everything encrypted that belongs to a document, its last 32 bytes: as they lie in tables and its file."""
    found: list[bytes] = []
    for statement in (
        "SELECT title, file_name FROM documents_document WHERE id = %s",
        "SELECT text, label FROM documents_page WHERE document_id = %s",
        "SELECT text, embedding FROM search_chunk WHERE document_id = %s",
        "SELECT payload, payload FROM search_terms WHERE document_id = %s",
    ):
        found += [bytes(value)[-32:] for row in place.query(statement, document) for value in row if value]
    (name,) = place.query("SELECT stored_name FROM documents_document WHERE id = %s", document)[0]
    (file,) = [path for path in files_below(place.running.var / "files") if path.name == name]
    return [*found, file.read_bytes()[-32:]]


def where(installation: Running, wanted: list[bytes]) -> list[str]:
    """Where any of it stands: in a dump of the database, in Redis, below var/ and in the logs."""
    forms = sorted({form for each in wanted for form in forms_of_bytes(each)})
    pattern = re.compile(b"|".join(re.escape(form) for form in forms))
    dump = subprocess.run([postgres.binaries() / "pg_dump", "--dbname", url()], capture_output=True, check=True).stdout
    hits = ["dump"] if pattern.search(dump) else []
    client = redis.Redis.from_url(installation.environment("worker")["REDIS_URL"])
    hits += [f"Redis {key!r}" for key in client.scan_iter() if pattern.search(client.dump(key) or b"") or pattern.search(key)]
    places = [*files_below(installation.var), *files_below(installation.logs), *files_below(installation.keys)]
    return hits + [str(path) for path in places if path.is_file() and pattern.search(path.read_bytes())]


def test_of_an_erased_document_nothing_is_found(elsewhere: Running) -> None:
    place = make(elsewhere, "Tidy")
    collection = place.collection("Papers")
    text = f"The {MARKER} harvest was late.\n\n" + "A page about the weather. " * 200
    going, staying = place.upload(
        (f"{MARKER} minutes.txt", text.encode()), ("kept.txt", b"Something else entirely, about ships."), collection=collection
    )
    place.wait_until_ready([going, staying])
    wanted = ciphertexts(place, going)
    assert where(elsewhere, wanted), "the search for it works"
    assert f"{going}" in place.search("harvest").text
    before = place.search("ships").text
    place.owner.post(f"{place.path}documents/{going}/delete/")
    assert str(going) not in place.search("harvest").text
    assert place.download(going).status == 404
    place.owner.post(f"{place.path}documents/{going}/restore/")
    assert str(going) in place.search("harvest").text
    erase(place, going)
    assert where(elsewhere, wanted) == []
    assert where(elsewhere, [form for form in forms_of_word(MARKER) if len(form) >= 16]) == []
    jobs = redis.Redis.from_url(elsewhere.environment("worker")["REDIS_URL"])
    assert [key for key in jobs.scan_iter() if str(going).encode() in key] == []
    assert str(staying) in before
    assert str(staying) in place.search("ships").text
    (receipt,) = receipts_of(place)
    assert proofs.check_receipt(receipt, public_key(elsewhere))["what"] == [str(going)]


def raw_hits(place: Place, wanted: list[bytes]) -> dict[str, int]:
    """How many of these stand in the raw files of the database: what a thief of the disk finds, encrypted."""
    place.database.execute("CHECKPOINT")
    (directory,) = place.database.execute("SHOW data_directory").fetchone() or ("",)
    found = {"tables": 0, "write-ahead log": 0}
    for path in files_below(Path(directory)):
        with suppress(OSError):
            content = path.read_bytes()
            kind = "write-ahead log" if "pg_wal" in path.parts else "tables"
            found[kind] += sum(1 for each in wanted if each in content)
    return found


TABLES = (
    "search_chunk",
    "search_furthervector",
    "search_indexentry",
    "search_sealedvectors",
    "search_terms",
    "search_facts",
    "documents_page",
    "documents_value",
    "documents_document",
)


def test_what_freed_blocks_hold_is_said_and_can_be_written_over(elsewhere: Running) -> None:
    """The honest limit, which every receipt names: freed blocks and the log keep ciphertext until they are written over."""
    place = make(elsewhere, "Blocks")
    (going,) = place.upload(("going.txt", b"Words that will be erased. " * 300))
    place.wait_until_ready([going])
    wanted = ciphertexts(place, going)[:-1]  # without the file, which is unlinked
    before = raw_hits(place, wanted)
    erase(place, going)
    after = raw_hits(place, wanted)
    (receipt,) = receipts_of(place)
    assert any("Disk blocks" in sentence for sentence in receipt["body"]["cannot_reach"])
    print("ciphertext in raw files, before erasing and after:", before, after)
    assert before["tables"] >= len(wanted)

    def is_written_over() -> bool:
        for table in TABLES:  # as docs/administration.md says
            name = sql.Identifier(place.schema, table)
            place.database.execute(sql.SQL("VACUUM FULL {}").format(name))
        return raw_hits(place, wanted)["tables"] == 0

    elsewhere.wait(is_written_over, "rows to go that a transaction which was open can still see")


# ---------------------------------------------------------------- killed


@pytest.mark.parametrize("table", ["search_chunk", "audit_head", "tenants_receipt", "tenants_tenant"])
def test_a_document_whose_erasure_is_killed_is_erased_once(elsewhere: Running, table: str) -> None:
    """The web process is killed while it waits for a table that is held: before, in and after the commit."""
    place = make(elsewhere, f"Killed-{table.replace('_', '-')}")
    going, staying = place.upload(("going.txt", b"Words that will be erased."), ("kept.txt", b"Words that stay."))
    place.wait_until_ready([going, staying])
    place.owner.post(f"{place.path}documents/{going}/delete/")
    committed = table.startswith("tenants_")
    with place.held(table):
        asking = threading.Thread(target=_quietly, args=(place, f"documents/{going}/erase/"))
        asking.start()
        elsewhere.wait(lambda: bool(place.waiters(table)), "the erasure to reach the table")
        elsewhere.kill("web")
        asking.join()
    elsewhere.start_web()
    documents = f"{place.path}documents/"
    if committed:
        elsewhere.wait(lambda: place.owner.get(documents).status == 200, "the worker to finish it")
    else:  # nothing happened: it is in the trash as before, and can be erased
        assert receipts_of(place) == []
        erase(place, going)
    assert place.query("SELECT count(*) FROM documents_document WHERE id = %s", going) == [(0,)]
    assert place.progress(staying).state == "ready"
    (receipt,) = receipts_of(place)
    assert proofs.check_receipt(receipt, public_key(elsewhere))["what"] == [str(going)]
    assert len(list((elsewhere.keys / "witness" / "receipts").glob(receipt["body"]["receipt"]))) == 1


def _quietly(place: Place, path: str) -> None:
    with suppress(Exception):
        place.owner.post(place.path + path)


def kill_while_erasing(place: Place, table: str) -> None:
    """The command is killed while it waits for a table, which must be held."""
    command = [sys.executable, "manage.py", "erase_workspace", place.slug, "--yes", "--json"]
    erasing = subprocess.Popen(command, cwd=ROOT, env=place.running.environment("worker"), stdout=subprocess.DEVNULL)
    place.running.wait(lambda: bool(place.waiters(table)), "the erasure to reach the table")
    erasing.kill()
    erasing.wait()


def test_a_workspace_whose_erasure_is_killed_before_it_is_closed_stays(elsewhere: Running) -> None:
    """Closing it seals its roster anew."""
    place = make(elsewhere, "Not-closed")
    with place.held("tenants_membership"):
        kill_while_erasing(place, "tenants_membership")
    assert (elsewhere.keys / f"{place.id}.key").exists()
    assert place.owner.get(place.path).status == 200
    elsewhere.manage("erase_workspace", place.slug, "--yes")
    assert not (elsewhere.keys / f"{place.id}.key").exists()


@pytest.mark.parametrize("table", ["tenants_tenantkey", "tenants_receipt", "tenants_alarm"])
def test_a_workspace_whose_erasure_is_killed_is_erased_once(elsewhere: Running, table: str) -> None:
    """Before the wrapped keys go, before the receipt is kept, and with the row last of all."""
    place = make(elsewhere, f"Gone-{table.replace('_', '-')}")
    place.database.execute(  # something that goes with the row
        "INSERT INTO tenants_alarm (id, kind, subject, tenant_id, first_at, last_at, times, settled_because)"
        " VALUES (gen_random_uuid(), 'log', %s, %s, now(), now(), 1, '')",
        [place.slug, place.id],
    )
    with place.held(table):
        kill_while_erasing(place, table)
        assert not (elsewhere.keys / f"{place.id}.key").exists()
        assert place.owner.get(place.path).status == 404
    gone = "SELECT count(*) FROM tenants_tenant WHERE id = %s"
    elsewhere.wait(lambda: place.database.execute(gone, [place.id]).fetchone() == (0,), "the worker to finish it")
    rows = place.database.execute("SELECT document FROM tenants_receipt WHERE tenant_id = %s", [place.id]).fetchall()
    assert len(rows) == 1
    assert proofs.check_receipt(rows[0][0], public_key(elsewhere))["workspace"]["id"] == str(place.id)


# ---------------------------------------------------------------- an older backup


def test_an_older_backup_brings_nothing_back(
    elsewhere: Running, administrator: psycopg.Connection[Any], tmp_path: Path
) -> None:
    place, doomed = make(elsewhere, "Restored"), make(elsewhere, "Doomed")
    going, staying = place.upload(("going.txt", b"The secret recipe is old."), ("kept.txt", b"The harbour is large."))
    (lost,) = doomed.upload(("plan.txt", b"The plan of the doomed."))
    place.wait_until_ready([going, staying])
    doomed.wait_until_ready([lost])
    wanted = ciphertexts(place, going)
    dump, files = tmp_path / "backup.dump", tmp_path / "files"
    subprocess.run([postgres.binaries() / "pg_dump", "--dbname", url(), "-Fc", "-f", dump], check=True)
    shutil.copytree(elsewhere.var / "files", files)

    erase(place, going)
    receipt = tmp_path / "receipt.json"
    erased = elsewhere.manage("erase_workspace", doomed.slug, "--yes", "--receipt", str(receipt))
    assert erased["receipt"] == json.loads(receipt.read_text())
    alone = [sys.executable, "-I", ROOT / "tenants" / "proofs.py", receipt, "--key", public_key(elsewhere)]
    assert subprocess.run(alone, cwd=tmp_path, capture_output=True, check=False).returncode == 0

    elsewhere.stop()
    for connection in (place.database, doomed.database):
        connection.close()
    name = sql.Identifier(DATABASE)
    administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
    administrator.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
    restoring = [postgres.binaries() / "pg_restore", "--dbname", url(), dump]
    done = subprocess.run(restoring, capture_output=True, text=True, check=False)
    errors = re.findall(r"pg_restore: error: .*ERROR: +(.*)", done.stderr)
    assert set(errors) <= {f'role "{DATABASE}_{doomed.schema}" does not exist'}, "roles are no part of a dump"
    shutil.rmtree(elsewhere.var / "files")
    shutil.copytree(files, elsewhere.var / "files")

    elsewhere.prepare()  # though a key is missing: that of what was erased
    with psycopg.connect(url(), autocommit=True) as database:
        place.database = doomed.database = database
        assert place.query("SELECT count(*) FROM documents_document WHERE id = %s", going) == [(1,)]
        assert where(elsewhere, wanted), "the backup brought it back"
        elsewhere.start_web()
        for path in ("", "documents/", f"documents/{going}/", f"documents/{going}/download/", f"documents/{staying}/"):
            answer = place.owner.get(place.path + path)
            assert (answer.status, "recipe" in answer.text) == (503, False)
        assert place.search("recipe").status == 503
        assert doomed.owner.get(doomed.path).status == 404
        assert not (elsewhere.keys / f"{doomed.id}.key").exists(), "what it holds cannot be opened"
        elsewhere.start_worker()
        elsewhere.wait(lambda: place.owner.get(f"{place.path}documents/").status == 200, "the list to be followed")
        assert place.owner.get(f"{place.path}documents/{going}/").status == 404
        assert str(going) not in place.search("recipe").text
        assert str(staying) in place.search("harbour").text
        assert b"harbour" in place.download(staying).body
        gone = "SELECT count(*) FROM tenants_tenant WHERE id = %s"
        elsewhere.wait(lambda: database.execute(gone, [doomed.id]).fetchone() == (0,), "the workspace to be erased again")
        assert where(elsewhere, wanted) == []
        kept = database.execute("SELECT document FROM tenants_receipt WHERE tenant_id = %s", [doomed.id]).fetchall()
        assert [document for (document,) in kept] == [erased["receipt"]]
        assert len(receipts_of(place)) == 1
