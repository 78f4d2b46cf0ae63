"""What workspaces hold, asked for by the verbs that hold it: search, rows and ciphertexts, files, the cache, jobs."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import django_rq
from django.conf import settings
from django.core.cache import cache
from rq.exceptions import NoSuchJobError

from documents import storage
from search.querying import search
from tenants.ciphers import Tampered
from tenants.context import current_tenant, workspace
from tenants.fields import EncryptedField
from tenants.jobs import job_key
from tenants.keys.providers import KeyUnavailable
from workspace.isolation.canaries import Canary
from workspace.isolation.probes.findings import Findings


def ask_everything(mine: Canary, other: Canary, found: Findings) -> None:
    for ask in (ask_search, ask_rows, open_ciphertexts, open_files, ask_cache, ask_jobs):
        ask(mine, other, found)


def ask_search(mine: Canary, other: Canary, found: Findings) -> None:
    """Among the collections of the other alone: of our own nothing is found, whatever they hold."""

    def finds() -> bool:
        results = search(other.asked, collections=frozenset({UUID(other.ids["collection"])}))
        return any(hit.document_id == other.document_id for hit in results.hits)

    with workspace(mine.tenant):
        found.attempt("search", "search", "the other workspace's document was found" if finds() else "")
    with workspace(other.tenant):
        found.control("search", "search", finds(), "its own workspace does not find it")


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
