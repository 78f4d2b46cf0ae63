"""The default connection, with the type it really has: Django's own annotation knows nothing of tenants."""

from typing import TYPE_CHECKING, cast

from django.db import connection as _connection

if TYPE_CHECKING:
    from tenants.database.base import DatabaseWrapper

connection = cast("DatabaseWrapper", _connection)
