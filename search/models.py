"""What a workspace's search keeps: passages, vectors, words, judgments and runs.

Every table lies in the workspace's own schema. Documents are known by id alone; people by number.
"""

import secrets
import uuid
from typing import Any

from django.db import models
from pgvector.django import HalfVectorField

from tenants.fields import EncryptedBinaryField, EncryptedJSONField, EncryptedTextField

LIVE_INDEX = 1


def opaque_id() -> str:
    return secrets.token_urlsafe(12)


class VectorIndex(models.Model):
    """One searchable representation of a workspace's passages. Row 1 is made by the migration.

    `generation` goes up, under this row's lock, with every change of what may be found.
    """

    id = models.IntegerField(primary_key=True)
    model = models.CharField(max_length=100)
    dimension = models.IntegerField()
    metric = models.CharField(max_length=20)
    protection = models.CharField(max_length=20)
    state = models.CharField(max_length=20)
    generation = models.BigIntegerField(default=0)
    m = models.IntegerField()
    ef_construction = models.IntegerField()

    def __str__(self) -> str:
        return f"index {self.id}: {self.model}, {self.protection}"


class StoredCloak(models.Model):
    """The secret behind one index's vectors: rotation and noise key, see search.cloak."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    index = models.OneToOneField(VectorIndex, on_delete=models.PROTECT, related_name="cloak")
    rotation = EncryptedBinaryField(purpose="cloak")

    class Meta:
        db_table = "search_cloak"

    def __str__(self) -> str:
        return f"cloak of index {self.index_id}"


class Chunk(models.Model):
    """A passage: where it stands, its words and its true vector (float16, the source of any index)."""

    id = models.UUIDField(primary_key=True, editable=False)
    document = models.ForeignKey("documents.Document", on_delete=models.DO_NOTHING, related_name="+")
    sequence = models.IntegerField()
    page = models.IntegerField()
    start = models.IntegerField()
    end = models.IntegerField()
    tokens = models.IntegerField()
    text = EncryptedTextField()
    embedding = EncryptedBinaryField(purpose="vector")

    def __str__(self) -> str:
        return f"passage {self.sequence} of {self.document_id}"


class IndexEntry(models.Model):
    """A passage's vector as one index stores it. The HNSW index over them is partial, one for each VectorIndex."""

    pk = models.CompositePrimaryKey("chunk_id", "index_id")
    chunk = models.ForeignKey(Chunk, on_delete=models.DO_NOTHING, related_name="+", db_index=False)
    index = models.ForeignKey(VectorIndex, on_delete=models.DO_NOTHING, related_name="+", db_index=False)
    document_id = models.UUIDField(db_index=True)
    vector = HalfVectorField()

    def __str__(self) -> str:
        return f"passage {self.chunk_id} in index {self.index_id}"


class Terms(models.Model):
    """The words of a published document. A document with a row here is found, one without is not."""

    document_id = models.UUIDField(primary_key=True, editable=False)
    collection_id = models.UUIDField()
    generation = models.BigIntegerField()
    payload = EncryptedBinaryField(purpose="terms")

    class Meta:
        verbose_name_plural = "terms"

    def __str__(self) -> str:
        return f"terms of {self.document_id}"


class SharedSearch(models.Model):
    """A search somebody made a link of; the link says nothing about it."""

    id = models.CharField(primary_key=True, max_length=32, default=opaque_id, editable=False)
    query = EncryptedJSONField()
    created_by_id = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "shared searches"

    def __str__(self) -> str:
        return f"shared search {self.id}"


class JudgmentSet(models.Model):
    """Questions with the documents that answer them, as somebody judged it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = EncryptedTextField()
    questions_total = models.IntegerField(default=0)
    judgments_total = models.IntegerField(default=0)
    created_by_id = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"judgment set {self.id}"


class Question(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    judgment_set = models.ForeignKey(JudgmentSet, on_delete=models.CASCADE, related_name="questions")
    ordinal = models.IntegerField()
    reference = EncryptedTextField()
    text = EncryptedTextField()

    def __str__(self) -> str:
        return f"question {self.ordinal} of {self.judgment_set_id}"


class Judgment(models.Model):
    """One document judged for one question. `reference` is what the file called it; it is resolved at every run."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    question = models.ForeignKey(Question, on_delete=models.CASCADE, related_name="judgments")
    reference = EncryptedTextField()
    grade = models.IntegerField()

    def __str__(self) -> str:
        return f"judgment {self.id}"


class Run(models.Model):
    """One evaluation of a judgment set: its frozen configuration, its progress and its figures."""

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "working", "Running"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    FINAL = (State.READY, State.FAILED, State.CANCELLED)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    judgment_set = models.ForeignKey(JudgmentSet, on_delete=models.CASCADE, related_name="runs")
    state = models.CharField(max_length=20, choices=State.choices, default=State.QUEUED)
    collection_id = models.UUIDField(null=True)  # searched alone; null: the whole workspace
    detail = EncryptedTextField(null=True)
    configuration = models.JSONField(default=dict)
    figures = models.JSONField(default=dict)
    questions_total = models.IntegerField(default=0)
    questions_done = models.IntegerField(default=0)
    unresolved = models.IntegerField(default=0)
    attempts = models.IntegerField(default=0)
    created_by_id = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"run {self.id}: {self.state}"

    @property
    def is_final(self) -> bool:
        return self.state in self.FINAL

    # Figures whose names templates cannot spell; None until the run is ready.

    @property
    def ndcg(self) -> float | None:
        return self.figures.get("ndcg@10")

    @property
    def mrr(self) -> float | None:
        return self.figures.get("mrr")

    @property
    def recall_10(self) -> float | None:
        return self.figures.get("recall@10")

    @property
    def recall_100(self) -> float | None:
        return self.figures.get("recall@100")


class Answer(models.Model):
    """What a run found for one question: figures in the clear, documents encrypted."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="answers")
    question = models.ForeignKey(Question, on_delete=models.CASCADE, related_name="+")
    ndcg = models.FloatField()
    mrr = models.FloatField()
    recall_10 = models.FloatField()
    recall_100 = models.FloatField()
    exact_ndcg = models.FloatField()
    latency_ms = models.FloatField()
    expected: Any = EncryptedJSONField()  # [{reference, document: uuid | null, grade, rank: int | null}]
    returned: Any = EncryptedJSONField()  # [{document: uuid, score, dense, keyword}], best first

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "question"], name="search_answer_once")]

    def __str__(self) -> str:
        return f"answer to {self.question_id} in {self.run_id}"
