"""Migrations one statement at a time: the extended protocol, by which our cursors send, refuses two in one string."""

import re
from typing import Any

from django.db.backends.postgresql.schema import DatabaseSchemaEditor

# What Django writes before dropping a foreign key, and after adding one together with its column.
STACKED = re.compile(
    r"(?P<before>SET CONSTRAINTS \S+ IMMEDIATE; )?(?P<main>.*?)(?P<after>; SET CONSTRAINTS \S+ IMMEDIATE)?", re.DOTALL
)


class SchemaEditor(DatabaseSchemaEditor):
    def execute(self, sql: Any, params: Any = ()) -> None:
        parts = STACKED.fullmatch(str(sql))
        if parts is None or not (parts["before"] or parts["after"]):
            self.execute_one(sql, params)
            return
        if parts["before"]:
            self.execute_one(parts["before"].rstrip("; "), None)
        self.execute_one(parts["main"], params)
        if parts["after"]:
            self.execute_one(parts["after"].lstrip("; "), None)

    def execute_one(self, sql: Any, params: Any) -> None:
        super().execute(sql, params)
