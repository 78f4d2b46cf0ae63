"""A workspace's keys, what happens to them, and the processes that hold them in memory."""

import uuid
from typing import ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone

from tenants import names
from tenants.models.people import User
from tenants.models.workspaces import Tenant


class TenantKey(models.Model):
    """A version of a workspace's key, wrapped by the key provider. Without the provider's wrapping key it is noise."""

    class State(models.TextChoices):
        ACTIVE = "active", "in use"  # new data is encrypted under the newest of these
        RETIRED = "retired", "kept for backups"  # nothing in the database needs it
        DESTROYED = "destroyed", "destroyed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="keys", verbose_name="workspace")
    version = models.PositiveIntegerField(default=1)
    wrapped = models.BinaryField()  # empty once destroyed
    state = models.CharField(max_length=10, choices=State, default=State.ACTIVE)
    provider = models.CharField(max_length=20, default="keystore", db_default="keystore")
    # What keyed digests and noise come from, handed on from version 1 under this version; empty before the first rotation.
    seeds = models.BinaryField(default=b"", db_default=models.Value(b""))
    messages = models.BigIntegerField(default=0, db_default=0)  # encryptions set aside so far, at most (keyring)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    used_at = models.DateTimeField(null=True)  # to within some minutes
    retired_at = models.DateTimeField(null=True)
    destroy_at = models.DateTimeField(null=True)  # when the last backup that needs it is gone

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["tenant", "version"], name="tenantkey_version_once")
        ]

    def __str__(self) -> str:
        return f"key {self.version} of {self.tenant_id}"


class KeyRotation(models.Model):
    """One change of a workspace's key: everything encrypted anew, table by table, then file by file."""

    class State(models.TextChoices):
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        PAUSED = "paused", "Paused"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="rotations", verbose_name="workspace")
    to_version = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    stage = models.CharField(max_length=100, default="")  # the table and column, or "files"
    cursor = models.CharField(max_length=100, default="")  # the last row of it that is done
    total = models.BigIntegerField(default=0)  # values and files
    done = models.BigIntegerField(default=0)
    detail = models.CharField(max_length=200, default="")
    asked_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)  # when it last showed progress
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "key rotation"
        ordering: ClassVar[list[str]] = ["-started_at"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(state__in=["running", "paused"]), name="keyrotation_one_at_a_time"
            )
        ]

    def __str__(self) -> str:
        return f"rotation of {self.tenant_id} to {self.to_version}: {self.state}"


class Process(models.Model):
    """A web server or worker that runs, or did when it was last seen: who has to answer when keys are frozen."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=10)  # "web" or "worker"
    host = models.CharField(max_length=100)
    pid = models.IntegerField()
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)
    # What it keeps decrypted, in ids and numbers (search.memory). None: a version that told nothing.
    memory = models.JSONField(null=True, encoder=DjangoJSONEncoder)

    class Meta:
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return f"{self.kind} process {self.pid} on {self.host}"


class Freeze(models.Model):
    """That a workspace's keys were frozen, and by whom, until they were unfrozen. That they are frozen, the witness says."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="freezes", verbose_name="workspace")
    reason = models.CharField(max_length=names.REASON_CHARACTERS)
    asked_by = models.CharField(max_length=254)  # an address, or who used the command
    asked_at = models.DateTimeField(default=timezone.now)
    expected = models.JSONField(default=list)  # the processes that ran then: [{"id", "kind", "host", "pid"}]
    lifted_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-asked_at"]

    def __str__(self) -> str:
        return f"freeze of {self.tenant_id}"


class FreezeAnswer(models.Model):
    """That a process dropped the keys of a frozen workspace and refuses it."""

    id = models.BigAutoField(primary_key=True)
    freeze = models.ForeignKey(Freeze, models.CASCADE, related_name="answers")
    process_id = models.UUIDField()
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["freeze", "process_id"], name="freezeanswer_once")
        ]

    def __str__(self) -> str:
        return f"{self.process_id} answered {self.freeze_id}"
