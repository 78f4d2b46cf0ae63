"""Libraries: made by staff, subscribed to by owners, searched and read by members, and nothing else; and every end of that."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, transaction
from django.db.models import Q
from django.http import Http404
from django.test import Client

from documents.models import Collection, CollectionMember, Document
from documents.receiving import create_collection
from search.embeddings import Embedder, embedder
from search.indexing import passage_id
from search.pool import pool
from tenants import libraries, lifecycle, middleware, people, seals
from tenants.acting import person as acting_person
from tenants.audit.models import Entry
from tenants.context import workspace
from tenants.errors import Refused
from tenants.keys import freezing
from tenants.models import Alarm, Domain, Library, Membership, Subscription, Tenant, User, WorkspaceStats
from tenants.provisioning import create_workspace
from tests.conftest import PASSWORD
from tests.factories import DocumentFactory
from tests.search.conftest import store
from tests.tenants.test_seals import bring_back, copied, sql
from workspace.isolation import canaries
from workspace.isolation.asking import site
from workspace.isolation.probes import pages
from workspace.isolation.probes.findings import Findings
from workspace.isolation.routes import WORKSPACE, routes

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])

REASON = "Ticket 12: the law, for everybody."
QUESTION = "Which fine does a late return cost?"


@pytest.fixture(autouse=True)
def _empty_pool() -> Iterator[None]:
    pool().clear()
    yield
    pool().clear()


@pytest.fixture
def model(model_dir: Path) -> Embedder:
    return embedder()


@pytest.fixture
def curator(person: Callable[..., Any], workspace_b: Tenant) -> User:
    """Of the staff, and the owner of the library."""
    user = person("owner", workspace_b, email="curator@example.org")
    User.objects.filter(pk=user.pk).update(is_staff=True)
    return User.objects.get(pk=user.pk)


@pytest.fixture
def library(workspace_b: Tenant, curator: User) -> Library:
    libraries.make(workspace_b, "Statutes and rules.", REASON)
    return Library.objects.get()


@pytest.fixture
def book(library: Library, model: Embedder) -> Document:
    """In the library."""
    with workspace(library.tenant):
        return store(["A late return costs a fine of two crowns."], title="Rules of return")


@pytest.fixture
def subscribed(library: Library, workspace_a: Tenant, owner: User) -> Subscription:
    libraries.subscribe(workspace_a, library, owner)
    return Subscription.objects.get()


@pytest.fixture
def reader(viewer: User, subscribed: Subscription, sign_in: Callable[..., Client]) -> Client:
    return sign_in(viewer)


def status(client: Client, path: str = "") -> int:
    return client.get(f"/w/beta/{path}").status_code


def logged(tenant: Tenant, event: str) -> list[dict[str, Any]]:
    with workspace(tenant):
        return [{**entry.details, "person": entry.person_id} for entry in Entry.objects.filter(event=event)]


def alarmed(row: Any) -> bool:
    return Alarm.objects.filter(kind=Alarm.Kind.ROW, subject=seals.subject(type(row), row.pk)).exists()


# ---------------------------------------------------------------- made by staff


def test_only_a_workspace_that_staff_alone_own_becomes_a_library(
    curator: User, person: Callable[..., Any], workspace_b: Tenant
) -> None:
    theirs = person("owner", workspace_b, email="customer@example.org")
    with pytest.raises(Refused, match="each owner of Beta must be of the staff"):
        libraries.make(workspace_b, "Theirs.", REASON)
    assert not Library.objects.exists()
    people.remove(workspace_b, theirs.pk, by=curator.pk)
    libraries.make(workspace_b, "Ours.", REASON)
    assert Library.objects.get().description == "Ours."


def test_a_staff_flag_set_by_sql_is_worth_nothing(person: Callable[..., Any], workspace_b: Tenant) -> None:
    customer = person("owner", workspace_b, email="customer@example.org")
    sql("UPDATE tenants_user SET is_staff = true WHERE id = %s", customer.pk)
    with pytest.raises(Refused, match="must be of the staff"):
        libraries.make(workspace_b, "Theirs.", REASON)


def test_without_an_owner_a_reason_or_a_description_there_is_no_library(workspace_b: Tenant, curator: User) -> None:
    for described, reason in (("Statutes.", " "), ("", REASON), ("x" * 301, REASON)):
        with pytest.raises(Refused):
            libraries.make(workspace_b, described, reason)
    Membership.objects.filter(tenant=workspace_b).delete()
    with pytest.raises(Refused):
        libraries.make(workspace_b, "Statutes.", REASON)
    assert not Library.objects.exists()


def test_a_workspace_that_is_not_active_or_is_one_already_is_refused(library: Library, workspace_b: Tenant) -> None:
    with pytest.raises(Refused, match="is a library already"):
        libraries.make(workspace_b, "Statutes.", REASON)
    libraries.undo(workspace_b, REASON)
    lifecycle.suspend(workspace_b, "Unpaid")
    with pytest.raises(Refused, match="only an active workspace"):
        libraries.make(workspace_b, "Statutes.", REASON)


def test_the_command_makes_and_undoes_it_and_the_log_has_the_reason(
    curator: User, workspace_b: Tenant, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("make_library", "beta", "--describe", "Statutes.", "--reason", REASON, "--json")
    assert capsys.readouterr().out == '{"slug": "beta", "library": true}\n'
    call_command("make_library", "beta", "--undo", "--reason", "Ticket 13", "--json")
    assert not Library.objects.exists()
    (made,), (undone,) = logged(workspace_b, "library.made"), logged(workspace_b, "library.undone")
    assert (made["reason"], made["via"]) == (REASON, "command")
    assert undone["reason"] == "Ticket 13"
    with pytest.raises(CommandError, match="Beta is no library"):
        call_command("make_library", "beta", "--undo", "--reason", "Ticket 13")


# ---------------------------------------------------------------- subscribed to by owners


def test_owners_see_what_there_is_and_subscribe(
    book: Document, client_owner: Client, viewer: User, sign_in: Callable[..., Client], workspace_a: Tenant, workspace_b: Tenant
) -> None:
    library = Library.objects.get()
    WorkspaceStats.objects.create(tenant=workspace_b, ready=1)
    html = client_owner.get("/w/alpha/libraries/").content.decode()
    for words in ("Beta", "Statutes and rules.", "1 document<", "Subscribe<"):
        assert words in html
    reader = sign_in(viewer)
    assert status(reader) == 404
    assert "Search libraries too" not in reader.get("/w/alpha/").content.decode()
    answer = client_owner.post(f"/w/alpha/libraries/{library.pk}/subscribe/", follow=True)
    assert "Members of this workspace can search and read Beta now." in answer.content.decode()
    assert "End subscription" in answer.content.decode()
    assert status(reader) == 200
    assert '<a href="/search/">Search libraries too</a>' in reader.get("/w/alpha/").content.decode()
    (ours,), (theirs,) = logged(workspace_a, "library.subscribed"), logged(workspace_b, "library.subscribed")
    assert (ours["who"], ours["about"]) == ("owner@example.org", {"library": str(workspace_b.pk)})
    assert (theirs["who"], theirs["about"]) == ("an owner of Alpha", {"workspace": str(workspace_a.pk)})
    client_owner.post(f"/w/alpha/libraries/{library.pk}/withdraw/")
    assert status(reader) == 404
    assert len(logged(workspace_b, "library.unsubscribed")) == 1


@pytest.mark.parametrize("role", ["viewer", "editor", "admin"])
def test_only_owners_subscribe(
    role: str, library: Library, person: Callable[..., Any], sign_in: Callable[..., Client], workspace_a: Tenant
) -> None:
    client = sign_in(person(role, workspace_a))
    assert client.get("/w/alpha/libraries/").status_code == 403
    for verb in ("subscribe", "withdraw"):
        assert client.post(f"/w/alpha/libraries/{library.pk}/{verb}/").status_code == 403
        assert client.get(f"/w/alpha/libraries/{library.pk}/{verb}/").status_code == 405
    assert not Subscription.objects.exists()


def test_a_workspace_that_is_no_library_and_the_library_itself_are_refused(
    library: Library, client_owner: Client, owner: User, workspace_b: Tenant, curator: User, sign_in: Callable[..., Client]
) -> None:
    assert client_owner.post(f"/w/alpha/libraries/{uuid4()}/subscribe/").status_code == 404
    sign_in(curator).post(f"/w/beta/libraries/{library.pk}/subscribe/")
    libraries.undo(workspace_b, REASON)
    with pytest.raises(Refused, match="not there any more"):
        libraries.subscribe(Tenant.objects.get(slug="alpha"), library, owner)
    assert not Subscription.objects.exists()


# ---------------------------------------------------------------- searched and read


def test_a_reader_searches_opens_and_downloads(book: Document, reader: Client, viewer: User, workspace_b: Tenant) -> None:
    html = reader.post("/w/beta/", {"q": QUESTION}).content.decode()
    assert "Rules of return" in html
    assert "Share this search" not in html
    for address in ("documents", "evaluation", "members", "settings", "plaintext"):
        assert f'href="/w/beta/{address}/"' not in html
    assert "Beta is a library that Alpha subscribes to" in html
    page = reader.get(f"/w/beta/documents/{book.pk}/?page=1")
    assert page.status_code == 200
    assert "A late return costs" in page.content.decode()
    assert "Move to trash" not in page.content.decode()
    assert reader.get(f"/w/beta/like/{passage_id(book.pk, 0)}/").status_code == 200
    assert reader.get("/w/beta/presence/").status_code == 204
    for event in ("search.searched", "document.opened"):
        entry = logged(workspace_b, event)[0]
        assert (entry["who"], entry["via"]) == ("somebody of Alpha", "subscription")
        assert entry["person"] == viewer.pk
        assert "fine" not in str(entry)
        assert viewer.email not in str(entry)


def test_a_link_to_what_was_superseded_leads_to_what_is_in_use(book: Document, reader: Client, workspace_b: Tenant) -> None:
    with workspace(workspace_b):
        newer = DocumentFactory(collection=book.collection, series=book.pk, version=2, state=Document.State.READY)
        Document.objects.filter(pk=book.pk).update(is_current=False)
    page = reader.get(f"/w/beta/documents/{book.pk}/").content.decode()
    assert "This version is not in use" in page
    assert f'href="/w/beta/documents/{newer.pk}/"' in page
    assert "Version 1" not in page
    assert "not in use" not in reader.get(f"/w/beta/documents/{newer.pk}/").content.decode()


def test_a_download_is_the_file(library: Library, reader: Client, workspace_b: Tenant) -> None:
    with workspace(workspace_b):
        document = DocumentFactory(content=b"Two crowns.", state=Document.State.READY)
    answer = reader.get(f"/w/beta/documents/{document.pk}/download/")
    assert b"".join(answer.streaming_content) == b"Two crowns."
    assert logged(workspace_b, "document.downloaded")[0]["who"] == "somebody of Alpha"


def test_every_other_address_is_below_a_workspace_that_does_not_exist(
    book: Document, reader: Client, workspace_b: Tenant, curator: User
) -> None:
    """Of every address there is, by every method: what nobody thought of is closed."""
    ids = {"document_id": str(book.pk), "collection_id": str(book.collection_id), "user_id": str(curator.pk), "kind": "json"}
    asked = 0
    with workspace(workspace_b):
        before = (Document.objects.count(), Collection.objects.count())
    nowhere = reader.get("/w/no-such/members/")
    for route in routes("workspace.urls_workspace"):
        path = route.path({name: ids.get(name, str(uuid4())) for name in route.arguments})
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            if method in libraries.READERS_MAY.get(route.name, ()):
                continue
            answer = reader.generic(method, f"/w/beta/{path}")
            assert answer.status_code == 404, f"{method} {path}"
            asked += 1
        if not libraries.READERS_MAY.get(route.name):
            theirs = reader.get(f"/w/beta/{path}").content.decode()
            assert "Beta" not in theirs
            assert "Alpha" not in theirs
    assert nowhere.status_code == 404
    assert asked > 6 * len(WORKSPACE)
    with workspace(workspace_b):
        assert (Document.objects.count(), Collection.objects.count()) == before
    assert not Membership.objects.filter(tenant=workspace_b).exclude(user=curator).exists()


def test_what_readers_may_is_a_fixed_list() -> None:
    """Whoever adds to it has thought about it here as well."""
    assert libraries.READERS_MAY == {
        "search": ("GET", "HEAD", "POST"),
        "search-instant": ("POST",),
        "search-settled": ("POST",),
        "search-like": ("GET",),
        "document": ("GET",),
        "document-download": ("GET", "HEAD"),
        "document-picture": ("GET",),
        "presence": ("GET",),
    }
    assert libraries.READERS_MAY.keys() <= {route.name for route in routes("workspace.urls_workspace")}


def test_restricted_collections_stay_hidden_also_from_a_former_member(
    book: Document, reader: Client, viewer: User, workspace_b: Tenant, curator: User
) -> None:
    former = Membership.objects.create(user=viewer, tenant=workspace_b, role="viewer")
    with workspace(workspace_b):
        board = create_collection("Board", restricted=True)
        CollectionMember.objects.create(collection=board, membership_id=former.pk)
        secret = store(["A late return costs nothing if you know the board."], title="Secret", collection=board)
    assert "Secret" in reader.post("/w/beta/", {"q": QUESTION}).content.decode()
    people.remove(workspace_b, viewer.pk, by=curator.pk)
    html = reader.post("/w/beta/", {"q": QUESTION}).content.decode()
    assert "Rules of return" in html
    assert "Secret" not in html
    assert "Board" not in html
    assert status(reader, f"documents/{secret.pk}/") == 404


def test_who_curates_is_not_named_to_readers(book: Document, reader: Client, workspace_b: Tenant, curator: User) -> None:
    with workspace(workspace_b):
        Document.objects.filter(pk=book.pk).update(created_by_id=curator.pk)
    path = f"/w/beta/documents/{book.pk}/"
    assert "by Owner" not in reader.get(path).content.decode()


def test_searches_are_limited_per_reader(book: Document, reader: Client, client_owner: Client, settings: Any) -> None:
    settings.RATE_SEARCH = (1, 3600)
    assert reader.post("/w/beta/", {"q": QUESTION}).status_code == 200
    assert reader.post("/w/beta/", {"q": QUESTION}).status_code == 429
    assert client_owner.post("/w/beta/", {"q": QUESTION}).status_code == 200


def test_a_second_factor_is_needed_where_either_workspace_requires_one(
    subscribed: Subscription, reader: Client, viewer: User, sign_in: Any, workspace_a: Tenant, workspace_b: Tenant
) -> None:
    for tenant in (workspace_a, workspace_b):
        lifecycle.require_second_factor(tenant, True)
        assert "/accounts/second-factor/" in reader.get("/w/beta/")["Location"]
        assert sign_in(viewer, second_factor=True).get("/w/beta/").status_code == 200
        lifecycle.require_second_factor(tenant, False)
    assert status(reader) == 200


def test_on_a_hostname_of_its_own(subscribed: Subscription, viewer: User, workspace_b: Tenant) -> None:
    Domain.objects.create(domain="library.example.org", tenant=workspace_b)
    client = Client(headers={"host": "library.example.org"})
    client.post("/accounts/login/", {"login": viewer.email, "password": PASSWORD})
    assert client.get("/").status_code == 200
    assert client.get("/members/").status_code == 404


# ---------------------------------------------------------------- the end of it


def test_a_removed_member_gets_nothing(reader: Client, viewer: User, owner: User, workspace_a: Tenant) -> None:
    assert status(reader) == 200
    people.remove(workspace_a, viewer.pk, by=owner.pk)
    assert status(reader) == 404


def test_an_undone_library_ends_every_subscription(
    reader: Client, workspace_a: Tenant, workspace_b: Tenant, curator: User
) -> None:
    libraries.undo(workspace_b, REASON)
    assert status(reader) == 404
    assert len(logged(workspace_a, "library.unsubscribed")) == 1
    libraries.make(workspace_b, "Again.", REASON)
    assert status(reader) == 404


@pytest.mark.parametrize("which", ["alpha", "beta"])
def test_where_either_workspace_is_not_open_the_library_is_gone(
    which: str, reader: Client, client_owner: Client, owner: User
) -> None:
    """Of the library not even why is said."""
    tenant = Tenant.objects.get(slug=which)
    lifecycle.suspend(tenant, "Unpaid")
    answer = reader.get("/w/beta/")
    assert answer.status_code == 404
    assert "Unpaid" not in answer.content.decode()
    if which == "beta":
        assert "Statutes" not in client_owner.get("/w/alpha/libraries/").content.decode()
    lifecycle.resume(tenant)
    assert status(reader) == 200
    freezing.freeze(tenant, "Somebody may be in it", acting_person(owner))
    answer = reader.get("/w/beta/")
    assert answer.status_code == 404
    assert "Somebody" not in answer.content.decode()
    Tenant.objects.filter(pk=tenant.pk).update(status=Tenant.Status.ERASING)
    assert status(reader) == 404


def test_nobody_else_gets_in(
    subscribed: Subscription, person: Callable[..., Any], sign_in: Callable[..., Client], workspace_b: Tenant
) -> None:
    assert status(sign_in(person(None))) == 404
    assert Client().get("/w/beta/").status_code == 302
    assert sign_in(person("editor", workspace_b)).get("/w/alpha/").status_code == 404  # it goes one way


# ---------------------------------------------------------------- planted, changed and brought back by SQL


def test_a_planted_subscription_grants_nothing(
    library: Library, viewer: User, owner: User, sign_in: Callable[..., Client], workspace_a: Tenant
) -> None:
    sql(
        "INSERT INTO tenants_subscription (id, tenant_id, library_id, created_at, seal) "
        "SELECT gen_random_uuid(), %s, id, now(), seal FROM tenants_library",
        workspace_a.pk,
    )
    planted = Subscription.objects.get()
    client = sign_in(viewer)
    assert status(client) == 404
    assert alarmed(planted)
    assert libraries.subscribed(workspace_a) == set()
    lifecycle.rename(workspace_a, "Alpha again")  # what follows seals nothing that was planted
    assert status(client) == 404
    libraries.subscribe(workspace_a, library, owner)  # an owner's own decision does
    assert status(client) == 200


def test_a_planted_library_grants_nothing(
    viewer: User, owner: User, sign_in: Callable[..., Client], workspace_a: Tenant, workspace_b: Tenant
) -> None:
    sql(
        "INSERT INTO tenants_library (id, tenant_id, description, created_at, seal) "
        "SELECT gen_random_uuid(), id, 'Planted', now(), seal FROM tenants_tenant WHERE id = %s",
        workspace_b.pk,
    )
    planted = Library.objects.get()
    assert libraries.available() == []
    assert alarmed(planted)
    with pytest.raises(Refused, match="not there any more"):
        libraries.subscribe(workspace_a, planted, owner)
    Subscription.objects.create(tenant=workspace_a, library=planted)  # a sealed one is no better
    assert status(sign_in(viewer)) == 404


def test_a_library_moved_by_sql_opens_no_other_workspace(
    subscribed: Subscription, library: Library, person: Callable[..., Any], reader: Client
) -> None:
    gamma, _ = create_workspace("Gamma", "gamma", person(None))
    sql("UPDATE tenants_library SET tenant_id = %s WHERE id = %s", gamma.pk, library.pk)
    assert reader.get("/w/gamma/").status_code == 404
    assert status(reader) == 404
    assert alarmed(library)


def test_a_subscription_moved_by_sql_opens_the_library_to_nobody(
    subscribed: Subscription, person: Callable[..., Any], sign_in: Callable[..., Client], reader: Client
) -> None:
    stranger = person(None)
    gamma, _ = create_workspace("Gamma", "gamma", stranger)
    sql("UPDATE tenants_subscription SET tenant_id = %s WHERE id = %s", gamma.pk, subscribed.pk)
    assert status(sign_in(stranger)) == 404
    assert alarmed(subscribed)
    assert status(reader) == 404


def test_a_withdrawn_subscription_and_an_undone_library_are_not_brought_back(
    subscribed: Subscription, library: Library, reader: Client, owner: User, workspace_a: Tenant, workspace_b: Tenant
) -> None:
    kept, roster = copied(subscribed), copied(workspace_a)
    libraries.withdraw(workspace_a, library, owner)
    assert status(reader) == 404
    bring_back(subscribed, kept)
    assert status(reader) == 404
    assert alarmed(subscribed)
    bring_back(workspace_a, roster)
    assert status(reader) == 404


def test_an_undone_library_is_not_brought_back(
    subscribed: Subscription, library: Library, reader: Client, workspace_b: Tenant
) -> None:
    kept, kept_library = copied(subscribed), copied(library)
    libraries.undo(workspace_b, REASON)
    bring_back(library, kept_library)
    bring_back(subscribed, kept)
    assert status(reader) == 404
    assert alarmed(library) or alarmed(subscribed)


def test_a_workspaces_role_sees_neither_table(subscribed: Subscription, workspace_a: Tenant) -> None:
    with workspace(workspace_a):
        for model in (Library, Subscription):
            with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
                model.objects.count()


# ---------------------------------------------------------------- the self-test knows the difference


def test_the_isolation_check_finds_no_leak_in_a_library_that_is_read(
    subscribed: Subscription, model: Embedder, workspace_a: Tenant, workspace_b: Tenant
) -> None:
    mine, other = canaries.ensure(workspace_a), canaries.ensure(workspace_b)
    found = Findings()
    pages.ask_everything(site(), mine, other, found)
    assert found.leaks == []
    assert found.controls == []
    assert found.attempts["workspaces"] > 100


def test_it_finds_what_is_opened_to_readers_beyond_that(
    subscribed: Subscription, model: Embedder, workspace_a: Tenant, workspace_b: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = canaries.ensure(workspace_a), canaries.ensure(workspace_b)

    def unlisted(request: Any) -> Any:
        subscriptions = libraries.readable(request.user, Q(**request.workspace_address))
        if not subscriptions:
            raise Http404
        return None, subscriptions[0], libraries.viewer(subscriptions[0])

    monkeypatch.setattr(middleware, "_as_guest", unlisted)
    found = Findings()
    pages.ask(pages.of_workspaces(), site(), mine, other, found)
    leaking = {leak["route"] for leak in found.leaks}
    assert {"documents/", "members/", "evaluation/", "settings/", "documents/upload/"} <= leaking
