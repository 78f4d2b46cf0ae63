"""Writes each sign-in into the log of every workspace the person belongs to. Hears of them from Django."""

from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.http import HttpRequest

from tenants.acting import person
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.context import public_context
from tenants.models import Tenant, User


def _signed_in(request: HttpRequest | None, user: User, **kwargs: Any) -> None:
    with public_context():
        for tenant in Tenant.objects.filter(memberships__user=user, status__in=Tenant.MADE):
            record(Event.SIGNED_IN, tenant, by=person(user))


user_logged_in.connect(_signed_in, dispatch_uid="tenants.audit.sign_ins")
