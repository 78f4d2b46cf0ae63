"""What the isolation self-test (workspace.isolation) found."""

import uuid
from typing import Any, ClassVar

from django.db import models
from django.utils import timezone

from tenants.models.workspaces import Tenant


class IsolationCheck(models.Model):
    """One run of the isolation self-test (workspace.isolation): what one workspace was asked for of the others', or, with
    `tenant` null, a run over the whole installation, whose parts are the workspaces' own. Names no other workspace.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        PASSED = "passed", "No leak found"
        LEAKS = "leaks", "Leaks found"
        INCONCLUSIVE = "inconclusive", "Inconclusive"
        ALONE = "alone", "Nothing to compare with"
        INTERRUPTED = "interrupted", "Interrupted"
        CANCELLED = "cancelled", "Cancelled"

    class Trigger(models.TextChoices):
        NIGHTLY = "nightly", "nightly"
        COMMAND = "command", "by command"
        BUTTON = "button", "by a person"

    UNFINISHED: ClassVar[tuple[State, ...]] = (State.QUEUED, State.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, null=True, related_name="isolation_checks", verbose_name="workspace")
    part_of = models.ForeignKey("self", models.CASCADE, null=True, related_name="parts")
    trigger = models.CharField(max_length=10, choices=Trigger)
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    steps = models.PositiveIntegerField(default=0)  # workspaces to compare with; of a whole run, workspaces to check
    steps_done = models.PositiveIntegerField(default=0)
    # {"by_kind": {kind: attempts}, "routes": n, "workspaces": n, "seconds": s, "controls": failed ones, as leaks}
    counts = models.JSONField(default=dict)
    leaks = models.JSONField(default=list)  # [{"kind", "route", "detail"}], without content
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(default=timezone.now)  # when it last showed progress
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "isolation check"
        ordering: ClassVar[list[str]] = ["-created_at"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["tenant", "-created_at"], name="isolationcheck_newest"),
            models.Index(
                fields=["created_at"], condition=models.Q(state__in=["queued", "running"]), name="isolationcheck_unfinished"
            ),
        ]

    def __str__(self) -> str:
        return f"isolation check of {self.tenant_id or 'the installation'}: {self.state}"

    @property
    def is_unfinished(self) -> bool:
        return self.state in self.UNFINISHED

    @property
    def attempts(self) -> int:
        return sum(self.counts.get("by_kind", {}).values())

    @property
    def controls(self) -> list[dict[str, str]]:
        """What had to be found and was not: as long as there is one, finding nothing elsewhere means nothing."""
        return self.counts.get("controls", [])


class PlaintextCheck(models.Model):
    """One look through everything that is stored of a workspace, for words that nothing may show (workspace.plaintext_map)."""

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        CLEAN = "clean", "Nothing found"
        FOUND = "found", "Plaintext found"
        UNCLASSIFIED = "unclassified", "Not all is classified"
        INCONCLUSIVE = "inconclusive", "Inconclusive"
        INTERRUPTED = "interrupted", "Interrupted"
        CANCELLED = "cancelled", "Cancelled"

    Trigger = IsolationCheck.Trigger
    UNFINISHED: ClassVar[tuple[State, ...]] = (State.QUEUED, State.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="plaintext_checks", verbose_name="workspace")
    trigger = models.CharField(max_length=10, choices=IsolationCheck.Trigger)
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    stage = models.CharField(max_length=100, default="")  # what is looked through now, in words
    steps = models.PositiveIntegerField(default=0)
    steps_done = models.PositiveIntegerField(default=0)
    found = models.PositiveIntegerField(default=0)  # places where a planted word was read, and values that are not encrypted
    unknown = models.PositiveIntegerField(default=0)  # columns nobody has classified
    report: Any = models.JSONField(default=dict)  # auditing.Report, without content
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(default=timezone.now)  # when it last showed progress
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "plaintext check"
        ordering: ClassVar[list[str]] = ["-created_at"]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["tenant", "-created_at"], name="plaintextcheck_newest")]

    def __str__(self) -> str:
        return f"plaintext check of {self.tenant_id}: {self.state}"

    @property
    def is_unfinished(self) -> bool:
        return self.state in self.UNFINISHED
