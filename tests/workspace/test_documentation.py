"""What docs/ promises about names and numbers is what the code has."""

import re
from pathlib import Path

import pytest
from django.conf import settings

from documents.reasons import SENTENCES
from tenants import ciphers, streams
from workspace.demo import documentation

ROOT = Path(settings.BASE_DIR)
READ = ("workspace/settings.py", "workspace/gunicorn_config.py", "workspace/demo.py", "workspace/up.py")


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def settings_read() -> set[str]:
    """Names given to `env.…("NAME"` or `environ.get("NAME"`, in the modules that read the environment."""
    code = "\n".join((ROOT / name).read_text() for name in READ)
    names = set(re.findall(r"""(?:env\.\w+|environ\.get)\(\s*["']([A-Z_]+)""", code))
    return names | {f"DB_PASSWORD_{kind}" for kind in ("WEB", "WORKER", "OPERATOR")} | {"DATABASE_URL", "REDIS_URL"}


def test_every_setting_is_documented_and_no_other() -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", text_of("configuration.md"), re.M)
    documented = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}
    assert documented == settings_read()


@pytest.mark.parametrize("path", documentation(), ids=lambda path: path.name)
def test_its_links_lead_somewhere(path: Path) -> None:
    broken = [
        target
        for target in re.findall(r"\]\(([^)#]+)", path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert broken == []


def test_every_failure_is_explained_in_the_same_words() -> None:
    page = text_of("using-cloister.md")
    for reason, (happened, _) in SENTENCES.items():
        assert f"| {reason.value} | {happened} |" in page


def test_the_commands_are_listed() -> None:
    commands = {path.stem for path in (ROOT / "workspace/management/commands").glob("[!_]*.py")}
    listed = set(re.findall(r"^\| `(\w+)", text_of("administration.md"), re.M))
    assert listed == commands


def test_sizes_in_the_file_format() -> None:
    page = text_of("file-format.md")
    assert f"Header, {streams.HEADER.size} bytes" in page
    assert f"longer by {ciphers.OVERHEAD} than" in page
    assert f"segment size: {streams.SEGMENT_BYTES}" in page
