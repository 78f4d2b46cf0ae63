"""Starts programs in order, restarts one that dies, stops all in reverse order. Knows nothing of what they are."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from workspace.embedded.account import prepare_child
from workspace.embedded.errors import CannotStart
from workspace.embedded.private import private_opener
from workspace.embedded.programs import Program, tail

STOPPING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
SIGNALS = {*STOPPING, signal.SIGCHLD}
GIVE_UP_AFTER = 5  # deaths in a row, each within STEADY seconds of its start
STEADY = 20.0
LONGEST_PAUSE = 30.0


def _never() -> bool:
    return False


def _stop(info: signal.struct_siginfo) -> bool:
    return True


class Stopped(KeyboardInterrupt):
    """A person or the system asked us to stop while something was still starting."""


def say_to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Supervisor:
    """Use as a context manager in the main thread of a process that has no other: leaving the block stops everything.

    Inside it SIGINT, SIGTERM, SIGHUP and SIGCHLD are blocked and taken one by one: none interrupts a half-done step.
    """

    def __init__(self, say: Callable[[str], None] = say_to_stderr) -> None:
        self.programs: list[Program] = []
        self.say = say

    def __enter__(self) -> "Supervisor":
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        # A blocked *ignored* SIGCHLD would never wake sigtimedwait.
        self._handler = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._take_pending()  # the signal that ends us is not the second one, which would skip the waiting
        for program in reversed(self.programs):
            program.stop(hurry=self.asked_to_stop)
        self._take_pending()
        signal.signal(signal.SIGCHLD, self._handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    @staticmethod
    def asked_to_stop() -> bool:
        return bool(signal.sigpending() & STOPPING)

    @staticmethod
    def _take_pending() -> None:
        while signal.sigtimedwait(SIGNALS, 0):
            pass

    def raise_if_asked_to_stop(self) -> None:
        if self.asked_to_stop():
            raise Stopped

    def start(self, program: Program) -> None:
        """Start and wait until it is ready. Raises `CannotStart`, or `Stopped` when asked to stop meanwhile."""
        self.programs.append(program)
        program.start(wanted=lambda: not self.asked_to_stop())
        self.raise_if_asked_to_stop()

    def errand(self, name: str, argv: list[str], env: Mapping[str, str], *, cwd: Path, log: Path) -> str:
        """Run a program to its end: what it wrote to stdout, kept in memory alone; its stderr goes to `log`."""
        with open(os.memfd_create("stdout"), "w+b") as stdout, open(log, "ab", opener=private_opener) as stderr:
            begin = stderr.tell()
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                preexec_fn=prepare_child(None, signal.SIGTERM),
            )
            while process.poll() is None:
                if self.asked_to_stop():
                    process.terminate()
                    process.wait()
                    raise Stopped
                signal.sigtimedwait({signal.SIGCHLD}, 0.2)
            if process.returncode:
                raise CannotStart(f"{name} failed (exit {process.returncode}):\n{tail(log, begin)}")
            stdout.seek(0)
            return stdout.read().decode()

    def run(
        self,
        until: Callable[[], bool] = _never,
        on_signal: Callable[[signal.struct_siginfo], bool] = _stop,
        look_every: float = 60.0,
    ) -> int:
        """Keep all programs running until `until()`, or a stop signal for which `on_signal` answers true.

        `until` is asked whenever a child ends, and every `look_every` seconds.
        0: ended as asked. 1: a program could not be kept running.
        """
        while not until():
            now = time.monotonic()
            for program in self.programs:
                if program.due is None and program.ended():
                    if not self._plan_restart(program, now):
                        return 1
                elif program.due is not None and program.due <= now:
                    program.spawn()
            waits = [p.due - now for p in self.programs if p.due is not None]
            got = signal.sigtimedwait(SIGNALS, max(0.0, min(waits, default=look_every)))
            if got and got.si_signo != signal.SIGCHLD and on_signal(got):
                break
        return 0

    def _plan_restart(self, program: Program, now: float) -> bool:
        """False: it died too often in a row."""
        program.failures = 1 if now - program.started > STEADY else program.failures + 1
        code = program.process.returncode if program.process else None
        if program.failures >= GIVE_UP_AFTER:
            self.say(
                f"{program.name} stopped {program.failures} times in a row (exit {code}); "
                f"its log, {program.log}, ends:\n{program.last_words()}"
            )
            return False
        pause = min(LONGEST_PAUSE, 0.5 * 2 ** (program.failures - 1))
        self.say(f"{program.name} stopped (exit {code}); starting it again in {pause:g} s")
        program.due = now + pause
        return True
