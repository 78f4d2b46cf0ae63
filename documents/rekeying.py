"""Tells tenants.keys.reencryption of the files of documents, which change their key with everything else."""

from collections.abc import Callable, Iterator
from uuid import UUID

from django.db import transaction

from documents import storage
from documents.models import Document
from tenants.ciphers import Tampered
from tenants.keys import reencryption


class DocumentFiles:
    """Implements tenants.keys.reencryption.Files. A file that is missing needs no key."""

    name = "files"

    def outdated(self, current: int) -> Iterator[str]:
        for pk, stored_name in Document.objects.order_by("id").values_list("id", "stored_name").iterator():
            try:
                outdated = storage.key_version(stored_name) != current
            except storage.FileMissing:
                continue
            except Tampered:
                outdated = True
            if outdated:
                yield str(pk)

    def renew(self, which: str, breathe: Callable[[], None]) -> None:
        """The row is locked only while the new file takes its place: whoever deletes the document unlinks that one."""
        name = Document.objects.filter(pk=which).values_list("stored_name", flat=True).first()
        if name is None:
            return
        try:
            storage.encrypt_anew(UUID(which), name, breathe)
            with transaction.atomic():
                if Document.objects.select_for_update().filter(pk=which, stored_name=name).exists():
                    storage.put_anew(name)
        except storage.FileMissing:
            return
        finally:
            storage.drop_anew(name)

    def arriving(self, current: int) -> int:
        return storage.arriving(set(Document.objects.values_list("stored_name", flat=True)), current)


def connect() -> None:
    reencryption.register(DocumentFiles())
