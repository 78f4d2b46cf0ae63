"""Workspaces: where they are reached, what opens them, and what the console shows of them."""

import uuid
from typing import ClassVar

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Value
from django.utils import timezone
from django_tenants.models import DomainMixin, TenantMixin

from tenants import names
from tenants.models.sealed import Sealed

SLUG = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9-]{0,48}[a-z0-9])?\Z",
    "Use 1 to 50 lower-case letters, digits and hyphens; begin and end with a letter or digit.",
)


class Tenant(Sealed, TenantMixin):
    """A workspace. Its schema's name is opaque, since PostgreSQL's catalogs show it to every login."""

    class Status(models.TextChoices):
        PENDING = "pending", "being created"
        ACTIVE = "active", "active"
        SUSPENDED = "suspended", "suspended"
        FAILED = "failed", "could not be created"
        ERASING = "erasing", "being erased"

    MADE: ClassVar[tuple[Status, ...]] = (Status.ACTIVE, Status.SUSPENDED)  # has a schema and a key
    UNMADE: ClassVar[tuple[Status, ...]] = (Status.PENDING, Status.FAILED)  # may still get them; one being erased may not

    auto_create_schema = False

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.CharField("address", max_length=50, unique=True, validators=[SLUG])
    name = models.CharField(max_length=names.WORKSPACE_CHARACTERS)
    schema_name = models.CharField(max_length=63, unique=True, editable=False)
    db_role = models.CharField(max_length=63, unique=True, editable=False)
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # The last migration of each app that its schema has (schemas.head), written in the transaction that applies them.
    schema_version = models.CharField(max_length=200, default="", db_default="", editable=False, db_index=True)
    require_mfa = models.BooleanField("second factor required", default=False, db_default=False)
    quota_documents = models.PositiveIntegerField("documents at most", null=True, blank=True)
    quota_bytes = models.PositiveBigIntegerField("bytes at most", null=True, blank=True)
    quota_members = models.PositiveIntegerField("members at most", null=True, blank=True)
    suspended_at = models.DateTimeField(null=True, editable=False)
    suspension = models.CharField(  # members read it
        "why it is suspended", max_length=names.REASON_CHARACTERS, default="", db_default="", editable=False
    )
    legal_hold = models.CharField(
        "why it must be kept", max_length=names.REASON_CHARACTERS, default="", db_default="", editable=False
    )
    delete_at = models.DateTimeField(null=True, editable=False)
    # Bytes of the witness's list of erasures that this database has seen: fewer than there are after a restore.
    erasures_seen = models.BigIntegerField(default=0, db_default=0, editable=False)
    seal = models.BinaryField(default=b"", db_default=Value(b""), editable=False)

    class Meta:
        verbose_name = "workspace"
        ordering: ClassVar[list[str]] = ["slug"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        if self.name:  # without one the field has said so
            self.name = names.validated(names.of_workspace, self.name)

    @property
    def path(self) -> str:
        """Where it is on a host that is not its own."""
        return f"/w/{self.slug}/"


class Domain(Sealed, DomainMixin):
    """A hostname that is one workspace's own."""

    seal = models.BinaryField(default=b"", db_default=Value(b""), editable=False)

    def __str__(self) -> str:
        return self.domain


class WorkspaceStats(models.Model):
    """What the staff console shows of a workspace, kept by the worker (tenants/stats.py): counts and times, no content."""

    tenant = models.OneToOneField(Tenant, models.CASCADE, primary_key=True, related_name="stats", verbose_name="workspace")
    # Of documents, canaries left out.
    documents = models.PositiveIntegerField(default=0)
    ready = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    unfinished = models.PositiveIntegerField(default=0)
    oldest_unfinished_at = models.DateTimeField(null=True)
    bytes = models.PositiveBigIntegerField(default=0)
    # Of the index: every passage of a published document has an entry, every ready document is published.
    passages = models.PositiveBigIntegerField(default=0)
    entries = models.PositiveBigIntegerField(default=0)
    unsearchable = models.PositiveIntegerField(default=0)
    pages_missing = models.PositiveIntegerField(default=0)
    index_generation = models.BigIntegerField(null=True)  # when these four were counted
    index_counted_at = models.DateTimeField(null=True)
    runs_unfinished = models.PositiveIntegerField(default=0)
    members = models.PositiveIntegerField(default=0)
    jobs_failed = models.PositiveIntegerField(default=0)
    behind = models.BooleanField(default=False)  # its schema lacks migrations
    last_activity_at = models.DateTimeField(null=True)  # a member's; to within stats.NOTED_SECONDS
    queued_at = models.DateTimeField(null=True)  # a job; the same
    trouble = models.PositiveSmallIntegerField(default=0)  # a stats.Trouble
    trouble_words = models.CharField(max_length=200, default="")
    refreshed_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "workspace stats"

    def __str__(self) -> str:
        return f"stats of {self.tenant_id}"
