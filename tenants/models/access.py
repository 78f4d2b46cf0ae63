"""What lets people into a workspace: memberships, invitations, and accesses of staff, for a time."""

import uuid
from datetime import timedelta
from typing import Any, ClassVar

from django.db import models
from django.db.models import Value
from django.utils import timezone

from tenants import names
from tenants.models.people import User
from tenants.models.sealed import Sealed, SealedQuerySet
from tenants.models.workspaces import Tenant
from tenants.permissions import ROLE_ACTIONS, Role

MINUTES = (15, 30, 60, 120, 240)  # for which staff may ask to view a workspace


class Membership(Sealed):
    """That a person belongs to a workspace, and as what."""

    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="memberships", verbose_name="workspace")
    role = models.CharField(max_length=10, choices=Role, default=Role.VIEWER)
    seal = models.BinaryField(default=b"", db_default=Value(b""), editable=False)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user", "tenant"], name="membership_once"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.tenant_id}: {self.role}"

    def may(self, action: str) -> bool:
        return action in ROLE_ACTIONS[Role(self.role)]

    can_upload = property(lambda self: self.may("upload"))
    can_judge = property(lambda self: self.may("judge"))
    can_run = property(lambda self: self.may("run"))
    can_manage = property(lambda self: self.may("manage"))
    can_own = property(lambda self: self.may("own"))


def invitation_expiry() -> Any:
    return timezone.now() + timedelta(days=14)


class Invitation(Sealed):
    """An offer to join a workspace, to one address or, without one, to whoever has the link.

    Its link is the id signed under SECRET_KEY: the row alone cannot make one.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="invitations", verbose_name="workspace")
    email = models.EmailField("e-mail", blank=True)
    role = models.CharField(max_length=10, choices=Role, default=Role.VIEWER)
    invited_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(default=invitation_expiry)
    accepted_at = models.DateTimeField(null=True, editable=False)
    seal = models.BinaryField(default=b"", db_default=Value(b""), editable=False)

    class Meta:
        ordering: ClassVar[list[str]] = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.email or 'link'} to {self.tenant_id}"

    @property
    def is_open(self) -> bool:
        return self.accepted_at is None and self.expires_at > timezone.now()


class Library(Sealed):
    """That members of subscribing workspaces may read this one. `tenants.libraries` is the only writer.

    A row and no column of the workspace: what a workspace's own seal covers stays as it is.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.OneToOneField(Tenant, models.CASCADE, related_name="library", verbose_name="workspace")
    description = models.CharField(max_length=names.REASON_CHARACTERS)  # owners of every workspace read it
    created_at = models.DateTimeField(default=timezone.now)
    seal = models.BinaryField(default=b"", db_default=Value(b""), editable=False)

    class Meta:
        verbose_name_plural = "libraries"

    def __str__(self) -> str:
        return f"library {self.tenant_id}"


class Subscription(Sealed):
    """That the members of a workspace may read a library. It belongs to the workspace that subscribes."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="subscriptions", verbose_name="workspace")
    library = models.ForeignKey(Library, models.CASCADE, related_name="subscriptions")
    created_at = models.DateTimeField(default=timezone.now)
    seal = models.BinaryField(default=b"", db_default=Value(b""), editable=False)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["tenant", "library"], name="subscription_once"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant_id} reads {self.library_id}"


class StaffAccesses(SealedQuerySet["StaffAccess"]):
    """In SQL what StaffAccess.state says of one row."""

    def open(self) -> "StaffAccesses":
        """Waiting, usable or running."""
        now = timezone.now()
        in_time = models.Q(began_at=None, lapses_at__gt=now) | models.Q(began_at__isnull=False, ends_at__gt=now)
        return self.filter(in_time, refused_at=None, ended_at=None)

    def running(self) -> "StaffAccesses":
        return self.open().filter(began_at__isnull=False)

    def admitting(self) -> "StaffAccesses":
        """Usable or running."""
        usable = models.Q(consented_at__isnull=False) | models.Q(usable_from__lte=timezone.now())
        return self.open().filter(usable | models.Q(began_at__isnull=False))


class StaffAccess(Sealed):
    """That a person of the staff asked to view a workspace, and what became of it. Kept as long as the workspace.

    `tenants.staff_access` is the only writer. People who are gone leave their address.
    """

    objects = StaffAccesses.as_manager()  # type: ignore[misc]

    class State(models.TextChoices):
        WAITING = "waiting", "waiting for an owner"
        USABLE = "usable", "may begin"
        RUNNING = "running", "viewing now"
        REFUSED = "refused", "refused"
        ENDED = "ended", "ended"
        LAPSED = "lapsed", "never used"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="staff_accesses", verbose_name="workspace")
    staff = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    staff_email = models.EmailField()
    reason = models.CharField(max_length=names.REASON_CHARACTERS)
    minutes = models.PositiveSmallIntegerField()
    requested_at = models.DateTimeField(default=timezone.now)
    usable_from = models.DateTimeField(null=True)  # without consent; null: only with it
    lapses_at = models.DateTimeField()  # unless it has begun
    consented_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    consented_at = models.DateTimeField(null=True)
    refused_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    refused_at = models.DateTimeField(null=True)
    began_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField(null=True)  # the time box, from its first use
    ended_at = models.DateTimeField(null=True)
    seal = models.BinaryField(default=b"", db_default=Value(b""), editable=False)

    class Meta:
        verbose_name_plural = "staff accesses"
        ordering: ClassVar[list[str]] = ["-requested_at", "id"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=models.Q(minutes__range=(min(MINUTES), max(MINUTES))), name="staffaccess_minutes"),
        ]

    def __str__(self) -> str:
        return f"{self.staff_email} to {self.tenant_id}"

    @property
    def state(self) -> State:
        now = timezone.now()
        if self.refused_at is not None:
            return self.State.REFUSED
        if self.ended_at is not None:
            return self.State.ENDED if self.began_at else self.State.LAPSED
        if self.began_at is not None:
            return self.State.RUNNING if self.ends_at is not None and now < self.ends_at else self.State.ENDED
        if now >= self.lapses_at:
            return self.State.LAPSED
        if self.consented_at is not None or (self.usable_from is not None and now >= self.usable_from):
            return self.State.USABLE
        return self.State.WAITING

    @property
    def is_open(self) -> bool:
        return self.state in (self.State.WAITING, self.State.USABLE, self.State.RUNNING)
