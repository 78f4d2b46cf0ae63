"""PostgreSQL and Redis as our children: real processes, started, killed and started again in a directory of their own."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import redis

from workspace.embedded import CannotStart, Services
from workspace.embedded.redis_server import QUEUE_FILE

ROOT = Path(__file__).resolve().parents[2]
SERVE = """
import sys
from pathlib import Path
from workspace.embedded import CannotStart, Services, embedded
services = Services(Path(sys.argv[1]), throwaway=True)
try:
    with embedded(services, {"what": "test"}) as supervisor:
        services.describe(ready="yes")
        print("ready", flush=True)
        code = supervisor.run()
except CannotStart as error:
    sys.exit(str(error))
sys.exit(code)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """Not pytest's own, which only its owner may enter: as root the services run under another account."""
    found = Path(tempfile.mkdtemp(prefix="cloister-"))
    found.chmod(0o711)
    yield found
    shutil.rmtree(found)


Server = subprocess.Popen[str]


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Server]]:
    started: list[Server] = []

    def start(home: Path) -> Server:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(home)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout
        process.stdout.readline()
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=30)


def processes_of(home: Path) -> list[int]:
    """Those whose command line or working directory lies in `home`: supervisor, postmaster, backends, Redis."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes() + os.fsencode(os.readlink(entry / "cwd"))
            except OSError:
                continue
            if os.fsencode(home) in words:
                found.append(int(entry.name))
    return found


def gone(home: Path, within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while processes_of(home) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not processes_of(home)


def sql(home: Path, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(Services(home).database_url("postgres"), autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def test_it_serves_to_its_own_passwords_only_and_leaves_nothing_running(place, serve):
    server = serve(place)
    services = Services(place)

    assert sql(place, "SELECT upper('é')") == [("É",)]  # without a locale of the system
    assert redis.Redis.from_url(services.redis_url()).ping()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host=str(services.sockets), user="postgres", dbname="postgres", password="guess")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(unix_socket_path=str(services.redis_socket)).ping()

    assert stat.S_IMODE(services.sockets.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "passwords.json").stat().st_mode) == 0o600
    secrets = [services.passwords().postgres.encode(), services.passwords().redis.encode()]
    command_lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_of(place)]
    assert not [line for line in command_lines if any(secret in line for secret in secrets)]

    server.send_signal(signal.SIGINT)
    assert server.wait(20) == 0
    assert gone(place, within=1)


def test_committed_rows_survive_a_kill_of_everything(place, serve):
    serve(place)
    sql(place, "CREATE TABLE kept (word text)")
    sql(place, "INSERT INTO kept VALUES ('here')")
    sql(place, "CHECKPOINT")

    for pid in processes_of(place):
        with suppress(ProcessLookupError):  # PostgreSQL's own end when their parent does
            os.kill(pid, signal.SIGKILL)
    assert gone(place)
    assert (place / "postgres" / "postmaster.pid").exists()

    serve(place)
    assert sql(place, "SELECT word FROM kept") == [("here",)]


def test_a_lock_naming_a_living_process_is_stale_all_the_same(place, serve):
    server = serve(place)
    server.terminate()
    server.wait(20)
    lock = place / "postgres" / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n{place / 'postgres'}\n{int(time.time())}\n5432\n{place / 'run'}\n\n")

    serve(place)
    assert sql(place, "SELECT 1") == [(1,)]


def test_services_end_with_their_supervisor(place, serve):
    server = serve(place)
    server.kill()
    assert gone(place)


def test_the_same_home_twice_is_refused_in_one_sentence(place, serve):
    serve(place)
    second = serve(place)
    _, said = second.communicate(timeout=20)
    assert second.returncode == 1
    assert said == f"the services of {place} are already running\n"
    assert sql(place, "SELECT 1") == [(1,)]


def test_a_path_too_long_for_a_socket(place, serve):
    home = place / ("long" * 40)
    server = serve(home)
    sockets = Services(home).sockets
    assert sockets.parent == Path(tempfile.gettempdir())
    assert sql(home, "SELECT 1") == [(1,)]

    server.terminate()
    assert server.wait(20) == 0
    assert not sockets.exists()


def test_a_damaged_queue_is_set_aside(place, serve):
    server = serve(place)
    client = redis.Redis.from_url(Services(place).redis_url())
    client.mset({f"job:{number}": "x" * 50 for number in range(200)})
    client.mset({f"more:{number}": "x" * 50 for number in range(200)})
    server.terminate()
    server.wait(20)
    queue = place / "redis" / QUEUE_FILE
    content = queue.read_bytes()
    queue.write_bytes(content[:2000] + b"\0" * 500 + content[2500:])

    serve(place)
    assert redis.Redis.from_url(Services(place).redis_url()).dbsize() == 0
    assert [path.name for path in (place / "redis").glob("appendonly.damaged-*.aof")]


def test_what_people_write_is_not_in_the_log(place, serve):
    server = serve(place)
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        sql(place, "SELECT 'my secret question'::uuid")
    server.terminate()
    server.wait(20)
    log = (place / "log" / "postgres.log").read_text()
    assert "ready to accept connections" in log
    assert "secret question" not in log


def test_missing_passwords_are_not_replaced_beside_existing_data(place, serve):
    server = serve(place)
    server.terminate()
    server.wait(20)
    (place / "passwords.json").unlink()

    again = serve(place)
    _, said = again.communicate(timeout=20)
    assert again.returncode == 1
    assert "restore it from your backup" in said


def test_others_use_running_services_and_hold_them(place, serve):
    assert not (place / "uses").exists()
    serve(place)
    use = Services(place).use()
    assert use is not None

    claim_closed = subprocess.run(
        ["flock", "--nonblock", "--exclusive", str(place / "uses"), "true"], check=False
    ).returncode  # fmt: skip
    assert claim_closed != 0
    use.file.close()


def test_use_of_a_home_that_runs_something_else_is_refused(place, serve):
    serve(place)
    with pytest.raises(CannotStart, match="in use with other servers"):
        Services(place, only=frozenset({"redis"})).use()
