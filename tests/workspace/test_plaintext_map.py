"""The catalogue names every column there is, the look finds what is planted, and the page says it to members."""

import base64
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.test import Client

from search.models import IndexEntry
from tenants.ciphers import cipher
from tenants.context import workspace
from tenants.models import Alarm, PlaintextCheck, Tenant
from workspace.isolation.canaries import Canary
from workspace.plaintext_map import auditing, looking
from workspace.plaintext_map.columns import PUBLIC, WORKSPACE
from workspace.plaintext_map.forms import Needles
from workspace.plaintext_map.planting import new_word

pytestmark = pytest.mark.django_db(transaction=True)

WORD = "bcdfghjklmnpqrst"
State = PlaintextCheck.State


def test_every_column_is_classified_and_none_that_is_not_there(workspace_a: Tenant) -> None:
    with looking.operator() as database:
        there = looking.columns_there(database, ["public", workspace_a.schema_name])
    assert looking.unclassified(there) == []
    known = {("public", name, column) for name, table in PUBLIC.items() for column in table.kinds()}
    known |= {(workspace_a.schema_name, name, column) for name, table in WORKSPACE.items() for column in table.kinds()}
    assert known == {(schema, name, column) for (schema, name), columns in there.items() for column in columns}


def test_a_column_nobody_classified_is_reported(workspace_a: Tenant) -> None:
    there = {("public", "tenants_user"): ["email", "shoe_size"], (workspace_a.schema_name, "new"): ["id"]}
    assert looking.unclassified(there) == ["public.tenants_user.shoe_size", "workspace.new.id"]


@pytest.mark.parametrize(
    "written",
    [
        WORD.encode(),
        WORD.upper().encode(),
        WORD.title().encode("utf-16-le"),
        WORD.encode("utf-16-be").hex().encode(),
        base64.b64encode(b"k" + WORD.encode() + b"tail"),
        base64.urlsafe_b64encode(b"kk" + WORD.encode() + b"tail"),
    ],
)
def test_a_word_is_found_however_it_is_written(written: bytes) -> None:
    needles = Needles([WORD])
    assert needles.within(b"before " + written + b" after")
    assert not needles.within(b"before " + written[: len(written) // 2] + b" after")
    half = len(written) // 2
    assert needles.within_pieces([b"x" * 99 + written[:half], written[half:]])


def test_what_is_not_encrypted_is_told_from_what_is(in_workspace_a: Tenant) -> None:
    value = cipher("text").encrypt(("t", "c", "1"), b"a title " * 20)
    assert looking.is_encrypted(value, {1})
    assert not looking.is_encrypted(value, {2})
    assert not looking.is_encrypted(b"a title in the clear, longer than a nonce and tag", {1})
    assert not looking.is_encrypted(value[:6] + b"readable in spite of its header " * 4, {1})


@pytest.fixture
def word() -> str:
    return new_word()


@pytest.fixture
def audited(workspace_a: Tenant, monkeypatch: pytest.MonkeyPatch, word: str) -> Callable[..., PlaintextCheck]:
    """The look itself with a canary in name only. Its word is new each time: the write-ahead log keeps what a test leaked."""
    canary = Canary(workspace_a, asked=word, told=word[::-1], stored_name="", ids={}, held_in=IndexEntry)
    monkeypatch.setattr(auditing.canaries, "ensure", lambda tenant: canary)

    class Planted:
        def __enter__(self) -> list[str]:
            return [canary.asked, canary.told]

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(auditing, "planted", lambda canary: Planted())
    monkeypatch.setattr(auditing.looking, "temporary_files", lambda without: ([], True))
    monkeypatch.setattr(auditing, "REST", 0)
    return lambda **more: auditing.audit(workspace_a, **more)


def test_nothing_is_found_where_nothing_is(audited: Callable[..., PlaintextCheck]) -> None:
    check = audited()
    assert (check.state, check.found, check.unknown) == (State.CLEAN, 0, 0), check.report
    assert not Alarm.objects.exists()
    assert check.report["places"]["dump"]["checked"].endswith("of a dump made for this")


def test_leaks_of_each_kind_are_found_and_named(
    audited: Callable[..., PlaintextCheck], workspace_a: Tenant, settings: Any, word: str
) -> None:
    from tenants.jobs import queues

    log = settings.VAR_DIR / "services" / "log" / "leak.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    stored = settings.FILES_DIR / workspace_a.id.hex / "ab" / "leak"
    stored.parent.mkdir(parents=True, exist_ok=True)
    queue = queues()[0].connection
    try:
        with looking.operator() as cursor:
            cursor.execute(
                f"INSERT INTO {workspace_a.schema_name}.search_judgmentset "
                "(id, name, questions_total, judgments_total, created_at) VALUES (gen_random_uuid(), %s, 0, 0, now())",
                [word.encode()],
            )
            cursor.execute("UPDATE public.tenants_tenant SET suspension = %s WHERE id = %s", [word.title(), workspace_a.pk])
        queue.hset("leak", "field", word.upper())
        log.write_text(f"searched for {word}\n")
        stored.write_bytes(base64.b64encode(word.encode()))
        check = audited()
    finally:
        log.unlink(missing_ok=True)
        stored.unlink(missing_ok=True)
        queue.delete("leak")
        with looking.operator() as cursor:
            cursor.execute("UPDATE public.tenants_tenant SET suspension = '' WHERE id = %s", [workspace_a.pk])
    named = {store["name"] for store in auditing.described(check) if store["found"]}
    assert named >= {"search_judgmentset.name", "public.tenants_tenant.suspension", "redis", "logs", "files", "dump"}
    assert check.state == State.FOUND
    assert Alarm.objects.get().kind == Alarm.Kind.PLAINTEXT


@pytest.fixture
def without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """What every other test wrote into the database's files is much to read."""
    monkeypatch.setattr(looking, "look_at_data", lambda *_: looking.Looked("not looked at here"))


@pytest.mark.usefixtures("without_data")
def test_a_control_that_fails_is_inconclusive(audited: Callable[..., PlaintextCheck], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "look_at_redis", lambda *_: looking.Looked("blind", control=False))
    assert audited().state == State.INCONCLUSIVE


@pytest.mark.usefixtures("without_data")
def test_without_pg_dump_it_says_so(audited: Callable[..., PlaintextCheck], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "pg_dump", lambda: None)
    assert audited().report["places"]["dump"]["checked"] == "not looked at: pg_dump is not installed"


def test_members_read_it_and_admins_start_it(client_viewer: Client, client_owner: Client, workspace_a: Tenant) -> None:
    path = f"{workspace_a.path}plaintext/"
    page = unescape(client_viewer.get(path).content.decode())
    assert "Nobody has looked yet" in page
    assert "lock-closed" not in page
    assert "Look now" not in page
    assert client_viewer.post(f"{path}start/").status_code == 403
    assert client_owner.post(f"{path}start/").headers["Location"] == path
    assert "Waiting for a worker" in client_owner.get(path).content.decode()
    client_owner.post(f"{path}cancel/")
    assert client_owner.get(f"{path}status/").status_code == 286
    assert PlaintextCheck.objects.get().state == State.CANCELLED


def test_the_sample_row_shows_what_the_database_has(client_owner: Client, workspace_a: Tenant) -> None:
    from documents.models import Collection, Document

    with workspace(workspace_a):
        collection = Collection.objects.create(name="c", name_digest=b"d" * 32)
        document = Document(collection=collection, title="Harvest report", file_name="h.txt", size=3, stored_name="a" * 40)
        document.save()
        raw = bytes(Document.objects.values_list("title", flat=True).get())
    page = unescape(client_owner.get(f"{workspace_a.path}plaintext/").content.decode())
    assert "Harvest report" in page
    assert raw[18:-16].hex(" ") in page
