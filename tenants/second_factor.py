"""Where a second factor is required, and whether this session has been proved with one.

It is the session that counts, not the account: one that was opened with a password alone, before the second factor
existed, stays outside until it is confirmed. Knows allauth's records of how a session was authenticated.
"""

from urllib.parse import urlencode, urlsplit

from allauth.account.authentication import get_authentication_records
from allauth.account.internal.flows.login import record_authentication
from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authenticator_added
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme

from tenants import seals
from tenants.models import User

FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)
CONSOLE = "/admin/"
# Changing second factors would open the door for whoever only knows the password; confirming one is the way in.
OWN_PAGES = "/accounts/2fa/"
ACCOUNT_PAGES, WAY_OUT = "/accounts/", "/accounts/logout/"
CONFIRMING = tuple(f"{OWN_PAGES}{page}/" for page in ("authenticate", "reauthenticate", "webauthn/reauthenticate"))
NEXT = "second_factor_next"  # in the session: where to go on once it is proved


def is_in_session(request: HttpRequest) -> bool:
    """Whether a second factor the person still has was used, or set up as the first, in this session.

    Not when somebody else wrote among their ways to sign in: which of them is theirs cannot be told then.
    """
    records = get_authentication_records(request, request.user)
    used = [record["id"] for record in records if record["method"] == "mfa"]
    if not used or not isinstance(request.user, User):
        return False
    theirs = seals.standing_ways(request.user) or ()
    return any((Authenticator._meta.db_table, pk) in theirs for pk in used)


def cannot_be_trusted(request: HttpRequest) -> bool:
    """Whether this is one of the person's account pages, and what it would show or change was not written by Cloister."""
    if not request.path.startswith(ACCOUNT_PAGES) or request.path.startswith(WAY_OUT):
        return False
    return isinstance(request.user, User) and not seals.ways_stand(request.user)


def is_set_up(user: User) -> bool:
    return Authenticator.objects.filter(user_id=user.pk, type__in=FACTORS).exists()


def is_missing_outside(request: HttpRequest) -> bool:
    """Whether this page outside any workspace needs one that is not there: the console, and the person's second factors."""
    user = request.user
    if request.path.startswith(CONSOLE):
        return bool(user.is_authenticated and user.is_staff and not is_in_session(request))
    if request.path.startswith(OWN_PAGES) and not request.path.startswith(CONFIRMING):
        return isinstance(user, User) and is_set_up(user) and not is_in_session(request)
    return False


def lead(request: HttpRequest) -> HttpResponse:
    """To the page that says why and how; afterwards back to where this request wanted to go."""
    is_part = "HX-Request" in request.headers  # of a page: afterwards to the whole
    if is_part:
        wanted = urlsplit(request.headers.get("HX-Current-URL", "")).path or "/"
    else:
        wanted = request.get_full_path() if request.method == "GET" else request.path
    address = f"{settings.SECOND_FACTOR_URL}?{urlencode({'next': wanted})}"
    return HttpResponse(status=204, headers={"HX-Redirect": address}) if is_part else HttpResponseRedirect(address)


def remember(request: HttpRequest) -> str:
    """Where to go on, kept in the session while the second factor is set up; the start page when nothing is known."""
    wanted = request.GET.get("next", "")
    if url_has_allowed_host_and_scheme(wanted, {request.get_host()}, request.is_secure()):
        request.session[NEXT] = wanted
    return str(request.session.get(NEXT, "/"))


def _set_up(request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: object) -> None:
    """Whoever sets up the first one proves it in doing so. A later one proves nothing that was not proved before."""
    others = Authenticator.objects.filter(user_id=user.pk, type__in=FACTORS).exclude(pk=authenticator.pk)
    if authenticator.type in FACTORS and not others.exists():
        record_authentication(request, user, "mfa", id=authenticator.pk, type=authenticator.type)


authenticator_added.connect(_set_up, dispatch_uid="tenants.second_factor")
