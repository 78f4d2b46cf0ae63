"""Libraries: workspaces that staff curate and that members of subscribing workspaces may search and read, and never write.

Staff make a workspace a library, and only one that staff alone own, so that nobody's documents are opened to others over
their heads; owners of a workspace subscribe to it. A reader has no membership in the library: at each request it is looked
up anew, with every seal on the way, through which of their workspaces they may read it. What they may do there is the
fixed list `READERS_MAY`; everything else is for them as if the library did not exist. Runs in public context.
"""

from dataclasses import replace

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from tenants import names, notices, schemas, seals
from tenants.acting import Actor, actor
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.context import public_context
from tenants.errors import Refused
from tenants.models import Library, Membership, Subscription, Tenant, User
from tenants.permissions import Role

# Names of addresses inside a workspace, and the methods: searching, reading, and what an open page asks now and then.
READERS_MAY: dict[str, tuple[str, ...]] = {
    "search": ("GET", "HEAD", "POST"),
    "search-instant": ("POST",),
    "search-settled": ("POST",),
    "search-like": ("GET",),
    "document": ("GET",),
    "document-download": ("GET", "HEAD"),
    "document-picture": ("GET",),
    "presence": ("GET",),
}


# ---------------------------------------------------------------- made by staff


def make(tenant: Tenant, description: str, reason: str) -> None:
    """From now on owners of workspaces can subscribe to it. Its owners are told. Raises Refused."""
    description, reason = names.of_description(description), names.checked_reason(reason)
    with transaction.atomic():
        row = Tenant.objects.select_for_update().get(pk=tenant.pk)
        if row.status != Tenant.Status.ACTIVE:
            raise Refused(f"{row.name} is {row.get_status_display()}: only an active workspace can become a library.")
        if Library.objects.filter(tenant=row).exists():
            raise Refused(f"{row.name} is a library already.")
        owners = Membership.objects.filter(tenant=row, role=Role.OWNER).select_related("tenant", "user")
        if not owners or not all(owner.user.is_staff and seals.stands(owner.user) for owner in owners):
            raise Refused(
                f"A library is curated by staff: each owner of {row.name} must be of the staff. Have it handed over first."
            )
        Library.objects.create(tenant=row, description=description)
        record(Event.LIBRARY_MADE, row, by=replace(actor(), reason=reason))
    notices.tell_owners(
        tenant,
        f"{tenant.name} is a library",
        f"The workspace {tenant.name} is a library now: members of workspaces that subscribe to it can search it and read its "
        f"documents, but for restricted collections.\nReason: {reason}\n",
    )


def undo(tenant: Tenant, reason: str) -> None:
    """It is a workspace like any other: nobody reads it but its members, and every subscription has ended. Raises Refused."""
    reason = names.checked_reason(reason)
    with transaction.atomic():
        library = Library.objects.select_for_update().filter(tenant=tenant).first()
        if library is None:
            raise Refused(f"{tenant.name} is no library.")
        by = replace(actor(), reason=reason)
        subscriptions = Subscription.objects.filter(library=library)
        for subscription in subscriptions.select_related("tenant"):
            record(Event.UNSUBSCRIBED, subscription.tenant, by=by, library=str(tenant.pk))
        subscriptions.delete()  # not by the cascade, which seals nothing
        library.delete()
        record(Event.LIBRARY_UNDONE, tenant, by=by)
    notices.tell_owners(
        tenant,
        f"{tenant.name} is no library any more",
        f"The workspace {tenant.name} is no library any more: its members alone can open it.\nReason: {reason}\n",
    )


# ---------------------------------------------------------------- subscribed to by owners


def available() -> list[Library]:
    """Those that can be read now, by name, with the workspace and its figures."""
    found = Library.objects.filter(tenant__status=Tenant.Status.ACTIVE).select_related("tenant__stats")
    return [library for library in found.order_by("tenant__name", "id") if _can_be_read(library)]


def subscribed(tenant: Tenant) -> set[object]:
    """Ids of the libraries that its members may read."""
    return {subscription.library_id for subscription in seals.standing(Subscription.objects.filter(tenant=tenant))}


@transaction.atomic
def subscribe(tenant: Tenant, library: Library, by: User) -> None:
    """Every member of the workspace may read the library from now on. Raises Refused."""
    held = Library.objects.select_for_update(of=("self",)).filter(pk=library.pk).select_related("tenant").first()
    if held is None or not _can_be_read(held):
        raise Refused("This library is not there any more.")
    if held.tenant_id == tenant.pk:
        raise Refused("This workspace is the library: its members read it already.")
    for former in Subscription.objects.filter(tenant=tenant, library=held):
        if seals.stands(former):
            return
        former.delete()  # somebody planted it, and it grants nothing
    Subscription.objects.create(tenant=tenant, library=held)
    _record(Event.SUBSCRIBED, tenant, held, by)


@transaction.atomic
def withdraw(tenant: Tenant, library: Library, by: User) -> None:
    """The next request of its members finds nothing."""
    if Subscription.objects.filter(tenant=tenant, library=library).delete()[0]:
        _record(Event.UNSUBSCRIBED, tenant, library, by)


def _record(event: Event, tenant: Tenant, library: Library, by: User) -> None:
    """In both logs: the library's names the workspace, and the person by number alone."""
    record(event, tenant, library=str(library.tenant_id))
    record(event, library.tenant, by=Actor(f"an owner of {tenant.name}", "subscription", by.pk), workspace=str(tenant.pk))


def subscribes() -> Exists:
    """For a query of memberships, of which it costs no other: whether the workspace has a subscription. Grants nothing."""
    return Exists(Subscription.objects.filter(tenant=OuterRef("tenant")))


def is_one() -> Exists:
    """The same: whether the workspace is a library."""
    return Exists(Library.objects.filter(tenant=OuterRef("tenant")))


# ---------------------------------------------------------------- read by members of those


def readable(person: User, libraries: Q | None = None) -> list[Subscription]:
    """What lets this person read now: one subscription for each library they are no member of, by the library's name.

    `libraries` says which, in terms of Library. The membership, both workspaces, the library and the subscription stand,
    and both workspaces are open: of one that is suspended, frozen or erased nothing is left.
    """
    with public_context():
        found = list(
            Subscription.objects.filter(
                library__in=Library.objects.filter(libraries or Q()),
                library__tenant__status=Tenant.Status.ACTIVE,
                tenant__status=Tenant.Status.ACTIVE,
                tenant__memberships__user=person.pk,
            )
            .exclude(library__tenant__memberships__user=person.pk)
            .select_related("library__tenant", "tenant")
            .order_by("library__tenant__name", "library_id", "tenant__require_mfa", "tenant__name")
        )
        if not found:
            return []
        tenants = {subscription.tenant_id for subscription in found}
        own = Membership.objects.filter(user=person.pk, tenant__in=tenants).select_related("tenant")
        member_of = {each.tenant_id for each in seals.standing(own) if schemas.is_open(each.tenant)}
        chosen: dict[object, Subscription] = {}
        for subscription in found:
            if subscription.library_id in chosen or subscription.tenant_id not in member_of:
                continue
            if seals.stands(subscription) and _can_be_read(subscription.library):
                chosen[subscription.library_id] = subscription
    return list(chosen.values())


def viewer(subscription: Subscription) -> Membership:
    """A viewer's membership in the library that is never stored. It names nobody, so that no restricted collection opens."""
    return Membership(tenant=subscription.library.tenant, role=Role.VIEWER)


def reader(person: User, subscription: Subscription) -> Actor:
    """As the library's log has it: the workspace by name, and the person by number alone."""
    return Actor(f"somebody of {subscription.tenant.name}", "subscription", person.pk)


def needs_second_factor(subscription: Subscription) -> bool:
    """Where the library requires one, or the workspace that the person reads it through."""
    return bool(subscription.library.tenant.require_mfa or subscription.tenant.require_mfa)


def _can_be_read(library: Library) -> bool:
    return seals.stands(library) and seals.stands(library.tenant) and schemas.is_open(library.tenant)
