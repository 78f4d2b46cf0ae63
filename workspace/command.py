"""Runs one command with the services around it: what bin/manage and bin/test do.

Services that bin/up (or another command) runs are used; where nobody runs them, they are started, and stopped when the
command has ended. Everything said here goes to stderr: stdout belongs to the command.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workspace import build
from workspace.embedded import AlreadyRunning, CannotStart, Services, Supervisor, embedded
from workspace.embedded.account import become_owner, prepare_child
from workspace.embedded.claim import Use, about_runner
from workspace.embedded.supervisor import say_to_stderr as say
from workspace.installation import Installation, Kind, is_set

SENT_BY_TERMINAL = 0x80  # si_code SI_KERNEL: the command, in the same process group, has got it too (sigaction(2))
PATIENCE = 180.0  # seconds for somebody else's first start


def run_beside(installation: Installation, argv: list[str], kind: Kind) -> int:
    """With the installation's own services, whoever runs them."""
    begun, told = time.monotonic(), False
    while True:
        try:
            return run_with_services(installation, argv, kind)
        except AlreadyRunning as error:
            if use := installation.services.use():
                become(installation, argv, kind, use)
            if time.monotonic() > begun + PATIENCE:
                raise CannotStart(f"{error} (process {error.holder.get('pid')}), but do not answer") from None
        if not told:
            say("Waiting for services that another process is starting or stopping.")
            told = True
        time.sleep(0.2)


def become(installation: Installation, argv: list[str], kind: Kind, use: Use | None) -> None:
    """Never returns. The lock on the services stays ours through exec."""
    if use:
        os.set_inheritable(use.file.fileno(), True)
    url = about_runner(installation.services.home).get("url", "") if use and not is_set("PUBLIC_URL") else ""
    more = {"PUBLIC_URL": url} if url else {}  # links that a command prints lead to the web server that runs
    os.execve(argv[0], argv, installation.environment(kind, **more))  # noqa: S606 (no shell is wanted)


def run_with_services(installation: Installation, argv: list[str], kind: Kind) -> int:
    services = installation.services
    with embedded(services, {"what": "bin/manage"}) as supervisor:
        if kind == "command" and not build.database_is_prepared(installation):
            say("Preparing the database.")
            say(build.prepare_database(installation, supervisor).rstrip() or "The database is ready.")
        services.describe(ready="yes")
        code = run(argv, installation.environment(kind), supervisor)
        wait_for_others(services, supervisor)
    return code


def run(argv: list[str], environment: dict[str, str], supervisor: Supervisor) -> int:
    """In the foreground of the terminal. Its exit code, or 128 + the signal that ended it, as a shell says it."""
    process = subprocess.Popen(argv, env=environment, preexec_fn=prepare_child(None, signal.SIGTERM))

    def pass_on(info: signal.struct_siginfo) -> bool:
        if info.si_code != SENT_BY_TERMINAL:
            process.send_signal(info.si_signo)
        return False

    if supervisor.run(until=lambda: process.poll() is not None, on_signal=pass_on):
        process.terminate()
        process.wait()
        raise CannotStart("a service could not be kept running, so the command was stopped")
    code = process.returncode
    return code if code >= 0 else 128 - code


def wait_for_others(services: Services, supervisor: Supervisor) -> None:
    """Other commands may use the services by now; a signal stops the waiting, and them."""
    if services.claim and not services.claim.close_to_others():
        say("Another command is still using the services; they stop when it has finished.")
        supervisor.run(until=services.claim.close_to_others, look_every=0.3)


def run_tests(argv: list[str]) -> int:
    """With services, secrets and keys of its own; as administrator, since tests create databases."""
    with temporary("bin/test", throwaway=True) as (installation, supervisor):
        # those of an earlier version lack what pages of this one name
        if installation.static.is_dir() and build.static_files_changed(installation):
            build.collect_static_files(installation, supervisor)
        return run(argv, installation.environment("administrator"), supervisor)


def run_benchmark(argv: list[str]) -> int:
    """In an empty installation of its own, as durable as a real one: never on anybody's data, never beside a worker."""
    with temporary("a benchmark", throwaway=False) as (installation, supervisor):
        build.prepare_database(installation, supervisor)
        if build.static_files_changed(installation):
            build.collect_static_files(installation, supervisor)
        for_web_server = installation.environment("web")["DB_PASSWORD_WEB"]  # which the benchmark of searching starts
        return run(argv, installation.environment("command", DB_PASSWORD_WEB=for_web_server), supervisor)


@contextmanager
def temporary(what: str, *, throwaway: bool) -> Iterator[tuple[Installation, Supervisor]]:
    """An installation with running services, gone afterwards; it shares the checkout's model and static files."""
    with tempfile.TemporaryDirectory(prefix="cloister-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o711)  # for the services' account, when we are root
        installation = Installation.temporary(directory, throwaway=throwaway)
        installation.make_directories()
        with embedded(installation.services, {"what": what}) as supervisor:
            if build.model_is_missing(installation):
                say("Exporting the search model, once.")
                build.export_model(installation, supervisor)
            yield installation, supervisor


def main() -> int:
    for_tests = sys.argv[1:2] == ["--temporary"]
    arguments = sys.argv[2:] if for_tests else sys.argv[1:]
    argv = [sys.executable, *arguments]
    try:
        if for_tests:
            return run_tests(argv)
        if arguments[1:2] == ["benchmark"]:
            return run_benchmark(argv)
        installation = Installation.from_environment()
        become_owner(installation.var)
        installation.make_directories()
        kind: Kind = "administrator" if arguments[1:2] == ["prepare"] else "command"
        if not installation.services.only:
            become(installation, argv, kind, None)
        return run_beside(installation, argv, kind)
    except CannotStart as error:
        say(f"Cloister cannot start: {error}")
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 1


if __name__ == "__main__":
    sys.exit(main())
