"""What a workspace's search keeps: passages, vectors, words, judgments and runs.

Every table lies in the workspace's own schema. Documents are known by id alone; people by number.
"""

import secrets
import uuid
from typing import Any, ClassVar

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.functional import cached_property
from pgvector.django import HalfVectorField

from tenants.fields import EncryptedBinaryField, EncryptedJSONField, EncryptedTextField

FIRST_INDEX = 1  # made by the migration


def opaque_id() -> str:
    return secrets.token_urlsafe(12)


class Protection(models.TextChoices):
    """How an index holds vectors, from the least protected to the most (docs/security.md says what each does not do)."""

    OPEN = "open", "Open"
    CLOAKED = "cloaked", "Cloaked"
    SEALED = "sealed", "Sealed"

    @property
    def rank(self) -> int:
        return list(Protection).index(self)


class Metric(models.TextChoices):
    """How the database compares vectors for candidates. True vectors have unit length, so that all three order alike."""

    COSINE = "cosine", "Cosine"
    INNER_PRODUCT = "inner product", "Inner product"
    L2 = "l2", "Euclidean distance (L2)"


class VectorIndex(models.Model):
    """One searchable representation of a workspace's passages (search.indexes, search.building).

    `generation` of the first, which is never deleted, counts for the whole workspace: it goes up, under that row's lock, with
    every change of what may be found.
    """

    class State(models.TextChoices):
        BUILDING = "building", "Being built"
        LIVE = "live", "In use"
        STANDBY = "standby", "Kept to go back to"
        RETIRING = "retiring", "Being removed"
        RETIRED = "retired", "Removed"
        FAILED = "failed", "Failed"

    WRITTEN: ClassVar[tuple[State, ...]] = (State.BUILDING, State.LIVE, State.STANDBY)  # every new passage goes into these

    id = models.IntegerField(primary_key=True)
    model = models.CharField(max_length=100)
    dimension = models.IntegerField()
    metric = models.CharField(max_length=20)
    protection = models.CharField(max_length=20, choices=Protection)
    state = models.CharField(max_length=20, choices=State)
    generation = models.BigIntegerField(default=0)
    m = models.IntegerField()
    ef_construction = models.IntegerField()
    # Of its building: passages, what a look at samples said, and why it ended.
    total = models.IntegerField(default=0, db_default=0)
    done = models.IntegerField(default=0, db_default=0)
    recall = models.FloatField(null=True)  # share of the exact ten best that it finds, on passages of this workspace
    detail = models.CharField(max_length=200, default="", db_default="")
    attempts = models.IntegerField(default=0, db_default=0)
    created_by_id = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())
    finished_at = models.DateTimeField(null=True)  # when its building ended

    class Meta:
        verbose_name_plural = "vector indexes"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["state"], condition=models.Q(state="live"), name="vectorindex_one_live"),
            models.UniqueConstraint(fields=["model"], condition=models.Q(state="building"), name="vectorindex_one_building"),
        ]

    def __str__(self) -> str:
        return f"index {self.id}: {self.model}, {self.protection}"

    @property
    def is_sealed(self) -> bool:
        return self.protection == Protection.SEALED

    @cached_property
    def is_of_first_model(self) -> bool:
        """Whether its model is the workspace's first, whose vectors lie beside the passages (search.vectors)."""
        return self.pk == FIRST_INDEX or VectorIndex.objects.filter(pk=FIRST_INDEX, model=self.model).exists()

    @property
    def metric_label(self) -> str:
        return str(Metric(self.metric).label)


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
    """A passage: where it stands, its words and its true vector (float16, the source of any index).

    `embedding` is of the workspace's first model, that of index 1, and empty where no index is written that is of it.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    document = models.ForeignKey("documents.Document", on_delete=models.DO_NOTHING, related_name="+")
    sequence = models.IntegerField()
    page = models.IntegerField()
    start = models.IntegerField()
    end = models.IntegerField()
    tokens = models.IntegerField()
    text = EncryptedTextField()
    embedding = EncryptedBinaryField(purpose="vector", null=True)

    def __str__(self) -> str:
        return f"passage {self.sequence} of {self.document_id}"


class FurtherVector(models.Model):
    """A passage's true vector (float16) by a model other than the workspace's first; there while an index is written by it."""

    id = models.UUIDField(primary_key=True, editable=False)  # follows from passage and model: search.vectors
    chunk = models.ForeignKey(Chunk, on_delete=models.DO_NOTHING, related_name="+", db_index=False)
    model = models.CharField(max_length=100)
    document_id = models.UUIDField(db_index=True)
    embedding = EncryptedBinaryField(purpose="vector")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chunk", "model"], name="search_furthervector_once")]

    def __str__(self) -> str:
        return f"vector of passage {self.chunk_id} by {self.model}"


class IndexEntry(models.Model):
    """A passage's vector as one index stores it. The HNSW index over them is partial, one for each VectorIndex."""

    pk = models.CompositePrimaryKey("chunk_id", "index_id")
    chunk = models.ForeignKey(Chunk, on_delete=models.DO_NOTHING, related_name="+", db_index=False)
    index = models.ForeignKey(VectorIndex, on_delete=models.DO_NOTHING, related_name="+", db_index=False)
    document_id = models.UUIDField(db_index=True)
    vector = HalfVectorField()

    def __str__(self) -> str:
        return f"passage {self.chunk_id} in index {self.index_id}"


class SealedVectors(models.Model):
    """The true vectors of one published document, encrypted together, for a sealed index: float16[passages, dimension]."""

    document_id = models.UUIDField(primary_key=True, editable=False)
    passages = models.IntegerField()
    payload = EncryptedBinaryField(purpose="vector")

    class Meta:
        db_table = "search_sealedvectors"
        verbose_name_plural = "sealed vectors"

    def __str__(self) -> str:
        return f"sealed vectors of {self.document_id}"


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


class Facts(models.Model):
    """What a published document can be filtered by: values by the id of their field. Known by the generation it changed in."""

    document_id = models.UUIDField(primary_key=True, editable=False)
    generation = models.BigIntegerField()
    payload: Any = EncryptedJSONField()  # {field: text or number}

    class Meta:
        verbose_name_plural = "facts"

    def __str__(self) -> str:
        return f"facts of {self.document_id}"


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


def empty_history() -> dict[str, Any]:
    return {"is_kept": True, "searches": []}


class MemberSearches(models.Model):
    """What one member keeps of their own searches, which nobody else sees (search.own_searches).

    Known by their membership, not as a person: who is removed and invited again has another one. One row for each member: its
    key is bound into both ciphertexts, so that who can only write to the database cannot hand them to somebody else, and its
    lock orders what is done in two windows.
    """

    membership_id = models.BigIntegerField(primary_key=True)
    saved: Any = EncryptedJSONField(default=list)  # [{id, name, asked}], in the order they were saved
    history: Any = EncryptedJSONField(default=empty_history)  # {is_kept, searches: [{id, asked, at}], the newest first}

    class Meta:
        verbose_name_plural = "member searches"

    def __str__(self) -> str:
        return f"searches of membership {self.membership_id}"


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
