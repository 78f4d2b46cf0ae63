"""Which workspace a request is for, and whether it may be: two stages around Django's own middleware.

*Resolve* comes first and reads only the address: `/w/<slug>/…` on a known host, or a hostname that is a workspace's own.
*Activate* comes last, when the person is known: membership, then the connection becomes the tenant's schema and role.
Everything in between (sessions, sign-in, CSRF) runs in public context.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from allauth.core.internal.httpkit import get_client_ip
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotFound,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.shortcuts import render
from django.urls import get_script_prefix, set_script_prefix, set_urlconf

from tenants import schemas, second_factor, staff_access, stats
from tenants.context import public_context
from tenants.database import connection
from tenants.models import Domain, Membership, StaffAccess, Tenant
from tenants.permissions import Role
from tenants.requests import WorkspaceRequest
from tenants.sessions import in_words

PREFIX = "/w/"
PUBLIC_ON_OWN_HOSTS = ("/accounts/", "/invitation/", "/health/")  # sign-in happens where the cookie is

STAFF_MAY_POST = ("search", "staff-access-leave")  # a question travels in a body; neither writes anything
ASK_SECONDS = 5  # between two looks whether staff may go on reading
UPGRADE_SECONDS = 30  # after which it is worth trying again

GetResponse = Callable[[HttpRequest], HttpResponseBase]


class ResolveTenant:
    """First of all. Sets `request.workspace_address`: None (public), a slug, or the id of the host's tenant."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        connection.set_schema_to_public()
        if "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):  # PostgreSQL's text has none
            return HttpResponseNotFound("Not found\n", content_type="text/plain")
        host = request.get_host().rpartition("@")[2]
        host = (host[: host.index("]") + 1] if host.startswith("[") else host.partition(":")[0]).lower().rstrip(".")
        address: dict[str, Any] | None = None
        script = ""
        if host in settings.HOSTS:
            if request.path_info.startswith(PREFIX):
                slug, slash, rest = request.path_info[len(PREFIX) :].partition("/")
                if not slash and slug:
                    return HttpResponseRedirect(f"{PREFIX}{slug}/")
                address, script = {"tenant__slug": slug}, PREFIX + slug
                request.path_info = "/" + rest
                request.META["PATH_INFO"], request.META["SCRIPT_NAME"] = request.path_info, script
        else:
            tenant_id = Domain.objects.filter(domain=host).values_list("tenant_id", flat=True).first()
            if tenant_id is None:
                return HttpResponseNotFound("Not found\n", content_type="text/plain")
            if not request.path_info.startswith(PUBLIC_ON_OWN_HOSTS):
                address = {"tenant_id": tenant_id}
        request.workspace_address = address  # type: ignore[attr-defined]
        request.own_host = host if host not in settings.HOSTS else ""  # type: ignore[attr-defined]  # which a workspace brought
        before = get_script_prefix()
        request.urlconf = settings.ROOT_URLCONF if address is None else settings.WORKSPACE_URLCONF
        set_urlconf(request.urlconf)
        set_script_prefix(script + "/")
        try:
            return self.get_response(request)
        finally:
            set_script_prefix(before)
            set_urlconf(None)
            connection.return_to_public()


class Sessions(SessionMiddleware):
    """Django's own, and the session knows from where it is used."""

    def process_request(self, request: HttpRequest) -> None:
        super().process_request(request)
        request.session.host = request.own_host  # type: ignore[attr-defined]
        request.session.browser = in_words(request.headers.get("User-Agent", ""))  # type: ignore[attr-defined]
        request.session.address = (get_client_ip(request) or "")[:45]  # type: ignore[attr-defined]

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        response = super().process_response(request, response)
        request.session.note_use()  # type: ignore[attr-defined]
        return response


class ActivateTenant:
    """Last. Sets `request.tenant` and `request.membership` and enters the tenant; a non-member gets the same 404 as for
    a workspace that does not exist, an anonymous visitor the sign-in page for either. Where a second factor is required
    (tenants/second_factor.py), a session without one is led to the page that says so.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            response = self.get_response(request)
        finally:
            connection.set_schema_to_public()
        if isinstance(response, StreamingHttpResponse) and hasattr(request, "tenant"):
            # the body is read after this middleware has returned: each stream enters the tenant itself
            inside = cast(WorkspaceRequest, request)
            response.streaming_content = _within(inside, response.streaming_content)  # type: ignore[arg-type]
        if request.headers.get("HX-Request") and _is_shut_out(request) and "HX-Redirect" not in response.headers:
            response.headers["HX-Refresh"] = "true"  # an open page of a workspace closed to this person is loaded anew
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponseBase | None:
        if request.workspace_address is None:  # type: ignore[attr-defined]
            return second_factor.lead(request) if second_factor.is_missing_outside(request) else None
        user = request.user
        if not user.is_authenticated:
            if request.headers.get("HX-Request"):
                return HttpResponse(status=204, headers={"HX-Redirect": settings.LOGIN_URL})
            return redirect_to_login(request.get_full_path(), settings.LOGIN_URL)
        found = (
            Membership.objects.filter(
                user_id=user.pk,
                tenant__status__in=Tenant.MADE,
                **request.workspace_address,  # type: ignore[attr-defined]
            )
            .select_related("tenant")
            .annotate(has_staff_accesses=staff_access.any_open())
            .first()
        )
        membership: Membership | None = found
        access = None
        if membership is None:
            access, membership = _as_staff(request)
        if (access is not None or membership.tenant.require_mfa) and not second_factor.is_in_session(request):
            return second_factor.lead(request)
        if access is not None:
            _refuse_changes(request)
        if closed := _closed(request, membership.tenant):
            return closed
        if access is None:
            if request.resolver_match is None or request.resolver_match.url_name != "presence":  # a page left open is no work
                stats.note_activity(membership.tenant)
        elif not staff_access.begin(access):
            raise Http404
        inside = cast(WorkspaceRequest, request)
        inside.staff_access, inside.has_staff_accesses = access, found is not None and found.has_staff_accesses
        inside.membership, inside.tenant = membership, membership.tenant
        connection.set_tenant(membership.tenant)
        return None


def outside(request: HttpRequest) -> str:
    """In front of paths outside the workspace: empty, except on a hostname of its own, where they are elsewhere."""
    return settings.PUBLIC_URL if getattr(request, "own_host", "") else ""


def _is_shut_out(request: HttpRequest) -> bool:
    return getattr(request, "workspace_address", None) is not None and not hasattr(request, "tenant")


def _as_staff(request: HttpRequest) -> tuple[StaffAccess, Membership]:
    """The access that lets somebody in who is no member, and a viewer's membership that is never stored.

    It names nobody, so that nothing a former membership left behind opens a restricted collection.
    """
    access = staff_access.find(request.user, Q(**request.workspace_address))  # type: ignore[arg-type, attr-defined]
    if access is None:
        raise Http404
    return access, Membership(tenant=access.tenant, role=Role.VIEWER)


def _refuse_changes(request: HttpRequest) -> None:
    """What staff may not do where they are no members."""
    match = request.resolver_match
    if request.method not in ("GET", "HEAD") and (match is None or match.url_name not in STAFF_MAY_POST):
        raise PermissionDenied("You view this workspace as staff: you can search and read, and change nothing.")


def _closed(request: HttpRequest, tenant: Tenant) -> HttpResponse | None:
    """What members see of a workspace that cannot be entered now; None when it can."""
    if schemas.is_open(tenant):
        return None
    suspended = tenant.status == Tenant.Status.SUSPENDED
    template, status = ("workspaces/suspended.html", 403) if suspended else ("workspaces/upgrading.html", 503)
    response = render(request, template, {"tenant": tenant}, status=status)
    if not suspended:
        response.headers["Retry-After"] = str(UPGRADE_SECONDS)
    return response


def _within(request: WorkspaceRequest, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The body of an answer, read in its workspace. Staff who view one are asked again now and then whether they still may."""
    connection.set_tenant(request.tenant)
    asked_at = time.monotonic()
    try:
        for piece in pieces:
            if request.staff_access is not None and time.monotonic() - asked_at > ASK_SECONDS:
                with public_context():
                    if not staff_access.goes_on(request.staff_access):
                        return  # ends before its length: the browser says that the download failed
                asked_at = time.monotonic()
            yield piece
    finally:
        connection.return_to_public()
