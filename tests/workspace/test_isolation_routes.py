"""Every address has an isolation entry, and the system check says so when one has not."""

import pytest
from django.core.checks import run_checks
from django.http import HttpRequest, HttpResponse
from django.urls import path

from workspace.isolation import routes
from workspace.isolation.routes import Entry, takes, takes_none

WORKSPACE_CONF = "workspace.urls_workspace"


@pytest.fixture(autouse=True)
def _fresh() -> None:
    routes.routes.cache_clear()


def problems() -> list[tuple[str | None, str]]:
    return [(problem.id, str(problem.msg)) for problem in run_checks(tags=["isolation"])]


def view(request: HttpRequest, **kwargs: object) -> HttpResponse:
    return HttpResponse()


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch):
    """Adds a pattern to the end of a URL conf."""

    def add(urlconf: str, route: str) -> None:
        module = __import__(urlconf, fromlist=["urlpatterns"])
        resolver = routes.get_resolver(urlconf)
        monkeypatch.setitem(resolver.__dict__, "url_patterns", [*module.urlpatterns, path(route, view)])
        routes.routes.cache_clear()

    yield add
    routes.routes.cache_clear()


def test_every_pattern_has_an_entry_and_every_entry_a_pattern() -> None:
    assert problems() == []
    assert len(routes.routes(WORKSPACE_CONF)) >= 34
    assert len(routes.routes("workspace.urls")) > 80


@pytest.mark.parametrize("urlconf", [WORKSPACE_CONF, "workspace.urls"])
@pytest.mark.parametrize("route", ["new/", "documents/<uuid:document_id>/new/", "accounts/sessions/<int:pk>/", "admin/ours/"])
def test_a_pattern_without_an_entry_is_an_error(added, urlconf: str, route: str) -> None:
    added(urlconf, route)
    assert problems() == [("isolation.E001", f"{urlconf}: {route!r} has no isolation entry")]


def test_an_entry_without_a_pattern_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(routes.WORKSPACE, "gone/", takes_none("it was here"))
    assert problems() == [("isolation.E002", f"{WORKSPACE_CONF}: the isolation entry 'gone/' has no route")]


@pytest.mark.parametrize(
    "entry",
    [takes(set_id="document"), takes(document_id="no such kind"), Entry(), takes(document_id="document", more="run")],
)
def test_an_entry_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch, entry: Entry) -> None:
    monkeypatch.setitem(routes.WORKSPACE, "documents/<uuid:document_id>/", entry)
    assert [number for number, _ in problems()] == ["isolation.E003"]


def test_a_view_of_ours_below_a_brought_path_needs_its_own_entry() -> None:
    theirs = routes.Route("accounts/new/", "allauth.account.views", frozenset())
    ours = routes.Route("accounts/new/", "tenants.views", frozenset())
    assert routes.entry_for(theirs, routes.PUBLIC) is not None
    assert routes.entry_for(ours, routes.PUBLIC) is None


def test_a_path_is_filled_with_the_ids() -> None:
    route = routes.Route("a/<uuid:one>/<int:two>/export.<str:kind>", "", frozenset({"one", "two", "kind"}))
    assert route.path({"one": "x", "two": "7", "kind": "json"}) == "a/x/7/export.json"
    assert route.path({}) == f"a/{routes.NOBODY}/0/export.0"
