"""Starts the whole product on this machine and keeps it running until asked to stop: what bin/up does.

Knows in which order things start and what a person has to be told; not how any of them works.
"""

import argparse
import http.client
import ipaddress
import json
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from workspace import build
from workspace import environment as env
from workspace.embedded import AlreadyRunning, CannotStart, Program, Supervisor, embedded
from workspace.embedded.account import become_owner
from workspace.embedded.claim import about_runner
from workspace.installation import CHECKOUT, Installation, is_set

PORTS_TO_TRY = 100


@dataclass
class Steps:
    """Tells a person what is being done and how long each step took."""

    begun: float = field(default_factory=time.monotonic)

    @contextmanager
    def step(self, label: str) -> Iterator[None]:
        begun = time.monotonic()
        print(f"  {label:<44}", end="", flush=True)
        try:
            yield
        except BaseException:
            print("failed", flush=True)
            raise
        print(f"{time.monotonic() - begun:7.1f} s", flush=True)


@dataclass(frozen=True)
class Site:
    """What runs: its address, and what `manage.py demo` said of the demo workspace (empty where there is none)."""

    url: str
    demo: dict[str, Any]


def start(installation: Installation, supervisor: Supervisor, listener: socket.socket, steps: Steps, *, demo: bool) -> Site:
    """Everything above the services, in the order in which one part needs the other."""
    workers = env.whole_number("WORKERS", 1, 1)
    if build.model_is_missing(installation):
        with steps.step("exporting the search model, once"):
            build.export_model(installation, supervisor)
    with steps.step("database, roles and keys"):
        printed = build.prepare_database(installation, supervisor)
    tell(printed)
    installation.services.describe(ready="yes")
    if build.static_files_changed(installation):
        with steps.step("static files"):
            build.collect_static_files(installation, supervisor)
    url = address(listener)
    with steps.step("web server"):
        supervisor.start(web(installation, listener, url))
    with steps.step("worker"):
        for number in range(1, workers + 1):
            supervisor.start(worker(installation, url, number))
    said: dict[str, Any] = {}
    if demo:
        with steps.step("demo workspace"):
            said = make_demo(installation, supervisor, url)
    installation.services.describe(url=url)
    return Site(url, said)


def tell(printed: str) -> None:
    """What `prepare` has to say to the person, such as the first administrator's login."""
    for line in printed.splitlines():
        print(f"    {line}")


def web(installation: Installation, listener: socket.socket, url: str) -> Program:
    host, port = listener.getsockname()[:2]
    own = defaults(url)
    return Program(
        "the web server",
        [
            *(sys.executable, "-m", "gunicorn", "--config", "python:workspace.gunicorn_config"),
            *("--bind", f"fd://{listener.fileno()}", "workspace.wsgi:application"),
        ],
        installation.logs / "web.log",
        installation.environment("web", **own, PORT=str(port)),
        cwd=str(CHECKOUT),
        keep_fds=(listener.fileno(),),  # ours, so that nobody takes the port while the web server restarts
        ready=lambda: is_healthy(host, port, own["HOSTS"].split(",")[0].strip()),
        stop_signals=((signal.SIGTERM, 12.0),),
    )


def worker(installation: Installation, url: str, number: int) -> Program:
    return Program(
        "the worker" if number == 1 else f"worker {number}",
        installation.manage("worker"),
        installation.logs / ("worker.log" if number == 1 else f"worker-{number}.log"),
        installation.environment("worker", **defaults(url)),
        cwd=str(CHECKOUT),
        # The second SIGTERM asks RQ to leave its job; the job is taken up again at the next start.
        stop_signals=((signal.SIGTERM, 8.0), (signal.SIGTERM, 3.0)),
    )


def make_demo(installation: Installation, supervisor: Supervisor, url: str) -> dict[str, Any]:
    printed = supervisor.errand(
        "manage.py demo",
        installation.manage("demo", "--json"),
        installation.environment("command", **defaults(url)),
        cwd=CHECKOUT,
        log=installation.logs / "demo.log",
    )
    found = json.loads(printed)
    return found if isinstance(found, dict) else {}


def defaults(url: str) -> dict[str, str]:
    """What follows from where we listen, unless the person has set it."""
    return {"PUBLIC_URL": env.text("PUBLIC_URL", url), "HOSTS": env.text("HOSTS", "localhost,127.0.0.1,[::1]")}


def is_healthy(host: str, port: int, host_name: str) -> bool:
    """Whether the web server answers; `host_name` is one it serves."""
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (asked for by the person)
    connection = http.client.HTTPConnection(target, port, timeout=2)
    try:
        connection.request("GET", "/health/", headers={"Host": host_name})
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def listen(host: str, port: int, *, or_next: bool) -> socket.socket:
    """A listening socket; with `or_next`, on the first free port from `port` on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    candidate = port
    for candidate in range(port, min(port + (PORTS_TO_TRY if or_next else 1), 65536)):
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, candidate))
            listener.listen(512)
        except OSError as error:
            listener.close()
            if not or_next or isinstance(error, (PermissionError, socket.gaierror)):
                problem = f"cannot listen on {host}, port {candidate} ({error.strerror})"
                raise CannotStart(f"{problem}: choose another with --host or --port") from None
            continue
        return listener
    raise CannotStart(f"no port from {port} to {candidate} is free on {host}: choose another with --port")


def address(listener: socket.socket) -> str:
    """By name where it is this machine: browsers keep passkeys for names only."""
    host, port = listener.getsockname()[:2]
    return f"http://{'localhost' if host == '127.0.0.1' else bracketed(host)}:{port}"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def wanted_port(given: int | None) -> tuple[int, bool]:
    """The port, and whether the next free one does as well."""
    port = given if given is not None else env.whole_number("PORT", 8000, 1)
    if not 0 < port < 65536:
        raise env.BadSetting("--port" if given is not None else "PORT", f"{port} is not a port: use 1 to 65535.")
    return port, given is None and not is_set("PORT")


def was_drilled() -> bool:
    """Whether a backup of the keys was ever proven (tenants/keys/drill.py)."""
    return (env.path("WITNESS_DIR", Installation.from_environment().keys / "witness") / "keystore-drill").exists()


def announce(site: Site) -> None:
    print(f"\nCloister runs at {site.url}/")
    logins = site.demo.get("logins", [])
    if logins:
        print("\nThe demo workspace, for trying things out on this machine:")
        for login in logins:
            print(f"  {login.get('role', ''):<14} {login['email']:<28} {login['password']}")
    else:
        print("\nMake the first administrator with: bin/manage create_admin you@example.org")
    if not was_drilled():
        print("\nBack up the keys, apart from the data: without them nothing can be read. Then prove the backup with:")
        print("  bin/manage keystore_drill --backup PATH")
    print("\nStop it with Ctrl-C.", flush=True)


def serve(host: str, port: int, or_next: bool) -> int:
    if not is_loopback(host) and not is_set("HOSTS"):
        raise env.BadSetting("HOSTS", f"is not set: to serve on {host}, list the host names people use, with commas.")
    installation = Installation.from_environment()
    become_owner(installation.var)
    installation.make_directories()
    demo = installation.database_is_ours and is_loopback(host)  # random logins, but printed: for this machine alone
    steps = Steps()
    wait_for_commands(installation)
    with running(installation, steps) as supervisor, listen(host, port, or_next=or_next) as listener:
        site = start(installation, supervisor, listener, steps, demo=demo)
        announce(site)
        code = supervisor.run()
        print("\nStopping.", flush=True)
    return code


@contextmanager
def running(installation: Installation, steps: Steps) -> Iterator[Supervisor]:
    """The services that are ours to run, and a supervisor for what comes on top of them."""
    around = embedded(installation.services, {"what": "bin/up"})
    with ExitStack() as stack:
        with steps.step("PostgreSQL and Redis" if installation.services.only else "your own servers"):
            supervisor = stack.enter_context(around)
        yield supervisor


def wait_for_commands(installation: Installation) -> None:
    """bin/manage starts the services for itself when nobody else runs them: let it finish."""
    told = False
    while runner := about_runner(installation.services.home, alive=True):
        if runner.get("what") != "bin/manage":
            raise AlreadyRunning(f"the services of {installation.services.home} are already running", runner)
        if not told:
            print("A command of bin/manage is using the services; starting when it has finished.", flush=True)
            told = True
        time.sleep(0.5)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bin/up", description="Start Cloister on this machine.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="the port to listen on (8000, or the next free one)")
    parser.add_argument("--check", action="store_true", help="start, do the main job like a person, tell how it went")
    options = parser.parse_args()
    try:
        if options.check:
            from workspace.check import check

            return check()
        return serve(options.host, *wanted_port(options.port))
    except AlreadyRunning as error:
        where = f" at {error.holder['url']}/" if "url" in error.holder else ""
        print(f"Cloister is already running{where}: {error} (process {error.holder.get('pid')})", file=sys.stderr)
    except CannotStart as error:
        print(f"Cloister cannot start: {error}", file=sys.stderr)
    except KeyboardInterrupt:  # Stopped is one
        print("\nStopped.", file=sys.stderr)
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
