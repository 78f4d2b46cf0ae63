"""What the isolation self-test (workspace.isolation) keeps in a workspace's search, so that no list shows it to members.

Judgments, runs and shared searches belong to no collection that could be marked; they are known by ids that follow
from the workspace's.
"""

from uuid import UUID, uuid5

from django.db.models import QuerySet

from search.models import JudgmentSet
from tenants.context import current_tenant


def canary_id(name: str) -> UUID:
    """The id of the current workspace's canary of that name."""
    return uuid5(current_tenant().id, f"canary {name}")


def peoples_judgment_sets() -> QuerySet[JudgmentSet]:
    """All but the self-test's, which is nobody's."""
    return JudgmentSet.objects.exclude(pk=canary_id("judgments"))
