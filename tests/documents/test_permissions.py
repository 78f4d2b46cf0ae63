"""Who may do what with documents, on every address; what is not yours does not exist."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from documents.models import Arrival, Collection, Document
from tenants.context import workspace
from tests.documents.routes import ROLES, ROUTES, made_ready, path_of, without_reference
from tests.factories import DocumentFactory


@pytest.fixture
def document(workspace_a: Any, request: pytest.FixtureRequest) -> Document:
    with workspace(workspace_a):
        return made_ready(DocumentFactory(), request.node.callspec.params["route"])


def addresses(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    """Where in a workspace a view of this app answers, whichever urlconf says so."""
    for entry in resolver.url_patterns:
        path = prefix + str(entry.pattern)
        if isinstance(entry, URLPattern):
            if entry.callback.__module__.startswith("documents."):
                yield path
        else:
            yield from addresses(entry, path)


def test_every_address_is_listed_here() -> None:
    named = {
        "document": "<uuid:document_id>",
        "trashed": "<uuid:document_id>",
        "collection": "<uuid:collection_id>",
        "field": "<uuid:field_id>",
        "arrival": "<uuid:arrival_id>",
    }
    listed = {path.format(**named).replace("pictures/1", "pictures/<int:number>") for path, *_ in ROUTES}
    found = list(addresses(get_resolver("workspace.urls_workspace")))
    assert len(found) == len(set(found)) == len(listed)
    assert set(found) == listed


@pytest.mark.parametrize("route", sorted({route for route, *_ in ROUTES}))
def test_every_method_is_listed_here(route: str, document: Document, client_owner: Client, workspace_a: Any) -> None:
    listed = {method for path, method, _ in ROUTES if path == route}
    for method in {"get", "post", "put", "patch", "delete"} - listed:
        assert getattr(client_owner, method)(workspace_a.path + path_of(route, document)).status_code == 405


@pytest.mark.parametrize(("route", "method", "least"), ROUTES)
@pytest.mark.parametrize("role", ROLES)
def test_roles(
    route: str,
    method: str,
    least: str,
    role: str,
    document: Document,
    workspace_a: Any,
    person: Callable[..., Any],
    sign_in: Callable[[Any], Client],
) -> None:
    somebody = person(role, workspace_a)
    with workspace(workspace_a):
        Arrival.objects.update(created_by_id=somebody.pk)  # an upload in pieces is its person's alone
    client = sign_in(somebody)
    status = getattr(client, method)(workspace_a.path + path_of(route, document)).status_code
    if ROLES.index(role) >= ROLES.index(least):
        assert status in (200, 286, 302, 409, 422)
    else:
        assert status == 403
        with workspace(workspace_a):
            assert Document.objects.get().state == Document.State.QUEUED


@pytest.mark.parametrize(("route", "method", "least"), ROUTES)
def test_a_stranger_gets_not_found(
    route: str,
    method: str,
    least: str,
    document: Document,
    workspace_a: Any,
    person: Callable[..., Any],
    sign_in: Callable[[Any], Client],
) -> None:
    client = sign_in(person(None))
    assert getattr(client, method)(workspace_a.path + path_of(route, document)).status_code == 404


@pytest.mark.parametrize(("route", "method", "least"), [one for one in ROUTES if "{" in one[0]])
def test_foreign_ids_are_not_found_like_ids_that_do_not_exist(
    route: str,
    method: str,
    least: str,
    document: Document,
    other_workspace: Any,
    person: Callable[..., Any],
    sign_in: Callable[[Any], Client],
) -> None:
    client = sign_in(person("owner", other_workspace))
    foreign = getattr(client, method)(other_workspace.path + path_of(route, document))
    unknown = Document(id="00000000-0000-0000-0000-000000000001", collection_id="00000000-0000-0000-0000-000000000002")
    nobody = getattr(client, method)(other_workspace.path + path_of(route, unknown))
    assert foreign.status_code == nobody.status_code == 404
    assert without_reference(foreign) == without_reference(nobody)


@pytest.mark.parametrize(("route", "method", "least"), [one for one in ROUTES if one[1] == "post"])
def test_changes_are_not_made_by_following_a_link(
    route: str, method: str, least: str, document: Document, client_owner: Client, workspace_a: Any
) -> None:
    client_owner.get(workspace_a.path + path_of(route, document))
    with workspace(workspace_a):
        assert Document.objects.get().state == Document.State.QUEUED
        assert Collection.objects.count() == 1
