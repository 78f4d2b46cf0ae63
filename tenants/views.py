"""Pages about workspaces and people. Those of a workspace step into public context for rows a tenant may not write."""

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from tenants import people, provisioning
from tenants.context import public_context
from tenants.errors import Refused
from tenants.forms import InviteForm, JoinForm, WorkspaceForm
from tenants.models import Invitation, Membership, Tenant, User
from tenants.permissions import ROLE_ACTIONS, Role, requires

# ---------------------------------------------------------------- public


@login_required
@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """The person's workspaces; straight to the search box when there is just one."""
    assert request.user.is_authenticated  # login_required
    memberships = list(Membership.objects.filter(user_id=request.user.pk).select_related("tenant").order_by("tenant__name"))
    ready = [m for m in memberships if m.tenant.status == Tenant.Status.ACTIVE]
    if len(memberships) == len(ready) == 1 and "all" not in request.GET:
        return redirect(ready[0].tenant.path)
    return render(request, "home.html", {"memberships": memberships, "can_create": _may_create(request)})


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
    tenant = get_object_or_404(Tenant, slug=slug, memberships__user_id=request.user.pk)
    if request.method == "POST" and tenant.status == Tenant.Status.FAILED:
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
    """Accept an invitation: as who is signed in, or by making an account for the invited address."""
    found = people.invitation_of(token)
    if found is None:
        return render(request, "members/invitation_gone.html", status=410)
    account = User.objects.filter(email=found.email).first()
    form = JoinForm(request.POST or None) if account is None and not request.user.is_authenticated else None
    problem, status = "", 200
    if request.method == "POST":
        try:
            if isinstance(request.user, User):
                people.accept(found, request.user)
                return redirect(found.tenant.path)
            if form is not None and form.is_valid():
                user = people.create_person(found.email, form.cleaned_data["password"], name=form.cleaned_data["name"])
                people.accept(found, user)
                login(request, user, backend="allauth.account.auth_backends.AuthenticationBackend")
                return redirect(found.tenant.path)
        except Refused as refusal:
            problem = str(refusal)
        status = 422
    context = {
        "invitation": found,
        "form": form,
        "problem": problem,
        "needs_sign_in": account is not None and not request.user.is_authenticated,
        "other_account": request.user.is_authenticated and request.user.email != found.email,
        "sign_in_url": f"/accounts/login/?next={request.path}",
    }
    return render(request, "members/invitation.html", context, status=status)


# ---------------------------------------------------------------- inside a workspace


def _may_offer(request: HttpRequest, role: str) -> bool:
    """Whoever holds an invitation can become what it offers: an owner's is for owners to make, see, replace or withdraw."""
    return bool(role != Role.OWNER or request.membership.role == Role.OWNER)  # type: ignore[attr-defined]


def _members_page(request: HttpRequest, form: InviteForm | None = None, status: int = 200) -> HttpResponse:
    tenant = request.tenant  # type: ignore[attr-defined]
    can_manage = request.membership.can_manage  # type: ignore[attr-defined]
    with public_context():
        memberships = list(Membership.objects.filter(tenant=tenant).select_related("user").order_by("user__email"))
        invitations = list(Invitation.objects.filter(tenant=tenant, accepted_at=None)) if can_manage else []
    context = {
        "memberships": memberships,
        # where mail is sent, only the mail carries the link: that it arrived is what verifies the address
        "invitations": [
            (offer, "" if settings.MAIL_IS_CONFIGURED or not _may_offer(request, offer.role) else people.link_of(offer))
            for offer in invitations
            if offer.is_open
        ],
        "form": form or InviteForm(),
        "can_manage": can_manage,
        "roles": [(role, sorted(ROLE_ACTIONS[role])) for role in Role],
    }
    return render(request, "members/index.html", context, status=status)


@requires("read")
@require_GET
def members(request: HttpRequest) -> HttpResponseBase:
    return _members_page(request)


@requires("manage")
@require_POST
def invite(request: HttpRequest) -> HttpResponseBase:
    form = InviteForm(request.POST)
    if form.is_valid():
        try:
            if not _may_offer(request, form.cleaned_data["role"]):
                raise Refused("Only an owner can invite an owner.")
            with public_context():
                earlier = Invitation.objects.filter(
                    tenant=request.tenant,  # type: ignore[attr-defined]
                    email=User.objects.normalize_email(form.cleaned_data["email"]),
                    accepted_at=None,
                )
                if not all(_may_offer(request, offer.role) for offer in earlier):
                    raise Refused("An owner has invited this person as owner: only an owner can change that.")
                assert isinstance(request.user, User)  # a membership was found for it
                people.invite(request.tenant, form.cleaned_data["email"], form.cleaned_data["role"], request.user)  # type: ignore[attr-defined]
        except Refused as refusal:
            form.add_error(None, str(refusal))
        else:
            messages.success(request, f"Invited {form.cleaned_data['email']}.")
            return redirect("members")
    return _members_page(request, form, status=422)


@requires("manage")
@require_POST
def withdraw(request: HttpRequest, invitation_id: UUID) -> HttpResponseBase:
    with public_context():
        offer = get_object_or_404(Invitation, pk=invitation_id, tenant=request.tenant, accepted_at=None)  # type: ignore[attr-defined]
        if not _may_offer(request, offer.role):
            raise PermissionDenied("Only an owner can withdraw the invitation of an owner.")
        offer.delete()
    messages.success(request, f"Withdrew the invitation of {offer.email}.")
    return redirect("members")


@requires("manage")
@require_POST
def remove_member(request: HttpRequest, user_id: int) -> HttpResponseBase:
    try:
        with public_context():
            member = get_object_or_404(Membership, tenant=request.tenant, user_id=user_id)  # type: ignore[attr-defined]
            if member.role == Role.OWNER and request.membership.role != Role.OWNER:  # type: ignore[attr-defined]
                raise Refused("Only an owner can remove an owner.")
            people.remove(request.tenant, user_id)  # type: ignore[attr-defined]
    except Refused as refusal:
        messages.error(request, str(refusal))
    except IntegrityError:
        raise Http404 from None
    return redirect("members" if user_id != request.user.pk else "/")
