"""How a workspace's vectors are held, for its owners: level, model, the index's settings, changing them, progress, going back.

Translates between pages and the verbs of search.building, and holds no logic of its own.
"""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HTMX_STOP_POLLING

from search import building
from search.embeddings import models
from search.forms import IndexForm
from search.models import VectorIndex
from tenants.errors import Refused
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest

State = VectorIndex.State
HISTORY_SHOWN = 20


@require_GET
@requires("own")
def page(request: WorkspaceRequest) -> HttpResponse:
    return render(request, "protection/index.html", _context())


@require_GET
@requires("own")
def status(request: WorkspaceRequest) -> HttpResponse:
    """What the page polls while an index is being built or removed."""
    context = _context()
    return render(request, "protection/_status.html", context, status=200 if context["polls"] else HTMX_STOP_POLLING)


@require_POST
@requires("own")
def change(request: WorkspaceRequest) -> HttpResponse:
    return _done(request, lambda: building.begin(request.POST.get("level", ""), by=request.user.pk))


@require_POST
@requires("own")
def change_model(request: WorkspaceRequest) -> HttpResponse:
    return _done(request, lambda: building.begin(model=request.POST.get("model", ""), by=request.user.pk))


@require_http_methods(["GET", "POST"])
@requires("own")
def index_settings(request: WorkspaceRequest) -> HttpResponse:
    live = VectorIndex.objects.get(state=State.LIVE)
    if live.is_sealed:
        messages.error(request, "A sealed index is compared in memory: it has no settings.")
        return redirect("protection")
    now = {"metric": live.metric, "m": live.m, "ef_construction": live.ef_construction}
    form = IndexForm(request.POST or None, initial=now)
    if request.method == "POST" and form.is_valid():
        try:
            building.begin(**form.cleaned_data, by=request.user.pk)
        except building.BadSetting as bad:
            form.add_error(bad.name, str(bad))
        except Refused as refused:
            form.add_error(None, str(refused))
        else:
            return redirect("protection")
    return render(request, "protection/settings.html", {"form": form}, status=422 if form.errors else 200)


@require_POST
@requires("own")
def new_disguise(request: WorkspaceRequest) -> HttpResponse:
    return _done(request, lambda: building.draw_new_disguise(by=request.user.pk))


@require_POST
@requires("own")
def cancel(request: WorkspaceRequest) -> HttpResponse:
    return _done(request, building.cancel)


@require_POST
@requires("own")
def go_back(request: WorkspaceRequest) -> HttpResponse:
    return _done(request, building.go_back)


@require_POST
@requires("own")
def remove(request: WorkspaceRequest) -> HttpResponse:
    return _done(request, building.remove_kept)


def _done(request: WorkspaceRequest, verb: Callable[[], object]) -> HttpResponse:
    try:
        verb()
    except Refused as refused:
        messages.error(request, str(refused))
    return redirect("protection")


def _context() -> dict[str, Any]:
    known = list(VectorIndex.objects.order_by("-id")[:HISTORY_SHOWN])
    by_state = {state: VectorIndex.objects.filter(state=state).order_by("-finished_at", "-id") for state in State}
    live = by_state[State.LIVE].get()
    installed = models()
    built, removing = by_state[State.BUILDING].first(), by_state[State.RETIRING].exists()
    return {
        "live": live,
        "building": built,
        "removing": removing,
        "kept": by_state[State.STANDBY].first(),
        "failed": known[0] if known[0].detail and known[0].state in (State.FAILED, State.RETIRING) else None,
        "levels": building.levels(),
        "models": list(installed.values()),
        "is_model_missing": live.model not in installed,
        "names_models": len(installed) > 1 or any(index.model != live.model for index in known),
        "history": known,
        "polls": bool(built or removing),
    }
