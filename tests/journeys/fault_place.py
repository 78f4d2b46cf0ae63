"""An installation on a small disk of its own, whose worker, database, Redis and disk can be struck while it stands still."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import psycopg
import redis
from psycopg import sql

from tests.journeys.place import FINAL, files_below
from tests.running import ROOT
from workspace.embedded import Services
from workspace.embedded.account import prepare_child
from workspace.embedded.programs import Program
from workspace.installation import DATABASE_NAME, Installation

PATIENCE = 90.0  # a guard against hanging, not a measure


class Programs(list[Program]):
    """In the place of a supervisor: what stops stays down until a test starts it."""

    def start(self, program: Program) -> None:
        self.append(program)
        program.start()


def wait(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.01)


class FaultPlace:
    def __init__(self, home: Path, bus: Path, *, has_small_disk: bool) -> None:
        self.home, self.bus, self.has_small_disk = home, bus, has_small_disk
        self.temporary = home / "tmp"
        self.temporary.mkdir()
        (home / "keys").mkdir(mode=0o700)
        services = Services(home / "var" / "services")
        self.installation = Installation(
            home / "var", home / "keys", Path(os.environ["MODEL_DIR"]), Path(os.environ.get("STATIC_ROOT", home)), services
        )
        self.installation.make_directories()
        services.prepare({"what": "the fault matrix"})
        self.programs = Programs()
        services.start(self.programs)  # type: ignore[arg-type]
        self.postgres, self.redis_server = self.programs
        self.services = services
        self._run_prepare()
        self._forks = subprocess.Popen(
            [sys.executable, "-m", "tests.journeys.fault_process", str(bus)],
            cwd=ROOT, env=self._environment("worker"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=prepare_child(None, signal.SIGTERM),
        )  # fmt: skip
        assert self._forks.stdout is not None
        assert self._forks.stdout.readline() == "ready\n"
        made = self.answer(self.fork("create"))
        self.tenant, self.schema = UUID(made["id"]), made["schema"]
        self.worker = self.fork("work")
        self.workers_lost = 0  # that ended by themselves
        self._database: psycopg.Connection[Any] | None = None

    def _environment(self, kind: Any) -> dict[str, str]:
        left_out = ("PYTEST_", "DB_PASSWORD_", "FILES_DIR", "WITNESS_DIR")
        more = {"TMPDIR": str(self.temporary), "OCR_LANGUAGES": "eng"}
        found = self.installation.environment(kind, **more)
        kept = {name: value for name, value in found.items() if not name.startswith(left_out)}
        passwords = {"worker": ("WORKER", "OPERATOR"), "administrator": ("WEB", "WORKER", "OPERATOR")}[kind]
        return kept | {f"DB_PASSWORD_{name}": found[f"DB_PASSWORD_{name}"] for name in passwords}

    def _run_prepare(self) -> None:
        done = subprocess.run(
            self.installation.manage("prepare"), env=self._environment("administrator"), cwd=ROOT, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
        self._forks.kill()
        self._forks.wait()
        for program in reversed(self.programs):
            program.stop(hurry=lambda: False)
        self.services.release()

    # -- processes

    def fork(self, do: str, **request: Any) -> int:
        assert self._forks.stdin is not None
        assert self._forks.stdout is not None
        self._forks.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self._forks.stdin.flush()
        return int(self._forks.stdout.readline())

    def ended(self, pid: int) -> bool:
        return (self.bus / f"ended-{pid}").exists()

    def wait_ended(self, pid: int) -> int:
        path = self.bus / f"ended-{pid}"
        wait(lambda: path.exists() and path.read_text() != "", f"process {pid} to end")
        return int(path.read_text())

    def answer(self, pid: int) -> Any:
        code = self.wait_ended(pid)
        assert code == 0, f"exit {code}: {self.log()}"
        return json.loads((self.bus / f"answer-{pid}").read_text())

    def log(self) -> str:
        return (self.bus / "processes.log").read_text(errors="replace")[-6000:]

    def keep_worker(self) -> None:
        """As a supervisor would. One that ended without being killed is counted."""
        if self.ended(self.worker):
            self.workers_lost += (self.bus / f"ended-{self.worker}").read_text() != str(-signal.SIGKILL)
            self.worker = self.fork("work")

    # -- stages

    def stop_at(self, stage: str) -> None:
        (self.bus / "left").unlink(missing_ok=True)
        (self.bus / stage).touch()

    def wait_until_reached(self, stage: str) -> None:
        def reached() -> bool:
            self.keep_worker()
            return (self.bus / "reached").exists()

        wait(reached, f"the stage {stage}")

    def go(self) -> None:
        (self.bus / "reached").unlink(missing_ok=True)

    def wait_until_left(self) -> None:
        wait((self.bus / "left").exists, "the worker to leave the document")

    def receive(self, *forms: str) -> tuple[list[UUID], int]:
        """The ids of the documents, and the process that puts them in."""
        ids = [uuid4() for _ in forms]
        return ids, self.fork("receive", ids=list(map(str, ids)), forms=list(forms))

    # -- what an administrator of the database sees

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            if self._database is None:
                url = self.services.database_url(DATABASE_NAME)
                self._database = psycopg.connect(url, autocommit=True)
                self._database.execute(sql.SQL("SET search_path = {}, public").format(sql.Identifier(self.schema)))
            return self._database.execute(statement, values).fetchall()  # type: ignore[arg-type]
        except psycopg.OperationalError:
            self._database = None
            raise

    def states(self, ids: Sequence[UUID]) -> dict[UUID, tuple[str, str]]:
        rows = self.query("SELECT id, state, reason FROM documents_document WHERE id = ANY(%s)", list(ids))
        return {pk: (state, reason) for pk, state, reason in rows}

    def out_of(self, ids: Sequence[UUID]) -> list[UUID]:
        """Documents that came out of these archives."""
        return [pk for (pk,) in self.query("SELECT id FROM documents_document WHERE archive = ANY(%s)", list(ids))]

    def wait_until_final(self, ids: Sequence[UUID], seconds: float = PATIENCE) -> bool:
        """False when some, or what came out of them, are still unfinished by then."""

        def final() -> bool:
            self.keep_worker()
            try:
                return all(state in FINAL for state, _ in self.states([*ids, *self.out_of(ids)]).values())
            except psycopg.OperationalError:
                return False

        with suppress(TimeoutError):
            wait(final, "documents to become final", seconds)
            return True
        return False

    # -- strikes

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.wait_ended(pid)

    def kill_reader(self) -> None:
        """The process in the sandbox, which has the document: the child of the zygote, the worker's child."""

        def reader() -> list[psutil.Process]:
            with suppress(psutil.NoSuchProcess):
                return [child for zygote in psutil.Process(self.worker).children() for child in zygote.children()]
            return []

        wait(lambda: bool(reader()), "the reader")
        reader()[0].kill()

    def restart_database(self) -> None:
        """As after a crash: nothing is finished, and what was not committed is gone."""
        assert self.postgres.process is not None
        self.postgres.process.send_signal(signal.SIGQUIT)
        wait(self.postgres.ended, "PostgreSQL to end")
        self.postgres.start()

    def stop_redis(self) -> None:
        self.redis_server.stop(hurry=lambda: False)

    def lose_redis(self) -> None:
        redis.Redis.from_url(self.services.redis_url()).flushall()

    def fill_disk(self) -> None:
        with open(self.home / "ballast", "wb") as ballast:
            free = shutil.disk_usage(self.home).free
            with suppress(OSError):
                os.posix_fallocate(ballast.fileno(), 0, free)
            with suppress(OSError):
                while True:
                    ballast.seek(0, os.SEEK_END)
                    ballast.write(bytes(4096))
                    ballast.flush()
            with suppress(OSError):
                ballast.close()

    def free_disk(self) -> None:
        (self.home / "ballast").unlink(missing_ok=True)
        for program in self.programs:  # one that did not bear it
            if program.ended():
                program.start()

    # -- what may not be there

    def files_with(self, needles: Sequence[bytes], *places: Path) -> set[Path]:
        found = set()
        for place in places:
            for path in files_below(place):
                with suppress(OSError):
                    if path.is_file() and not path.is_symlink() and path.name != "ballast":
                        content = path.read_bytes()
                        if any(needle in content for needle in needles):
                            found.add(path)
        return found


@contextmanager
def fault_place(megabytes: int) -> Iterator[FaultPlace]:
    """On a disk of that size in memory. Where mounting is refused, which takes root, it is on the usual one."""
    home, bus = Path(tempfile.mkdtemp(prefix="cloister-faults-")), Path(tempfile.mkdtemp(prefix="cloister-bus-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0711", "cloister-faults", str(home)],
        capture_output=True, check=False,
    ).returncode == 0  # fmt: skip
    home.chmod(0o711)
    place: FaultPlace | None = None
    try:
        place = FaultPlace(home, bus, has_small_disk=mounted)
        yield place
    finally:
        if place is not None:
            place.close()
        if mounted:
            subprocess.run(["umount", "-l", str(home)], check=False)
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(bus, ignore_errors=True)
