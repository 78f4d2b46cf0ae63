"""Encrypts anew what one workspace's key encrypted under an earlier version: values batch by batch, rows locked, never waiting.

Which columns are encrypted the models say, so that no table can be forgotten. Files are known by the apps that keep them
(`register`). Refuses to know why a key changes; runs inside the workspace.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from django.apps import apps
from django.db import models, transaction

from tenants.ciphers import Tampered, cipher, version_of
from tenants.database import connection
from tenants.fields import EncryptedField
from tenants.routing import is_tenant_app

BATCH_ROWS = 200
BATCH_BYTES = 4 * 1024 * 1024  # of ciphertext, unless one row is larger


class Files(Protocol):
    """The encrypted files an app keeps in a workspace."""

    name: str  # as a stage of the rotation is called

    def outdated(self, current: int) -> Iterator[str]:
        """What each file under another version than `current` is known by, in a fixed order."""
        ...

    def renew(self, which: str, breathe: Callable[[], None]) -> None:
        """Encrypt one anew; whoever reads it meanwhile goes on. Raises Tampered, or what `breathe` raises."""
        ...

    def arriving(self, current: int) -> int:
        """Files that began under an earlier version and that no row knows yet."""
        ...


_files: list[Files] = []


def register(files: Files) -> None:
    """Called by the app that keeps the files, when Django starts."""
    _files.append(files)


def all_files() -> tuple[Files, ...]:
    return tuple(_files)


@dataclass(frozen=True)
class Table:
    """A table with encrypted columns."""

    name: str
    pk: str
    pk_type: str
    fields: tuple[EncryptedField, ...]

    @property
    def outdated(self) -> str:
        """SQL with a parameter for each column: whether any is under another version, by its header (tenants.ciphers)."""
        return "(" + " OR ".join(f'substring("{field.column}" from 3 for 4) <> %s' for field in self.fields) + ")"


@cache
def tables() -> tuple[Table, ...]:
    """Every table of a workspace that has an encrypted column, by name."""
    found = [_table(model) for config in apps.get_app_configs() if is_tenant_app(config.label) for model in config.get_models()]
    return tuple(sorted((table for table in found if table.fields), key=lambda table: table.name))


def _table(model: type[models.Model]) -> Table:
    fields = tuple(field for field in model._meta.concrete_fields if isinstance(field, EncryptedField))
    pk = model._meta.pk
    return Table(model._meta.db_table, str(getattr(pk, "column", "")), str(pk.db_type(connection)), fields)


def outdated(current: int) -> int:
    """How many rows and files are encrypted, as a whole or in part, under another version."""
    rows = 0
    with connection.cursor() as cursor:
        for table in tables():
            version = [struct.pack(">I", current)] * len(table.fields)
            cursor.execute(f'SELECT count(*) FROM "{table.name}" WHERE {table.outdated}', version)  # noqa: S608  # models' names
            rows += cursor.fetchone()[0]
    return rows + sum(1 for files in _files for _ in files.outdated(current))


def arriving(current: int) -> int:
    """Files that will be encrypted under an earlier version once they are there. Ask before `outdated`, not after."""
    return sum(files.arriving(current) for files in _files)


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of some rows: the last one's key, how many were seen, and how many values did not open."""

    last: str
    rows: int
    unopened: int


def renew_batch(table: Table, current: int, after: str) -> Batch | None:
    """Encrypt the next rows of a table anew; None when there are none after the row `after` ("": from the first).

    Rows that somebody else holds are left out: nobody is waited for, and the next pass finds them.
    """
    keys = _next(table, current, after)
    if not keys:
        return None
    columns = ", ".join(f'"{field.column}"' for field in table.fields)
    ciphers = {field.purpose: cipher(field.purpose) for field in table.fields}
    unopened, changed = 0, []
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f'SELECT "{table.pk}", {columns} FROM "{table.name}" '  # noqa: S608  # models' names
            f'WHERE "{table.pk}" = ANY(%s::{table.pk_type}[]) FOR NO KEY UPDATE SKIP LOCKED',
            [keys],
        )
        for pk, *values in cursor.fetchall():
            renewed = []
            for field, value in zip(table.fields, values, strict=True):
                try:
                    if value is not None and version_of(value) != current:
                        place, taken = field.context(pk), ciphers[field.purpose]
                        value = taken.encrypt(place, taken.decrypt(place, value))
                except Tampered:
                    unopened += 1
                renewed.append(value)
            changed.append((pk, *renewed))
        if changed:
            arrays = ", ".join([f"%s::{table.pk_type}[]", *["%s::bytea[]"] * len(table.fields)])
            cursor.execute(
                f'UPDATE "{table.name}" AS t SET '  # noqa: S608  # models' names
                + ", ".join(f'"{field.column}" = n.c{number}' for number, field in enumerate(table.fields))
                + f" FROM unnest({arrays}) AS n(pk, "
                + ", ".join(f"c{number}" for number in range(len(table.fields)))
                + f') WHERE t."{table.pk}" = n.pk',
                [list(column) for column in zip(*changed, strict=True)],
            )
    return Batch(str(keys[-1]), len(keys), unopened)


def _next(table: Table, current: int, after: str) -> list[Any]:
    sizes = " + ".join(f'coalesce(octet_length("{field.column}"), 0)' for field in table.fields)
    later = f'"{table.pk}" > %s::{table.pk_type} AND ' if after else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f'SELECT "{table.pk}", {sizes} FROM "{table.name}" WHERE {later}{table.outdated} '  # noqa: S608  # models' names
            f'ORDER BY "{table.pk}" LIMIT {BATCH_ROWS}',
            [*([after] if after else []), *[struct.pack(">I", current)] * len(table.fields)],
        )
        found = cursor.fetchall()
    keys: list[Any] = []
    total = 0
    for pk, size in found:
        total += size
        if keys and total > BATCH_BYTES:
            break
        keys.append(pk)
    return keys
