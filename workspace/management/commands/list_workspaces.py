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
                {"id": str(t.id), "slug": t.slug, "name": t.name, "schema": t.schema_name, "status": t.status, "members": t.members}
                for t in found
            ]
        }

    def word(self, answer: dict[str, Any]) -> str:
        rows = [f"{w['slug']:<30} {w['status']:<8} {w['members']:>4} members  {w['name']}" for w in answer["workspaces"]]
        return "\n".join(rows) or "There is no workspace yet."
