"""Settings that are refused by name, and what the cache and the logs may not hold."""

import os
import runpy
import subprocess
import sys

import pytest
from django.core.cache import cache
from gunicorn.config import Config

from tenants.privacy import without_secrets
from tests.running import ROOT
from workspace import gunicorn_config
from workspace.cache import JSONSerializer
from workspace.environment import BadSetting


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABASE_URL", "mysql://host/name", "scheme is mysql"),
        ("DATABASE_URL", "postgresql://host:port/name", "port is not a number"),
        ("DATABASE_URL", "postgresql://host/" + "x" * 30, "at most 18"),
        ("DATABASE_URL", "postgresql://host/name?options=-c", "unknown option"),
        ("REDIS_URL", "localhost:6379", "redis://"),
        ("SECRET_KEY", "short", "32 characters"),
        ("CLOISTER_LOGIN", "root", "none of web, worker, operator"),
        ("HTTPS", "maybe", "neither yes nor no"),
        ("HTTPS", "1", "TRUST_PROXY"),
        ("MAX_UPLOAD_BYTES", "many", "whole number"),
        ("WORKER_QUEUES", "ingest,ingest", "each once"),
        ("WORKER_QUEUES", "mail", "some of default, ingest"),
        ("POOL_BYTES", "-1", "whole number"),
        ("WEB_PROCESSES", "0", "whole number of at least 1"),
        ("KEYS_DIR", "keys", "absolute path"),
        ("LOG_LEVEL", "loud", "none of DEBUG"),
        ("PUBLIC_URL", "search.example.org", "no address"),
        ("RATE_SEARCH", "many", "no rate such as 120/60"),
        ("RATE_SEARCH", "120/m", "no rate such as 120/60"),
        ("RATE_UPLOAD", "1/0", "no rate such as 120/60"),
        ("OIDC_ISSUER", "http://id.example.org", "must be an https address"),
        ("OIDC_ISSUER", "id.example.org", "no address"),
    ],
)
def test_a_bad_value_is_refused_by_name(monkeypatch, name, value, said):
    refused = refusal(monkeypatch, name, value)
    assert refused.startswith(f"{name}: ")
    assert said in refused
    assert "\n" not in refused


def refusal(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    """What the settings say to this value: executed anew, beside those that the tests run with."""
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSetting) as refused:
        runpy.run_path(str(ROOT / "workspace" / "settings.py"))
    return str(refused.value)


def test_a_refusal_is_all_that_a_command_says():
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env=os.environ | {"HTTPS": "maybe"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "HTTPS: 'maybe' is neither yes nor no; use 1 or 0.\n"


@pytest.mark.parametrize(
    ("name", "value", "missing"),
    [("OIDC_ISSUER", "https://id.example.org", "OIDC_CLIENT_ID"), ("OIDC_CLIENT_SECRET", "secret", "OIDC_ISSUER")],
)
def test_half_a_provider_is_refused_with_what_is_missing(monkeypatch, name, value, missing):
    assert refusal(monkeypatch, name, value).startswith(f"{missing}: is not set, but other parts of it are")


def test_keys_beside_the_data_are_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT,
        env=os.environ | {"CLOISTER_VAR": str(tmp_path), "KEYS_DIR": str(tmp_path / "keys")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.startswith("KEYS_DIR: ")


def test_a_secret_may_come_from_a_file(tmp_path):
    (tmp_path / "secret").write_text("s" * 40 + "\n")
    env = {name: value for name, value in os.environ.items() if name != "SECRET_KEY"} | {
        "SECRET_KEY_FILE": str(tmp_path / "secret")
    }
    code = "from workspace import settings; print(settings.SECRET_KEY)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "s" * 40 + "\n"


@pytest.mark.parametrize("value", [0, 7, -3, "word", 1.5, [1.0, 2.0], {"a": None}, None, True])
def test_the_cache_gives_back_what_was_put_in(value):
    cache.set("key", value)
    assert cache.get("key", "missing") == value


def test_the_cache_unpickles_nothing():
    import pickle

    with pytest.raises(ValueError, match=r"utf|JSON|Expecting"):
        JSONSerializer().loads(pickle.dumps({"a": 1}))


@pytest.mark.parametrize(
    "path",
    ["/invitation/abc.def:ghi/", "/accounts/password/reset/key/1-abc/", "/accounts/confirm-email/abc/", "/w/alpha/s/abc/"],
)
def test_links_that_let_somebody_in_are_not_logged(path):
    assert "abc" not in without_secrets(f'GET {path} HTTP/1.1" 200')
    logger = gunicorn_config.AccessLogger(Config())
    response = type("Response", (), {"status": "200 OK", "sent": 1, "headers": []})()
    request = type("Request", (), {"headers": []})()
    environ = {"RAW_URI": path, "PATH_INFO": path, "REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1"}
    atoms = logger.atoms(response, request, environ, __import__("datetime").timedelta(seconds=1))
    assert "abc" not in atoms["U"]


def test_a_path_cannot_forge_a_line_of_the_log():
    logger = gunicorn_config.AccessLogger(Config())
    response = type("Response", (), {"status": "200 OK", "sent": 1, "headers": []})()
    request = type("Request", (), {"headers": []})()
    environ = {
        "RAW_URI": "/x",
        "PATH_INFO": "/x/\n2026 CRITICAL forged\x1b[31m",
        "REQUEST_METHOD": "GET",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    atoms = logger.atoms(response, request, environ, __import__("datetime").timedelta(seconds=1))
    assert atoms["U"] == "/x/\\x0a2026 CRITICAL forged\\x1b[31m"
