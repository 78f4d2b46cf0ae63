"""`manage.py apply_erasures`: after an older backup was restored, erases again what was erased since, as the worker does."""

from typing import Any

from documents import erasing
from tenants import erasures
from tenants.wording import counted
from workspace import erasure
from workspace.commands import Command as Base
from workspace.commands import Failed


class Command(Base):
    help = (
        "Erases again what a restored backup brought back: documents named in the list outside the database, and whole "
        "workspaces. Until that is done those workspaces are shut."
    )

    def answer(self, **options: Any) -> dict[str, Any]:
        workspaces = erasure.erase_again()
        documents = erasing.catch_up_everywhere()
        answer: dict[str, Any] = {"workspaces_erased": workspaces, "documents_erased": documents}
        if waiting := [tenant.slug for tenant in erasures.behind()]:
            answer["waiting"] = waiting
            raise Failed(f"{', '.join(waiting)}: not up to date. Run `upgrade_workspaces`, or see the log.", answer)
        return answer

    def word(self, answer: dict[str, Any]) -> str:
        documents = sum(answer["documents_erased"].values())
        caught_up, gone = len(answer["documents_erased"]), len(answer["workspaces_erased"])
        return f"Erased again: {counted(gone, 'workspace')}, and {counted(documents, 'document')} in {caught_up} others."
