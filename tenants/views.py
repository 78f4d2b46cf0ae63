"""Pages about workspaces and people. Those of a workspace step into public context for rows a tenant may not write."""

from contextlib import suppress
from uuid import UUID

from allauth.account.adapter import get_adapter as get_account_adapter
from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from tenants import alarms, libraries, people, provisioning, seals, second_factor
from tenants.context import public_context
from tenants.errors import Refused
from tenants.forms import HandOverForm, InviteForm, JoinForm, RoleForm, WorkspaceForm
from tenants.middleware import outside
from tenants.models import Invitation, Membership, Tenant, User
from tenants.permissions import Role, may_grant, requires, role_table
from tenants.requests import WorkspaceRequest
from tenants.sessions import end_session, end_sessions, sessions_of
from tenants.wording import counted

LARGEST_ID = 2**63 - 1  # of a bigint: what is larger is nobody's

# ---------------------------------------------------------------- public


@login_required
@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """The person's workspaces; straight to the search box when there is just one."""
    assert request.user.is_authenticated  # login_required
    found = Membership.objects.filter(user_id=request.user.pk).select_related("tenant").order_by("tenant__name")
    memberships = seals.standing(found)
    ready = [m for m in memberships if m.tenant.status == Tenant.Status.ACTIVE]
    if len(memberships) == len(ready) == 1 and "all" not in request.GET:
        return redirect(ready[0].tenant.path)
    searches_many = len(memberships) > 1 or bool(libraries.readable(request.user))
    context = {"memberships": memberships, "can_create": _may_create(request), "searches_many": searches_many}
    return render(request, "home.html", context)


def _may_create(request: HttpRequest) -> bool:
    """Staff always; everyone where sign-up is open."""
    return bool(settings.SIGN_UP_OPEN or request.user.is_staff)


@login_required
@require_http_methods(["GET", "POST"])
def new_workspace(request: HttpRequest) -> HttpResponse:
    if not _may_create(request):
        raise Http404
    form = WorkspaceForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        assert isinstance(request.user, User)  # login_required
        try:
            tenant = provisioning.open_workspace(form.cleaned_data["name"], form.cleaned_data["slug"], request.user)
        except Refused as refusal:
            form.add_error("slug", str(refusal))
        else:
            return redirect("workspace-opening", slug=tenant.slug)
    return render(request, "workspaces/new.html", {"form": form}, status=422 if form.errors else 200)


@login_required
@require_http_methods(["GET", "POST"])
def opening(request: HttpRequest, slug: str) -> HttpResponse:
    """Waits with progress until the job has made the workspace; POST asks again after a failure."""
    own = get_object_or_404(Membership.objects.select_related("tenant"), tenant__slug=slug, user_id=request.user.pk)
    if not seals.standing([own]):
        raise Http404
    tenant = own.tenant
    if request.method == "POST" and tenant.status == Tenant.Status.FAILED:
        with suppress(Refused):  # somebody else has asked meanwhile
            provisioning.retry(tenant)
        return redirect("workspace-opening", slug=slug)
    if tenant.status == Tenant.Status.ACTIVE:
        if request.headers.get("HX-Request"):
            return HttpResponse(status=204, headers={"HX-Redirect": tenant.path})
        return redirect(tenant.path)
    template = "workspaces/_opening.html" if request.headers.get("HX-Request") else "workspaces/opening.html"
    return render(request, template, {"tenant": tenant, "failed": tenant.status == Tenant.Status.FAILED})


@require_http_methods(["GET", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Accept an invitation: as who is signed in, or by making an account for the invited or, of a link, one's own address."""
    found = people.invitation_of(token)
    if found is None:
        return render(request, "members/invitation_gone.html", status=410)
    has_account = bool(found.email) and User.objects.filter(email=found.email).exists()
    signed_in = request.user if isinstance(request.user, User) else None
    form = None if has_account or signed_in else JoinForm(request.POST or None, email=found.email)
    problem, status = "", 200
    if request.method == "POST":
        try:
            if signed_in:
                people.accept(found, signed_in)
                return redirect(found.tenant.path)
            if form is not None and form.is_valid():
                return _join(request, found, form.cleaned_data)
        except Refused as refusal:
            problem = str(refusal)
        status = 422
    context = {
        "invitation": found,
        "form": form,
        "problem": problem,
        "needs_sign_in": has_account and not signed_in,
        "other_account": bool(signed_in and found.email and signed_in.email != found.email),
        "sign_in_url": f"/accounts/login/?next={request.path}",
    }
    return render(request, "members/invitation.html", context, status=status)


def _join(request: HttpRequest, offer: Invitation, given: dict[str, str]) -> HttpResponse:
    """Make the account and take the place. An address that nobody vouches for has to be confirmed before the first sign-in."""
    with transaction.atomic():
        email = offer.email or given["email"]
        user = people.create_person(email, given["password"], name=given["name"], verified=bool(offer.email))
        people.accept(offer, user)
    if offer.email:
        login(request, user, backend="allauth.account.auth_backends.AuthenticationBackend")
        return redirect(offer.tenant.path)
    EmailAddress.objects.get(user=user, primary=True).send_confirmation(request, signup=True)
    return redirect("account_email_verification_sent")


@login_required
@require_GET
def second_factor_required(request: HttpRequest) -> HttpResponse:
    """Says why a second factor is needed and leads to it; once the session has been proved with one, back to the way."""
    assert isinstance(request.user, User)  # login_required
    wanted = second_factor.remember(request)
    if second_factor.is_in_session(request):
        return redirect(request.session.pop(second_factor.NEXT, wanted))
    context = {
        "is_set_up": second_factor.is_set_up(request.user),
        "ways": get_account_adapter(request).second_factors(request.user),
        "requiring": seals.standing(
            Membership.objects.filter(user=request.user, tenant__require_mfa=True).select_related("tenant")
        ),
        "for_console": wanted.startswith(second_factor.CONSOLE),
        "back": urlencode({"next": settings.SECOND_FACTOR_URL}),
    }
    return render(request, "account/second_factor.html", context)


@login_required
@require_GET
def sessions(request: HttpRequest) -> HttpResponse:
    assert isinstance(request.user, User)  # login_required
    return render(request, "account/sessions.html", {"sessions": sessions_of(request.user, request.session)})


@login_required
@require_POST
def session_end(request: HttpRequest) -> HttpResponse:
    assert isinstance(request.user, User)  # login_required
    if not end_session(request.user, request.POST.get("session", "")):
        messages.info(request, "That browser was signed out before.")
    else:
        messages.success(request, "That browser is signed out.")
    return redirect("sessions")


@login_required
@require_POST
def sessions_end_others(request: HttpRequest) -> HttpResponse:
    assert isinstance(request.user, User)  # login_required
    ended = end_sessions(request.user, but=request.session)
    messages.success(request, f"Signed out {counted(ended, 'other browser')}.")
    return redirect("sessions")


# ---------------------------------------------------------------- inside a workspace


@require_GET
def presence(request: WorkspaceRequest) -> HttpResponse:
    """What an open page asks now and then. Whoever may no longer be here is answered by the middleware instead."""
    return HttpResponse(status=204)


def _members_page(request: WorkspaceRequest, form: InviteForm | None = None, status: int = 200) -> HttpResponse:
    tenant, own = request.tenant, request.membership
    with public_context():
        memberships = list(people.memberships_of(tenant))
        valid = {member.pk for member in memberships if seals.stands(member) and seals.stands(member.user)}
        offers = Invitation.objects.filter(tenant=tenant, accepted_at=None, expires_at__gt=timezone.now())
        invitations = seals.standing(offers.select_related("invited_by")) if own.can_manage else []
        alarmed = alarms.open_in(tenant) if own.can_manage else 0
    context = {
        "memberships": [
            (member, member.pk in valid, own.can_manage and may_grant(own.role, member.role)) for member in memberships
        ],
        "people": len(valid),
        "alarmed": alarmed,
        # where mail is sent, only the mail carries the link: that it arrived is what verifies the address
        "invitations": [
            (offer, people.link_of(offer) if may_grant(own.role, offer.role) and not _is_mailed(offer) else "")
            for offer in invitations
        ],
        "form": form or InviteForm(),
        "can_manage": own.can_manage,
        "grantable": [role for role in Role if may_grant(own.role, role)],
        "role_table": role_table(),
        "roles": list(Role),
        "places": tenant.quota_members,
    }
    return render(request, "members/index.html", context, status=status)


def _is_mailed(offer: Invitation) -> bool:
    return bool(settings.MAIL_IS_CONFIGURED and offer.email)


@require_GET
@requires("read")
def members(request: WorkspaceRequest) -> HttpResponseBase:
    return _members_page(request)


@require_POST
@requires("manage")
def invite(request: WorkspaceRequest) -> HttpResponseBase:
    form = InviteForm(request.POST)
    if form.is_valid():
        tenant = request.tenant
        email, role = User.objects.normalize_email(form.cleaned_data["email"]), form.cleaned_data["role"]
        try:
            with public_context():
                offer = people.invite(tenant, email, role, request.user)
                unsent = _is_mailed(offer) and not people.send_link(offer)
        except Refused as refusal:
            form.add_error(None, str(refusal))
        else:
            done = f"Invited {email}." if _is_mailed(offer) else "The invitation is made: copy its link below and send it."
            if unsent:
                messages.warning(request, f"{done} The mail could not be sent: invite them again later, to send a new link.")
            else:
                messages.success(request, done)
            return redirect("members")
    return _members_page(request, form, status=422)


@require_POST
@requires("manage")
def withdraw(request: WorkspaceRequest, invitation_id: UUID) -> HttpResponseBase:
    tenant, own = request.tenant, request.membership
    with public_context():
        offer = get_object_or_404(Invitation, pk=invitation_id, tenant=tenant, accepted_at=None)
        try:
            people.withdraw(tenant, offer, by=own.role)
        except Refused as refusal:
            raise PermissionDenied(str(refusal)) from None
    messages.success(request, f"Withdrew the invitation of {offer.email}." if offer.email else "The link no longer works.")
    return redirect("members")


@require_POST
@requires("manage")
def member_role(request: WorkspaceRequest, user_id: int) -> HttpResponseBase:
    form = RoleForm(request.POST)
    try:
        with public_context():
            member = _member(request, user_id)
            if not form.is_valid():
                raise Refused("Choose one of the roles.")
            role = form.cleaned_data["role"]
            people.change_role(member.tenant, user_id, role, by=request.user.pk)
    except Refused as refusal:
        return _refuse(request, str(refusal))
    messages.success(request, f"{member.user} is {Role(role).label.lower()} now.")
    return redirect("members" if user_id != request.user.pk or Role(role) in (Role.OWNER, Role.ADMIN) else "search")


@require_POST
@requires("manage")
def member_remove(request: WorkspaceRequest, user_id: int) -> HttpResponseBase:
    try:
        with public_context():
            member = _member(request, user_id)
            people.remove(member.tenant, user_id, by=request.user.pk)
    except Refused as refusal:
        return _refuse(request, str(refusal))
    if user_id == request.user.pk:
        return HttpResponseRedirect(f"{outside(request)}/?all")
    messages.success(request, f"{member.user} is no longer a member.")
    return redirect("members")


def _member(request: WorkspaceRequest, user_id: int) -> Membership:
    """A membership of this workspace; 404 when it is none."""
    if user_id > LARGEST_ID:
        raise Http404
    return get_object_or_404(Membership.objects.select_related("user", "tenant"), tenant=request.tenant, user_id=user_id)


@require_http_methods(["GET", "POST"])
@requires("read")
def leave(request: WorkspaceRequest) -> HttpResponseBase:
    """One's own way out, whatever the role."""
    own, problem = request.membership, ""
    if request.method == "POST":
        try:
            with public_context():
                people.remove(request.tenant, own.user_id, by=own.user_id)
            return HttpResponseRedirect(f"{outside(request)}/?all")
        except Refused as refusal:
            problem = str(refusal)
    is_last = own.role == Role.OWNER and not Membership.objects.filter(role=Role.OWNER).exclude(pk=own.pk).exists()
    context = {"problem": problem, "is_last_owner": is_last}
    return render(request, "members/leave.html", context, status=422 if problem else 200)


@require_http_methods(["GET", "POST"])
@requires("own")
def hand_over(request: WorkspaceRequest) -> HttpResponseBase:
    """Make another member the owner in one's place."""
    own = request.membership
    with public_context():
        others = seals.standing(people.memberships_of(own.tenant).exclude(pk=own.pk).filter(confirmed=True))
        form = HandOverForm(request.POST or None, members=others)
        if request.method == "POST" and form.is_valid():
            try:
                heir = people.hand_over(own.tenant, own.user_id, int(form.cleaned_data["member"]))
            except Refused as refusal:
                form.add_error(None, str(refusal))
            else:
                messages.success(request, f"{heir.user} is the owner now, and you are an admin.")
                return redirect("members")
    return render(request, "members/hand_over.html", {"form": form}, status=422 if form.errors else 200)


def _refuse(request: WorkspaceRequest, words: str) -> HttpResponse:
    messages.error(request, words)
    return redirect("members")
