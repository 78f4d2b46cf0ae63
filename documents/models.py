"""What people put into a workspace: collections, documents, and the text of their pages. Knows nothing of how it is found."""

import uuid
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from documents.extraction.members import ZIP
from documents.extraction.pages import Origin
from documents.reasons import RETRYABLE, SENTENCES, WAITS, Reason
from tenants.fields import EncryptedJSONField, EncryptedTextField


class Collection(models.Model):
    """A named group of documents. The name is encrypted; its keyed digest keeps it unique within the workspace."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = EncryptedTextField()
    name_digest = models.BinaryField(max_length=32, unique=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Who may see it is decided in documents.access alone.
    restricted = models.BooleanField(default=False, db_default=False)  # to owners and the members named
    is_canary = models.BooleanField(default=False, db_default=False)  # nobody's: what the isolation self-test looks for

    class Meta:
        ordering: ClassVar[list[str]] = ["created_at"]

    def __str__(self) -> str:
        return f"collection {self.id}"


class CollectionMember(models.Model):
    """That a restricted collection is open to a member.

    Named by their membership, not as a person: who is removed and invited again has another one, and is not let in by
    what was chosen before.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    collection = models.ForeignKey(Collection, models.CASCADE, related_name="members")
    membership_id = models.BigIntegerField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["collection", "membership_id"], name="collection_member_once")
        ]

    def __str__(self) -> str:
        return f"membership {self.membership_id} in collection {self.collection_id}"


class Field(models.Model):
    """A piece of metadata the documents of a collection can have. The name is encrypted; its keyed digest, into which the
    collection goes, keeps it unique there and tells nothing of other collections. The kind never changes.
    """

    class Kind(models.TextChoices):
        TEXT = "text", "Text"
        KEYWORD = "keyword", "Keyword"
        INTEGER = "integer", "Whole number"
        NUMBER = "number", "Number"
        DATE = "date", "Date"
        BOOLEAN = "boolean", "Yes or no"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    collection = models.ForeignKey(Collection, models.CASCADE, related_name="fields")
    name = EncryptedTextField()
    name_digest = models.BinaryField(max_length=32)
    kind = models.CharField(max_length=10, choices=Kind)
    filterable = models.BooleanField(default=False)  # whether its values are known to the search
    position = models.PositiveSmallIntegerField()

    class Meta:
        ordering: ClassVar[list[str]] = ["position", "id"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["collection", "name_digest"], name="field_name_once")
        ]

    def __str__(self) -> str:
        return f"field {self.id}"


class Usage(models.Model):
    """What counts against the workspace's quotas, canaries left out. Row 1 is made by the migration and never goes.

    Changed under its row's lock in the transaction that adds or removes documents, so that no two uploads share a place.
    """

    id = models.IntegerField(primary_key=True)
    documents = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField(default=0)

    class Meta:
        verbose_name_plural = "usage"

    def __str__(self) -> str:
        return f"{self.documents} documents"


class Queue(models.Model):
    """The workspace's queue as a whole: row 1, made with the first document that waits."""

    id = models.IntegerField(primary_key=True)
    began_at = models.DateTimeField(null=True)  # when it last was empty and something came: the batch that is shown
    paused_at = models.DateTimeField(null=True)  # since then nothing is begun

    def __str__(self) -> str:
        return f"queue since {self.began_at}"


class Document(models.Model):
    """An uploaded file and how far it has come. State changes go through `ledger` alone."""

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        EXTRACTING = "extracting", "Extracting text"
        EMBEDDING = "embedding", "Embedding"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    UNFINISHED: ClassVar[tuple[State, ...]] = (State.QUEUED, State.EXTRACTING, State.EMBEDDING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    collection = models.ForeignKey(Collection, models.PROTECT, related_name="documents")
    title = EncryptedTextField()
    file_name = EncryptedTextField()
    format = EncryptedTextField(default="")
    reference = EncryptedTextField(default="")  # the name another system knows it by; judgments may use it
    size = models.BigIntegerField()  # bytes of plaintext
    stored_name = models.CharField(max_length=64, unique=True)
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    reason = models.CharField(max_length=20, default="", blank=True)  # a reasons.Reason; empty unless failed
    detail = EncryptedTextField(default="")
    pages = models.PositiveIntegerField(default=0)  # committed pages: 0 until the text is extracted
    pages_unread = models.PositiveIntegerField(default=0, db_default=0)  # of them, those that could not be read
    pages_read = models.PositiveIntegerField(default=0, db_default=0)  # while its text is extracted: so many are done
    pages_total = models.PositiveIntegerField(default=0, db_default=0)  # of so many; 0 where nobody knows yet
    chunks_total = models.PositiveIntegerField(default=0)
    chunks_done = models.PositiveIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0)  # starts without progress since
    retries = models.PositiveSmallIntegerField(default=0, db_default=0)  # times it was queued again by itself, since progress
    retry_at = models.DateTimeField(null=True)  # queued, but not to be begun before
    created_by_id = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    trashed_at = models.DateTimeField(null=True)  # out of sight and out of the search since; erased when its time is over
    trashed_by_id = models.BigIntegerField(null=True)
    # Versions, which documents.versions keeps:
    series = models.UUIDField(null=True)  # the id of the first version; null on that itself
    version = models.PositiveIntegerField(default=1, db_default=1)
    is_current = models.BooleanField(default=True, db_default=True)  # of its series, the one lists, counts and search show
    content_digest = models.BinaryField(max_length=32, null=True)  # keyed; null where an earlier version stored the file
    name_digest = models.BinaryField(max_length=32, null=True)  # keyed, of its collection and its reference or file name
    archive = models.UUIDField(null=True)  # the document it came out of (documents.unpacking), which may be gone

    class Meta:
        ordering: ClassVar[list[str]] = ["-created_at", "id"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["-created_at", "id"], name="document_newest"),
            models.Index(fields=["collection", "state"], name="document_collection_state"),
            models.Index(
                fields=["created_at"],
                condition=models.Q(state__in=["queued", "extracting", "embedding"]),
                name="document_unfinished",
            ),
            models.Index(fields=["trashed_at"], condition=models.Q(trashed_at__isnull=False), name="document_trashed"),
            models.Index(fields=["series"], condition=models.Q(series__isnull=False), name="document_series"),
            models.Index(fields=["content_digest"], name="document_same_bytes"),
            models.Index(fields=["collection", "name_digest"], name="document_same_name"),
            models.Index(fields=["archive"], condition=models.Q(archive__isnull=False), name="document_archive"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=models.Q(state__in=["queued", "extracting", "embedding", "ready", "failed", "cancelled"]),
                name="document_state_known",
            ),
            models.CheckConstraint(
                condition=models.Q(state="failed", reason__gt="") | (~models.Q(state="failed") & models.Q(reason="")),
                name="document_failed_with_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"document {self.id}"

    @property
    def is_unfinished(self) -> bool:
        return self.state in self.UNFINISHED

    @property
    def download_name(self) -> str:
        """The file's name, which says the version where it is not the one in use."""
        if self.is_current:
            return self.file_name
        stem, dot, extension = self.file_name.rpartition(".")
        return f"{stem} (version {self.version}).{extension}" if dot else f"{extension} (version {self.version})"

    @property
    def tries(self) -> str:
        """Which try it waits for, when it failed and is tried again by itself: "2 of 3"."""
        return f"{self.retries + 1} of {len(WAITS) + 1}"

    @property
    def can_be_retried(self) -> bool:
        return self.state == self.State.CANCELLED or (self.state == self.State.FAILED and self.reason in RETRYABLE)

    @property
    def can_be_read_again(self) -> bool:
        """It is found, but not all of it: some pages could not be read when it was."""
        return self.state == self.State.READY and self.is_current and self.pages_unread > 0

    @property
    def was_never_in_use(self) -> bool:
        """A version beside the one in use that did not come to replace it: it is on its way, failed or was cancelled."""
        return not self.is_current and self.state != self.State.READY

    @property
    def called(self) -> str:
        """What goes when this is thrown away, by its title."""
        return f"Version {self.version} of “{self.title}”" if self.was_never_in_use else f"“{self.title}”"

    @property
    def is_locked(self) -> bool:
        """A PDF that can be read with its password (documents.unlocking)."""
        return self.reason == Reason.ENCRYPTED and self.format == "pdf"

    @property
    def is_archive(self) -> bool:
        """Whose files are documents of their own."""
        return self.format == ZIP

    @property
    def what_happened(self) -> str:
        """The sentence of the reason; empty unless failed."""
        return SENTENCES[Reason(self.reason)][0] if self.reason else ""

    @property
    def what_to_do(self) -> str:
        return SENTENCES[Reason(self.reason)][1] if self.reason else ""


class Arrival(models.Model):
    """A large file of which not all has arrived, or not yet been made a document. Written by `resuming` alone."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)  # and then the document's
    # The migration makes the constraint, as ON DELETE CASCADE: an earlier version deletes collections without knowing of this.
    collection = models.ForeignKey(Collection, models.CASCADE, related_name="arrivals", db_constraint=False)
    created_by_id = models.BigIntegerField()
    about = EncryptedJSONField()  # the file's name and path, when it was changed, and the metadata it is to have
    size = models.BigIntegerField()  # bytes it will have
    received = models.BigIntegerField(default=0)  # bytes of the pieces
    pieces = ArrayField(models.CharField(max_length=64), default=list)  # names of their files, in order
    touched_at = models.DateTimeField(default=timezone.now)  # when it was begun or a piece arrived

    def __str__(self) -> str:
        return f"arrival {self.id}"


class Stage(models.Model):
    """One run of one stage of the work on a document. Rows are written by `ledger` alone, with the state they belong to."""

    class Name(models.TextChoices):
        EXTRACT = "extract", "Reading the file"
        EMBED = "embed", "Embedding passages"

    class Outcome(models.TextChoices):
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"
        INTERRUPTED = "interrupted", "Cut off"  # its worker ended; seen by the next that took it up

    # The migration makes the constraint, as ON DELETE CASCADE: an earlier version erases documents without knowing of this.
    document = models.ForeignKey(Document, models.CASCADE, related_name="stages", db_constraint=False)
    name = models.CharField(max_length=10, choices=Name)
    attempt = models.PositiveIntegerField()  # of this document at this stage, from 1
    worker = models.CharField(max_length=100)  # host:process id
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)  # null: it runs, or its worker is gone and nobody has noticed yet
    outcome = models.CharField(max_length=12, choices=Outcome, default="", blank=True)
    reason = models.CharField(max_length=20, default="", blank=True)  # a reasons.Reason; empty unless failed
    # Of a reading that is done, every page once:
    pages = models.PositiveIntegerField(default=0)
    pages_extracted = models.PositiveIntegerField(default=0)
    pages_ocr = models.PositiveIntegerField(default=0)  # whose text was recognized in a picture
    pages_empty = models.PositiveIntegerField(default=0)
    pages_failed = models.PositiveIntegerField(default=0)
    passages = models.PositiveIntegerField(default=0)  # embedded by this run

    class Meta:
        ordering: ClassVar[list[str]] = ["id"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["document"], condition=models.Q(ended_at=None), name="stage_one_at_a_time"),
            models.CheckConstraint(
                condition=models.Q(
                    pages=models.F("pages_extracted")
                    + models.F("pages_ocr")
                    + models.F("pages_empty")
                    + models.F("pages_failed")
                ),
                name="stage_every_page_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.document_id}, attempt {self.attempt}"

    @property
    def what_happened(self) -> str:
        """The sentence of the reason; empty unless failed."""
        return SENTENCES[Reason(self.reason)][0] if self.reason else ""

    @property
    def pages_in_words(self) -> str:
        """What became of the pages: "12 read, 1 without text"."""
        became = {
            "read": self.pages_extracted,
            "recognised in pictures": self.pages_ocr,
            "without text": self.pages_empty,
            "could not be read": self.pages_failed,
        }
        return ", ".join(f"{number:,} {words}" for words, number in became.items() if number)


class Page(models.Model):
    """The text of one page, slide, sheet or part, numbered from 1."""

    id = models.UUIDField(primary_key=True, editable=False)
    document = models.ForeignKey(Document, models.PROTECT, related_name="page_set")
    number = models.PositiveIntegerField()
    label = EncryptedTextField(default="")
    text = EncryptedTextField()
    origin = models.CharField(max_length=10, default=Origin.EXTRACTED.value, db_default=Origin.EXTRACTED.value)

    class Meta:
        ordering: ClassVar[list[str]] = ["number"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["document", "number"], name="page_number_once")
        ]

    def __str__(self) -> str:
        return f"page {self.number} of {self.document_id}"

    @staticmethod
    def identity(document_id: uuid.UUID, number: int) -> uuid.UUID:
        """The same page has the same id whoever writes it."""
        return uuid.uuid5(document_id, f"page-{number}")


class Value(models.Model):
    """What a document has in a field, as documents.fields writes it."""

    id = models.UUIDField(primary_key=True, editable=False)
    document = models.ForeignKey(Document, models.PROTECT, related_name="values")
    field = models.ForeignKey(Field, models.CASCADE, related_name="values")
    value = EncryptedTextField()

    def __str__(self) -> str:
        return f"value of {self.document_id} in field {self.field_id}"

    @staticmethod
    def identity(document_id: uuid.UUID, field_id: uuid.UUID) -> uuid.UUID:
        """One document has one value of a field, whoever writes it."""
        return uuid.uuid5(document_id, f"field-{field_id}")
