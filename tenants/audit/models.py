"""The log's tables, in the workspace's own schema. The workspace's role may add entries, and neither change nor remove them."""

from typing import Any, ClassVar

from django.db import models

from tenants.audit.events import Event
from tenants.fields import EncryptedJSONField


class Entry(models.Model):
    """One thing that was done. `tenants.audit.recording` is the only writer.

    In the clear: what kind, when, and the number of the person; who by name, on what and why is encrypted. `digest` is
    tenants.proofs.entry_digest of `as_exported` and the entry before; a random salt keeps it from telling the content.
    """

    number = models.BigIntegerField(primary_key=True)  # from 1, without a gap
    at = models.DateTimeField()
    event = models.CharField(max_length=40, choices=Event)
    person_id = models.BigIntegerField(null=True)
    details: Any = EncryptedJSONField(purpose="audit")  # {"who", "via", "reason", "about": {…}, "salt"}
    digest = models.BinaryField(max_length=32)
    source = models.UUIDField(null=True, unique=True)  # the public row it came from, so that it comes once

    class Meta:
        verbose_name_plural = "entries"
        ordering: ClassVar[list[str]] = ["-number"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["event", "-number"], name="audit_event_newest"),
            models.Index(fields=["person_id", "-number"], name="audit_person_newest"),
        ]

    def __str__(self) -> str:
        return f"entry {self.number}: {self.event}"


class Head(models.Model):
    """The last entry's number and digest. Row 1 is made by the migration; whoever adds an entry locks it."""

    id = models.IntegerField(primary_key=True)
    number = models.BigIntegerField(default=0)
    digest = models.BinaryField(max_length=32)

    def __str__(self) -> str:
        return f"head at {self.number}"
