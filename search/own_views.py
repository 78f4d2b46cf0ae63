"""The pages of a member's own searches: the saved ones, the history and its switch. Each is about the asker's alone."""

from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from search import own_searches
from search.forms import SavedSearchForm
from search.own_searches import NotKept, Saved
from search.views import meant, respond, search_form
from tenants.errors import Refused
from tenants.limits import limited
from tenants.models import Membership
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@requires("search")
def saved_searches(request: WorkspaceRequest) -> HttpResponse:
    """The list; by POST, a search is added to it."""
    member = _member(request)
    if request.method != "POST":
        context = {"saved": own_searches.of(member).saved, "most": own_searches.MOST_SAVED}
        return render(request, "search/saved_searches.html", context)
    form, search = SavedSearchForm(request.POST), search_form(request, request.POST)
    if not search.is_valid():  # its collection has gone meanwhile
        return respond(request, {"form": search}, status=422)
    made = None
    if form.is_valid():
        try:
            made = own_searches.save(member, form.cleaned_data["name"], search.asked)
        except Refused as reason:
            form.add_error("name", str(reason))
    if request.htmx:
        context = {"save_form": form, "asked": search.asked, "saved": made}
        return render(request, "search/_save.html", context, status=200 if made else 422)
    if made is None:
        return render(request, "search/save.html", {"save_form": form, "asked": search.asked}, status=422)
    messages.success(request, f"“{made.name}” is saved.")
    return redirect("saved-searches")


@never_cache
@require_GET
@requires("search")
@limited("search", "GET")
def run_saved(request: WorkspaceRequest, saved_id: UUID) -> HttpResponse:
    kept = _saved(request, saved_id)
    form = search_form(request, kept.asked)
    if not form.is_valid():  # its collection is gone, or not for this member any more: neither is said
        return render(request, "search/search.html", {"form": form}, status=422)
    return meant(request, form, kept=kept)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@requires("search")
def rename(request: WorkspaceRequest, saved_id: UUID) -> HttpResponse:
    kept = _saved(request, saved_id)
    form = SavedSearchForm(request.POST if request.method == "POST" else None, initial={"name": kept.name})
    if request.method == "POST" and form.is_valid():
        try:
            own_searches.rename(_member(request), saved_id, form.cleaned_data["name"])
            return redirect("saved-searches")
        except NotKept:
            raise Http404 from None
        except Refused as reason:
            form.add_error("name", str(reason))
    return render(request, "search/saved_rename.html", {"form": form, "saved": kept}, status=422 if form.errors else 200)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@requires("search")
def delete(request: WorkspaceRequest, saved_id: UUID) -> HttpResponse:
    if request.method != "POST":
        return render(request, "search/saved_delete.html", {"saved": _saved(request, saved_id)})
    try:
        gone = own_searches.delete(_member(request), saved_id)
    except NotKept:
        raise Http404 from None
    messages.success(request, f"“{gone.name}” is deleted.")
    return redirect("saved-searches")


# ---------------------------------------------------------------- the history


@require_POST
@requires("search")
def history(request: WorkspaceRequest) -> HttpResponse:
    """Switch it on or off."""
    keeps = request.POST.get("keep") == "yes"
    own_searches.keep_history(_member(request), keeps)
    if keeps:
        messages.success(request, "Your searches are listed here from now on.")
    else:
        messages.success(request, "Your searches are not listed any more. The list is deleted.")
    return redirect("search")


@require_POST
@requires("search")
def clear_history(request: WorkspaceRequest) -> HttpResponse:
    own_searches.clear_history(_member(request))
    messages.success(request, "Your search history is cleared.")
    return redirect("search")


@never_cache
@require_GET
@requires("search")
@limited("search", "GET")
def run_past(request: WorkspaceRequest, entry_id: UUID) -> HttpResponse:
    try:
        kept = own_searches.past(_member(request), entry_id)
    except NotKept:
        raise Http404 from None
    form = search_form(request, kept.asked)
    if not form.is_valid():
        return render(request, "search/search.html", {"form": form}, status=422)
    return meant(request, form)


def _member(request: WorkspaceRequest) -> Membership:
    """Who asks, as a member: staff who view have none of this, and see nobody's; readers of a library never get here."""
    if request.subscription is not None:
        raise Http404
    if request.staff_access is not None:
        raise PermissionDenied("Saved searches and histories belong to members. You view this workspace as staff.")
    return request.membership


def _saved(request: WorkspaceRequest, saved_id: UUID) -> Saved:
    try:
        return own_searches.saved(_member(request), saved_id)
    except NotKept:
        raise Http404 from None
