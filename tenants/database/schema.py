"""Migrations one statement at a time: the extended protocol, by which our cursors send, refuses two in one string."""

import re
from typing import Any

from django.db.backends.postgresql.schema import DatabaseSchemaEditor

# What Django writes before dropping a foreign key, and after adding one together with its column.
NOW = r"SET CONSTRAINTS \S+ IMMEDIATE"
STACKED = re.compile(rf"(?P<before>{NOW}; )?(?P<main>.*?)(?P<after>; {NOW})?", re.DOTALL)


class SchemaEditor(DatabaseSchemaEditor):
    def execute(self, sql: Any, params: Any = ()) -> None:
        parts = STACKED.fullmatch(str(sql))
        if parts is None or not (parts["before"] or parts["after"]):
            return super().execute(sql, params)
        if parts["before"]:
            super().execute(parts["before"].rstrip("; "), None)
        super().execute(parts["main"], params)
        if parts["after"]:
            super().execute(parts["after"].lstrip("; "), None)
        return None
