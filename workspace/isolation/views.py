"""The page about the isolation self-test, for those who manage a workspace: its own checks, never with whom it was compared."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import HTMX_STOP_POLLING

from tenants.context import public_context
from tenants.errors import Refused
from tenants.models import IsolationCheck
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest
from workspace.isolation import verifying
from workspace.isolation.probes import ATTEMPTS

EARLIER_SHOWN = 10


@never_cache
@require_GET
@requires("manage")
def isolation(request: WorkspaceRequest) -> HttpResponse:
    return render(request, "isolation/index.html", _context(request))


@never_cache
@require_GET
@requires("manage")
def status(request: WorkspaceRequest) -> HttpResponse:
    """What the page polls while a check is under way."""
    context = _context(request)
    code = 200 if context["running"] else HTMX_STOP_POLLING
    return render(request, "isolation/_check.html", context, status=code)


@require_POST
@requires("manage")
def start(request: WorkspaceRequest) -> HttpResponse:
    try:
        with public_context():
            verifying.request_check(request.tenant)
    except Refused as refused:
        messages.error(request, str(refused))
    return redirect("isolation")


@require_POST
@requires("manage")
def cancel(request: WorkspaceRequest) -> HttpResponse:
    with public_context():
        if not verifying.cancel(request.tenant):
            messages.info(request, "The check had ended before it could be cancelled.")
    return redirect("isolation")


def _context(request: WorkspaceRequest) -> dict[str, Any]:
    """`running`: what is under way; `check`: the newest that has ended. Read as the workspace: row-level security."""
    checks = list(IsolationCheck.objects.filter(tenant=request.tenant)[: EARLIER_SHOWN + 2])
    ended = [check for check in checks if not check.is_unfinished]
    check = ended[0] if ended else None
    by_kind = check.counts.get("by_kind", {}) if check else {}
    leaks, controls = (_named(check.leaks), _named(check.controls)) if check else ([], [])
    leaking, failing = ({found["kind"] for found in each} for each in (leaks, controls))
    return {
        "running": next((check for check in checks if check.is_unfinished), None),
        "check": check,
        "earlier": ended[1 : EARLIER_SHOWN + 1],
        "kinds": [
            (name, tried, by_kind.get(kind, 0), _result(kind, by_kind, leaking, failing))
            for kind, (name, tried) in ATTEMPTS.items()
        ]
        if by_kind
        else [],
        "leaks": leaks,
        "controls": controls,
        "per_workspace": verifying.PER_WORKSPACE,
    }


def _named(found: list[dict[str, str]]) -> list[dict[str, str]]:
    """With the kind's name; what belongs to no kind of attempt is the check itself."""
    return [{**each, "name": ATTEMPTS[each["kind"]][0] if each["kind"] in ATTEMPTS else "Check"} for each in found]


def _result(kind: str, by_kind: dict[str, int], leaking: set[str], failing: set[str]) -> str:
    if kind not in by_kind:
        return "left out"
    return "leaks" if kind in leaking else "inconclusive" if kind in failing else "passed"
