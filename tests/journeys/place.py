"""A workspace of a running installation: used by its people over HTTP, watched by an administrator of the database."""

import html
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import psycopg
from psycopg import sql

from tests.journeys.visitor import PASSWORD, PATIENCE, Answer, File, Visitor
from tests.running import Running

FINAL = {"ready", "failed", "cancelled"}


@dataclass(frozen=True)
class Progress:
    """How far a document has come, as far as the database can say it: no name, no text."""

    state: str
    reason: str
    chunks_done: int
    chunks_total: int
    attempts: int


def files_below(directory: Path) -> Iterator[Path]:
    """All files, also while others come and go."""
    for parent, _, names in os.walk(directory):
        yield from (Path(parent, name) for name in names)


class Place:
    def __init__(self, running: Running, database: psycopg.Connection[Any], made: dict[str, Any], owner: str) -> None:
        self.running, self.database = running, database
        self.id, self.slug, self.schema = UUID(made["id"]), str(made["slug"]), str(made["schema"])
        self.path = f"/w/{self.slug}/"
        self.email = owner
        self.owner = Visitor(running.url)
        self.owner.choose_password(made["owner_link"])
        self.owner.sign_in(owner)

    def member(self, role: str) -> Visitor:
        """Somebody new, who comes by an invitation."""
        email = f"{role}@{self.slug}.example"
        page = self.owner.post(f"{self.path}members/invite/", {"email": email, "role": role})
        link = next(link for link in re.findall(r'value="(http[^"]+/invitation/[^"]+)"', page.text))
        visitor = Visitor(self.running.url)
        visitor.get(html.unescape(link))
        joined = visitor.post(html.unescape(link), {"name": role.title(), "password": PASSWORD})
        assert joined.path == self.path, joined.words
        return visitor

    # -- documents

    def collection(self, name: str) -> str:
        page = self.owner.post(f"{self.path}collections/create/", {"name": name})
        found = re.search(rf'\?collection=([0-9a-f-]{{36}})">{re.escape(html.escape(name))}<', page.text)
        assert found, page.words
        return found[1]

    def send(self, *files: File, collection: str = "") -> Answer:
        if not collection:
            choice = re.search(r'<option value="([0-9a-f-]{36})"', self.owner.get(f"{self.path}documents/upload/").text)
            collection = choice[1] if choice else ""
        return self.owner.post(
            f"{self.path}documents/upload/",
            {"collection": collection, "anyway": "1"},  # also what is here already
            [("files", file) for file in files],
            {"Accept": "application/json"},
        )

    def upload(self, *files: File, collection: str = "") -> list[UUID]:
        """The ids of the documents, in the order of the files."""
        answer = self.send(*files, collection=collection)
        assert answer.status == 200, answer.words
        taken = answer.json()
        assert taken["errors"] == [], taken
        return [UUID(document["id"]) for document in taken["documents"]]

    def download(self, document: UUID) -> Answer:
        return self.owner.get(f"{self.path}documents/{document}/download/")

    def search(self, question: str, visitor: Visitor | None = None, **fields: str) -> Answer:
        return (visitor or self.owner).post(self.path, {"q": question, **fields}, headers={"HX-Request": "true"})

    # -- the administrator's eye

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """With the tables of this workspace; only what is stored in the clear can be read."""
        with self.database.transaction():
            self.database.execute(sql.SQL("SET LOCAL search_path = {}, public").format(sql.Identifier(self.schema)))
            return self.database.execute(cast(Any, statement), values).fetchall()

    def progress(self, document: UUID) -> Progress:
        rows = self.query(
            "SELECT state, reason, chunks_done, chunks_total, attempts FROM documents_document WHERE id = %s", document
        )
        assert rows, f"there is no document {document}"
        return Progress(*rows[0])

    def wait_until_final(self, documents: Sequence[UUID]) -> dict[UUID, Progress]:
        self.running.wait(
            lambda: all(self.progress(document).state in FINAL for document in documents),
            f"{len(documents)} documents to become final",
            PATIENCE,
        )
        return {document: self.progress(document) for document in documents}

    def wait_until_ready(self, documents: Sequence[UUID]) -> None:
        ended = self.wait_until_final(documents)
        assert {progress.state for progress in ended.values()} == {"ready"}, ended

    @contextmanager
    def held(self, table: str) -> Iterator[None]:
        """Nobody can write this table for the duration of the block: whoever tries waits there. Reading goes on."""
        schema = "public" if table.startswith("tenants_") else self.schema
        with psycopg.connect(self.database.info.dsn, password=self.database.info.password) as holder:
            holder.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(sql.Identifier(schema, table)))
            yield

    def waiters(self, table: str) -> list[int]:
        """The database processes that wait for a held table."""
        schema = "public" if table.startswith("tenants_") else self.schema
        rows = self.database.execute(
            "SELECT pid FROM pg_locks WHERE NOT granted AND relation = %s::regclass", [f'"{schema}"."{table}"']
        )
        return [pid for (pid,) in rows.fetchall()]
