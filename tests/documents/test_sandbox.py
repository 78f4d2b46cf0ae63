"""The sandbox holds against a document that has taken over its parser, and says so when it cannot hold."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from django.conf import settings

from documents.extraction import answers, seccomp
from documents.extraction import sandbox as caller
from documents.extraction.sandbox import Sandbox, SandboxUnavailable
from documents.reasons import Reason, Unreadable


@pytest.fixture(scope="module")
def hostile() -> Iterator[Sandbox]:
    made = Sandbox("tests.documents.hostile")
    yield made
    made.close()


def said(sandbox: Sandbox, command: str, **limits: float) -> str:
    return sandbox.extract([command.encode()], "txt", **limits).pages[0].text  # type: ignore[arg-type]


def ended(sandbox: Sandbox, command: str, **limits: float) -> tuple[Reason, str]:
    with pytest.raises(Unreadable) as refused:
        said(sandbox, command, **limits)
    return refused.value.reason, refused.value.detail


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"])
def test_a_socket_ends_the_child(hostile: Sandbox, family: str) -> None:
    assert ended(hostile, f"socket {family}") == (Reason.CRASHED, "SIGSYS")


def test_it_cannot_read_the_keystore(hostile: Sandbox) -> None:
    keystore = Path(settings.KEYS_DIR)
    files = [path for path in keystore.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert said(hostile, f"open {path}") == "refused 1"
    assert said(hostile, f"list {keystore}") == "refused 1"


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "/proc/1/environ", "/dev/mem", __file__])
def test_it_cannot_read_any_file(hostile: Sandbox, path: str) -> None:
    assert said(hostile, f"open {path}") == "refused 1"


def test_it_cannot_write(hostile: Sandbox, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert said(hostile, f"write {tmp_path / 'left'}") == "refused 1"
    assert list(tmp_path.iterdir()) == []


def test_it_cannot_start_a_program(hostile: Sandbox) -> None:
    assert ended(hostile, "execute /bin/true") == (Reason.CRASHED, "SIGSYS")


def test_it_cannot_fork_or_start_a_thread(hostile: Sandbox) -> None:
    assert said(hostile, "fork") == "refused 1"
    assert said(hostile, "thread") == "refused"


def test_it_cannot_signal_others(hostile: Sandbox) -> None:
    assert ended(hostile, f"kill {os.getpid()}") == (Reason.CRASHED, "SIGSYS")


def test_it_has_no_environment_no_descriptors_and_none_of_our_code(hostile: Sandbox) -> None:
    document, answer, nothing, mapping = range(4)
    assert said(hostile, "descriptors") == f"{[document, answer, nothing, mapping]} ['LANG', 'OMP_THREAD_LIMIT']"
    assert said(hostile, "modules") == "False"


def test_memory_is_bounded(hostile: Sandbox) -> None:
    assert ended(hostile, f"memory {4 << 30}") == (Reason.MEMORY, "")


def test_time_is_bounded(hostile: Sandbox) -> None:
    assert ended(hostile, "loop", cpu=1, wall=30) == (Reason.TIMEOUT, "SIGXCPU")
    assert ended(hostile, "ignore_and_loop", cpu=1, wall=30) == (Reason.TIMEOUT, "SIGKILL")
    assert ended(hostile, "loop", cpu=30, wall=0.3) == (Reason.TIMEOUT, "wall")


def test_a_flood_is_cut_off(hostile: Sandbox) -> None:
    assert ended(hostile, "flood")[0] == Reason.TOO_LARGE


@pytest.mark.parametrize(
    "answer", [b"", b"junk", b"CLOISTER1", b"CLOISTER1P\xff\xff\xff\xff", b"CLOISTER1R\x04\0\0\0nope\0\0\0\0"]
)
def test_a_false_answer_counts_as_a_crash(hostile: Sandbox, answer: bytes) -> None:
    assert ended(hostile, f"raw {answer!r}") == (Reason.CRASHED, "answer")


def test_the_zygote_is_replaced_after_a_crash(hostile: Sandbox) -> None:
    said(hostile, "modules")
    before = hostile._process
    assert before is not None
    said(hostile, "modules")
    assert hostile._process is before
    assert ended(hostile, "crash") == (Reason.CRASHED, "SIGSEGV")
    assert said(hostile, "modules") == "False"
    assert hostile._process is not before


def test_the_zygote_is_replaced_when_worn_out(hostile: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "DOCUMENTS_PER_ZYGOTE", 3)
    hostile.close()
    seen = set()
    for _ in range(7):
        hostile.layers()
        assert hostile._process is not None
        seen.add(hostile._process.pid)
        said(hostile, "modules")
    assert len(seen) == 3


def test_a_killed_zygote_is_started_anew(hostile: Sandbox) -> None:
    hostile.layers()
    assert hostile._process is not None
    os.kill(hostile._process.pid, signal.SIGKILL)
    hostile._process.wait()
    assert said(hostile, "modules") == "False"


def test_threads_take_turns(hostile: Sandbox) -> None:
    answers: list[str] = []
    threads = [threading.Thread(target=lambda n=n: answers.append(said(hostile, f"memory {n}"))) for n in range(100, 112)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [str(n) for n in range(100, 112)]


def test_its_layers_are_known() -> None:
    made = Sandbox()
    try:
        layers = made.layers()
    finally:
        made.close()
    assert all(layers[name] for name in caller.REQUIRED)
    assert layers["account"], "children must not be root"


def test_without_a_filter_nothing_is_parsed(tmp_path: Path) -> None:
    """A machine whose system calls are not listed: the zygote says so and no document is read."""
    (tmp_path / "strange.py").write_text(
        "import platform\nplatform.machine = lambda: 'vax'\ndef read(document, extension): raise AssertionError('was read')\n"
    )
    with pytest.raises(SandboxUnavailable, match="no system call list for vax"):
        Sandbox("strange", root=_with_path(tmp_path)).extract([b"x"], "txt")


def test_without_an_interpreter_nothing_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SandboxUnavailable, match="/nowhere/python: No such file"):
        Sandbox().extract([b"x"], "txt")


def test_a_filter_that_does_not_hold_is_noticed(tmp_path: Path) -> None:
    """The lock-down is tried, not believed: with an empty filter the probe can open a file."""
    (tmp_path / "holes.py").write_text(
        "from documents.extraction import confinement, seccomp\n"
        "seccomp.install = lambda code: None\n"
        "confinement.landlock_everything = lambda: 0\n"
        "confinement.limit_resources = lambda memory, cpu: None\n"
        "def read(document, extension): raise AssertionError('was read')\n"
    )
    with pytest.raises(SandboxUnavailable, match=r"does not hold \(open is possible\)"):
        Sandbox("holes", root=_with_path(tmp_path)).extract([b"x"], "txt")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_well_formed(machine: str) -> None:
    """Every jump of the program stays inside it, and it ends by refusing."""
    program = seccomp.program(machine)
    lines = [program[at : at + 8] for at in range(0, len(program), 8)]
    for place, line in enumerate(lines):
        code, if_true, if_false = int.from_bytes(line[:2], "little"), line[2], line[3]
        if code in (seccomp.EQUAL, seccomp.AT_LEAST, seccomp.ANY_BIT):
            assert place + 1 + max(if_true, if_false) < len(lines)
    assert lines[-1][4:] == seccomp.ERRNO_EPERM.to_bytes(4, "little")


def _with_path(folder: Path) -> str:
    """A root that finds both the product and the test's own reader."""
    (folder / "documents").symlink_to(Path(caller.__file__).parents[1])
    return str(folder)


def test_what_a_reader_says_of_its_progress_is_heard_and_believed_no_further(hostile: Sandbox) -> None:
    heard: list[tuple[int, int]] = []
    found = hostile.extract([b"tell 3/10 999999999/4 7/4000000000"], "", progress=lambda *told: heard.append(told))
    assert heard == [(3, 10), (4, 4), (7, answers.MAX_PAGES)]
    assert found.pages[0].text == "told"


def test_who_hears_of_the_progress_may_end_the_reading(hostile: Sandbox) -> None:
    class Enough(Exception): ...

    def enough(done: int, total: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        hostile.extract([b"tell 1/2"], "", progress=enough)
    assert said(hostile, "modules") == "False", "the next document got the answer of the one before"


def test_a_reader_that_is_killed_from_outside_was_interrupted(hostile: Sandbox) -> None:
    """As by a system that is short of memory: not the file's fault, so that it is tried again."""

    def kill(done: int, total: int) -> None:
        (zygote,) = [child for child in psutil.Process().children() if child.pid == hostile._process.pid]  # type: ignore[union-attr]
        for child in zygote.children():
            child.kill()

    with pytest.raises(Unreadable) as refused:
        hostile.extract([b"tell_and_loop 1/2"], "", progress=kill)
    assert (refused.value.reason, refused.value.detail) == (Reason.INTERRUPTED, "SIGKILL")
