"""The supervisor with small programs of its own: restart, giving up, order of stopping, errands."""

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PREAMBLE = """
import os, signal, sys, time
from pathlib import Path
from workspace.embedded import CannotStart, Program, Supervisor, supervisor as module
place = Path(sys.argv[1])
def program(name, code, **more):
    return Program(name, [sys.executable, "-c", code], place / f"{name}.log", dict(os.environ), **more)
"""


def supervise(place: Path, script: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: a supervisor takes over the signals of the whole process."""
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + script, str(place)], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )


def test_it_restarts_a_killed_program(tmp_path):
    done = supervise(
        tmp_path,
        """
begun = lambda: len(list(place.glob("*.up")))
code = f"import os, time; open(f'{place}/{{os.getpid()}}.up', 'w'); time.sleep(60)"
lives = program("lives", code, ready=lambda: begun() == 1)
with Supervisor() as supervisor:
    supervisor.start(lives)
    lives.process.kill()
    code = supervisor.run(until=lambda: begun() == 2, look_every=0.05)
assert lives.process.returncode == -signal.SIGTERM
sys.exit(code)
""",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "lives stopped (exit -9); starting it again in 0.5 s\n"


def test_it_gives_up_on_a_program_that_always_dies(tmp_path):
    done = supervise(
        tmp_path,
        """
module.GIVE_UP_AFTER = 2
with Supervisor() as supervisor:
    supervisor.start(program("dies", "import sys; print('the reason'); sys.exit(3)"))
    code = supervisor.run()
sys.exit(code)
""",
    )
    assert done.returncode == 1
    assert "dies stopped 2 times in a row (exit 3)" in done.stderr
    assert done.stderr.endswith("the reason\n")


def test_a_program_that_does_not_start_says_why(tmp_path):
    done = supervise(
        tmp_path,
        """
try:
    with Supervisor() as supervisor:
        supervisor.start(program("broken", "raise SystemExit('no such file')", ready=lambda: False))
except CannotStart as error:
    sys.exit(str(error))
""",
    )
    assert done.returncode == 1
    assert "broken did not start (exit 1)" in done.stderr
    assert done.stderr.endswith("no such file\n")


def test_it_stops_in_reverse_order_and_kills_what_does_not_listen(tmp_path):
    done = supervise(
        tmp_path,
        """
note = place / "order"
polite = (
    "import signal, sys, time\\n"
    f"signal.signal(signal.SIGTERM, lambda *_: (open({str(note)!r}, 'a').write('NAME '), sys.exit()))\\n"
    f"open({str(place)!r} + '/NAME.up', 'w'); time.sleep(60)"
)
deaf = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
    f"open({str(place)!r} + '/deaf.up', 'w'); time.sleep(60)"
)
with Supervisor() as supervisor:
    for name in ("first", "second"):
        supervisor.start(program(name, polite.replace("NAME", name), ready=(place / f"{name}.up").exists))
    patience = ((signal.SIGTERM, 0.2),)
    last = program("deaf", deaf, ready=(place / "deaf.up").exists, stop_signals=patience)
    supervisor.start(last)
    os.kill(os.getpid(), signal.SIGTERM)
    code = supervisor.run()
assert last.process.returncode == -signal.SIGKILL
sys.exit(code)
""",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "order").read_text() == "second first "


def test_an_errand_returns_what_it_printed_and_fails_with_its_last_words(tmp_path):
    done = supervise(
        tmp_path,
        """
log = place / "errand.log"
with Supervisor() as supervisor:
    code = "import sys; print('answer'); print('noise', file=sys.stderr)"
    print(supervisor.errand("asking", [sys.executable, "-c", code], os.environ, cwd=place, log=log), end="")
    try:
        supervisor.errand("failing", [sys.executable, "-c", "raise SystemExit('because')"], os.environ, cwd=place, log=log)
    except CannotStart as error:
        print(error)
""",
    )
    assert done.stdout == "answer\nfailing failed (exit 1):\nbecause\n"


def test_asked_to_stop_while_something_starts(tmp_path):
    done = supervise(
        tmp_path,
        """
never = program("never", "import time; time.sleep(60)", ready=lambda: bool(os.kill(os.getpid(), signal.SIGINT)))
try:
    with Supervisor() as supervisor:
        supervisor.start(never)
except KeyboardInterrupt:
    print("stopped", never.process.returncode)
""",
    )
    assert done.stdout == f"stopped {-signal.SIGTERM}\n", done.stderr
