"""A whole installation in processes of its own (web server, worker), for tests that kill, drive a browser, or scan.

It has its own database, keys, files and Redis database beside those of the other tests, on the same servers.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from workspace.embedded.account import prepare_child

ROOT = Path(__file__).resolve().parent.parent
REDIS_NUMBER = 3


class Running:
    def __init__(self, home: Path, database: str = "", redis_number: int = REDIS_NUMBER) -> None:
        """`database`: another than the tests', for what must not happen to theirs."""
        self.home, self.database, self.redis_number = home, database, redis_number
        self.var, self.keys, self.logs = home / "var", home / "keys", home / "logs"
        for directory in (self.var, self.keys, self.logs):
            directory.mkdir(parents=True, mode=0o700)
        self.settings: dict[str, str] = {}  # what a test sets for every process
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    # -- environments: each process gets what it gets in production

    def environment(self, kind: str) -> dict[str, str]:
        """`kind`: web, worker (also for commands) or administrator."""
        found = {name: value for name, value in os.environ.items() if not name.startswith(("DB_PASSWORD_", "PYTEST_"))}
        parts = urlsplit(os.environ["DATABASE_URL"])
        if self.database:
            parts = parts._replace(path=f"/{self.database}")
        if kind != "administrator":
            parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        passwords = {"web": ("WEB",), "worker": ("WORKER", "OPERATOR"), "administrator": ("WEB", "WORKER", "OPERATOR")}[kind]
        redis = re.sub(r"db=\d+", f"db={self.redis_number}", os.environ["REDIS_URL"])
        found |= {
            "DATABASE_URL": urlunsplit(parts),
            "REDIS_URL": redis if redis.startswith("unix:") else re.sub(r"/\d+$", f"/{self.redis_number}", redis),
            "CLOISTER_LOGIN": "web" if kind == "web" else "worker",
            "CLOISTER_VAR": str(self.var),
            "KEYS_DIR": str(self.keys),
            "PUBLIC_URL": self.url,
            "PORT": str(self.port),
            "DJANGO_SETTINGS_MODULE": "workspace.settings",
            "RATE_INSTANT": "100000/60",
            "RATE_SEARCH": "100000/60",  # no person is as quick as a test
            "RATE_UPLOAD": "100000/60",
            **{f"DB_PASSWORD_{name}": os.environ[f"DB_PASSWORD_{name}"] for name in passwords},
            **self.settings,
        }
        return found

    # -- commands and processes

    def manage(self, *arguments: str, kind: str = "worker", may_fail: bool = False) -> Any:
        """Run a command with --json; returns its answer."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments, "--json"],
            cwd=ROOT, env=self.environment(kind), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert may_fail or done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def shell(self, code: str) -> None:
        """Run statements as a worker of this installation would: rows that grant access are sealed by it, not by a test."""
        command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", code]
        subprocess.run(command, cwd=ROOT, env=self.environment("worker"), check=True)

    def prepare(self) -> None:
        self.manage("prepare", kind="administrator")

    def start_web(self) -> None:
        command = [sys.executable, "-m", "gunicorn", "-c", "python:workspace.gunicorn_config", "workspace.wsgi"]
        self._start("web", [*command, "--bind", f"127.0.0.1:{self.port}"], "web")
        self.wait(self._healthy, "the web server to answer")

    @contextmanager
    def further_web(self, **environment: str) -> Iterator[str]:
        """A second web process of this installation, with settings of its own; its address."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "-c", "python:workspace.gunicorn_config", "workspace.wsgi"]
        self._start("further-web", [*command, "--bind", f"127.0.0.1:{port}"], "web", **environment)

        def answers() -> bool:
            with socket.socket() as visitor:
                return visitor.connect_ex(("127.0.0.1", port)) == 0

        try:
            self.wait(answers, "the further web process to answer")
            yield f"http://127.0.0.1:{port}"
        finally:
            self.kill("further-web")

    def start_worker(self, **environment: str) -> None:
        self._start("worker", [sys.executable, "manage.py", "worker"], "worker", **environment)

    def _start(self, name: str, command: list[str], kind: str, **environment: str) -> None:
        log = (self.logs / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment(kind) | environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=prepare_child(None, signal.SIGTERM),  # a test run that is killed leaves nothing running
        )
        log.close()

    def kill(self, name: str) -> None:
        """SIGKILL to the process and all it started."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def is_alive(self, name: str) -> bool:
        return self.processes[name].poll() is None

    def stop(self) -> None:
        for name, process in list(self.processes.items()):
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill(name)
        self.processes.clear()

    def log(self, name: str) -> str:
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _healthy(self) -> bool:
        assert self.is_alive("web"), self.log("web")
        try:
            with urllib.request.urlopen(f"{self.url}/health/", timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    @staticmethod
    def wait(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
        """Until the condition holds; the limit is a guard against hanging, not a measure."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
            time.sleep(0.1)
