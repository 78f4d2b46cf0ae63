"""What each process is given, and what is refused before anything starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workspace.installation import TELEMETRY_OFF, WITHHELD, Installation

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def own(tmp_path, monkeypatch) -> Installation:
    for name in WITHHELD:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOISTER_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("KEYS_DIR", str(tmp_path / "keys"))
    installation = Installation.from_environment()
    installation.make_directories()
    (installation.services.home / "passwords.json").write_text('{"postgres": "p/w", "redis": "r"}')
    return installation


def passwords(environment: dict[str, str]) -> set[str]:
    return {name for name in environment if name.startswith("DB_PASSWORD_")}


def test_each_process_gets_the_passwords_it_needs_and_no_others(own):
    assert passwords(own.environment("web")) == {"DB_PASSWORD_WEB"}
    assert passwords(own.environment("worker")) == {"DB_PASSWORD_WORKER", "DB_PASSWORD_OPERATOR"}
    assert passwords(own.environment("command")) == {"DB_PASSWORD_WORKER", "DB_PASSWORD_OPERATOR"}


def test_the_administrators_address_goes_to_prepare_alone(own):
    assert "postgres:p%2Fw@" in own.environment("administrator")["DATABASE_URL"]
    for kind in ("web", "worker", "command"):
        url = own.environment(kind)["DATABASE_URL"]
        assert url == own.environment("administrator")["DATABASE_URL"].replace("postgres:p%2Fw@", "")


def test_secrets_are_made_once_and_private(own):
    first = own.environment("administrator")
    assert own.environment("administrator") == first
    assert len(first["SECRET_KEY"]) >= 32
    assert (own.var / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_own_servers_are_passed_on_without_the_administrator(own, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://admin:word@db.example:5433/cloister?sslmode=require")
    monkeypatch.setenv("REDIS_URL", "redis://:word@redis.example:6379/0")
    monkeypatch.setenv("SECRET_KEY", "k" * 40)
    monkeypatch.setenv("DB_PASSWORD_WEB", "given")
    web = Installation.from_environment().environment("web")
    assert web["DATABASE_URL"] == "postgresql://db.example:5433/cloister?sslmode=require"
    assert web["REDIS_URL"] == "redis://:word@redis.example:6379/0"
    assert (web["DB_PASSWORD_WEB"], web["SECRET_KEY"]) == ("given", "k" * 40)
    assert "CLOISTER_EMBEDDED" not in web


def test_libraries_do_not_call_home(own):
    web = own.environment("web")
    assert TELEMETRY_OFF.items() <= web.items()
    assert (Path(web["HOME"]) / "intel" / "openvino_telemetry").read_text() == "0"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABASE_URL", "mysql://localhost/cloister", "use postgresql://host:port/name"),
        ("DATABASE_URL", "postgresql://localhost:port/cloister", "its port is not a number"),
        ("DATABASE_URL", "postgresql://localhost", "the database's name"),
        ("REDIS_URL", "localhost:6379", "use redis://"),
        ("PORT", "eighty", "not a whole number"),
        ("PORT", "70000", "use 1 to 65535"),
        ("KEYS_DIR", "keys", "not an absolute path"),
        ("KEYS_DIR", "VAR/keys", "a backup of the data would hold its keys"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(tmp_path, name, value, said):
    environment = {k: v for k, v in os.environ.items() if k not in WITHHELD}
    environment |= {"CLOISTER_VAR": str(tmp_path / "var"), "KEYS_DIR": str(tmp_path / "keys"), "SECRET_KEY": "k" * 40}
    environment |= {name: value.replace("VAR", str(tmp_path / "var"))}
    done = subprocess.run(
        [sys.executable, "-m", "workspace.up"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name}: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "var").exists()
