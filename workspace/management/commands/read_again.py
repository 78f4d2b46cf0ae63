"""`manage.py read_again --workspace …`: documents with pages that could not be read, once they can be."""

from typing import Any

from documents import jobs
from documents.access import every_collection
from documents.erasing import batches
from documents.models import Document
from tenants.context import workspace
from workspace.commands import WorkspaceCommand


class Command(WorkspaceCommand):
    help = (
        "Queues every document with pages that could not be read, to be read again: say, after text recognition was installed. "
        "Each is found as it was until its new text is read, and again once that is embedded."
    )

    def answer(self, **options: Any) -> dict[str, Any]:
        with workspace(self.tenant(options["workspace"])) as tenant:
            unread = Document.objects.filter(collection__in=every_collection(), is_current=True, pages_unread__gt=0)
            ids = list(unread.values_list("id", flat=True))
            return {"workspace": tenant.slug, "queued": sum(map(jobs.read_again, batches(ids)))}
