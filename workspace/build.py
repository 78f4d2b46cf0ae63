"""What is made from the checkout and used by every start: the exported model, static files, the prepared database.

Each is made anew when what it was made from has changed. Knows neither how a model is exported nor what `prepare` does.
"""

import hashlib
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from workspace.embedded import Supervisor
from workspace.installation import CHECKOUT, FileLock, Installation

MANIFEST = "staticfiles.json"
APPS = ("workspace", "documents", "search", "tenants")


def model_is_missing(installation: Installation) -> bool:
    return not installation.model.is_dir() or not any(installation.model.iterdir())


def export_model(installation: Installation, supervisor: Supervisor) -> None:
    with FileLock(installation.model.with_name("model.lock")):
        if model_is_missing(installation):
            supervisor.errand(
                "exporting the search model",
                [sys.executable, "-m", "search.embeddings", str(installation.model)],
                installation.environment("command"),
                cwd=CHECKOUT,
                log=installation.logs / "build.log",
            )


def static_files_changed(installation: Installation) -> bool:
    stamp = _static_stamp(installation)
    return not installation.static.is_dir() or not stamp.exists() or stamp.read_text() != _static_sources()


def collect_static_files(installation: Installation, supervisor: Supervisor) -> None:
    """Into a directory beside, then moved in, the manifest last: a web server that runs keeps the files it knows."""
    with FileLock(installation.static.with_name("static.lock")):
        if not static_files_changed(installation):
            return
        sources = _static_sources()
        beside = installation.static.with_name(f"{installation.static.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        supervisor.errand(
            "manage.py collectstatic",
            installation.manage("collectstatic", "--noinput"),
            installation.environment("command", STATIC_ROOT=str(beside)),
            cwd=CHECKOUT,
            log=installation.logs / "build.log",
        )
        manifest = beside / MANIFEST
        installation.static.mkdir(parents=True, exist_ok=True)
        shutil.copytree(beside, installation.static, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        manifest.replace(installation.static / MANIFEST)
        shutil.rmtree(beside)
        _static_stamp(installation).write_text(sources)


def prepare_database(installation: Installation, supervisor: Supervisor) -> str:
    """`manage.py prepare`, which is safe to repeat; what it printed."""
    printed = supervisor.errand(
        "manage.py prepare",
        installation.manage("prepare"),
        installation.environment("administrator"),
        cwd=CHECKOUT,
        log=installation.logs / "prepare.log",
    )
    _prepared_stamp(installation).write_text(_code())
    return printed


def database_is_prepared(installation: Installation) -> bool:
    """For this state of the code, by us."""
    stamp = _prepared_stamp(installation)
    return stamp.exists() and stamp.read_text() == _code()


def _prepared_stamp(installation: Installation) -> Path:
    return installation.services.home / "prepared"


def _static_stamp(installation: Installation) -> Path:
    return installation.static.with_name(f"{installation.static.name}.sources")


def _static_sources() -> str:
    return _digest([CHECKOUT / "requirements.txt", *_files(CHECKOUT / "static")])


def _code() -> str:
    return _digest([CHECKOUT / "requirements.txt", *(f for app in APPS for f in _files(CHECKOUT / app) if f.suffix == ".py")])


def _files(directory: Path) -> Iterable[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(CHECKOUT)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
