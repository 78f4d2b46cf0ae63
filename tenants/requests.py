"""The request as a view inside a workspace gets it: the types of what the middleware has set. Knows no view."""

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails

from tenants.models import Membership, StaffAccess, Subscription, Tenant, User


class WorkspaceRequest(HttpRequest):
    """A name for type checkers: what arrives is Django's own request, once ActivateTenant has let it in."""

    user: User
    tenant: Tenant
    membership: Membership  # of staff who view, and of readers of a library: a viewer's, which is never stored
    staff_access: StaffAccess | None  # what lets such staff in
    subscription: Subscription | None  # what lets such readers in
    is_library: bool  # said to members
    has_libraries: bool  # whether the workspace subscribes to any; said to members
    has_staff_accesses: bool  # whether there are any of which the workspace's owners should know
    htmx: HtmxDetails
