"""Which tables belong into which schema: those of TENANT_APPS into a workspace's, all others into public."""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connections


def is_tenant_app(label: str) -> bool:
    return apps.get_app_config(label).name in settings.TENANT_APPS


class SchemaRouter:
    """django-tenants' router knows the default connection only; here the operator's migrates too."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        in_public = connections[db].schema_name == "public"  # type: ignore[attr-defined]
        return is_tenant_app(app_label) != in_public
