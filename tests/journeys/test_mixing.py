"""Fifty threads, twenty workspaces, everything at once: no answer carries another's content, no connection stays in one.

In this process, through the whole stack of middleware as a server calls it, with a real connection for each thread. Often
things go wrong on purpose: views that fail, statements that fail, streams that nobody reads to their end.
`CLOISTER_MIXING_SECONDS=60 bin/test tests/journeys/test_mixing.py -s` is the full run; it prints what it counted.
"""

import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import LazySettings
from django.conf import settings as django_settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, connections
from django.test import Client, RequestFactory

from documents import storage
from tenants import logins, people
from tenants.context import workspace
from tenants.database.base import DatabaseWrapper
from tenants.models import Membership, Tenant
from tenants.provisioning import create_workspace
from tests.factories import CollectionFactory
from tests.journeys import mixing_urls
from tests.search.conftest import store

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True, databases=["default", "operator"])]

SECONDS = float(os.environ.get("CLOISTER_MIXING_SECONDS", "15"))
THREADS, WORKSPACES = 50, 20
DOWNLOAD_BYTES = 400_000  # seven encrypted segments
LETTERS = "abcdefghijklmnopqrst"
TOKEN = "m" * 32  # of cookie and header alike


@dataclass(frozen=True)
class Side:
    """A workspace as its owner uses it. `marker` is in all that is stored there."""

    path: str
    marker: str
    document: UUID
    collection: UUID
    session: str


@dataclass
class Count:
    requests: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@pytest.fixture
def sides(request: pytest.FixtureRequest, settings: LazySettings, tmp_path: Any, model_dir: Any, db: None) -> list[Side]:
    """`WORKSPACES`, or as many as the test asks for: to make and fill them takes longer than some tests."""
    number_of = getattr(request, "param", WORKSPACES)
    settings.FILES_DIR = tmp_path / "files"
    settings.WORKSPACE_URLCONF = "tests.journeys.mixing_urls"
    owners, tenants = [], []
    for letter in LETTERS[:number_of]:
        tenants.append(create_workspace("Workspace", f"mixing-{letter}")[0])
        owners.append(people.create_person(f"{letter}@example.org", None, name="Owner"))
    connections["operator"].close()
    sides = []
    for number, (tenant, owner) in enumerate(zip(tenants, owners, strict=True)):
        for offset in (0, 1):  # everybody is in two workspaces: the same session must see each as it is
            Membership.objects.create(tenant=tenants[(number + offset) % number_of], user=owner, role="owner")
        client = Client()
        client.force_login(owner, backend="allauth.account.auth_backends.AuthenticationBackend")
        sides.append(_stock(tenant, f"quill{LETTERS[number] * 3}feather", client.cookies["sessionid"].value))
    connection.close()
    return sides


def _stock(tenant: Tenant, marker: str, session: str) -> Side:
    with workspace(tenant):
        collection = CollectionFactory(name=f"{marker} papers")
        document = store([f"The {marker} nests in the tower."], title=f"{marker} notes", collection=collection)
        line = f"{marker}\n".encode()
        stored = storage.store(document.id, (line * 100 for _ in range(DOWNLOAD_BYTES // len(line) // 100)))
        document.stored_name, document.size = stored.stored_name, stored.size
        document.save(update_fields=["stored_name", "size"])
    return Side(tenant.path, marker, document.id, collection.id, session)


class Visitor:
    """One thread: random requests for random workspaces, each answer looked through for whatever is not its workspace's."""

    def __init__(self, seed: int, sides: list[Side], count: Count, lock: threading.Lock) -> None:
        self.random = random.Random(seed)
        self.sides, self.count, self.lock = sides, count, lock
        self.handler, self.requests = WSGIHandler(), RequestFactory()

    def run(self, until: float, start: threading.Barrier) -> None:
        start.wait()
        while time.monotonic() < until or not KINDS.keys() <= self.count.requests.keys():  # each kind, on a slow machine too
            kind = self.random.choices(list(KINDS), [weight for _, weight in KINDS.values()])[0]
            try:
                problem, left = KINDS[kind][0](self, self.random.choice(self.sides)), self._left_in()
            except Exception as error:  # a stream that fails by itself is no answer either
                problem, left = repr(error), ""
            with self.lock:
                self.count.requests[kind] += 1
                if problem:
                    self.count.wrong.append(f"{kind}: {problem}")
                if left:
                    self.count.left.append(f"{kind}: {left}")
        connection.close()

    def _left_in(self) -> str:
        """Where this thread's connection is after an answer: by what we believe, and by what the server says."""
        if connection.schema_name != "public":
            return f"in {connection.schema_name}"
        if connection.connection is None:
            return ""
        cursor = connection.connection.execute("SELECT current_user, current_setting('search_path')")
        role, path = cursor.fetchone()
        return "" if role.endswith("_public") and path == "public" else f"the server says {role}, {path}"

    def ask(
        self, side: Side, path: str, session: str | None = None, method: str = "GET", pieces: int | None = None, **more: Any
    ) -> tuple[int, str]:
        """Status and body, or its first `pieces`; the response is closed either way, as a server does."""
        prepared = self.requests.generic(method, path, headers={"X-CSRFToken": TOKEN, **more.pop("headers", {})}, **more)
        cookies = {"sessionid": side.session if session is None else session, "csrftoken": TOKEN}
        prepared.environ["HTTP_COOKIE"] = "; ".join(f"{name}={value}" for name, value in cookies.items() if value)
        answered: list[str] = []
        response = self.handler(prepared.environ, lambda status, headers: answered.append(status))
        read: list[bytes] = []
        try:
            for piece in response if pieces is None else islice(response, pieces):
                read.append(piece)
        except mixing_urls.Wrong:
            read.append(b"broken off")
        finally:
            response.close()  # type: ignore[attr-defined]
        return int(answered[0][:3]), b"".join(read).decode(errors="replace")

    def judge(self, side: Side, answer: tuple[int, str], status: int = 200, *, marked: bool = True) -> str:
        """What is wrong with an answer; empty when nothing is."""
        got, body = answer
        if got != status:
            return f"{got} instead of {status}"
        if foreign := [other.marker for other in self.sides if other is not side and other.marker in body]:
            return f"shows {foreign} to {side.marker}"
        if marked and side.marker not in body:
            return "lacks its own marker"
        return ""

    # -- kinds of requests

    def page(self, side: Side) -> str:
        pages = ("collections/", "documents/", f"documents/{side.document}/")
        return self.judge(side, self.ask(side, side.path + self.random.choice(pages)))

    def other_page(self, side: Side) -> str:
        pages = ("", "members/", "evaluation/", "documents/upload/")
        return self.judge(side, self.ask(side, side.path + self.random.choice(pages)), marked=False)

    def as_second_member(self, side: Side) -> str:
        """By the owner of the workspace before, who is a member here as well."""
        before = self.sides[self.sides.index(side) - 1]
        return self.judge(side, self.ask(side, f"{side.path}collections/", before.session))

    def search(self, side: Side) -> str:
        form = {"data": f"q={side.marker}", "content_type": "application/x-www-form-urlencoded"}
        return self.judge(side, self.ask(side, side.path, method="POST", headers={"HX-Request": "true"}, **form))

    def upload(self, side: Side) -> str:
        boundary = uuid4().hex
        body = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="collection"\r\n\r\n{side.collection}\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{side.marker} {boundary}.txt"\r\n\r\n'
            f"The {side.marker} again, {boundary[:8]}\r\n--{boundary}--\r\n"
        )
        form = {"data": body, "content_type": f"multipart/form-data; boundary={boundary}"}
        answer = self.ask(side, f"{side.path}documents/upload/", method="POST", headers={"Accept": "application/json"}, **form)
        return self.judge(side, answer, marked=False)

    def download(self, side: Side) -> str:
        status, body = self.ask(side, f"{side.path}documents/{side.document}/download/")
        lines = set(body.split())
        return "" if status == 200 and lines == {side.marker} else f"{status}, {sorted(lines)[:5]}"

    def half_download(self, side: Side) -> str:
        return self.judge(side, self.ask(side, f"{side.path}documents/{side.document}/download/", pieces=2))

    def stream(self, side: Side) -> str:
        return self.judge(side, self.ask(side, f"{side.path}mixing/stream/"))

    def half_stream(self, side: Side) -> str:
        pieces = self.random.randint(0, 5)
        return self.judge(side, self.ask(side, f"{side.path}mixing/stream/", pieces=pieces), marked=pieces > 0)

    def broken_stream(self, side: Side) -> str:
        status, body = self.ask(side, f"{side.path}mixing/broken_stream/")
        return self.judge(side, (status, body)) or ("" if body.endswith("broken off") else "was not broken off")

    def fails(self, side: Side) -> str:
        view = self.random.choice(mixing_urls.WRONG).__name__
        return self.judge(side, self.ask(side, f"{side.path}mixing/{view}/"), 500, marked=False)

    def recovers(self, side: Side) -> str:
        view = self.random.choice(mixing_urls.RIGHT).__name__
        return self.judge(side, self.ask(side, f"{side.path}mixing/{view}/"))

    def foreign_id(self, side: Side) -> str:
        other = self.random.choice([other for other in self.sides if other is not side])
        address = self.random.choice(("documents/{}/", "documents/{}/download/", "documents/{}/status/"))
        return self.judge(side, self.ask(side, side.path + address.format(other.document)), 404, marked=False)

    def stranger(self, side: Side) -> str:
        """By somebody who is a member of two others."""
        far = self.sides[(self.sides.index(side) + len(self.sides) // 2) % len(self.sides)]
        return self.judge(far, self.ask(side, f"{side.path}collections/", far.session), 404, marked=False)

    def nobody(self, side: Side) -> str:
        return self.judge(side, self.ask(side, f"{side.path}collections/", ""), 302, marked=False)

    def outside(self, side: Side) -> str:
        return self.judge(side, self.ask(side, "/"), marked=False)


KINDS: dict[str, tuple[Callable[[Visitor, Side], str], int]] = {
    "page": (Visitor.page, 12),
    "other page": (Visitor.other_page, 6),
    "page as second member": (Visitor.as_second_member, 6),
    "search": (Visitor.search, 6),
    "upload": (Visitor.upload, 2),
    "download": (Visitor.download, 4),
    "download half read": (Visitor.half_download, 4),
    "stream": (Visitor.stream, 3),
    "stream half read": (Visitor.half_stream, 6),
    "stream that breaks": (Visitor.broken_stream, 4),
    "view or statement fails": (Visitor.fails, 8),
    "rollback or raw SQL": (Visitor.recovers, 10),
    "foreign id": (Visitor.foreign_id, 6),
    "not a member": (Visitor.stranger, 5),
    "not signed in": (Visitor.nobody, 3),
    "outside workspaces": (Visitor.outside, 3),
}


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)  # thousands of failures on purpose
    yield
    logging.disable(logging.NOTSET)


def mix(sides: list[Side], threads: int, seconds: float) -> Count:
    count, lock = Count(), threading.Lock()
    start, until = threading.Barrier(threads), time.monotonic() + seconds
    visitors = [
        threading.Thread(target=Visitor(seed, sides, count, lock).run, args=(until, start), daemon=True)
        for seed in range(threads)
    ]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(seconds + 120)
    assert not any(visitor.is_alive() for visitor in visitors), "a thread hangs"
    return count


def report(count: Count, threads: int, seconds: float, mode: str) -> None:
    print(
        f"\n{mode}: {threads} threads, {WORKSPACES} workspaces, {seconds:.0f} s: {count.requests.total()} requests, "
        f"{len(count.wrong)} wrong answers, {len(count.left)} connections left in a workspace"
    )
    for kind, number in count.requests.most_common():
        print(f"  {number:6} {kind}")
    assert count.wrong == [], count.wrong[:5]
    assert count.left == [], count.left[:5]
    assert set(count.requests) == set(KINDS)


def test_nothing_is_mixed_up(settings: LazySettings, sides: list[Side], quiet: None) -> None:
    count = mix(sides, THREADS, SECONDS)
    report(count, THREADS, SECONDS, "one login")
    # Each thread keeps two connections: fewer threads, so that both modes fit what the server allows.
    settings.TENANT_LOGINS = True
    logins.sync(connections["operator"])
    connections["operator"].close()
    try:
        threads, seconds = 30, max(5, SECONDS / 3)
        count = mix(sides, threads, seconds)
        report(count, threads, seconds, "a login for each workspace")
    finally:
        connection.set_schema_to_public()
        connection.close()
        django_settings.TENANT_LOGINS = False
        logins.sync(connections["operator"])
        connections["operator"].close()


@pytest.mark.parametrize("sides", [5], indirect=True)
def test_it_would_be_noticed(sides: list[Side], quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is brought back too late, and one that believes to be where it is not."""
    with monkeypatch.context() as planted:
        planted.setattr(DatabaseWrapper, "return_to_public", DatabaseWrapper.set_schema_to_public)
        late = mix(sides, 5, 2)
    assert late.left
    assert not late.wrong
    applied = DatabaseWrapper._handle_search_path
    with monkeypatch.context() as planted:
        planted.setattr(
            DatabaseWrapper, "_handle_search_path", lambda self, cursor=None: self._applied or applied(self, cursor)
        )
        believing = mix(sides, 5, 2)
    assert believing.wrong
