"""Benchmarks run and answer with the fields other tools rely on. What they measure is reported, never asserted."""

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db import connections

from tenants import jobs
from tenants.database import base
from workspace.benchmarks import Comparison, Setting, embedding, filling, hnsw, ingestion, material, memory, parts

ROOT = Path(__file__).resolve().parents[2]


def in_database(function: Any) -> Any:
    return pytest.mark.django_db(transaction=True, databases=["default", "operator"])(function)


def require_the_contract(answer: dict[str, Any], name: str) -> None:
    assert answer["benchmark"] == name
    assert answer["unit"]
    assert set(answer["sides"]) == {"product", "reference"}
    for figures in (answer, *answer["settings"]):
        assert figures["product"] > 0
        assert figures["reference"] > 0
        assert figures["ratio"] > 0
    assert answer["ratio"] == min(setting["ratio"] for setting in answer["settings"])
    json.dumps(answer)


def test_the_ratio_is_above_one_where_the_product_is_better_and_the_worst_comes_first():
    faster = Setting("throughput", 30.0, 10.0, "higher")
    slower = Setting("latency", 4.0, 2.0, "lower")
    assert (faster.ratio, slower.ratio) == (3.0, 0.5)
    answer = Comparison("name", "unit", {"product": "a", "reference": "b"}, [faster, slower]).as_dict()
    assert (answer["product"], answer["reference"], answer["ratio"]) == (4.0, 2.0, 0.5)


def test_what_is_measured_with_is_the_same_every_time(model_dir: Path):
    assert material.passages(5) == material.passages(5)
    assert len(set(material.questions(212))) == 212
    assert [len(text) >= 5000 for text in material.volumes(3, 5000)] == [True] * 3
    assert material.pdf("One (line)\nAnother \\ line").startswith(b"%PDF-1.7")


@pytest.mark.slow  # importing torch
def test_embedding(model_dir: Path):
    answer = embedding.run(str, rounds=1, texts=2, questions=1).as_dict()
    require_the_contract(answer, "embedding")
    assert all(setting["detail"]["cosine_min"] >= 0.9999 for setting in answer["settings"])


@in_database
def test_ingestion(model_dir: Path, settings: LazySettings, tmp_path: Path):
    settings.FILES_DIR = tmp_path / "files"
    answer = ingestion.run(str, rounds=1, characters=3000, pages=3, files=4).as_dict()
    require_the_contract(answer, "ingestion")
    names = ["plain text", "PDF", "Markdown", "PDF of 3 pages", "4 small files"]
    assert [setting["name"] for setting in answer["settings"][:-1]] == names
    assert answer["settings"][-2]["detail"]["documents"] == 4


@in_database
def test_provisioning(model_dir: Path):
    stdout = StringIO()
    asked = ("--rounds", "1", "--tenants", "2", "--passages", "5")
    call_command("benchmark", "provisioning", *asked, "--json", stdout=stdout)
    answer = json.loads(stdout.getvalue())
    require_the_contract(answer, "provisioning")
    assert len(answer["settings"]) == 3
    with connections["operator"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, 'tenant_bench')")
        assert cursor.fetchone() == (0,)


@in_database
def test_scan(model_dir: Path):
    stdout = StringIO()
    call_command("benchmark", "scan", "--rounds", "2", "--passages", "120", "--json", stdout=stdout)
    answer = json.loads(stdout.getvalue())
    require_the_contract(answer, "scan")
    names = [f"120 passages, {level}, {what}" for level in ("cloaked", "open") for what in ("whole workspace", "narrowed")]
    assert [setting["name"] for setting in answer["settings"]] == names


@pytest.mark.slow  # starting services
def test_search_on_services_of_its_own(model_dir: Path):
    """As bin/manage runs it: an installation that exists for the benchmark alone, with a web server in it."""
    options = ["--rounds", "4", "--passages", "20", "--users", "2", "--levels", "open", "sealed"]
    command = ["manage.py", "benchmark", "search", *options, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "workspace.command", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    require_the_contract(answer, "search")
    levels = ("open, 20 passages, 2 at a time", "sealed, 20 passages, 2 at a time")
    assert [setting["name"] for setting in answer["settings"]] == [f"{level}, p{n}" for level in levels for n in (50, 95)]
    for detail in (setting["detail"] for setting in answer["settings"]):
        assert detail["questions"] == 4
        if "parts_p50" in detail:
            assert detail["parts_p50"].keys() >= {
                *parts.WATCHED.keys(),
                "middleware and HTTP",
                "search: embed",
                "search: rank",
                "view",
            }
            assert detail["floor_parts_p50"].keys() == {"middleware and HTTP", "embedding", "candidates"}


@pytest.mark.slow  # starting services and a worker
def test_mixed_every_file_ends_and_the_worker_lives(model_dir: Path):
    command = ["manage.py", "benchmark", "mixed", "--files", "24", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "workspace.command", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    require_the_contract(answer, "mixed")
    detail = answer["settings"][0]["detail"]
    assert detail["files"] == sum(detail["states"].values()) == 24
    assert detail["worker_alive"]
    assert detail["states"].keys() <= {"ready", "failed"}
    assert sum(detail["reasons"].values()) == detail["states"]["failed"]
    assert not detail["reasons"].keys() & {"internal", "outage", "interrupted", "no_sandbox", "no_model"}
    assert detail["by_kind"]["made"].keys() == {"ready"}
    assert 0 < detail["reader_peak_mb"] < 1100, "more than a reader may hold"


@in_database
def test_hnsw(model_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(filling, "EMBEDDED", 40)
    answer = hnsw.run(str, rounds=3, vectors=900).as_dict()  # more than are compared one by one
    require_the_contract(answer, "hnsw")
    assert [setting["name"] for setting in answer["settings"]] == ["open, candidates", "cloaked, end to end"]
    for detail in (setting["detail"] for setting in answer["settings"]):
        assert detail["recall@10"] > 0.9
        assert detail["recall@10_reference"] > 0.9
    with connections["operator"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, 'bench_')")
        assert cursor.fetchone() == (0,)


def test_passages_made_for_a_benchmark_are_different_and_the_same_every_time(model_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(filling, "EMBEDDED", 40)
    made = filling.make(300)
    texts = made.texts()
    assert made.vectors.shape == (300, 384)
    assert np.allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-5)
    assert texts[:40] == material.passages(40)
    assert len(set(texts)) > 250
    assert texts == filling.make(300).texts()


@pytest.mark.parametrize("name", ["ingestion", "scan", "search"])
@in_database
def test_it_refuses_beside_a_worker(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(f"workspace.benchmarks.ingestion.{jobs.worker_is_listening.__name__}", lambda: True)
    with pytest.raises(CommandError, match="A worker is running"):
        call_command("benchmark", name)


@pytest.mark.django_db(transaction=True, databases=["default", "operator"])
def test_memory_is_read_of_the_connection_that_visits(workspace_a, workspace_b, monkeypatch):
    monkeypatch.setattr(base, "MOST_WORKSPACES", 1)
    found = memory.per_connection([workspace_a, workspace_b])
    assert (found["workspaces"], found["limit"]) == (2, 1)
    assert 0 < found["fresh_mb"] <= found["peak_mb"]
    assert found["last_mb"] <= found["peak_mb"]
    assert memory.per_connection([workspace_a], bounded=False)["limit"] == 1
    assert base.MOST_WORKSPACES == 1
