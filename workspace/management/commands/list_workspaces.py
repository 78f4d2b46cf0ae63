"""`manage.py list_workspaces`."""

from typing import Any

from django.db.models import Count

from tenants.models import Tenant
from workspace.commands import Command as Base


class Command(Base):
    help = "Lists the workspaces with their state and number of members."

    def answer(self, **options: Any) -> dict[str, Any]:
        found = Tenant.objects.annotate(members=Count("memberships")).order_by("slug")
        return {
            "workspaces": [
                {
                    "id": str(tenant.id),
                    "slug": tenant.slug,
                    "name": tenant.name,
                    "schema": tenant.schema_name,
                    "status": tenant.status,
                    "members": tenant.members,
                }
                for tenant in found
            ]
        }

    def word(self, answer: dict[str, Any]) -> str:
        rows = [f"{w['slug']:<30} {w['status']:<8} {w['members']:>4} members  {w['name']}" for w in answer["workspaces"]]
        return "\n".join(rows) or "There is no workspace yet."
