"""Alarms: what should not be, written down for staff and owners, once for each thing and counted.

May be raised from anywhere: inside a workspace, and in a transaction that is rolled back afterwards (then at the end of the
request). Never breaks what raised it. An alarm names tables and keys, and holds no content.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from tenants import names
from tenants.context import public_context
from tenants.models import Alarm, Tenant
from tenants.privacy import describe_exception

logger = logging.getLogger(__name__)

_UPSERT = """
INSERT INTO public.tenants_alarm (id, kind, subject, tenant_id, first_at, last_at, times, settled_because)
VALUES (gen_random_uuid(), %s, %s, (SELECT id FROM public.tenants_tenant WHERE id = %s::uuid), now(), now(), 1, '')
ON CONFLICT (kind, subject) WHERE settled_at IS NULL
DO UPDATE SET times = tenants_alarm.times + 1, last_at = now()
RETURNING times
"""


_listeners: list[Callable[[Alarm.Kind, str, UUID], Any]] = []


def heard(function: Callable[[Alarm.Kind, str, UUID], Any]) -> Callable[[Alarm.Kind, str, UUID], Any]:
    """Have `function` called with kind, subject and workspace of each new alarm that concerns one."""
    _listeners.append(function)
    return function


class _Waiting(threading.local):
    def __init__(self) -> None:
        self.alarms: dict[tuple[Alarm.Kind, str], UUID | None] = {}


_waiting = _Waiting()


def raise_alarm(kind: Alarm.Kind, subject: str, tenant: Tenant | UUID | None = None) -> None:
    """Write it down, now or, in a transaction, when that has ended."""
    _waiting.alarms[kind, subject] = tenant.pk if isinstance(tenant, Tenant) else tenant
    if connection.in_atomic_block:
        with suppress(transaction.TransactionManagementError):  # that is broken already: `flush` comes later
            transaction.on_commit(flush)
    else:
        flush()


def flush() -> None:
    """Write down what waits. Called when a request or a job is over, whatever became of its transaction."""
    while _waiting.alarms:
        (kind, subject), tenant = _waiting.alarms.popitem()
        try:
            with public_context(), transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(_UPSERT, [kind, subject[:200], tenant])
                (times,) = cursor.fetchone() or (1,)
        except DatabaseError as error:
            logger.error("alarm: %s: %s (not written down: %s)", kind.label, subject, describe_exception(error))
        else:
            if times == 1:
                logger.error("alarm: %s: %s", kind.label, subject)
                _tell(kind, subject, tenant)


def _tell(kind: Alarm.Kind, subject: str, tenant: UUID | None) -> None:
    for listener in _listeners if tenant is not None else ():
        try:
            with public_context():
                listener(kind, subject, tenant)  # type: ignore[arg-type]  # there is one
        except DatabaseError as error:
            logger.error("an alarm was not told to a workspace: %s", describe_exception(error))


def settle(alarm: Alarm, reason: str) -> bool:
    """Close it, saying why. Raised again it is another. Raises Refused for no reason."""
    reason = names.checked_reason(reason)
    return bool(Alarm.objects.filter(pk=alarm.pk, settled_at=None).update(settled_at=timezone.now(), settled_because=reason))


def open_in(tenant: Tenant) -> int:
    """How many are open that concern a workspace."""
    return Alarm.objects.filter(tenant=tenant, settled_at=None).count()
