"""One program under supervision: how it starts, when it is ready, how it stops. Knows nothing of which it is."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from workspace.embedded.account import Account, prepare_child
from workspace.embedded.errors import CannotStart
from workspace.embedded.private import private_opener

POLL = 0.02  # seconds between looks at a program that starts or stops


def _always() -> bool:
    return True


def _nothing() -> None:
    return None


def _never_mended(log: str) -> bool:
    return False


@dataclass
class Program:
    name: str
    argv: list[str]
    log: Path
    env: Mapping[str, str]
    account: Account | None = None  # None: ourselves
    cwd: str = "/"
    keep_fds: tuple[int, ...] = ()
    ready: Callable[[], bool] = _always
    before: Callable[[], None] = _nothing  # each time, before it starts: clear what a crash left behind
    rescue: Callable[[str], bool] = _never_mended  # it died while starting: mend it from its log; True: try once more
    stop_signals: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 10.0),)  # each with seconds of patience
    start_within: float = 60.0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    started: float = 0.0  # time.monotonic()
    failures: int = 0  # deaths in a row
    due: float | None = None  # time.monotonic() of a planned restart
    _log_start: int = 0

    def spawn(self) -> None:
        self.before()
        with open(self.log, "ab", opener=private_opener) as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.env),
                cwd=self.cwd,
                pass_fds=self.keep_fds,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops everything in order
                preexec_fn=prepare_child(self.account, self.stop_signals[0][0]),
            )
        self.started, self.due = time.monotonic(), None

    def start(self, wanted: Callable[[], bool] = _always) -> bool:
        """Spawn and wait until ready; False when it stopped being wanted meanwhile."""
        self.spawn()
        assert self.process is not None
        rescued = False
        while not self.ready():
            if not wanted():
                return False
            if self.ended():
                if not rescued and self.rescue(self.last_words()):
                    rescued = True
                    self.spawn()
                    continue
                raise CannotStart(
                    f"{self.name} did not start (exit {self.process.returncode}). Its log, {self.log}, ends:\n"
                    f"{self.last_words()}"
                )
            if time.monotonic() > self.started + self.start_within:
                raise CannotStart(f"{self.name} was not ready after {self.start_within:.0f} s; see {self.log}")
            time.sleep(POLL)
        return True

    def last_words(self) -> str:
        """The end of what it wrote since it was last spawned."""
        return tail(self.log, self._log_start)

    def ended(self) -> bool:
        """Whether it has exited; what it left in its process group is then killed, before its id can be reused."""
        if self.process is None:
            return True
        if self.process.returncode is None:
            if os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return True

    def stop(self, hurry: Callable[[], bool]) -> None:
        """Each stop signal with its patience, then SIGKILL. `hurry()` true skips the waiting."""
        if self.ended():
            return
        assert self.process is not None
        for number, patience in self.stop_signals:
            self.process.send_signal(number)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline and not hurry():
                if self.ended():
                    return
                time.sleep(POLL)
        self.process.kill()
        while not self.ended():
            time.sleep(POLL)


def tail(log: Path, begin: int, size: int = 2000) -> str:
    """The last `size` bytes of a log, but nothing before offset `begin`."""
    with open(log, "rb") as file:
        file.seek(max(begin, file.seek(0, os.SEEK_END) - size))
        return file.read().decode(errors="replace").strip()
