"""A web server of one's own for the length of a measurement, and a browser that does no more than HTTP needs."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit, urlunsplit

from tenants.errors import Refused
from workspace.embedded.account import prepare_child
from workspace.installation import CHECKOUT

START_SECONDS = 60.0
STOP_SECONDS = 15.0


@contextmanager
def web_server() -> Iterator[int]:
    """Its port, once it answers. To be entered in the main thread, before any other exists."""
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--config", "python:workspace.gunicorn_config"),
                *("--bind", f"fd://{listener.fileno()}", "workspace.benchmarks.wsgi:application"),
            ],
            cwd=CHECKOUT,
            env=_environment(),
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
            preexec_fn=prepare_child(None, signal.SIGTERM),
        )
        try:
            port = listener.getsockname()[1]
            if not _answers(port, process):
                log.seek(0)
                raise Refused(f"The web server did not start:\n{log.read().decode(errors='replace')[-2000:]}")
            yield port
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environment() -> dict[str, str]:
    """Ours, but for what a web process is not given: the other logins' passwords and the administrator's."""
    if "DB_PASSWORD_WEB" not in os.environ:
        raise Refused("DB_PASSWORD_WEB is not set, which the web server needs: use bin/manage benchmark search.")
    withheld = {"DB_PASSWORD_WORKER", "DB_PASSWORD_OPERATOR", "HOSTS", "HTTPS", "TRUST_PROXY"}
    found = {name: value for name, value in os.environ.items() if name not in withheld}
    address = urlsplit(found["DATABASE_URL"])
    found["DATABASE_URL"] = urlunsplit(address._replace(netloc=address.netloc.rpartition("@")[2]))
    return found | {"CLOISTER_LOGIN": "web", "RATE_SEARCH": "1000000/60", "RATE_UPLOAD": "1000000/60"}


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health/")
            return connection.getresponse().status == http.client.OK
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    return False


class Browser:
    """Signed in, on one connection that stays open."""

    def __init__(self, port: int, email: str, password: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._cookies: dict[str, str] = {}
        self.headers: Message = Message()  # of the last answer
        self._ask("GET", "/accounts/login/")
        status, _ = self.post("/accounts/login/", {"login": email, "password": password})
        if status != http.client.FOUND or "sessionid" not in self._cookies:
            raise Refused(f"Signing in failed with status {status}.")

    def get(self, path: str) -> tuple[int, bytes]:
        return self._ask("GET", path)

    def post(self, path: str, fields: dict[str, str], *, htmx: bool = False) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "X-CSRFToken": self._cookies["csrftoken"]}
        if htmx:
            headers |= {"HX-Request": "true", "HX-Target": "results"}
        return self._ask("POST", path, urlencode(fields), headers)

    def close(self) -> None:
        self._connection.close()

    def _ask(self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        self._connection.request(method, path, body, {**(headers or {}), "Cookie": cookies})
        answer = self._connection.getresponse()
        self.headers = answer.headers
        for line in answer.headers.get_all("Set-Cookie", []):
            self._cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
        return answer.status, answer.read()
