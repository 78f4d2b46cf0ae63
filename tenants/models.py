"""Whose it is: workspaces, people and what joins them. All of it lives in the public schema."""

import secrets
import uuid
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.sessions.base_session import AbstractBaseSession
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone
from django_tenants.models import DomainMixin, TenantMixin

from tenants import names
from tenants.permissions import ROLE_ACTIONS, Role

SLUG = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9-]{0,48}[a-z0-9])?\Z",
    "Use 1 to 50 lower-case letters, digits and hyphens; begin and end with a letter or digit.",
)


class UserManager(BaseUserManager["User"]):
    """People sign in by e-mail, which is stored in lower case so that one person has one account."""

    @classmethod
    def normalize_email(cls, email: str | None) -> str:
        return super().normalize_email(email).lower()

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=self.normalize_email(username))

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """A person, global to the installation. Inside a workspace only `Person` is readable."""

    email = models.EmailField("e-mail", unique=True)
    name = models.CharField(max_length=names.PERSON_CHARACTERS, blank=True)
    is_staff = models.BooleanField("staff", default=False, help_text="May use the administration pages.")
    is_active = models.BooleanField("active", default=True)
    date_joined = models.DateTimeField(default=timezone.now, editable=False)

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[UserManager] = UserManager()

    def __str__(self) -> str:
        return self.name or self.email

    def clean(self) -> None:
        super().clean()
        self.email = type(self).objects.normalize_email(self.email)
        self.name = names.validated(names.of_person, self.name)

    def get_full_name(self) -> str:
        return self.name or self.email


class Person(models.Model):
    """What a workspace may see of a user: the same table, three columns, members only (row-level security)."""

    id = models.BigIntegerField(primary_key=True)
    email = models.EmailField()
    name = models.CharField(max_length=names.PERSON_CHARACTERS)

    class Meta:
        managed = False
        db_table = "tenants_user"

    def __str__(self) -> str:
        return self.name or self.email


class Tenant(TenantMixin):
    """A workspace. Its schema's name is opaque, since PostgreSQL's catalogs show it to every login."""

    class Status(models.TextChoices):
        PENDING = "pending", "being created"
        ACTIVE = "active", "active"
        SUSPENDED = "suspended", "suspended"
        FAILED = "failed", "could not be created"
        ERASING = "erasing", "being erased"

    MADE: ClassVar[tuple[Status, ...]] = (Status.ACTIVE, Status.SUSPENDED)  # has a schema and a key

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


class Domain(DomainMixin):
    """A hostname that is one workspace's own."""

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
    runs_unfinished = models.PositiveIntegerField(default=0)
    members = models.PositiveIntegerField(default=0)
    jobs_failed = models.PositiveIntegerField(default=0)
    behind = models.BooleanField(default=False)  # its schema lacks migrations
    last_activity_at = models.DateTimeField(null=True)  # a member's; to within stats.NOTED_SECONDS
    queued_at = models.DateTimeField(null=True)  # a job; the same
    trouble = models.PositiveSmallIntegerField(default=0, db_index=True)  # 0: none; the console sorts by it
    trouble_words = models.CharField(max_length=200, default="")
    refreshed_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "workspace stats"

    def __str__(self) -> str:
        return f"stats of {self.tenant_id}"


class Membership(models.Model):
    """That a person belongs to a workspace, and as what."""

    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="memberships", verbose_name="workspace")
    role = models.CharField(max_length=10, choices=Role, default=Role.VIEWER)

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


class Invitation(models.Model):
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

    class Meta:
        ordering: ClassVar[list[str]] = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.email or 'link'} to {self.tenant_id}"

    @property
    def is_open(self) -> bool:
        return self.accepted_at is None and self.expires_at > timezone.now()


class StaffAccess(models.Model):
    """That a person of the staff asked to view a workspace, and what became of it. Kept as long as the workspace.

    `tenants.staff_access` is the only writer. People who are gone leave their address.
    """

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

    class Meta:
        verbose_name_plural = "staff accesses"
        ordering: ClassVar[list[str]] = ["-requested_at", "id"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=models.Q(minutes__range=(15, 240)), name="staffaccess_minutes"),
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


class TenantKey(models.Model):
    """A version of a workspace's key, wrapped by the key provider. Without the provider's wrapping key it is noise."""

    class State(models.TextChoices):
        ACTIVE = "active"
        RETIRED = "retired"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="keys", verbose_name="workspace")
    version = models.PositiveIntegerField(default=1)
    wrapped = models.BinaryField()
    state = models.CharField(max_length=10, choices=State, default=State.ACTIVE)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["tenant", "version"], name="tenantkey_version_once")
        ]

    def __str__(self) -> str:
        return f"key {self.version} of {self.tenant_id}"


class Session(AbstractBaseSession):
    """A browser's session (sessions.py). Nothing in the row lets anybody sign in: its key is a hash of the cookie."""

    user = models.ForeignKey(User, models.CASCADE, null=True, related_name="sessions")
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)
    browser = models.CharField(max_length=200, default="")
    address = models.CharField(max_length=45, default="")

    @classmethod
    def get_session_store_class(cls) -> Any:
        from tenants.sessions import SessionStore

        return SessionStore

    def save(self, *args: Any, force_update: bool = False, **kwargs: Any) -> None:
        """Written anew with each change of its contents; it stays as old as it is."""
        if force_update:
            kwargs["update_fields"] = [field.name for field in self._meta.concrete_fields if field.name != "started_at"]
            kwargs["update_fields"].remove("session_key")
        super().save(*args, force_update=force_update, **kwargs)


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
    tenant = models.ForeignKey(
        Tenant, models.CASCADE, null=True, related_name="isolation_checks", verbose_name="workspace"
    )
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


def mail_id() -> str:
    return secrets.token_urlsafe(12)


class OutgoingMail(models.Model):
    """A message that could not be sent because no mail server is set up: staff hand its link over.

    The body holds a link that grants access, so it is encrypted under the installation's key.
    """

    id = models.CharField(primary_key=True, max_length=32, default=mail_id, editable=False)
    recipient = models.EmailField()
    subject = models.CharField(max_length=200)
    sealed_body = models.BinaryField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "mail to hand over"
        verbose_name_plural = "mail to hand over"
        ordering: ClassVar[list[str]] = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.subject} to {self.recipient}"
