"""Who signs in: people, what a workspace may see of them, their sessions, and mail to them that could not be sent."""

import secrets
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.db.models import Value
from django.utils import timezone

from tenants import names
from tenants.models.sealed import Sealed, SealedQuerySet


class UserManager(BaseUserManager.from_queryset(SealedQuerySet)):  # type: ignore[misc]
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


class User(Sealed, AbstractBaseUser, PermissionsMixin):
    """A person, global to the installation. Inside a workspace only `Person` is readable."""

    email = models.EmailField("e-mail", unique=True)
    name = models.CharField(max_length=names.PERSON_CHARACTERS, blank=True)
    is_staff = models.BooleanField("staff", default=False, help_text="May use the administration pages.")
    is_active = models.BooleanField("active", default=True)
    date_joined = models.DateTimeField(default=timezone.now, editable=False)
    seal = models.BinaryField(default=b"", db_default=Value(b""), editable=False)  # of this row
    ways_seal = models.BinaryField(default=b"", db_default=Value(b""), editable=False)  # of addresses, factors, identities

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

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """Permissions come with being staff, which is sealed: rows that would give single ones grant nothing."""
        return self.is_active and self.is_superuser

    def has_module_perms(self, app_label: str) -> bool:
        return self.is_active and self.is_superuser


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
