"""Creates a workspace: row, key, schema, role and grants; idempotent, all or nothing.

The schema is made by replaying what Django's migrations execute (schemas.py; a test proves the result identical to
`migrate_schemas`). DDL runs as the operator, which only workers and commands hold:
the web process asks for a job.
"""

import hashlib
import re
import secrets
from collections import defaultdict
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connections, transaction
from django.utils import timezone
from django.utils.text import slugify

from tenants import erasures, logins, names, roles, schemas
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.context import public_context
from tenants.database import connection
from tenants.errors import Refused
from tenants.jobs import enqueue_public, is_in_flight, job_key, task
from tenants.keys.keyring import provider, wrap_binding
from tenants.keys.providers import KEY_BYTES, Keystore, named
from tenants.models import SLUG, Membership, Tenant, TenantKey, User
from tenants.permissions import Role
from tenants.sweeping import provisioned, public_sweeper

ORPHAN_SECONDS = 3600


class Taken(Refused):
    """There is a workspace of this address."""


def request_workspace(name: str, slug: str, owner: User | None) -> Tenant:
    """The row of a workspace to come, pending, and its owner's membership. Raises Refused when the slug is taken."""
    name = names.of_workspace(name)
    try:
        SLUG(slug)
    except ValidationError:
        raise Refused(f"{slug!r} cannot be an address. {SLUG.message}") from None
    tenant = Tenant(
        name=name,
        slug=slug,
        quota_documents=settings.QUOTA_DOCUMENTS or None,
        quota_bytes=settings.QUOTA_BYTES or None,
        quota_members=settings.QUOTA_MEMBERS or None,
    )
    tenant.schema_name = f"tenant_{tenant.id.hex}"
    tenant.db_role = roles.tenant_role(connection.settings_dict["NAME"], tenant.schema_name)
    try:
        with transaction.atomic():
            tenant.save()
            if owner:
                Membership.objects.create(tenant=tenant, user=owner, role=Role.OWNER)
    except IntegrityError:
        raise Taken(f"The address {slug} is taken: choose another.") from None
    return tenant


def provision(tenant: Tenant) -> None:
    """Make the pending workspace real. Repeating it changes nothing; failing, it leaves nothing but the pending row.

    The wrapping key is made only while the row is pending: a lost one is never replaced by a new one. Raises Refused for
    one that is being erased.
    """
    keys, operator, made_now = provider(), connections["operator"], False
    with transaction.atomic(using="operator"):
        row = Tenant.objects.using("operator").select_for_update().get(pk=tenant.pk)
        if row.status == Tenant.Status.ERASING:
            raise Refused(f"The workspace {row.slug} is being erased: wait until it is gone, then try again.")
        if row.status in Tenant.UNMADE:
            keys.create(row.pk)
            wrapped = keys.wrap(row.pk, secrets.token_bytes(KEY_BYTES), wrap_binding(row.pk, 1))
            _create_schema(operator, row.schema_name)
            TenantKey.objects.using("operator").create(tenant_id=row.pk, version=1, wrapped=wrapped, provider=keys.name)
            made = {"status": Tenant.Status.ACTIVE, "schema_version": schemas.head()}
            Tenant.objects.using("operator").filter(pk=row.pk).update(**made)
            made_now = True
    keys.activate(tenant.pk)
    tenant.refresh_from_db(fields=["status", "schema_version"])
    if made_now:
        record(Event.CREATED, tenant)
    if schemas.is_open(tenant):
        provisioned(tenant)


def _create_schema(operator: Any, schema: str) -> None:
    schemas.create(operator, schema)
    database = operator.settings_dict["NAME"]
    with operator.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [roles.tenant_role(database, schema)])
        role_exists = cursor.fetchone() is not None
        for statement in roles.tenant_statements(database, schema, role_exists=role_exists):
            cursor.execute(statement)
    logins.apply(operator, roles.tenant_role(database, schema))


def create_workspace(name: str, slug: str, owner: User | None = None) -> tuple[Tenant, bool]:
    """The workspace at `slug`, made now when there is none. Returns it and whether it was made. For workers and commands.

    Asked for twice at the same time it is made once: the second waits for the first.
    """
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is not None and tenant.status in Tenant.MADE:
        return tenant, False
    fresh = tenant is None
    if tenant is None:
        try:
            tenant = request_workspace(name, slug, owner)
        except Taken:
            return _made_by_another(slug)
    try:
        provision(tenant)
    except BaseException:
        if fresh and Tenant.objects.filter(pk=tenant.pk, status=Tenant.Status.PENDING).delete()[0]:
            provider().destroy(tenant.pk)  # never of a workspace that came to be all the same
        raise
    return tenant, fresh


def _made_by_another(slug: str) -> tuple[Tenant, bool]:
    tenant = Tenant.objects.get(slug=slug)
    provision(tenant)  # waits for whoever makes it
    return tenant, False


def slug_of_key(key: str) -> str:
    """The address of the workspace that another system knows by `key`: always the same, and it does not tell the key."""
    return f"w-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def open_workspace(name: str, slug: str, owner: User | None) -> Tenant:
    """What a form does: the pending row, and a job that makes it real."""
    tenant = request_workspace(name, slug, owner)
    _queue(tenant)
    return tenant


def _queue(tenant: Tenant) -> None:
    enqueue_public("tenants.provisioning.provision_by_id", tenant.id.hex, job_id=f"provision-{tenant.id.hex}")


@task
def provision_by_id(tenant_id: str) -> None:
    tenant = Tenant.objects.filter(pk=tenant_id, status__in=(*Tenant.UNMADE, *Tenant.MADE)).first()
    if tenant is None:
        return  # erased since
    try:
        provision(tenant)
    except Exception:
        Tenant.objects.filter(pk=tenant.pk, status=Tenant.Status.PENDING).update(status=Tenant.Status.FAILED)
        raise


def retry(tenant: Tenant) -> None:
    """Ask again for a workspace that could not be created. Raises Refused for any other."""
    if not Tenant.objects.filter(pk=tenant.pk, status=Tenant.Status.FAILED).update(status=Tenant.Status.PENDING):
        now = Tenant.objects.filter(pk=tenant.pk).first()
        raise Refused(f"{tenant.name} is {now.get_status_display() if now else 'gone'}: there is nothing to try again.")
    _queue(tenant)


@public_sweeper
def resume_provisioning() -> None:
    """Queue again what is pending without a job; remove wrapping keys whose workspace never came to be."""
    for tenant in Tenant.objects.filter(status=Tenant.Status.PENDING):
        if not is_in_flight(job_key(f"provision-{tenant.id.hex}"), "default"):
            _queue(tenant)
    keys = provider()
    for tenant_id, made_at in keys.pending():
        status = Tenant.objects.filter(pk=tenant_id).values_list("status", flat=True).first()
        if status in Tenant.MADE:
            keys.activate(tenant_id)  # killed between the commit and the activation
        elif status is None and timezone.now().timestamp() - made_at > ORPHAN_SECONDS:
            keys.destroy(tenant_id)


def suggest_slug(name: str) -> str:
    """An address made of a name: letters, digits, hyphens."""
    return re.sub(r"[^a-z0-9-]", "", slugify(name))[:50].strip("-") or "workspace"


def missing_keys() -> list[Tenant]:
    """Workspaces of whose wrapping keys a provider lacks one: a reason not to start.

    Those that were erased are none of them: an older backup brought their rows back, and the worker erases them again.
    """
    with public_context():
        made = Tenant.objects.filter(status__in=Tenant.MADE).only("id", "slug")
        wrapped_by = _providers_of_keys()
        return [
            tenant
            for tenant in made
            if not erasures.is_erased(tenant.id)
            and not all(named(name).holds(tenant.id) for name in wrapped_by.get(tenant.id, {settings.KEY_PROVIDER}))
        ]


def _providers_of_keys() -> dict[UUID, set[str]]:
    """By workspace. Also of a database from before there was a choice, which `prepare` has not migrated yet."""
    found: dict[UUID, set[str]] = defaultdict(set)
    with connection.cursor() as cursor:
        columns = {column.name for column in connection.introspection.get_table_description(cursor, TenantKey._meta.db_table)}
    keys = TenantKey.objects.all()
    if "provider" not in columns:
        for tenant_id in keys.values_list("tenant_id", flat=True):
            found[tenant_id].add(Keystore.name)
        return found
    for tenant_id, name in keys.exclude(state=TenantKey.State.DESTROYED).values_list("tenant_id", "provider").distinct():
        found[tenant_id].add(name)
    return found
