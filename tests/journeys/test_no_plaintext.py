"""What people put in is nowhere to be read: a word planted everywhere is looked for in everything that is stored or logged.

Looked at: a dump of the whole database, its raw files (write-ahead log and catalogs too), every value of Redis and its file,
everything below var/, the logs of all four processes, the temporary directories. And that this looking finds what is there.
"""

import base64
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from psycopg import sql

from tenants.keys.keyring import PURPOSES, derive, wrap_binding
from tenants.keys.providers import Keystore
from tests.documents import files
from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place, files_below
from tests.journeys.visitor import PASSWORD, Visitor
from tests.running import ROOT, Running
from workspace.embedded import postgres
from workspace.plaintext_map.forms import forms_of_bytes, forms_of_word, unpacked

pytestmark = pytest.mark.slow

ALPHABET = "bcdfghjklmnpqrstvwxz"  # no vowels: not a word, and no stemmer takes anything off
MARKER = "".join(secrets.choice(ALPHABET) for _ in range(16))  # planted in what must not be found
CONTROL = "".join(secrets.choice(ALPHABET) for _ in range(16))  # planted where it must be found
LARGEST = 256 << 20  # bytes of one file


class Everything:
    """All that this installation keeps or says, as (where, bytes)."""

    def __init__(self, running: Running, database: psycopg.Connection[Any], since: float) -> None:
        self._running, self._database, self._since = running, database, since
        self._redis = redis.Redis.from_url(running.environment("worker")["REDIS_URL"])

    def places(self) -> Iterator[tuple[str, bytes]]:
        yield from self._dump()
        yield from self._redis_values()
        for path in self._files():
            try:
                if path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST:
                    yield str(path), path.read_bytes()
            except (FileNotFoundError, PermissionError):
                continue  # of another process, which removed it meanwhile or keeps it to itself

    def _dump(self) -> Iterator[tuple[str, bytes]]:
        command = [postgres.binaries() / "pg_dump", "--dbname", os.environ["DATABASE_URL"]]
        dump = subprocess.run(command, capture_output=True, check=True).stdout
        assert b"CREATE TABLE public.tenants_user " in dump
        yield "pg_dump", dump
        schemas = {found.decode() for found in re.findall(rb"CREATE SCHEMA (tenant_\w+);", dump)}
        rows = self._database.execute("SELECT schema_name FROM tenants_tenant WHERE status = 'active'").fetchall()
        assert schemas >= {schema for (schema,) in rows}

    def _redis_values(self) -> Iterator[tuple[str, bytes]]:
        read: dict[bytes, Callable[[bytes], Any]] = {
            b"string": self._redis.get,
            b"hash": self._redis.hgetall,
            b"list": lambda key: self._redis.lrange(key, 0, -1),
            b"set": self._redis.smembers,
            b"zset": lambda key: self._redis.zrange(key, 0, -1),
            b"stream": self._redis.xrange,
        }
        for key in self._redis.scan_iter():
            value = read[self._redis.type(key)](key) if self._redis.exists(key) else b""
            parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            parts = [parts] if isinstance(parts, bytes) else list(parts or [])
            yield f"Redis {key!r}", b"\n".join([key, *(unpacked(part) for part in parts if isinstance(part, bytes))])

    def _files(self) -> Iterator[Path]:
        self._database.execute("CHECKPOINT")
        (directory,) = self._database.execute("SHOW data_directory").fetchone() or ("",)
        data = Path(directory)
        assert (data / "pg_wal").is_dir()
        queue = Path(self._redis.config_get("dir")["dir"])
        assert (queue / "appendonly.aof").is_file()
        logs = data.parent / "log"
        assert {path.name for path in logs.iterdir()} >= {"postgres.log", "redis.log"}
        ours = [data, queue, logs, self._running.var, self._running.logs]
        for directory_ in ours:
            yield from files_below(directory_)
        for directory_ in (Path(tempfile.gettempdir()), Path("/dev/shm")):
            for path in files_below(directory_):
                try:
                    recent = path.is_file() and path.stat().st_mtime >= self._since
                except OSError:
                    continue
                if recent and self._running.keys not in path.parents and not any(our in path.parents for our in ours):
                    yield path


def found_in(everything: Everything, forms: list[bytes]) -> list[str]:
    """Where any of the forms stands, with what stands around it."""
    pattern = re.compile(b"|".join(re.escape(form) for form in forms))
    hits = []
    for where, content in everything.places():
        if any(form in content for form in forms):
            hit = pattern.search(content)
            assert hit
            hits.append(f"{where}: {content[max(0, hit.start() - 80) : hit.end() + 40]!r}")
    return hits


@pytest.fixture(scope="module")
def since() -> float:
    return time.time()


@pytest.fixture(scope="module")
def everything(running: Running, database: psycopg.Connection[Any], since: float) -> Everything:
    return Everything(running, database, since)


@pytest.fixture(scope="module")
def planted(running: Running, make_place: MakePlace, since: float) -> Place:
    """A workspace in which every confidential thing holds the marker, and everything was done with it that can be done."""
    place = make_place("Discreet")
    word = iter(range(1000))

    def marked(text: str = "") -> str:
        return f"{MARKER}{chr(97 + next(word) % 26)} {text}".strip()

    collection = place.collection(marked("collection"))
    body = f"The {marked('harvest')} was late.\n\n" + f"A page about {marked('weather')}. " * 200
    documents = place.upload(
        (f"{marked('minutes')}.txt", body.encode()),
        (f"{marked('slides')}.pdf", files.pdf([f"On {marked()} one", f"On {marked()} two"])),
        (f"{marked('letter')}.docx", files.docx(files.paragraph(marked("paragraph")))),
        (f"{marked('table')}.xlsx", files.xlsx({MARKER: [[marked(), "sum"], ["cost", 12]]})),
        (f"{marked('broken')}.pdf", files.pdf([marked()])[:200]),
        (f"{marked('program')}.exe", b"MZ" + marked().encode()),
        collection=collection,
    )
    ended = place.wait_until_final(documents)
    assert [ended[document].state for document in documents] == ["ready"] * 4 + ["failed"] * 2

    viewer = place.member("viewer")
    for question in (marked("harvest"), f"what about {marked()} weather", "=" + marked()):
        assert MARKER in place.search(question, viewer, collection=collection).text
    shared = viewer.post(f"{place.path}s/", {"q": marked("shared"), "collection": collection})
    assert MARKER in viewer.get(shared.path).text
    rows = f"question,document,grade\nWho did {marked('judged')}?,{MARKER} minutes.txt,1\n{marked()},{marked()}.txt,1\n"
    judged = place.owner.post(
        f"{place.path}evaluation/upload/", {"name": marked("judgments")}, [("file", (f"{marked()}.csv", rows.encode()))]
    )
    run = place.owner.post(f"{judged.path}run/").path
    running.wait(lambda: place.owner.get(f"{run}status/").status == 286, "the run")
    for page in (f"{run}export.json", f"{run}export.csv", run, judged.path):
        assert MARKER in place.owner.get(page).text

    # what goes wrong is logged and kept too
    place.owner.post(f"{place.path}evaluation/upload/", {"name": marked()}, [("file", ("bad.csv", marked().encode()))])
    place.owner.post(f"{place.path}collections/create/", {"name": MARKER + "x" * 200})
    place.owner.post(f"{place.path}documents/upload/", {"collection": marked()}, [("files", (marked(), b""))])
    place.search(marked() * 200)
    place.owner.get(f"{place.path}documents/?state={MARKER}&collection={MARKER}")
    place.owner.get(f"{place.path}?q={MARKER}", {"Referer": f"{running.url}/{MARKER}", "User-Agent": MARKER})
    anonymous = Visitor(running.url)
    anonymous.post(place.path, {"q": marked()}, headers={"X-CSRFToken": MARKER})
    anonymous.get("/accounts/login/")
    anonymous.post("/accounts/login/", {"login": place.email, "password": marked("a mistyped password")})
    place.owner.get(f"{place.path}documents/{documents[0]}/download/")
    place.owner.post(f"{place.path}documents/{documents[1]}/delete/")
    place.owner.post(f"{place.path}documents/{documents[4]}/retry/")
    return place


def test_the_marker_is_nowhere(planted: Place, everything: Everything) -> None:
    assert MARKER in planted.search(MARKER).text
    assert found_in(everything, forms_of_word(MARKER)) == []


def test_the_command_finds_it_nowhere_either(running: Running, planted: Place) -> None:
    """The product's own look, told the marker that stands in every input of the workspace."""
    done = subprocess.run(
        [sys.executable, "manage.py", "audit_plaintext", "--workspace", planted.slug, "--words", "-", "--json"],
        cwd=ROOT, env=running.environment("worker"), input=MARKER, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["found"], answer["unknown"], answer["controls_failed"], answer["states"]) == (0, 0, [], ["clean"])
    looked_at = {store["name"] for store in answer["stores"] if not store["checked"].startswith("not looked")}
    assert len(looked_at) > 300
    assert not [store for store in answer["stores"] if store["kind"] == "unknown"]


def test_a_link_that_grants_access_is_nowhere(running: Running, planted: Place, everything: Everything) -> None:
    """The mail waits encrypted for staff to hand it over; opened, its link is in no log."""
    staff = Visitor(running.url)
    staff.choose_password(running.manage("create_admin", "staff@discreet.example")["password_link"])
    staff.sign_in("staff@discreet.example")
    staff.set_up_second_factor()
    asking = Visitor(running.url)
    asking.get("/accounts/password/reset/")
    asking.post("/accounts/password/reset/", {"email": planted.email})
    (newest,) = planted.query("SELECT id FROM tenants_outgoingmail WHERE recipient = %s", planted.email)
    page = staff.get(f"/admin/tenants/outgoingmail/{newest[0]}/change/").text
    link = re.search(r"http\S+/accounts/password/reset/key/([^/<]+)/", page)
    assert link, page
    assert "Choose a new password" in asking.get(link[0]).text
    offered = planted.owner.post(f"{planted.path}members/invite/", {"email": "guest@discreet.example", "role": "viewer"})
    invitation = re.search(r"http\S+/invitation/([^/\"]+)/", offered.text)
    assert invitation
    assert asking.get(invitation[0]).status == 200
    sessions = [cookie.value or "" for cookie in planted.owner.cookies if cookie.name == "sessionid"]
    assert len(sessions) == 1
    for secret in (link[1], invitation[1], sessions[0], PASSWORD):
        forms = {form for encoding in ("utf-8", "utf-16-le") for form in forms_of_bytes(secret.encode(encoding))}
        assert found_in(everything, sorted(forms)) == []


def test_no_key_lies_beside_what_it_opens(running: Running, planted: Place, everything: Everything) -> None:
    """Neither the wrapping keys, nor the workspace's key, nor what is derived from it."""
    kept = [json.loads((running.keys / f"{name}.key").read_text()) for name in ("installation", planted.id)]
    keys = [base64.b64decode(entry["key"]) for entry in kept]
    rows = planted.query("SELECT version, wrapped FROM tenants_tenantkey WHERE tenant_id = %s", planted.id)
    for version, wrapped in rows:
        bound_to = wrap_binding(planted.id, version)
        opened = Keystore(running.keys).unwrap(planted.id, bytes(wrapped), bound_to)
        derived = [derive(opened, name.encode(), planted.id.bytes, version.to_bytes(4, "big")) for name in PURPOSES]
        keys += [opened, *derived]
    assert len(keys) == 3 + len(PURPOSES)
    assert found_in(everything, sorted({form for key in keys for form in forms_of_bytes(key)})) == []


def test_the_search_for_it_works(
    running: Running, planted: Place, everything: Everything, database: psycopg.Connection[Any]
) -> None:
    """Written on purpose in the clear, in every place and form, it is found there."""
    word = CONTROL.encode()
    scratch = {
        "plain": word,
        "utf-16": CONTROL.encode("utf-16"),
        "hex": b"x" + word.hex().encode(),
        **{f"base64 {n}": base64.b64encode(b"k" * n + word + b"tail") for n in range(3)},
        "title": CONTROL.title().encode(),
    }
    for name, content in scratch.items():
        (running.var / f"scratch {name}").write_bytes(content)
    queue = redis.Redis.from_url(running.environment("worker")["REDIS_URL"])
    queue.hset("scratch", "field", zlib.compress(b"packed " + word))
    _keep_write_ahead_log(database, "1GB")  # else a checkpoint may remove what was written before it
    table = sql.Identifier(planted.schema, "scratch")
    database.execute(sql.SQL("CREATE TABLE {} (content bytea)").format(table))
    for _ in range(2):  # where a page of the log ends within one, the other is whole
        database.execute(sql.SQL("INSERT INTO {} VALUES (%s)").format(table), [word])
    planted.owner.get(f"{planted.path}{CONTROL}/")
    with tempfile.NamedTemporaryFile() as temporary:
        temporary.write(word)
        temporary.flush()
        hits = found_in(everything, forms_of_word(CONTROL))
    _keep_write_ahead_log(database, "0")
    queue.delete("scratch")
    database.execute(sql.SQL("DROP TABLE {}").format(table))
    for name in scratch:
        (running.var / f"scratch {name}").unlink()
    text = "\n".join(hits)
    wanted = ["pg_dump", "/base/", "/pg_wal/", "Redis b'scratch'", "web.log", temporary.name]
    wanted += [f"scratch {name}" for name in scratch]
    assert [where for where in wanted if where not in text] == []


def _keep_write_ahead_log(database: psycopg.Connection[Any], size: str) -> None:
    database.execute(sql.SQL("ALTER SYSTEM SET wal_keep_size = {}").format(size))
    database.execute("SELECT pg_reload_conf()")
