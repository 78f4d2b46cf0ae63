"""The search page: a question by POST, results as a partial or as the whole page, and links to share."""

from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from search.forms import SearchForm
from search.models import SharedSearch
from search.presentation import passages
from search.querying import search, term_index
from tenants.limits import limited
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest

PAGE_SIZE = 10
DEPTH = 100  # documents reachable by paging


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@requires("search")
@limited("search")
def search_page(request: WorkspaceRequest) -> HttpResponse:
    if request.method != "POST":
        form = _form(request)
        form.fields["q"].widget.attrs["autofocus"] = True  # whoever comes here comes to type
        return render(request, "search/search.html", {"form": form, **_searchable(form)})
    form = _form(request, request.POST)
    if not form.is_valid():
        return _respond(request, {"form": form, **_searchable(form)}, status=422)
    return _respond(request, found(form))


@never_cache
@require_POST
@requires("search")
def share(request: WorkspaceRequest) -> HttpResponse:
    """Make a link to this search: opaque, for members of the workspace only."""
    form = _form(request, request.POST)
    if not form.is_valid():
        return _respond(request, {"form": form}, status=422)
    made = SharedSearch.objects.create(
        query={"q": form.cleaned_data["q"], "collection": form.cleaned_data["collection"]},
        created_by_id=request.user.pk,
    )
    address = reverse("search-shared", args=[made.pk])
    if request.htmx:
        return render(request, "search/_shared_link.html", {"link": request.build_absolute_uri(address)})
    return redirect(address)


@never_cache
@require_GET
@requires("search")
@limited("search", "GET")
def shared(request: WorkspaceRequest, shared_id: str) -> HttpResponse:
    """The search somebody shared, run again now among what who opens it may see."""
    kept = SharedSearch.objects.filter(pk=shared_id).first()
    if kept is None:
        raise Http404
    form = _form(request, kept.query)
    if not form.is_valid():  # its collection is gone, or not for this member: neither is said, nor what was asked
        raise Http404
    link = request.build_absolute_uri(request.path)
    return render(request, "search/search.html", {**found(form), "link": link})


def found(form: SearchForm) -> dict[str, Any]:
    """The context of a page of results."""
    question = form.cleaned_data["q"]
    results = search(question, collections=form.chosen, limit=DEPTH)
    pages = -(-len(results.hits) // PAGE_SIZE)
    page = min(form.cleaned_data["page"] or 1, max(1, pages))
    first = (page - 1) * PAGE_SIZE
    shown = passages(results.hits[first : first + PAGE_SIZE], question, form.chosen)
    return {
        "form": form,
        "asked": True,
        "results": results,
        "shown": shown,
        "page": page,
        "pages": pages,
        "first": first + 1,
        "last": first + len(shown),
        "total": len(results.hits),
        "more_than_shown": len(results.hits) >= DEPTH,
        "is_empty": not results.searched and not form.cleaned_data["collection"],
    }


def _form(request: WorkspaceRequest, asked: Any = None) -> SearchForm:
    return SearchForm(asked, membership=request.membership)


def _searchable(form: SearchForm) -> dict[str, Any]:
    passages = term_index().amount(form.visible)
    return {"passages": passages, "is_empty": not passages}


def _respond(request: WorkspaceRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    htmx = request.htmx
    template = "search/_results.html" if htmx else "search/search.html"
    return render(request, template, context, status=status)
