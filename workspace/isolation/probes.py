"""What is tried from inside one workspace to get at another's canaries, one function for each kind.

Each attempt has a control: the same asked from where the canary belongs, where it must succeed. A test that cannot fail
proves nothing, so a control that fails makes the check inconclusive. Raw SQL that says SET ROLE as the web login is not
tried: that it works is documented as the limit of a shared login (docs/security.md).
"""

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import django_rq
from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError
from django.utils import timezone
from rq.exceptions import NoSuchJobError

from documents import storage
from documents.models import Collection
from search.querying import search
from tenants import roles
from tenants.ciphers import Tampered
from tenants.context import current_tenant, public_context, workspace
from tenants.database import connection
from tenants.fields import EncryptedField
from tenants.jobs import job_key
from tenants.keys.providers import KeyUnavailable
from tenants.models import Invitation, Membership, StaffAccess, Tenant, User
from tenants.permissions import Role
from workspace.isolation.asking import Answer, Asking, undone, unknown
from workspace.isolation.canaries import Canary
from workspace.isolation.routes import Entry, Route, asked_with_ids, routes

# Kinds of attempts: what the page calls them, and what was tried.
KINDS: dict[str, tuple[str, str]] = {
    "routes": ("Pages", "Every address that takes an id, with another workspace's ids in paths, forms and query strings"),
    "workspaces": ("Addresses", "Every address below another workspace's, asked by an owner of this workspace and by nobody"),
    "sql": ("Database", "Another workspace's tables and its rows in shared tables, and ways out of this workspace's role"),
    "search": ("Search", "Another workspace's words, asked through the search and its page"),
    "rows": ("Rows", "Another workspace's documents, passages, judgments and runs, asked for by their ids"),
    "ciphertexts": ("Encryption", "Another workspace's encrypted values, opened with this workspace's keys"),
    "files": ("Files", "Another workspace's stored files by name, by path, and opened with this workspace's keys"),
    "cache": ("Cache", "What another workspace keeps in the cache, asked for under its name"),
    "jobs": ("Jobs", "Another workspace's background jobs, asked for by their ids"),
}
HARMLESS = {"q": "canary", "name": "canary", "email": "canary@isolation.invalid", "role": "viewer", "confirm": "yes"}
TRIES = 3  # of two requests whose answers differ
Asked = tuple[Callable[[], Answer], Iterable[str]]  # and what of the question may come back in the answer


@dataclass
class Findings:
    """What was tried, what was found that should not be, and what was not found that should be."""

    attempts: Counter[str] = field(default_factory=Counter)
    leaks: list[dict[str, str]] = field(default_factory=list)
    controls: list[dict[str, str]] = field(default_factory=list)

    def attempt(self, kind: str, route: str, leak: str) -> None:
        """`leak` says what was wrong, without content; empty when nothing was."""
        self.attempts[kind] += 1
        if leak:
            self._once(self.leaks, kind, route, leak)

    def control(self, kind: str, route: str, succeeded: bool, detail: str) -> None:
        if not succeeded:
            self._once(self.controls, kind, route, detail)

    @staticmethod
    def _once(found: list[dict[str, str]], kind: str, route: str, detail: str) -> None:
        entry = {"kind": kind, "route": route, "detail": detail}
        if entry not in found:
            found.append(entry)


@dataclass(frozen=True)
class Side:
    """A workspace with its canary and an owner made for the length of the check."""

    canary: Canary
    owner: User
    ids: dict[str, str]

    @property
    def tenant(self) -> Tenant:
        return self.canary.tenant


@contextmanager
def sides(mine: Canary, other: Canary) -> Iterator[tuple[Side, Side]]:
    """Both workspaces as the attempts need them, in a transaction that is undone: owners, an invitation, visible canaries.

    Members never see canaries; here the owners do, as if they were documents: otherwise nothing could ever leak.
    """
    with undone():
        yield _side(mine), _side(other)


def _side(canary: Canary) -> Side:
    with workspace(canary.tenant):
        Collection.objects.filter(pk=canary.ids["collection"]).update(is_canary=False)
    with public_context():
        Tenant.objects.filter(pk=canary.tenant.pk, require_mfa=True).update(require_mfa=False)  # is about the person
        owner, colleague = (User.objects.create_user(f"{secrets.token_hex(8)}@isolation.invalid") for _ in range(2))
        Membership.objects.create(user=owner, tenant=canary.tenant, role=Role.OWNER)
        Membership.objects.create(user=colleague, tenant=canary.tenant, role=Role.VIEWER)
        invitation = Invitation.objects.create(tenant=canary.tenant, email=f"{secrets.token_hex(8)}@isolation.invalid")
        access = StaffAccess.objects.create(
            tenant=canary.tenant,
            staff_email=owner.email,
            reason="canary",
            minutes=15,
            lapses_at=timezone.now() + timedelta(days=1),
        )
    people = {"member": str(owner.pk), "colleague": str(colleague.pk)}
    return Side(canary, owner, {**canary.ids, **people, "invitation": str(invitation.pk), "staff access": str(access.pk)})


def pages_can_be_undone() -> bool:
    """Not with a login for each workspace: there no transaction reaches into two."""
    return not getattr(settings, "TENANT_LOGINS", False)


def try_everything(site: Asking, mine: Canary, other: Canary, found: Findings) -> None:
    if pages_can_be_undone():
        with sides(mine, other) as (our_side, their_side):
            ask_routes(site, our_side, their_side, found)
            ask_workspaces(site, our_side, their_side, found)
            ask_search_page(site, our_side, their_side, found)
    for kind in (run_sql, ask_search, ask_rows, open_ciphertexts, open_files, ask_cache, ask_jobs):
        kind(mine, other, found)


# ---------------------------------------------------------------- pages


def ask_routes(site: Asking, mine: Side, other: Side, found: Findings) -> None:
    """Foreign ids against unknown ones, asked in our own workspace and outside of all: the same answer to the letter."""
    told = False
    for urlconf, prefix, home in (
        (settings.WORKSPACE_URLCONF, mine.tenant.path, other.tenant.path),
        (settings.ROOT_URLCONF, "/", "/"),
    ):
        for route, entry in asked_with_ids(urlconf):
            for ids in _mixtures(entry, mine.ids, other.ids):
                nobodys = {kind: value if value == mine.ids.get(kind) else unknown(value) for kind, value in ids.items()}
                for method in ("GET", "POST"):
                    ask = partial(_ask, site, mine.owner, method, prefix, route, entry)
                    leak, none = _compared(
                        method, other.canary, (partial(ask, ids), ids.values()), (partial(ask, nobodys), nobodys.values())
                    )
                    found.attempt("routes", route.pattern, leak)
                    detail = f"{method} of an unknown id answered {none.status}"
                    found.control("routes", route.pattern, none.status < 500, detail)
            status, words = _control(site, other, home, route, entry)
            told = told or other.canary.told in words
            found.control("routes", route.pattern, 200 <= status < 400, f"its own owner is answered {status}")
    found.control("routes", "", told, "no page showed the canary to its own owner")


def _mixtures(entry: Entry, mine: dict[str, str], other: dict[str, str]) -> Iterator[dict[str, str]]:
    """Foreign ids throughout; where a path takes several, also each foreign one among our own."""
    kinds = [kind for kind in entry.kinds if not kind.startswith("=")]
    yield {kind: other[kind] for kind in kinds}
    for foreign in entry.ids.values() if len(entry.ids) > 1 else ():
        if foreign in kinds:
            mixed = {kind: other[kind] if kind == foreign else mine[kind] for kind in kinds}
            if mixed != {kind: other[kind] for kind in kinds}:
                yield mixed


def _ask(
    site: Asking, person: User | None, method: str, prefix: str, route: Route, entry: Entry, ids: dict[str, str]
) -> Answer:
    def value(kind: str) -> str:
        return kind[1:] if kind.startswith("=") else ids[kind]

    path = prefix + route.path({name: value(kind) for name, kind in entry.ids.items()})
    form = {**HARMLESS, **{name: value(kind) for name, kind in entry.form.items()}} if method == "POST" else None
    return site.ask(person, method, path, form=form, query={name: value(kind) for name, kind in entry.query.items()})


def _compared(method: str, canary: Canary, foreign: Asked, nobodys: Asked) -> tuple[str, Answer]:
    """What is wrong with the answer for the foreign ids, empty when nothing is, and the answer for those of nobody.

    People at work change pages between two requests; a leak is still there when both are asked again.
    """
    for _ in range(TRIES):
        (ask_theirs, in_theirs), (ask_none, in_none) = foreign, nobodys
        theirs, none = ask_theirs(), ask_none()
        if canary.told in theirs.text:
            leak = f"{method} answered {theirs.status} with the other workspace's words"
        elif theirs.status != none.status:
            leak = f"{method} answered {theirs.status}, for an unknown id {none.status}"
        elif theirs.without(*in_theirs) != none.without(*in_none):
            leak = f"{method} answered {theirs.status} with another text than for an unknown id"
        else:
            return "", none
    return leak, none


def _control(site: Asking, other: Side, home: str, route: Route, entry: Entry) -> tuple[int, str]:
    """The same asked by the other's own owner at home. Where GET is not allowed, POST is sent; it is undone."""
    answer = _ask(site, other.owner, "GET", home, route, entry, other.ids)
    if answer.status == 405 or entry.form:
        answer = _ask(site, other.owner, "POST", home, route, entry, other.ids)
        # an upload without a file is refused for that, after the collection was accepted
        if answer.status == 422 and "No file arrived" in answer.text:
            return 200, answer.text
    return answer.status, answer.text


def ask_workspaces(site: Asking, mine: Side, other: Side, found: Findings) -> None:
    """Every address below the other's: as below that of a workspace that nobody ever made."""
    nowhere = unknown(other.tenant.slug)
    entries = dict(asked_with_ids(settings.WORKSPACE_URLCONF))
    for route in routes(settings.WORKSPACE_URLCONF):
        entry = entries.get(route, Entry())
        for person, who in ((mine.owner, "an owner of another workspace"), (None, "nobody")):
            for method in ("GET", "POST"):
                below = [f"/w/{other.tenant.slug}/", f"/w/{nowhere}/", *other.ids.values()]
                theirs, none = (
                    (partial(_ask, site, person, method, path, route, entry, other.ids), below) for path in below[:2]
                )
                leak, _ = _compared(method, other.canary, theirs, none)
                found.attempt("workspaces", route.pattern, f"{leak} ({who})" if leak else "")
    answer = site.ask(other.owner, "GET", other.tenant.path)
    found.control("workspaces", "", answer.status == 200, f"its own owner is answered {answer.status}")


# ---------------------------------------------------------------- database


def run_sql(mine: Canary, other: Canary, found: Findings) -> None:
    schema, role = other.tenant.schema_name, other.tenant.db_role
    with public_context():
        strangers = _strangers(mine.tenant, other.tenant)
    canary = f'"{schema}".documents_document'
    with workspace(mine.tenant):
        tables = _tables(schema)
        for table in tables:
            place = f'"{schema}"."{table}"'
            for verb, statement in (
                ("SELECT", f"SELECT 1 FROM {place} LIMIT 1"),  # noqa: S608  # names from the catalogue
                ("DELETE", f"DELETE FROM {place} WHERE false"),  # noqa: S608  # refused by permission, not by rows
                ("INSERT", f"INSERT INTO {place} SELECT * FROM {place} WHERE false"),  # noqa: S608
            ):
                done = _executes(statement)
                found.attempt("sql", f"{verb} {table}", "the database carried it out" if done else "")
        for table in _tables("public"):
            leak = _foreign_rows(table, other.tenant, strangers)
            found.attempt("sql", f"SELECT public.{table}", leak)
        for name, statement in (
            ("set_config", f"SELECT set_config('role', '{role}', false)"),
            ("stacked statements", f'SELECT 1; SET ROLE "{role}"'),
            ("DO block", f"DO $$ BEGIN EXECUTE 'SET ROLE \"{role}\"'; END $$"),
            ("UPDATE pg_settings", f"UPDATE pg_settings SET setting = '{role}' WHERE name = 'role'"),  # noqa: S608
            ("temporary table", f"CREATE TEMPORARY TABLE canary AS SELECT * FROM {canary}"),  # noqa: S608
            ("RESET ROLE", "RESET ROLE"),
        ):
            gained = _executes(statement, f"SELECT 1 FROM {canary} LIMIT 1")  # noqa: S608
            found.attempt("sql", name, "the other workspace's table could be read afterwards" if gained else "")
    with workspace(other.tenant):
        for table in tables:
            if table != "django_migrations":
                done = _executes(f'SELECT 1 FROM "{schema}"."{table}" LIMIT 1')  # noqa: S608
                found.control("sql", f"SELECT {table}", done, "its own workspace cannot read it either")
    found.control("sql", "", len(tables) > 10, "the other workspace's tables are not in the catalogue")
    with public_context():
        people = ["tenants_membership", "tenants_user"] if strangers else []
        for table in ("tenants_tenant", "tenants_tenantkey", *people):
            there = bool(_foreign_rows(table, other.tenant, strangers))
            found.control("sql", f"SELECT public.{table}", there, "its row is not there")


def _tables(schema: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = %s ORDER BY 1", [schema])
        return [name for (name,) in cursor.fetchall()]


def _executes(*statements: str) -> bool:
    """Whether the database carries out all of them, by one cursor: between two of them nothing puts our role back."""
    try:
        with undone(), connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    except DatabaseError:
        return False
    return True


def _strangers(mine: Tenant, other: Tenant) -> list[str]:
    """Members of the other workspace who are not members of ours."""
    ours = Membership.objects.filter(tenant=mine).values("user_id")
    theirs = Membership.objects.filter(tenant=other).exclude(user_id__in=ours)
    return [str(user_id) for user_id in theirs.values_list("user_id", flat=True)]


def _foreign_rows(table: str, other: Tenant, strangers: list[str]) -> str:
    """What is wrong with what a public table shows of the other workspace; empty when nothing is."""
    listed = roles.TENANT_READS.get(table)
    if listed is None:
        readable = _executes(f'SELECT 1 FROM public."{table}" LIMIT 1')  # noqa: S608  # names from the catalogue
        return "the database let it be read" if readable else ""
    column = "tenant_id" if "tenant_id" in listed[0] else "id"
    values = strangers if table == User._meta.db_table else [str(other.pk)]
    with undone(), connection.cursor() as cursor:
        cursor.execute(f'SELECT count(*) FROM public."{table}" WHERE {column}::text = ANY(%s)', [values])  # noqa: S608
        (rows,) = cursor.fetchone() or (0,)
    return "it showed the other workspace's rows" if rows else ""


# ---------------------------------------------------------------- search


def ask_search(mine: Canary, other: Canary, found: Findings) -> None:
    """Among the collections of the other alone: of our own nothing is found, whatever they hold."""

    def finds() -> bool:
        results = search(other.asked, collections=frozenset({UUID(other.ids["collection"])}))
        return any(hit.document_id == other.document_id for hit in results.hits)

    with workspace(mine.tenant):
        found.attempt("search", "search", "the other workspace's document was found" if finds() else "")
    with workspace(other.tenant):
        found.control("search", "search", finds(), "its own workspace does not find it")


def ask_search_page(site: Asking, mine: Side, other: Side, found: Findings) -> None:
    canary = other.canary
    answer = site.ask(mine.owner, "POST", mine.tenant.path, form={"q": canary.asked})
    leak = "the page showed the other workspace's words" if canary.told in answer.text else ""
    found.attempt("search", "search page", leak)
    found.control("search", "search page", answer.status == 200, f"the page answered {answer.status}")
    answer = site.ask(other.owner, "POST", other.tenant.path, form={"q": canary.asked})
    found.control("search", "search page", canary.told in answer.text, "the page does not show it to its own owner")


# ---------------------------------------------------------------- rows, ciphertexts, files


def ask_rows(mine: Canary, other: Canary, found: Findings) -> None:
    for rows in other.rows():
        name = rows.model._meta.label
        with workspace(mine.tenant):
            found.attempt("rows", name, "the other workspace's row was found" if rows.all().exists() else "")
        with workspace(other.tenant):
            found.control("rows", name, rows.all().exists(), "its own workspace does not find it")


def open_ciphertexts(mine: Canary, other: Canary, found: Findings) -> None:
    for rows in other.rows():
        for column in rows.model._meta.get_fields():
            if not isinstance(column, EncryptedField):
                continue
            with workspace(other.tenant):
                taken = [(pk, value) for pk, value in rows.values_list("pk", column.attname) if value is not None]
                opened = all(_opens(column, *one) for one in taken)
                found.control("ciphertexts", str(column), opened, "it does not open with its own keys")
            if not taken:
                continue
            with workspace(mine.tenant):
                leak = "it opened with this workspace's keys" if any(_opens(column, *one) for one in taken) else ""
                found.attempt("ciphertexts", str(column), leak)


def _opens(column: EncryptedField, pk: Any, value: bytes) -> bool:
    try:
        column.open(pk, value)
    except (Tampered, KeyUnavailable):
        return False
    return True


def open_files(mine: Canary, other: Canary, found: Findings) -> None:
    def reads(stored_name: str) -> bool:
        try:
            return other.told in b"".join(storage.read(other.document_id, stored_name)).decode()
        except (storage.FileMissing, Tampered):
            return False

    with workspace(other.tenant):
        found.control("files", "name", reads(other.stored_name), "its own workspace cannot read it")
        try:
            raw = storage.sealed(other.stored_name)
        except storage.FileMissing:
            return
    files = Path(settings.FILES_DIR)
    below = f"{other.tenant.id.hex}/{other.stored_name[:2]}/{other.stored_name}"
    with workspace(mine.tenant), raw:
        for name, stored_name in (
            ("name", other.stored_name),
            ("path", f"../../{below}"),
            ("path", f"../{files.name}/{below}"),
            ("path", str(files / below)),
        ):
            found.attempt("files", name, "the other workspace's file was read" if reads(stored_name) else "")
        try:
            opened = other.told in b"".join(storage.opened(other.document_id, raw)).decode(errors="replace")
        except (Tampered, KeyUnavailable):
            opened = False
        found.attempt("files", "keys", "the other workspace's file opened with this workspace's keys" if opened else "")


# ---------------------------------------------------------------- cache, jobs


def ask_cache(mine: Canary, other: Canary, found: Findings) -> None:
    key = f"isolation:{secrets.token_hex(8)}"
    with workspace(other.tenant):
        cache.set(key, 1, 60)
    try:
        with workspace(mine.tenant):
            found.attempt("cache", "key", "the other workspace's entry was found" if cache.get(key) else "")
        with workspace(other.tenant):
            found.control("cache", "key", cache.get(key) == 1, "its own workspace does not find it")
    finally:
        with workspace(other.tenant):
            cache.delete(key)


def ask_jobs(mine: Canary, other: Canary, found: Findings) -> None:
    """A job of the other workspace's that nobody runs: it is kept in Redis and put into no queue."""
    queue, name = django_rq.get_queue("default"), f"isolation-{secrets.token_hex(8)}"
    arguments = {"connection": queue.connection, "serializer": queue.serializer}
    asked: Callable[[], str] = lambda: job_key(name, current_tenant().id)  # noqa: E731  # as in_flight and enqueue name it

    def is_there() -> bool:
        try:
            queue.job_class.fetch(asked(), **arguments)
        except NoSuchJobError:
            return False
        return True

    with workspace(other.tenant):
        job = queue.job_class.create("workspace.isolation", id=asked(), meta={"tenant": str(other.tenant.id)}, **arguments)
        job.save()
    try:
        with workspace(mine.tenant):
            found.attempt("jobs", "id", "the other workspace's job was found" if is_there() else "")
        with workspace(other.tenant):
            found.control("jobs", "id", is_there(), "its own workspace does not find it")
    finally:
        job.delete()
