"""The keys of a workspace, for its owners: what is in use and what is kept, changing the key, freezing it.

Translates between pages and the verbs of tenants.keys, and holds no logic of its own. Decrypts nothing: while the keys are
frozen these pages are what is left.
"""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HTMX_STOP_POLLING

from tenants import names
from tenants.acting import Actor
from tenants.context import public_context
from tenants.errors import Refused
from tenants.forms import LineField
from tenants.keys import freezing, rotation
from tenants.keys.messages import MOST
from tenants.models import Freeze, KeyRotation, Membership, TenantKey
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest

HISTORY_SHOWN = 10
ANSWERS_WAITED_FOR = 120  # seconds in which the page asks by itself whether the last processes answered


class FreezeForm(forms.Form):
    reason = LineField(
        names.checked_reason,
        max_length=names.REASON_CHARACTERS,
        help_text="Owners and members read it, and it is logged.",
        error_messages={"required": "Say why: owners and members read it."},
    )


@never_cache
@require_GET
@requires("own")
def page(request: WorkspaceRequest) -> HttpResponse:
    return render(request, "keys/index.html", _context(request))


@never_cache
@require_GET
@requires("own")
def status(request: WorkspaceRequest) -> HttpResponse:
    """What the page polls while the key is being changed, or answers are waited for."""
    context = _context(request)
    return render(request, "keys/_status.html", context, status=200 if context["polls"] else HTMX_STOP_POLLING)


@require_POST
@requires("own")
def change(request: WorkspaceRequest) -> HttpResponse:
    return _done(request, lambda: rotation.begin(request.tenant, request.user))


@require_POST
@requires("own")
def pause(request: WorkspaceRequest) -> HttpResponse:
    return _done(request, lambda: rotation.pause(request.tenant))


@require_POST
@requires("own")
def resume(request: WorkspaceRequest) -> HttpResponse:
    return _done(request, lambda: rotation.resume(request.tenant))


@require_http_methods(["GET", "POST"])
@requires("own")
def freeze(request: WorkspaceRequest) -> HttpResponse:
    form = FreezeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            with public_context():
                freezing.freeze(request.tenant, form.cleaned_data["reason"], Actor(request.user.email, "web", request.user.pk))
        except Refused as refused:
            form.add_error(None, str(refused))
        else:
            return redirect("keys")
    with public_context():
        needed = freezing.votes_needed(request.tenant)
    context = {"form": form, "members": Membership.objects.count(), "votes_needed": needed}
    return render(request, "keys/freeze.html", context, status=422 if form.errors else 200)


@require_POST
@requires("own")
def unfreeze(request: WorkspaceRequest) -> HttpResponse:
    def ask() -> None:
        if freezing.ask_to_unfreeze(request.tenant, request.user):
            messages.success(request, "The keys are unfrozen. Everybody can go on.")

    return _done(request, ask)


def _done(request: WorkspaceRequest, verb: Any) -> HttpResponse:
    try:
        with public_context():
            verb()
    except Refused as refused:
        messages.error(request, str(refused))
    return redirect("keys")


def _context(request: WorkspaceRequest) -> dict[str, Any]:
    tenant = request.tenant
    with public_context():
        keys = list(TenantKey.objects.filter(tenant=tenant).order_by("-version"))
        ended = KeyRotation.objects.filter(tenant=tenant, state=KeyRotation.State.DONE).select_related("asked_by")
        freezes = Freeze.objects.filter(tenant=tenant, lifted_at__isnull=False)
        running, frozen = rotation.unfinished(tenant), freezing.current(tenant)
        context: dict[str, Any] = {
            "current": next((key for key in keys if key.state == TenantKey.State.ACTIVE), None),
            "earlier": keys[1:],
            "messages_at_most": MOST,
            "rotation": running,
            "history": _history(list(ended[:HISTORY_SHOWN]), list(freezes[:HISTORY_SHOWN])),
            "frozen": frozen,
            "polls": running is not None and running.state == KeyRotation.State.RUNNING and frozen is None,
        }
        if context["current"] is not None:
            context["days_old"] = (timezone.now() - context["current"].created_at).days
        if frozen is not None:
            answers = freezing.answers(frozen)
            waiting = any(each.seconds is None for each in answers)
            voters = freezing.voters(frozen)
            context |= {
                "answers": answers,
                "confirmed": [each for each in answers if each.seconds is not None],
                "slowest": max((each.seconds for each in answers if each.seconds is not None), default=None),
                "voters": voters,
                "has_voted": request.user in voters,
                "votes_needed": freezing.votes_needed(tenant),
                "polls": waiting and (timezone.now() - frozen.asked_at).total_seconds() < ANSWERS_WAITED_FOR,
            }
    return context


def _history(rotations: list[KeyRotation], freezes: list[Freeze]) -> list[tuple[Any, str, str]]:
    """When, what, and by whom: newest first."""
    changed = [
        (
            each.started_at,
            f"Changed to version {each.to_version}",
            each.asked_by.email if each.asked_by else "The server's command line",
        )
        for each in rotations
    ]
    frozen = [(each.asked_at, f"Frozen: {each.reason}", each.asked_by) for each in freezes]
    return sorted([*changed, *frozen], key=lambda found: found[0], reverse=True)[:HISTORY_SHOWN]
