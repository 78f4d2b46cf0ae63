"""The settings of a workspace, for its admins and owners: what it is called, what it may hold, who gets in, and its end.

Translates between forms and the verbs of tenants.lifecycle, and holds no logic of its own.
"""

from typing import Any

from allauth.mfa.utils import is_mfa_enabled
from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from documents import quotas
from tenants import lifecycle, names
from tenants.context import public_context
from tenants.errors import Refused
from tenants.forms import LineField
from tenants.models import Domain, IsolationCheck, Membership, Tenant
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest
from workspace import erasure


class NameForm(forms.Form):
    name = LineField(
        names.of_workspace,
        max_length=names.WORKSPACE_CHARACTERS,
        help_text="What members see. The address stays as it is.",
        error_messages={"required": "Give the workspace a name."},
    )


class DeleteForm(forms.Form):
    """Typing the address is what keeps a click from being enough."""

    address = forms.CharField(label="Address", widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, tenant: Tenant, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tenant = tenant
        self.fields["address"].help_text = f"Type {tenant.slug} to confirm."

    def clean_address(self) -> str:
        if self.cleaned_data["address"] != self.tenant.slug:
            raise forms.ValidationError(f"This is not the address of this workspace: type {self.tenant.slug}.")
        return str(self.cleaned_data["address"])


@require_http_methods(["GET", "POST"])
@requires("manage")
def page(request: WorkspaceRequest) -> HttpResponse:
    tenant = request.tenant
    form = NameForm(request.POST or None, initial={"name": tenant.name})
    if request.method == "POST" and form.is_valid():
        try:
            with public_context():
                lifecycle.rename(tenant, form.cleaned_data["name"])
        except Refused as refusal:
            form.add_error("name", str(refusal))
        else:
            messages.success(request, f"The workspace is called {tenant.name} now.")
            return redirect("workspace-settings")
    members = Membership.objects.count()
    context = {
        "form": form,
        "members": members,
        "bars": quotas.bars() + quotas.members_bar(members),
        "hostnames": [domain.domain for domain in Domain.objects.order_by("domain")],
        "deletion_days": settings.DELETION_DAYS,
        "check": IsolationCheck.objects.filter(tenant=tenant).exclude(state__in=IsolationCheck.UNFINISHED).first(),
    }
    return render(request, "workspaces/settings.html", context, status=422 if form.errors else 200)


@require_POST
@requires("own")
def second_factor(request: WorkspaceRequest) -> HttpResponse:
    """Require a second factor of everybody, or no longer."""
    tenant = request.tenant
    wanted = request.POST.get("require") == "yes"
    with public_context():
        if wanted and not is_mfa_enabled(request.user):
            messages.error(request, "Set up a second factor of your own first, under your account: else you lock yourself out.")
        else:
            lifecycle.require_second_factor(tenant, wanted)
            messages.success(request, f"A second factor is {'required' if wanted else 'optional'} now.")
    return redirect("workspace-settings")


@require_http_methods(["GET", "POST"])
@requires("own")
def delete(request: WorkspaceRequest) -> HttpResponse:
    """Schedule the deletion."""
    tenant = request.tenant
    if tenant.legal_hold:
        messages.error(request, f"This workspace must be kept ({tenant.legal_hold}): administrators have to release it first.")
        return redirect("workspace-settings")
    form = DeleteForm(request.POST or None, tenant=tenant)
    if request.method == "POST" and form.is_valid():
        try:
            with public_context():
                lifecycle.schedule_deletion(tenant, settings.DELETION_DAYS)
        except Refused as refusal:
            form.add_error(None, str(refusal))
        else:
            return redirect("workspace-settings")
    context = {
        "form": form,
        "members": Membership.objects.count(),
        "held": quotas.held(),
        "deletion_days": settings.DELETION_DAYS,
        "cannot_reach": erasure.cannot_reach(),
    }
    return render(request, "workspaces/delete.html", context, status=422 if form.errors else 200)


@require_POST
@requires("own")
def keep(request: WorkspaceRequest) -> HttpResponse:
    """Call the scheduled deletion off."""
    try:
        with public_context():
            lifecycle.keep(request.tenant)
    except Refused as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, "The workspace is kept.")
    return redirect("workspace-settings")
