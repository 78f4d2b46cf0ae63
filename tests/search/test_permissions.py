"""Who may search, judge and run, on every address; what is not yours does not exist."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client

from documents.models import Document
from search import own_searches, urls
from search.evaluation import runs
from search.evaluation.judgments import JudgedQuestion, Parsed
from search.indexing import passage_id
from search.models import JudgmentSet, MemberSearches, Question, Run, SharedSearch
from tenants.context import public_context
from tenants.models import Membership, Tenant

pytestmark = pytest.mark.django_db

ROUTES = [  # address, method, the least role
    ("", "get", "viewer"),
    ("", "post", "viewer"),
    ("s/", "post", "viewer"),
    ("s/{shared_id}/", "get", "viewer"),
    ("instant/", "post", "viewer"),
    ("settled/", "post", "viewer"),
    ("saved/", "get", "viewer"),
    ("saved/", "post", "viewer"),
    ("saved/{saved_id}/", "get", "viewer"),
    ("saved/{saved_id}/rename/", "get", "viewer"),
    ("saved/{saved_id}/rename/", "post", "viewer"),
    ("saved/{saved_id}/delete/", "get", "viewer"),
    ("saved/{saved_id}/delete/", "post", "viewer"),
    ("history/", "post", "viewer"),
    ("history/clear/", "post", "viewer"),
    ("history/{entry_id}/", "get", "viewer"),
    ("like/{passage_id}/", "get", "viewer"),
    ("evaluation/", "get", "viewer"),
    ("evaluation/upload/", "get", "editor"),
    ("evaluation/upload/", "post", "editor"),
    ("evaluation/{set_id}/", "get", "viewer"),
    ("evaluation/{set_id}/delete/", "get", "editor"),
    ("evaluation/{set_id}/delete/", "post", "editor"),
    ("evaluation/{set_id}/run/", "post", "editor"),
    ("evaluation/runs/{run_id}/", "get", "viewer"),
    ("evaluation/runs/{run_id}/status/", "get", "viewer"),
    ("evaluation/runs/{run_id}/cancel/", "post", "editor"),
    ("evaluation/runs/{run_id}/{question_id}/", "get", "viewer"),
    ("evaluation/runs/{run_id}/export.{kind}", "get", "viewer"),
    ("protection/", "get", "owner"),
    ("protection/status/", "get", "owner"),
    ("protection/change/", "post", "owner"),
    ("protection/model/", "post", "owner"),
    ("protection/settings/", "get", "owner"),
    ("protection/settings/", "post", "owner"),
    ("protection/disguise/", "post", "owner"),
    ("protection/cancel/", "post", "owner"),
    ("protection/back/", "post", "owner"),
    ("protection/remove/", "post", "owner"),
]
CHANGING = [route for route in ROUTES if route[1] == "post"]
STATE = (JudgmentSet, Question, Run, SharedSearch, MemberSearches)
ROLES = ["viewer", "editor", "admin", "owner"]


@pytest.fixture
def ids(handbook: dict[str, Document]) -> dict[str, Any]:
    """A judgment set with a finished run, in workspace a, where the test is too."""
    made = runs.create_judgment_set("Support", Parsed([JudgedQuestion("1", "Alarm?", {"Fire drill": 1})]))
    shared = SharedSearch.objects.create(query={"q": "alarm", "collection": ""})
    run = runs.evaluate(made)
    question = Question.objects.get()
    passage = passage_id(handbook["Canteen"].id, 0)
    made_here = {"set_id": made.pk, "run_id": run.pk, "question_id": question.pk, "shared_id": shared.pk}
    return {**made_here, "kind": "csv", "passage_id": passage, **kept_by(Membership(pk=10**9))}


def kept_by(membership: Membership) -> dict[str, Any]:
    """A search that the member saved, and one of their history."""
    asked = {"q": "alarm", "collection": "", "mode": "hybrid"}
    saved = own_searches.save(membership, "Alarms", asked)
    own_searches.remember(membership, asked)
    return {"saved_id": saved.id, "entry_id": own_searches.of(membership).past[0].id}


def ask(client: Client, address: str, method: str) -> Any:
    with public_context():
        given = {"q": "alarm", "name": "More", "file": SimpleUploadedFile("x.csv", b"question,document\nHow?,Canteen\n")}
        given |= {"metric": "cosine", "m": "24", "ef_construction": "100"}
        return client.post(address, given) if method == "post" else client.get(address)


def state() -> tuple[list[Any], ...]:
    """Everything these addresses can change."""
    return tuple(list(model.objects.order_by("pk").values()) for model in STATE)


def test_every_address_is_listed_here() -> None:
    patterns = {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern)) for pattern in urls.urlpatterns}
    assert patterns == {route for route, *_ in ROUTES}


@contextmanager
def undone(what: str) -> Iterator[None]:
    """One request of many on the same rows: what it changes is taken back. A failure in it names `what`."""
    with transaction.atomic():
        try:
            yield
        except AssertionError as failure:
            failure.add_note(what)
            raise
        transaction.set_rollback(True)


@pytest.mark.parametrize("role", ROLES)
def test_roles(
    role: str, ids: dict[str, Any], workspace_a: Any, person: Callable[..., Any], sign_in: Callable[[Any], Client]
) -> None:
    with public_context():
        somebody = person(role, workspace_a)
        client, membership = sign_in(somebody), Membership.objects.get(user=somebody)
    ids |= kept_by(membership)
    before = state()
    for route, method, least in ROUTES:
        with undone(f"{method} {route}"):
            status = ask(client, workspace_a.path + route.format(**ids), method).status_code
            if ROLES.index(role) >= ROLES.index(least):
                assert status in (200, 204, 286, 302)
            else:
                assert status == 403
                assert state() == before


def test_a_stranger_gets_not_found(
    ids: dict[str, Any], workspace_a: Any, person: Callable[..., Any], sign_in: Callable[[Any], Client]
) -> None:
    with public_context():
        client = sign_in(person(None))
    before = state()
    for route, method, _ in ROUTES:
        with undone(f"{method} {route}"):
            assert ask(client, workspace_a.path + route.format(**ids), method).status_code == 404
            assert state() == before


def test_who_is_not_signed_in_is_sent_to_sign_in(ids: dict[str, Any], workspace_a: Any) -> None:
    for route, method, _ in ROUTES:
        with undone(f"{method} {route}"):
            answer = ask(Client(), workspace_a.path + route.format(**ids), method)
            assert answer.status_code == 302
            assert "/accounts/login/" in answer["Location"]


def test_foreign_ids_are_not_found_like_ids_that_do_not_exist(
    ids: dict[str, Any], person: Callable[..., Any], sign_in: Callable[[Any], Client]
) -> None:
    with public_context():
        elsewhere = Tenant.objects.get(slug="beta")
        client = sign_in(person("owner", elsewhere))
    unknown = {name: "nowhere" if name in ("kind", "shared_id") else UUID(int=1) for name in ids}
    before = state()
    for route, method, _ in (one for one in ROUTES if "{" in one[0]):
        with undone(f"{method} {route}"):
            for given in (ids, unknown):
                assert ask(client, elsewhere.path + route.format(**given), method).status_code == 404
            assert state() == before


def test_changes_are_made_by_a_form_of_ours_alone(ids: dict[str, Any], workspace_a: Any, person: Callable[..., Any]) -> None:
    """Not by following a link, and not by a form without the token."""
    strict = Client(enforce_csrf_checks=True)
    with public_context():
        strict.force_login(person("owner", workspace_a), backend="allauth.account.auth_backends.AuthenticationBackend")
    before = state()
    for route, _, _ in CHANGING:
        with undone(route):
            address = workspace_a.path + route.format(**ids)
            ask(strict, address, "get")
            assert ask(strict, address, "post").status_code == 403
            assert state() == before
