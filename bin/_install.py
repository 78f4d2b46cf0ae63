"""Makes .venv and installs a requirements file into it, when that has not been done yet. Needs nothing but Python.

A run that was killed leaves a mark, and the next one starts afresh: pip takes half-installed packages for installed.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UNFINISHED = VENV / ".unfinished"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def digest(requirements: Path) -> str:
    """Of the file and of those it includes."""
    content = requirements.read_bytes()
    included = re.findall(rb"^-r\s+(\S+)", content, re.MULTILINE)
    parts = [digest(requirements.with_name(name.decode())) for name in included]
    return hashlib.sha256(content + "".join(parts).encode()).hexdigest()


def stamp_of(requirements: Path) -> Path:
    return VENV / f".installed-{requirements.stem}"


def is_installed(requirements: Path) -> bool:
    stamp = stamp_of(requirements)
    finished = os.access(PYTHON, os.X_OK) and not UNFINISHED.exists() and stamp.exists()
    return finished and stamp.read_text() == digest(requirements)


def act_as_owner() -> None:
    """Root in somebody else's checkout must not leave files that they cannot change.

    In its own, what it installs must be readable to others, since PostgreSQL will run under another account.
    """
    if os.geteuid() != 0:
        return
    os.umask(0o022)
    uid = (VENV if VENV.exists() else ROOT).stat().st_uid
    try:
        entry = pwd.getpwuid(uid)
        subprocess.run([sys.executable, "-c", ""], user=uid, group=entry.pw_gid, check=True, capture_output=True)
    except (KeyError, OSError, subprocess.SubprocessError):  # no such account, or it cannot run this Python
        return
    if uid == 0:
        return
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    os.environ["HOME"] = entry.pw_dir


def venv_works() -> bool:
    if UNFINISHED.exists() or not os.access(PYTHON, os.X_OK):
        return False
    return subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0


def make_venv() -> None:
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(
            f"Python {version} ({sys.executable}) lacks its venv module. "
            f"On Debian or Ubuntu: apt-get install python3-venv (or python{version}-venv)"
        )
    say(f"Making .venv with Python {sys.version.split()[0]}.")
    shutil.rmtree(VENV, ignore_errors=True)
    try:
        VENV.mkdir()
    except OSError as error:
        sys.exit(f"{VENV} cannot be made anew ({error.strerror}): remove it, as its owner or as root, and start again.")
    UNFINISHED.touch()
    made = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, text=True)
    if made.returncode:
        sys.exit(f"Making .venv failed:\n{made.stdout}{made.stderr}")


def install(requirements: Path, lock: int) -> None:
    UNFINISHED.touch()
    names = pinned(requirements)
    say(f"Installing {len(names)} Python packages (the first time some minutes and about 2 GB).")
    command = [PYTHON, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["-r", requirements]
    piped = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    # pip holds the lock too: should we be killed, the next run waits for it to end before it starts afresh.
    process = subprocess.Popen(command, text=True, pass_fds=(lock,), **piped)
    try:
        follow(process, names)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if process.returncode:
        if process.returncode > 0:  # pip itself gave up, and has undone what it had begun
            UNFINISHED.unlink()
        sys.exit("Installing Python packages failed; the next run tries again.")
    UNFINISHED.unlink()
    stamp_of(requirements).write_text(digest(requirements))


def follow(process: subprocess.Popen, names: list[str]) -> None:
    """Tell how far pip is, until it ends; when it fails, what it said last."""
    last: deque[str] = deque(maxlen=25)
    found = 0
    for line in process.stdout or ():
        last.append(line)
        if line.startswith(("Collecting ", "Requirement already satisfied: ")):
            found += 1
            if sys.stderr.isatty():
                name = re.split(r"[=<>~! ;(]", line.partition(":")[2].strip() or line.split()[1])[0]
                sys.stderr.write(f"\r\033[K  {min(found, len(names))} of {len(names)}: {name}")
                sys.stderr.flush()
            elif found % 20 == 0:
                say(f"  {min(found, len(names))} of {len(names)}")
        elif line.startswith("Installing collected packages"):
            say("\r\033[K  unpacking" if sys.stderr.isatty() else "  unpacking")
    if process.wait():
        say("\n" + "".join(last))


def pinned(requirements: Path) -> list[str]:
    lines = requirements.read_text().splitlines()
    names = [line.partition("==")[0] for line in lines if "==" in line and not line.startswith("#")]
    for line in lines:
        if line.startswith("-r"):
            names += pinned(requirements.with_name(line.split()[1]))
    return names


def main() -> None:
    requirements = ROOT / sys.argv[1]
    if is_installed(requirements):
        return
    act_as_owner()
    with open(ROOT / ".venv.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two scripts of one checkout may start at once
        if is_installed(requirements):
            return
        if not venv_works():
            make_venv()
        install(requirements, lock.fileno())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nStopped; the next run starts the installation afresh.")
