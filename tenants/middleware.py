"""Which workspace a request is for, and whether it may be: two stages around Django's own middleware.

*Resolve* comes first and reads only the address: `/w/<slug>/…` on a known host, or a hostname that is a workspace's own.
*Activate* comes last, when the person is known: membership, then the connection becomes the tenant's schema and role.
Everything in between (sessions, sign-in, CSRF) runs in public context.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, cast

from allauth.core.internal.httpkit import get_client_ip
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware, get_user
from django.contrib.auth.models import AnonymousUser
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
from django.urls import get_script_prefix, reverse, set_script_prefix, set_urlconf
from django.utils.functional import SimpleLazyObject

from tenants import acting, alarms, erasures, libraries, schemas, seals, second_factor, staff_access, stats, witness
from tenants.context import public_context
from tenants.database import connection
from tenants.keys import presence
from tenants.keys.keyring import KeysFrozen, is_frozen
from tenants.models import Domain, Membership, StaffAccess, Subscription, Tenant, User
from tenants.permissions import Role
from tenants.requests import WorkspaceRequest
from tenants.sessions import in_words

PREFIX = "/w/"
PUBLIC_ON_OWN_HOSTS = ("/accounts/", "/invitation/", "/health/")  # sign-in happens where the cookie is

STAFF_MAY_POST = ("search", "search-instant", "search-settled", "staff-access-leave")  # write nothing of staff
OPEN_WHILE_FROZEN = ("keys", "keys-status", "keys-unfreeze")  # for owners: decrypt nothing
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
            domain = Domain.objects.filter(domain=host).first()
            if domain is None or not seals.stands(domain):
                return HttpResponseNotFound("Not found\n", content_type="text/plain")
            if not request.path_info.startswith(PUBLIC_ON_OWN_HOSTS):
                address = {"tenant_id": domain.tenant_id}
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
            alarms.flush()


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


class Authentication(AuthenticationMiddleware):
    """Django's own; somebody whose row was not written by Cloister (tenants/seals.py) is signed in nowhere."""

    def process_request(self, request: HttpRequest) -> None:
        super().process_request(request)

        def sealed() -> User | AnonymousUser:
            found = get_user(request)
            return found if isinstance(found, User) and seals.stands(found) else AnonymousUser()

        request.user = SimpleLazyObject(sealed)  # type: ignore[assignment]


class ActivateTenant:
    """Last. Sets `request.tenant` and `request.membership` and enters the tenant; a non-member gets the same 404 as for
    a workspace that does not exist, an anonymous visitor the sign-in page for either. Where a second factor is required
    (tenants/second_factor.py), a session without one is led to the page that says so.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            with acting.acting(acting.SIGNED_OUT):
                response = self.get_response(request)
            if isinstance(response, StreamingHttpResponse) and hasattr(request, "tenant"):
                # the body is read after this middleware has returned: each stream enters the tenant itself
                inside = cast(WorkspaceRequest, request)
                response.streaming_content = _Body(inside, response.streaming_content)  # type: ignore[arg-type]
        finally:
            connection.set_schema_to_public()
            if used := request.__dict__.pop("keys_used_of", None):
                presence.end_using(used)
        if request.headers.get("HX-Request") and _is_shut_out(request) and "HX-Redirect" not in response.headers:
            response.headers["HX-Refresh"] = "true"  # an open page of a workspace closed to this person is loaded anew
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponseBase | None:
        if request.workspace_address is None:  # type: ignore[attr-defined]
            if second_factor.cannot_be_trusted(request):
                raise Http404
            if request.user.is_authenticated:
                acting.become(
                    acting.person(request.user, "console" if request.path.startswith(second_factor.CONSOLE) else "web")
                )
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
            .annotate(
                has_staff_accesses=staff_access.any_open(),
                has_libraries=libraries.subscribes(),
                is_library=libraries.is_one(),
            )
            .first()
        )
        membership: Membership | None = found
        if found is not None and not seals.standing([found]):
            membership = None
        access = subscription = None
        if membership is None:
            access, subscription, membership = _as_guest(request)
        needs_factor = access is not None or membership.tenant.require_mfa
        if subscription is not None:
            needs_factor = libraries.needs_second_factor(subscription)
        if needs_factor and not second_factor.is_in_session(request):
            return second_factor.lead(request)
        if access is not None:
            _refuse_changes(request)
        presence.begin_using(membership.tenant_id)  # before it is asked whether it is open: a freeze waits for the end
        request.keys_used_of = membership.tenant_id  # type: ignore[attr-defined]
        if closed := _closed(request, membership):
            if subscription is not None:  # why it is closed is its members' alone
                raise Http404
            return closed
        if access is None:
            if request.resolver_match is None or request.resolver_match.url_name != "presence":  # a page left open is no work
                stats.note_activity(membership.tenant)
        elif not staff_access.begin(access):
            raise Http404
        inside = cast(WorkspaceRequest, request)
        inside.staff_access, inside.has_staff_accesses = access, found is not None and found.has_staff_accesses
        inside.subscription, inside.is_library = subscription, found is not None and found.is_library
        inside.has_libraries = found is not None and found.has_libraries
        inside.membership, inside.tenant = membership, membership.tenant
        if subscription is not None:
            acting.become(libraries.reader(user, subscription))
        else:
            acting.become(acting.person(user) if access is None else acting.person(user, "staff view", access.reason))
        connection.set_tenant(membership.tenant)
        return None

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Frozen while the request was under way."""
        if not isinstance(exception, KeysFrozen) or not hasattr(request, "tenant"):
            return None
        connection.set_schema_to_public()
        tenant = request.tenant
        del request.tenant
        if request.subscription is not None:  # type: ignore[attr-defined]
            return HttpResponseNotFound("Not found\n", content_type="text/plain")
        return _frozen(request, tenant, can_own=request.membership.can_own)  # type: ignore[attr-defined]


def outside(request: HttpRequest) -> str:
    """In front of paths outside the workspace: empty, except on a hostname of its own, where they are elsewhere."""
    return settings.PUBLIC_URL if getattr(request, "own_host", "") else ""


def _is_shut_out(request: HttpRequest) -> bool:
    return getattr(request, "workspace_address", None) is not None and not hasattr(request, "tenant")


def _as_guest(request: HttpRequest) -> tuple[StaffAccess | None, Subscription | None, Membership]:
    """What lets somebody in who is no member, and a viewer's membership that is never stored.

    It names nobody, so that nothing a former membership left behind opens a restricted collection. A reader of a library gets
    past here to what READERS_MAY lists alone: any other address is for them below a workspace that does not exist.
    """
    user, where = cast(User, request.user), Q(**request.workspace_address)  # type: ignore[attr-defined]
    if access := staff_access.find(user, where):
        return access, None, Membership(tenant=access.tenant, role=Role.VIEWER)
    match = request.resolver_match
    if match is not None and request.method in libraries.READERS_MAY.get(match.url_name or "", ()):
        for subscription in libraries.readable(user, where):
            return None, subscription, libraries.viewer(subscription)
    raise Http404


def _refuse_changes(request: HttpRequest) -> None:
    """What staff may not do where they are no members."""
    match = request.resolver_match
    if request.method not in ("GET", "HEAD") and (match is None or match.url_name not in STAFF_MAY_POST):
        raise PermissionDenied("You view this workspace as staff: you can search and read, and change nothing.")


def _closed(request: HttpRequest, membership: Membership) -> HttpResponse | None:
    """What members see of a workspace that cannot be entered now; None when it can."""
    tenant = membership.tenant
    if schemas.is_open(tenant):
        return None
    if erasures.is_erased(tenant.pk):  # whatever an older backup says: the same answer as for one that never was
        raise Http404
    if tenant.status != Tenant.Status.SUSPENDED and is_frozen(tenant.pk):
        match = request.resolver_match
        if membership.can_own and match is not None and match.url_name in OPEN_WHILE_FROZEN:
            presence.end_using(request.__dict__.pop("keys_used_of"))  # these pages decrypt nothing
            return None
        return _frozen(request, tenant, can_own=membership.can_own)
    suspended = tenant.status == Tenant.Status.SUSPENDED
    template, status = ("workspaces/suspended.html", 403) if suspended else ("workspaces/upgrading.html", 503)
    if not suspended and not schemas.is_behind(tenant.schema_version):
        template = "workspaces/erasing_again.html"
    response = render(request, template, {"tenant": tenant}, status=status)
    if not suspended:
        response.headers["Retry-After"] = str(UPGRADE_SECONDS)
    return response


def _frozen(request: HttpRequest, tenant: Tenant, *, can_own: bool) -> HttpResponse:
    told = witness.record(f"frozen/{tenant.pk}") or {}  # the reason is no secret of the workspace
    context = {"tenant": tenant, "reason": told.get("reason", "").rstrip("."), "keys_url": reverse("keys") if can_own else ""}
    return render(request, "workspaces/frozen.html", context, status=503)


class _Body:
    """The body of an answer, read in its workspace, whose keys it uses from before the request ends until it is closed.

    The server closes it in the thread that read it, half read or not at all: nothing is left to the garbage collector, which
    may come by in the middle of another request. Staff who view a workspace are asked again now and then whether they may.
    """

    def __init__(self, request: WorkspaceRequest, pieces: Iterable[bytes]) -> None:
        self._request, self._uses_keys = request, True
        self._reading = self._read(pieces)
        presence.begin_using(request.tenant.pk)

    def __iter__(self) -> Iterator[bytes]:
        return self._reading

    def _read(self, pieces: Iterable[bytes]) -> Generator[bytes, None, None]:
        request, asked_at = self._request, time.monotonic()
        connection.set_tenant(request.tenant)
        try:
            for piece in pieces:
                if is_frozen(request.tenant.pk):
                    return
                if request.staff_access is not None and time.monotonic() - asked_at > ASK_SECONDS:
                    with public_context():
                        if not staff_access.goes_on(request.staff_access):
                            return  # ends before its length: the browser says that the download failed
                    asked_at = time.monotonic()
                yield piece
        except KeysFrozen:
            return
        finally:
            self._end_using()
            connection.return_to_public()

    def close(self) -> None:
        self._reading.close()
        self._end_using()

    def _end_using(self) -> None:
        if self._uses_keys:
            self._uses_keys = False
            presence.end_using(self._request.tenant.pk)
