"""The search page: a question by POST, or a passage by its id; results as a partial or a whole page, and links to share.

What is a search, where results follow the typing: what somebody sent (Enter, the button, a filter, a link), and what they
stopped at, which the page tells when a result was opened or nothing was typed for two seconds (`settled`). Each of these is
one entry in the audit log, one in the member's history, and counts against RATE_SEARCH. So is each further page of it, but for
the history. The requests in between (`instant`) count against RATE_INSTANT and are in no history; since they show results all
the same, whoever sends nothing else is written down too: that they searched while typing, once a minute.
"""

from collections.abc import Collection
from functools import partial
from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.text import Truncator
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from search import nothing_found, own_searches, questions
from search.filters import facet
from search.forms import MIN_TYPED, SavedSearchForm, SearchForm
from search.loaded import term_index
from search.models import SharedSearch
from search.presentation import described, folded, link_to
from search.querying import PassageNotFound, Results, like, search
from search.questions import Phrase
from search.ranking import Mode
from tenants.afterwards import afterwards
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.limits import at_least_once, limited
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest

PAGE_SIZE = 10
DEPTH = 100  # documents reachable by paging
NOTED_SECONDS = 60  # while which typing is written down once
PROPOSED_NAME = 60  # characters of the question


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@requires("search")
@limited("search")
def search_page(request: WorkspaceRequest) -> HttpResponse:
    if request.method != "POST":
        form = search_form(request)
        form.fields["q"].widget.attrs["autofocus"] = True  # whoever comes here comes to type
        return render(request, "search/search.html", {"form": form, **_begin(request, form)})
    form = search_form(request, request.POST)
    if not form.is_valid():
        return respond(request, {"form": form, **_begin(request, form)}, status=422)
    return meant(request, form, template(request))


@never_cache
@require_POST
@requires("search")
@limited("instant")
def instant(request: WorkspaceRequest) -> HttpResponse:
    """What is found for what somebody has typed so far; an emptied box brings back what the page began with."""
    form = search_form(request, request.POST)
    if len(request.POST.get("q", "").strip()) < MIN_TYPED:
        return render(request, "search/_results.html", {"form": search_form(request), **_begin(request, form)})
    if not form.is_valid():  # half of a question is no mistake to be complained about
        return render(request, "search/_results.html", {"form": search_form(request), "not_yet": form.errors})
    note = partial(record, Event.SEARCHED, while_typing=True, collection=form.cleaned_data["collection"] or None)
    at_least_once("instant_noted", request.user.pk, NOTED_SECONDS, note)  # nothing is shown unless it is written down
    return render(request, "search/_results.html", _results(request, form, _ask(form)))


@never_cache
@require_POST
@requires("search")
@limited("search")
def settled(request: WorkspaceRequest) -> HttpResponse:
    """Somebody stopped at what they had typed: the search whose results they see was meant. Shows nothing."""
    form = search_form(request, request.POST)
    response = HttpResponse(status=204)
    if not form.is_valid():
        return response
    _record(form, _ask(form))
    return _remembered(response, request, form)


@never_cache
@require_POST
@requires("search")
def share(request: WorkspaceRequest) -> HttpResponse:
    """Make a link to this search: opaque, for members of the workspace only."""
    form = search_form(request, request.POST)
    if not form.is_valid():
        return respond(request, {"form": form}, status=422)
    made = SharedSearch.objects.create(query=form.asked, created_by_id=request.user.pk)
    record(Event.SHARED, search=made.pk)
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
    form = search_form(request, kept.query)
    if not form.is_valid() or form.lost_filters:  # of what it was limited to something is gone, or not for this member:
        # neither is said, nor what was asked
        raise Http404
    link = request.build_absolute_uri(request.path)
    return meant(request, form, link=link)


@never_cache
@require_GET
@requires("search")
@limited("search", "GET")
def alike(request: WorkspaceRequest, passage_id: UUID) -> HttpResponse:
    """What is like a passage; the address names the passage by its id alone."""
    form = search_form(request)
    try:
        about = like(passage_id, collections=form.visible, limit=DEPTH)
    except PassageNotFound:
        raise Http404 from None
    passage = link_to(passage_id, form.visible)
    if passage is None:
        raise Http404
    asked = request.GET.get("page", "1")
    number = int(asked) if asked.isdecimal() and len(asked) < 5 else 1
    shown = _shown(about.results, number, " ".join(about.words), (), form.visible)
    record(Event.SEARCHED, results=len(about.results.hits), collection=None, **_page(shown["page"]))
    named = {"like": passage, "telling": about.words, "mode": Mode.HYBRID, "origin": _origin(request)}
    return render(request, "search/search.html", {"form": form, **named, **shown})


def meant(request: WorkspaceRequest, form: SearchForm, page: str = "search/search.html", **more: Any) -> HttpResponse:
    """Results of a search that somebody meant, which is in the log before anybody sees them."""
    results = _ask(form)
    context = _results(request, form, results)
    _record(form, results, context["page"])
    response = render(request, page, {**context, **more})
    return _remembered(response, request, form) if context["page"] == 1 else response  # the others are no search of their own


def search_form(request: WorkspaceRequest, asked: Any = None) -> SearchForm:
    return SearchForm(asked, membership=request.membership)


def _ask(form: SearchForm, limit: int = DEPTH) -> Results:
    asked = form.cleaned_data
    return search(
        asked["q"],
        collections=form.chosen,
        limit=limit,
        mode=asked["mode"],
        conditions=form.conditions,
        facets=[each.fields for each in form.faceted],
    )


def _remembered(response: HttpResponse, request: WorkspaceRequest, form: SearchForm) -> HttpResponse:
    """The search goes into the member's history, which nobody waits for."""
    return afterwards(response, partial(own_searches.remember, request.membership, form.asked))


def _record(form: SearchForm, results: Results, page: int = 1) -> None:
    collection = form.cleaned_data["collection"] or None
    record(Event.SEARCHED, results=len(results.hits), collection=collection, **_page(page))


def _page(number: int) -> dict[str, Any]:
    """What the log says of a page of results, beyond what it says of a search."""
    return {"page": number} if number > 1 else {}


def _results(request: WorkspaceRequest, form: SearchForm, results: Results) -> dict[str, Any]:
    asked = form.cleaned_data
    question = questions.parse(asked["q"])
    shown = _shown(results, asked["page"] or 1, question.text, question.phrases, form.chosen)
    is_empty = not results.searched and not asked["collection"]
    return {
        "form": form,
        "mode": asked["mode"],
        "phrases": [" ".join(phrase) for phrase in question.phrases],
        "facets": [facet(each, counted, asked) for each, counted in zip(form.faceted, results.facets, strict=False) if counted],
        "is_empty": is_empty,
        "help": None if shown["shown"] or is_empty else _help(request, form),
        "save_form": SavedSearchForm(initial={"name": Truncator(asked["q"]).chars(PROPOSED_NAME)}),
        "origin": _origin(request),
        **shown,
    }


def _help(request: WorkspaceRequest, form: SearchForm) -> nothing_found.Help:
    def finds_something(asked: dict[str, str]) -> bool:
        other = form.again(asked)
        return other.is_valid() and bool(_ask(other, limit=1).hits)

    return nothing_found.help_with(form.asked, form.visible, finds_something)


def _shown(
    results: Results, number: int, asked: str, phrases: Collection[Phrase], collections: Collection[UUID]
) -> dict[str, Any]:
    """One page of results, the nearest there is."""
    found = folded(results.hits, collections, number, PAGE_SIZE)
    first = (found.page - 1) * PAGE_SIZE
    shown = described(found.passages, asked, phrases)
    return {
        "asked": True,
        "results": results,
        "shown": shown,
        "page": found.page,
        "pages": found.pages,
        "first": first + 1,
        "last": first + len(shown),
        "total": found.total,
        "more_than_shown": len(results.hits) >= DEPTH,
    }


def _begin(request: WorkspaceRequest, form: SearchForm) -> dict[str, Any]:
    """What stands below an empty search box."""
    passages = term_index().amount(form.visible)
    is_member = request.staff_access is None and request.subscription is None
    own = own_searches.of(request.membership) if is_member else None
    return {"passages": passages, "is_empty": not passages, "own": own}


def _origin(request: WorkspaceRequest) -> str:
    """In front of the path of what is cited."""
    return request.build_absolute_uri("/").removesuffix("/")


def respond(request: WorkspaceRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    return render(request, template(request), context, status=status)


def template(request: WorkspaceRequest) -> str:
    return "search/_results.html" if request.htmx else "search/search.html"
