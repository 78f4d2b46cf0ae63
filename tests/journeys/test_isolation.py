"""Two workspaces in one installation: what is one's is, for the other, what does not exist; under load and by SQL as well."""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tenants.libraries import READERS_MAY
from tests.documents import files
from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place
from tests.journeys.visitor import Answer, Visitor
from workspace.isolation.routes import WORKSPACE, Route, routes

pytestmark = pytest.mark.slow

MARKERS = {"a": "quillfeather", "b": "wrenmarrow"}  # one for each workspace, in everything that is stored there
REQUESTS = 100  # for each of four threads


@dataclass(frozen=True)
class Stocked:
    """A workspace with one of everything, and the ids of it by kind, as in workspace.isolation.routes."""

    place: Place
    marker: str
    ids: Mapping[str, str]
    guest: Visitor


def stock(place: Place, marker: str) -> Stocked:
    collection = place.collection(f"{marker} papers")
    documents = place.upload(
        (f"{marker} notes.txt", f"The {marker} nests in the chapel tower.".encode()),
        (f"{marker} slides.pdf", files.pdf([f"A {marker} was seen", f"Another {marker} was heard"])),
        (f"{marker} draft.txt", f"The {marker} in the trash.".encode()),
        (f"{marker} gone.txt", f"The {marker} that was erased.".encode()),
        collection=collection,
    )
    place.wait_until_ready(documents)
    for trashed in documents[2:]:
        place.owner.post(f"{place.path}documents/{trashed}/delete/")
    place.owner.post(f"{place.path}documents/{documents[3]}/erase/")
    place.running.wait(lambda: place.owner.get(place.path).status == 200, "the erasure, while which a workspace may be closed")
    (receipt,) = place.query("SELECT id FROM tenants_receipt WHERE tenant_id = %s", place.id)
    rows = f"question,document,grade\nWhere does the {marker} nest?,{marker} notes.txt,1\n"
    judged = place.owner.post(
        f"{place.path}evaluation/upload/", {"name": f"{marker} judgments"}, [("file", ("judged.csv", rows.encode()))]
    )
    run = place.owner.post(f"{judged.path}run/")
    place.running.wait(lambda: place.owner.get(f"{run.path}status/").status == 286, "the run")
    set_id = judged.path.split("/")[-2]
    question = place.query("SELECT id FROM search_question WHERE judgment_set_id = %s", set_id)[0][0]
    shared = place.owner.post(f"{place.path}s/", {"q": f"{marker} nest", "collection": ""})
    place.owner.post(f"{place.path}saved/", {"q": f"{marker} nest", "name": f"{marker} saved"})
    place.search(f"{marker} nest")
    own = re.search(r"/saved/([0-9a-f-]{36})/.*/history/([0-9a-f-]{36})/", place.owner.get(place.path).text, re.DOTALL)
    assert own
    guest = place.member("viewer")
    place.owner.post(f"{place.path}members/invite/", {"email": f"open@{place.slug}.example", "role": "viewer"})
    (invitation,) = place.query("SELECT id FROM tenants_invitation WHERE tenant_id = %s AND accepted_at IS NULL", place.id)
    (owner,) = place.query("SELECT id FROM tenants_user WHERE email = %s", place.email)
    (access,) = place.query(
        "INSERT INTO tenants_staffaccess (id, tenant_id, staff_email, reason, minutes, requested_at, lapses_at) "
        "VALUES (gen_random_uuid(), %s, 'staff@cloister.example', 'Asked.', 15, now(), now() + interval '1 day') RETURNING id",
        place.id,
    )
    ((passage,),) = place.query("SELECT id FROM search_chunk WHERE document_id = %s AND sequence = 0", documents[0])
    place.owner.post(f"{place.path}collections/{collection}/fields/", {"name": f"{marker} state", "kind": "keyword"})
    ((field,),) = place.query("SELECT id FROM documents_field WHERE collection_id = %s", collection)
    about = {"collection": collection, "name": f"{marker} large.txt", "size": "9"}
    begun = place.owner.post(f"{place.path}documents/arriving/", about, headers={"Accept": "application/json"}).json()
    ids = {
        "document": str(documents[0]),
        "arrival": begun["url"].split("/")[-2],
        "field": str(field),
        "passage": str(passage),
        "trashed document": str(documents[2]),
        "receipt": str(receipt[0]),
        "collection": collection,
        "judgments": set_id,
        "run": run.path.split("/")[-2],
        "question": str(question),
        "shared search": shared.path.split("/")[-2],
        "saved search": own[1],
        "past search": own[2],
        "invitation": str(invitation[0]),
        "member": str(owner[0]),
        "colleague": str(owner[0]),
        "staff access": str(access[0]),
        "=json": "json",
        "=1": "1",
        "=canary.txt": "canary.txt",
    }
    return Stocked(place, marker, ids, guest)


@pytest.fixture(scope="module")
def workspaces(make_place: MakePlace) -> dict[str, Stocked]:
    return {name: stock(make_place(f"Side{name}"), marker) for name, marker in MARKERS.items()}


def unknown(ids: Mapping[str, str]) -> dict[str, str]:
    """Of the same shape, and nobody's."""
    return {
        name: str(uuid4()) if len(value) == 36 else "9" * 9 if value.isdecimal() else "A" * len(value)
        for name, value in ids.items()
    } | {"=json": "json", "=1": "1"}


def addresses() -> list[tuple[Route, Mapping[str, str]]]:
    """Every address of a workspace, and the kinds of id that fill it."""
    return [(route, WORKSPACE[route.pattern].ids) for route in routes("workspace.urls_workspace")]


def address(route: Route, kinds: Mapping[str, str], ids: Mapping[str, str]) -> str:
    return route.path({name: ids[kind] for name, kind in kinds.items()})


def seen(answer: Answer, *changing: str) -> list[str]:
    """All that the asker gets, but for what differs every time; in lines, so that a difference can be read."""
    text = re.sub(r'(csrf-token" content|csrfmiddlewaretoken" value)="[^"]+"', r"\1", answer.body.decode(errors="replace"))
    text = re.sub(r'id="reference">\w+<', "", text)
    changed = {"date", "expires", "set-cookie", "content-length", "x-request-id", "x-reference"}
    headers = sorted(f"{name}: {value}" for name, value in answer.headers.items() if name.lower() not in changed)
    lines = "\n".join([str(answer.status), *headers, text])
    for value in changing:
        if len(value) > 5:
            lines = lines.replace(value, "…")
    return lines.splitlines()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_what_is_anothers_does_not_exist(method: str, workspaces: dict[str, Stocked]) -> None:
    """B's ids asked for in A by A's owner, who may do everything there: the same answer as for ids of nobody."""
    a, b = workspaces["a"], workspaces["b"]
    asked = [(route, kinds) for route, kinds in addresses() if kinds]
    assert len(asked) > 15
    before = snapshot(b.place)
    for route, kinds in asked:
        theirs, nobodys = b.ids, unknown(b.ids)
        got = {}
        for name, ids in (("theirs", theirs), ("nobody's", nobodys)):
            path = a.place.path + address(route, kinds, ids)
            answer = ask(a.place.owner, method, path)
            got[name] = seen(answer, path, *ids.values())
            assert b.marker not in answer.text, route.pattern
        assert got["theirs"] == got["nobody's"], route.pattern
        assert got["theirs"][0] in ("404", "405"), f"{route.pattern}: {got['theirs'][0]}"
    assert snapshot(b.place) == before


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_anothers_workspace_does_not_exist(method: str, workspaces: dict[str, Stocked]) -> None:
    """Every address inside B, asked by A's owner and by nobody: as in a workspace that nobody ever made."""
    a, b = workspaces["a"], workspaces["b"]
    before = snapshot(b.place)
    nowhere = "/w/" + "n" * len(b.place.slug) + "/"
    stranger = Visitor(b.place.running.url)
    stranger.get("/accounts/login/")
    for route, kinds in addresses():
        path = address(route, kinds, b.ids)
        for asker in (a.place.owner, stranger):
            theirs = ask(asker, method, b.place.path + path)
            nobodys = ask(asker, method, nowhere + path)
            changing = (b.place.path, nowhere, b.place.slug, nowhere[3:-1])
            assert seen(theirs, *changing) == seen(nobodys, *changing), path
            assert theirs.status == (404 if asker is a.place.owner else 302), path
            assert b.marker not in theirs.text
    assert snapshot(b.place) == before


def test_a_library_is_read_by_subscribers_and_nothing_else_of_it_exists(
    workspaces: dict[str, Stocked], make_place: MakePlace
) -> None:
    """A subscribes and B does not. By every other address the library is for A's people what does not exist."""
    a, b, shelf = workspaces["a"], workspaces["b"], make_place("Shelf")
    document, *_ = shelf.upload(("rules.txt", b"The dunnock keeps the rules."))
    shelf.wait_until_ready([document])
    shelf.running.manage("create_admin", shelf.email)  # a library is curated by staff
    shelf.running.manage("make_library", shelf.slug, "--describe", "Rules", "--reason", "For everybody")
    page = a.place.owner.get(f"{a.place.path}libraries/").text
    (subscribe,) = re.findall(r'action="([^"]+/subscribe/)"', page)
    a.place.owner.post(subscribe, {})
    read = f"{shelf.path}documents/{document}/"
    for reader in (a.place.owner, a.guest):
        assert "dunnock" in shelf.search("dunnock", reader).text
        assert "dunnock" in reader.get(read).text
        assert reader.get(f"{read}download/").body == b"The dunnock keeps the rules."
    for other in (b.place.owner, b.guest):
        assert shelf.search("dunnock", other).status == other.get(read).status == 404
    before, nowhere = snapshot(shelf), "/w/" + "n" * len(shelf.slug) + "/"
    ids = {**b.ids, "document": str(document)}
    for route, kinds in addresses():
        path = address(route, kinds, ids)
        for method in ("GET", "POST"):
            if method in READERS_MAY.get(route.name, ()):
                continue
            theirs, nobodys = ask(a.place.owner, method, shelf.path + path), ask(a.place.owner, method, nowhere + path)
            changing = (shelf.path, nowhere, shelf.slug, nowhere[3:-1])
            assert theirs.status == 404, f"{method} {path}"
            assert seen(theirs, *changing) == seen(nobodys, *changing), path
    assert snapshot(shelf) == before
    found = shelf.running.manage("verify_isolation", "--workspace", a.place.slug, "--per-workspace", "100")
    assert (found["leaks"], found["controls_failed"]) == (0, [])
    a.place.owner.post(subscribe.replace("/subscribe/", "/withdraw/"), {})
    for reader in (a.place.owner, a.guest):
        assert shelf.search("dunnock", reader).status == reader.get(read).status == 404


def ask(visitor: Visitor, method: str, path: str) -> Answer:
    if method != "POST":
        return visitor.request(method, path, headers={"X-CSRFToken": visitor.token}, follow=False)
    return visitor.post(path, {"q": "chapel", "name": "x", "confirm": "yes"}, follow=False)


def snapshot(place: Place) -> list[Any]:
    """What a request that got through would have changed."""
    counted = [
        "documents_document", "documents_collection", "documents_arrival", "search_judgmentset", "search_run",
        "search_sharedsearch", "search_membersearches",
    ]  # fmt: skip
    return [
        *(place.query(f"SELECT * FROM {table} ORDER BY 1") for table in counted),
        place.query("SELECT * FROM tenants_membership WHERE tenant_id = %s ORDER BY 1", place.id),
        place.query("SELECT * FROM tenants_invitation WHERE tenant_id = %s ORDER BY 1", place.id),
    ]


def test_another_ones_collection_filters_nothing(workspaces: dict[str, Stocked]) -> None:
    a, b = workspaces["a"], workspaces["b"]
    for fields in ({"collection": b.ids["collection"]}, {"collection": str(uuid4())}):
        answer = a.place.search("chapel", **fields)
        assert answer.status == 422
        assert "does not exist any more" in answer.text
        listed = a.place.owner.get(f"{a.place.path}documents/?collection={fields['collection']}")
        assert f"{a.marker} notes" in listed.text
        upload = a.place.send(("strayed.txt", b"words"), collection=fields["collection"])
        assert upload.status == 422
    assert b.place.query("SELECT count(*) FROM documents_document WHERE collection_id = %s", b.ids["collection"]) == [(3,)]


def test_the_self_test_agrees(workspaces: dict[str, Stocked]) -> None:
    """In this installation, as staff would ask it, while web server and worker run."""
    place = workspaces["a"].place
    answer = place.running.manage("verify_isolation", "--workspace", place.slug)
    assert (answer["leaks"], answer["controls_failed"]) == (0, [])
    assert answer["attempts"] > 300


def test_a_check_whose_worker_is_killed_is_run_again(workspaces: dict[str, Stocked], all_alive: None) -> None:
    place = workspaces["a"].place
    kept = "SELECT state FROM tenants_isolationcheck WHERE tenant_id = %s AND trigger = 'button' ORDER BY created_at"
    place.owner.post(f"{place.path}isolation/start/", {})
    place.running.wait(lambda: place.query(kept, place.id)[-1] == ("running",), "the check")
    place.running.kill("worker")
    place.running.start_worker()
    place.running.wait(lambda: place.query(kept, place.id)[-1] == ("passed",), "the check to be run again")
    assert place.query(kept, place.id) == [("interrupted",), ("passed",)]
    assert "No leak found in" in place.owner.get(f"{place.path}isolation/").text


def test_workspaces_never_mix_under_load(workspaces: dict[str, Stocked]) -> None:
    """Two people in each workspace at once, every kind of page: each answer holds its own marker and never the other."""

    def hammer(name: str, visitor: Visitor) -> list[str]:
        mine, other = workspaces[name], workspaces["b" if name == "a" else "a"]
        path, ids = mine.place.path, mine.ids
        mixed = []
        for number in range(REQUESTS):
            answer = [
                lambda: mine.place.search(f"what nests in tower {number}", visitor),  # noqa: B023  # called at once
                lambda: visitor.get(f"{path}documents/"),
                lambda: visitor.get(f"{path}documents/{ids['document']}/"),
                lambda: visitor.get(f"{path}documents/{ids['document']}/download/"),
                lambda: mine.place.search(other.marker, visitor),
                lambda: visitor.get(f"{path}s/{ids['shared search']}/"),
                lambda: visitor.get(f"{path}evaluation/runs/{ids['run']}/"),
                lambda: visitor.get(f"{path}documents/{other.ids['document']}/"),
            ][number % 8]()
            expected = 404 if number % 8 == 7 else 200
            text = answer.text.replace(f'value="{other.marker}"', "")  # what was typed comes back in the form
            if answer.status != expected or other.marker in text or (expected == 200 and mine.marker not in text):
                mixed.append(f"{number}: {answer.status} {answer.words[:200]}")
        return mixed

    with ThreadPoolExecutor(4) as pool:
        people = [(name, who) for name, stocked in workspaces.items() for who in (stocked.place.owner, stocked.guest)]
        running = [pool.submit(hammer, name, who) for name, who in people]
        assert [found.result() for found in running] == [[], [], [], []]


@pytest.fixture
def web_login(workspaces: dict[str, Stocked]) -> Iterator[psycopg.Connection[Any]]:
    """The login of the running web process, in the role it takes for a request in A."""
    a = workspaces["a"].place
    environment = a.running.environment("web")
    info = a.database.info
    (role,) = a.query("SELECT db_role FROM tenants_tenant WHERE id = %s", a.id)
    with psycopg.connect(
        host=info.host, port=info.port, dbname=info.dbname, user=f"{info.dbname}_web", password=environment["DB_PASSWORD_WEB"]
    ) as connection:
        connection.autocommit = True
        used = a.database.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [f"{info.dbname}_web"]).fetchone()
        assert used is not None
        assert used[0] >= 2, "the web process signs in as somebody else"
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role[0])))
        connection.execute(sql.SQL("SET search_path TO {}, public").format(sql.Identifier(a.schema)))
        yield connection


def test_sql_from_inside_reaches_nothing_else(workspaces: dict[str, Stocked], web_login: psycopg.Connection[Any]) -> None:
    b = workspaces["b"].place
    assert web_login.execute("SELECT count(*) FROM documents_document").fetchone() == (
        4,
    )  # three, one of them in the trash, and the canary
    tables = [name for (name,) in b.database.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s", [b.schema]
    ).fetchall()]  # fmt: skip
    assert len(tables) > 12
    for table in tables:
        there = sql.Identifier(b.schema, table)
        for statement in (
            "SELECT * FROM {}", "SELECT count(*) FROM {}", "DELETE FROM {}", "TRUNCATE {}", "DROP TABLE {}",
            "CREATE TABLE mine AS SELECT * FROM {}", "COPY {} TO STDOUT", "ALTER TABLE {} ADD mine int",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                web_login.execute(sql.SQL(statement).format(there))


def test_sql_from_inside_sees_its_own_rows_alone(workspaces: dict[str, Stocked], web_login: psycopg.Connection[Any]) -> None:
    a = workspaces["a"].place
    assert web_login.execute("SELECT id FROM public.tenants_tenant").fetchall() == [(a.id,)]
    assert {tenant for (tenant,) in web_login.execute("SELECT tenant_id FROM public.tenants_membership").fetchall()} == {a.id}
    assert {tenant for (tenant,) in web_login.execute("SELECT tenant_id FROM public.tenants_tenantkey").fetchall()} == {a.id}
    emails = [email for (email,) in web_login.execute("SELECT email FROM public.tenants_user").fetchall()]
    assert sorted(emails) == sorted([a.email, f"viewer@{a.slug}.example"])
    for statement in (
        "SELECT password FROM public.tenants_user",
        "SELECT * FROM public.tenants_session",
        "SELECT * FROM public.mfa_authenticator",
        "SELECT * FROM public.tenants_outgoingmail",
        "SELECT * FROM public.tenants_invitation",
        "UPDATE public.tenants_membership SET role = 'owner'",
        "INSERT INTO public.tenants_membership (user_id, tenant_id, role) SELECT id, NULL, 'owner' FROM public.tenants_user",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY documents_document TO PROGRAM 'cat'",
        "SELECT set_config('role', 'none', false)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
        "CREATE SCHEMA mine",
        "CREATE TABLE mine (a int)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            web_login.execute(statement)
