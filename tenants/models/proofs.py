"""What is kept to prove and to warn: receipts of erasures, entries on their way to a log, alarms."""

import uuid
from typing import Any, ClassVar

from django.db import models
from django.utils import timezone

from tenants.models.workspaces import Tenant


class Receipt(models.Model):
    """A signed statement of what was erased. It outlives what it tells of, and holds no content."""

    class Kind(models.TextChoices):
        DOCUMENTS = "documents", "Documents"
        WORKSPACE = "workspace", "Workspace"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant_id = models.UUIDField(db_index=True)  # no reference: the workspace may be gone
    kind = models.CharField(max_length=10, choices=Kind)
    issued_at = models.DateTimeField(default=timezone.now)
    document: Any = models.JSONField()  # signed, as tenants.signing makes it

    class Meta:
        ordering: ClassVar[list[str]] = ["-issued_at"]

    def __str__(self) -> str:
        return f"receipt {self.id}"


class AuditOutbox(models.Model):
    """An entry that waits to be added to a workspace's log (tenants.audit.recording), encrypted as the installation's."""

    id = models.UUIDField(primary_key=True, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="+")
    sealed = models.BinaryField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = "waiting log entry"
        verbose_name_plural = "waiting log entries"

    def __str__(self) -> str:
        return f"entry on its way to the log of {self.tenant_id}"


class Alarm(models.Model):
    """Something that should not be: a row nobody sealed, a log that does not add up. Open until staff settle it.

    `subject` names rows by table and key, never content.
    """

    class Kind(models.TextChoices):
        ROW = "row", "A row that grants access was not written by Cloister"
        OLD_DATABASE = "old database", "The database is older than its witness"
        LOG = "log", "An audit log was changed"
        PLAINTEXT = "plaintext", "Plaintext was found where none should be"
        QUEUE = "queue", "Jobs wait and no worker takes them"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=20, choices=Kind)
    subject = models.CharField(max_length=200)
    tenant = models.ForeignKey(Tenant, models.CASCADE, null=True, related_name="alarms", verbose_name="workspace")
    first_at = models.DateTimeField(default=timezone.now)
    last_at = models.DateTimeField(default=timezone.now)
    times = models.PositiveIntegerField(default=1)
    settled_at = models.DateTimeField(null=True)
    settled_because = models.CharField(max_length=500, default="")

    class Meta:
        ordering: ClassVar[list[str]] = ["-last_at"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["kind", "subject"], condition=models.Q(settled_at=None), name="alarm_open_once")
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}"
