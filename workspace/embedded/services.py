"""The services of one home directory: as which account they run, where they are, what their passwords are.

One process at a time may run them (`Claim`); others may use them meanwhile (`Use`).
"""

import hashlib
import json
import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from workspace.embedded import postgres, redis_server
from workspace.embedded.account import OWN_SERVERS, Account, choose_account, prepare_child
from workspace.embedded.claim import Claim, Use, about_runner
from workspace.embedded.errors import CannotStart
from workspace.embedded.private import is_private_directory, write_private
from workspace.embedded.supervisor import Supervisor

LONGEST_SOCKET_PATH = 107  # bytes of sun_path without its final NUL (unix(7))
BOTH = frozenset({"postgres", "redis"})


@dataclass(frozen=True)
class Passwords:
    postgres: str
    redis: str


class Services:
    """Where the services of `home` live and how to reach them. Construct freely; only `prepare` claims the home."""

    def __init__(self, home: Path, *, only: frozenset[str] = BOTH, throwaway: bool = False) -> None:
        self.home = home.resolve()
        self.only = only
        self.throwaway = throwaway
        self.claim: Claim | None = None
        self.logs = self.home / "log"
        self.data = self.home / "postgres"
        self.queue = self.home / "redis"
        self.sockets = self._socket_directory()
        self.redis_socket = self.sockets / "redis.sock"

    def _socket_directory(self) -> Path:
        """In `home`; where that path is too long for a socket, a short one derived from it."""
        here = self.home / "run"
        if len(os.fsencode(here / f".s.PGSQL.{postgres.PORT}")) <= LONGEST_SOCKET_PATH:
            return here
        return Path(tempfile.gettempdir()) / f"cloister-{hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]}"

    @property
    def _runs(self) -> str:
        return " ".join(sorted(self.only))

    # -- claiming and using

    def prepare(self, about: dict[str, str]) -> None:
        """Claim the home, choose the account, make directories and passwords, create the database cluster.

        `about` is what others read about us while we hold the claim. Raises `AlreadyRunning` when it is taken.
        """
        if self.only and os.uname().sysname != "Linux":
            raise CannotStart(f"the embedded services run on Linux only: {OWN_SERVERS}")
        self.claim = Claim(self.home, {**about, "runs": self._runs})
        self.logs.mkdir(mode=0o700, exist_ok=True)
        if not self.only:
            return
        for path in (self.queue, self.sockets):
            path.mkdir(mode=0o700, exist_ok=True)
        redis_binary = redis_server.binary()
        programs = (*postgres.directories(), redis_binary.parent)
        account = choose_account(self.data, [*programs, self.queue.parent, self.sockets.parent])
        for path in (self.queue, self.sockets):
            if os.geteuid() == 0 and path.lstat().st_uid == 0:
                account.own(path)
            if not is_private_directory(path, account.uid):  # one in the temporary directory may be a stranger's
                raise CannotStart(f"{path} must be a directory of {account.name} with mode 0700: remove it and retry")
        if account.hidden:
            account = self._reveal_only_ours(account, programs)
        self.account = account
        for binary in (postgres.binaries() / "initdb", postgres.binaries() / "postgres", redis_binary):
            self._check_runs(binary)
        passwords = self._load_passwords()
        self._postgres = self._postgres_of(account, passwords)
        self._redis = self._redis_of(account, passwords)
        if "postgres" in self.only:
            self._postgres.create()

    def start(self, supervisor: Supervisor) -> None:
        """Start them and wait until they answer."""
        if "postgres" in self.only:
            supervisor.start(self._postgres.program())
        if "redis" in self.only:
            supervisor.start(self._redis.program())

    def describe(self, **words: str) -> None:
        """What others read about us; `ready="yes"` lets them use the services."""
        if self.claim:
            self.claim.describe(**words)

    def release(self) -> None:
        if self.claim:
            if self.sockets.parent != self.home:
                with suppress(OSError):
                    self.sockets.rmdir()
            self.claim.release()
            self.claim = None

    def use(self) -> Use | None:
        """Use them while another process runs them; None while they are not ready or being stopped."""
        use = Use(self.home)
        if use.begin():
            if about_runner(self.home).get("runs") != self._runs:
                raise CannotStart(f"{self.home} is in use with other servers: set DATABASE_URL and REDIS_URL as there")
            passwords = self.passwords()
            account = Account("", os.geteuid(), os.getegid())
            database, queue = self._postgres_of(account, passwords), self._redis_of(account, passwords)
            if ("postgres" not in self.only or database.answers()) and ("redis" not in self.only or queue.answers()):
                return use
        use.file.close()
        return None

    def _postgres_of(self, account: Account, passwords: Passwords) -> postgres.Postgres:
        log = self.logs / "postgres.log"
        return postgres.Postgres(self.data, self.sockets, log, account, passwords.postgres, self.throwaway)

    def _redis_of(self, account: Account, passwords: Passwords) -> redis_server.RedisServer:
        return redis_server.RedisServer(self.queue, self.redis_socket, self.logs / "redis.log", account, passwords.redis)

    # -- account

    def _reveal_only_ours(self, account: Account, programs: tuple[Path, ...]) -> Account:
        """Below each barrier the account sees the binaries, the data and the sockets; nothing else of the checkout."""
        wanted = (*programs, self.data, postgres.being_built(self.data), self.queue, self.sockets)
        hidden = tuple((b, tuple(str(p) for p in wanted if Path(b) in p.parents)) for b, _ in account.hidden)
        return replace(account, hidden=hidden)

    def _check_runs(self, binary: Path) -> None:
        try:
            subprocess.run(
                [binary, "--version"],
                check=True,
                capture_output=True,
                cwd="/",
                preexec_fn=prepare_child(self.account, signal.SIGKILL),
            )
        except (OSError, subprocess.SubprocessError) as error:
            if os.geteuid() != 0:
                raise CannotStart(f"cannot run {binary}: {error}") from error
            barrier = self.account.hidden[0][0] if self.account.hidden else ""
            where = f" (it may not enter {barrier}, and we may not mount past it)" if barrier else ""
            raise CannotStart(
                f"PostgreSQL refuses to run as root, and {self.account.name} cannot run {binary}{where}: {error}. "
                "Start as an ordinary user; or put the checkout where others may enter, such as /srv or /opt, "
                f"installed with umask 022; or {OWN_SERVERS}"
            ) from error

    # -- passwords and addresses

    def _load_passwords(self) -> Passwords:
        path = self.home / "passwords.json"
        if not path.exists():
            if (self.data / "PG_VERSION").exists():
                raise CannotStart(f"{path} is missing although {self.data} exists: restore it from your backup")
            made = {"postgres": secrets.token_urlsafe(32), "redis": secrets.token_urlsafe(32)}
            write_private(path, json.dumps(made))
        return self.passwords()

    def passwords(self) -> Passwords:
        return Passwords(**json.loads((self.home / "passwords.json").read_text()))

    def database_url(self, database: str) -> str:
        """As the superuser."""
        password = quote(self.passwords().postgres, safe="")
        host = quote(str(self.sockets), safe="")
        return f"postgresql://{postgres.SUPERUSER}:{password}@{host}:{postgres.PORT}/{database}"

    def redis_url(self) -> str:
        return f"unix://{quote(str(self.redis_socket))}?db=0&password={quote(self.passwords().redis, safe='')}"


@contextmanager
def embedded(services: Services, about: dict[str, str]) -> Iterator[Supervisor]:
    """The services, running, for as long as the block lasts, with whatever else the supervisor is given."""
    try:
        with Supervisor() as supervisor:
            try:
                services.prepare(about)
                services.start(supervisor)
                yield supervisor
            finally:
                services.describe(ready="no")
    finally:
        services.release()
