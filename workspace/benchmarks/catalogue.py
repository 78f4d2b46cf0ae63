"""What PostgreSQL knows of a schema, for comparing two that should be the same."""

from typing import Any

COLUMNS = (
    "SELECT 'column', table_name, column_name, data_type, udt_name, character_maximum_length, is_nullable, column_default "
    "FROM information_schema.columns WHERE table_schema = %s"
)
INDEXES = "SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = %s"
CONSTRAINTS = (
    "SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE connamespace = %s::regnamespace"
)


def catalogue(operator: Any, schema: str) -> list[tuple[str, ...]]:
    """Columns, indexes and constraints of a schema, with the schema's own name taken out."""
    rows: list[tuple[Any, ...]] = []
    with operator.cursor() as cursor:
        for query in (COLUMNS, INDEXES, CONSTRAINTS):
            cursor.execute(query, [schema])
            rows += cursor.fetchall()
    return sorted(tuple(str(value).replace(schema, "SCHEMA") for value in row) for row in rows)
