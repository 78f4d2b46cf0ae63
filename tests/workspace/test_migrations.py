"""What an upgrade may do to tables while the previous version goes on serving from them (docs/development.md)."""

import re

import pytest
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import (
    AddField,
    AlterModelTable,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
    RunSQL,
)

APPS = ("documents", "search", "tenants")
TAKING = (DeleteModel, RemoveField, RenameField, RenameModel, AlterModelTable)
UPGRADES = [
    pytest.param(migration, id=f"{app}.{name}")
    for (app, name), migration in sorted(MigrationLoader(None).disk_migrations.items())
    if app in APPS and not migration.initial
]


def statements(operation: RunSQL) -> str:
    return operation.sql if isinstance(operation.sql, str) else "\n".join(map(str, operation.sql))


def test_there_are_upgrades() -> None:
    assert {parameter.values[0].app_label for parameter in UPGRADES} >= {"documents", "tenants"}


@pytest.mark.parametrize("migration", UPGRADES)
def test_the_previous_version_can_insert_without_knowing_a_new_column(migration) -> None:
    for operation in migration.operations:
        if isinstance(operation, AddField):
            assert operation.field.null or operation.field.has_db_default(), f"{operation.model_name}.{operation.name}"


@pytest.mark.parametrize("migration", UPGRADES)
def test_nothing_is_taken_away_that_the_previous_version_reads(migration) -> None:
    for operation in migration.operations:
        assert not isinstance(operation, TAKING), operation.describe()
        if isinstance(operation, RunSQL):
            assert not re.search(r"\b(DROP|RENAME|TRUNCATE)\b", statements(operation), re.IGNORECASE), operation.sql
