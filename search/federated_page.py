"""The page that searches several workspaces and libraries at once. It lies outside all of them; a question travels by POST."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from search.federation import State, ask, searchable
from search.forms import FederatedForm
from tenants import libraries
from tenants.limits import limited
from tenants.models import User
from tenants.second_factor import is_in_session

SHOWN = 20
DEADLINE_SECONDS = 5


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
@limited("search")
def federated_page(request: HttpRequest) -> HttpResponse:
    assert isinstance(request.user, User)  # login_required
    memberships, subscriptions = searchable(request.user), libraries.readable(request.user)
    is_part = "HX-Request" in request.headers
    if len(memberships) + len(subscriptions) < 2:
        if is_part:  # they were more when the page was made
            return HttpResponse(status=204, headers={"HX-Refresh": "true"})
        only = memberships[0].tenant if memberships else None
        return render(request, "search/federated_too_few.html", {"only": only})
    asked = request.POST if request.method == "POST" else None
    form = FederatedForm(asked, memberships=memberships, subscriptions=subscriptions)
    context: dict[str, object] = {
        "form": form,
        "has_libraries": bool(subscriptions),
        "chooses_many": len(memberships) + len(subscriptions) > 6,
    }
    if request.method != "POST":
        form.fields["q"].widget.attrs["autofocus"] = True  # whoever comes here comes to type
    elif form.is_valid():
        found = ask(
            request.user,
            form.cleaned_data["q"],
            form.chosen,
            deadline_seconds=DEADLINE_SECONDS,
            limit=SHOWN,
            has_second_factor=is_in_session(request),
        )
        answered = [source for source in found.sources if source.state is State.ANSWERED]
        context |= {
            "asked": True,
            "results": found.results,
            "answered": len(answered),
            "searched": sum(source.searched for source in answered),
            "others": [source for source in found.sources if source.state is not State.ANSWERED],
            "limit": SHOWN,
        }
    template = "search/_federated_results.html" if is_part else "search/federated.html"
    return render(request, template, context, status=422 if form.errors else 200)
