"""Uploads are encrypted while they are received: no byte of a file is ever on a disk in the clear. Knows no view.

Django would keep small files in memory and write large ones to a temporary file; `RefusingUploadHandler` is therefore
the default everywhere, and the upload view alone brings `EncryptingUploadHandler`.
"""

import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.core.files.uploadhandler import FileUploadHandler, SkipFile, StopFutureHandlers
from django.db import transaction
from django.http import HttpRequest

from documents import storage
from documents.quotas import Held
from documents.storage import IncomingFile, StoredFile

NAME_CHARACTERS = 300
PATH_CHARACTERS = 1_000
ENVELOPE_BYTES = 2_000_000  # more than the fields and heads of a form with a thousand files take
SIDECAR_BYTES = 1_000_000  # it comes with every file of an upload
_UNWANTED = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})  # controls, surrogates, private use, unassigned, line separators
# Marks that turn the reading direction around can make "exe.pdf" look like "fdp.exe".
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file that was not kept, with the sentence that says why."""

    name: str
    message: str
    already_url: str = ""  # of the document that has the same bytes
    already_title: str = ""


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file that has arrived whole; stands in request.FILES. `close` is what Django calls at the end of a request."""

    name: str
    stored: StoredFile

    def close(self) -> None:
        return


def safe_name(name: str) -> str:
    """The last part of a path, any script kept, without control and direction characters, at most 300 characters."""
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    name = _DIRECTION.sub("", "".join(char for char in name if unicodedata.category(char) not in _UNWANTED)).strip()
    if len(name) > NAME_CHARACTERS:
        stem, dot, extension = name.rpartition(".")
        keep = f".{extension}" if dot and len(extension) <= 10 else ""
        name = (stem if keep else name)[: NAME_CHARACTERS - len(keep)] + keep
    return name if name.strip(". ") else "unnamed"


def safe_path(path: str) -> str:
    """The path of a file within a folder, by parts as `safe_name` takes them; empty where it is in none, or too deep in it."""
    parts = [safe_name(part) for part in re.split(r"[/\\]", path) if part.strip(". ")]
    joined = "/".join(parts)
    return joined if len(parts) > 1 and len(joined) <= PATH_CHARACTERS else ""


def size_limit() -> str:
    """The largest file accepted, in words: rounded down, so that what it promises holds."""
    limit = settings.MAX_UPLOAD_BYTES
    return f"{limit // 1_000_000:,} MB" if limit >= 1_000_000 else f"{limit:,} bytes"


def least_size(request: HttpRequest) -> int:
    """Bytes of files that a request for an upload holds at least, by what it says before it is read."""
    said = request.META.get("CONTENT_LENGTH") or "0"
    return max(0, int(said) - ENVELOPE_BYTES) if said.isdecimal() else 0


class RefusingUploadHandler(FileUploadHandler):
    """Drops every file: where nobody expects one, none is written anywhere."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        raise SkipFile

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        raise SkipFile

    def file_complete(self, file_size: int) -> None:
        return None


@dataclass(frozen=True, slots=True)
class ReceivedSidecar:
    """What the file in the field `sidecar` holds; stands in request.FILES."""

    content: bytes

    def close(self) -> None:
        return


class SidecarHandler(FileUploadHandler):
    """Keeps the file in the field `sidecar`, which describes the others, in memory; leaves the others to the next handler."""

    FIELD = "sidecar"

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request)
        self.too_large = False
        self._content: BytesIO | None = None

    def new_file(self, field_name: str, *args: Any, **kwargs: Any) -> None:
        self._content = BytesIO() if field_name == self.FIELD else None
        if self._content is not None:
            raise StopFutureHandlers

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        if self._content is None:
            return raw_data
        if self._content.tell() + len(raw_data) > SIDECAR_BYTES:
            self.too_large = True
            raise SkipFile
        self._content.write(raw_data)
        return None

    def file_complete(self, file_size: int) -> Any:
        return None if self._content is None else ReceivedSidecar(self._content.getvalue())


class EncryptingUploadHandler(FileUploadHandler):
    """Encrypts each file into the workspace's storage as it arrives, up to the size limit and what the workspace has room for.

    What has no committed row is removed by `clean_up`: a refused form or a failed CSRF check leaves no file.
    """

    chunk_size = 256 * 1024

    def __init__(self, request: HttpRequest, held: Held) -> None:
        super().__init__(request)
        self.refused: list[RefusedFile] = []
        self._held = held
        self._incoming: IncomingFile | None = None
        self._name = ""
        self._unclaimed: dict[UUID, StoredFile] = {}

    def new_file(self, field_name: str, file_name: str, *args: Any, **kwargs: Any) -> None:
        self._drop()
        self._name = safe_name(file_name)
        self._refuse_without_room(0)
        self._incoming = IncomingFile(uuid4())

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        assert self._incoming is not None
        if self._incoming.size + len(raw_data) > settings.MAX_UPLOAD_BYTES:
            self._drop()
            message = f"The file is larger than the {size_limit()} this installation accepts."
            self.refused.append(RefusedFile(self._name, message))
            raise SkipFile
        self._refuse_without_room(self._incoming.size + len(raw_data))
        self._incoming.write(raw_data)
        return None

    def file_complete(self, file_size: int) -> Any:
        assert self._incoming is not None
        stored = self._incoming.complete()
        self._incoming = None
        self._unclaimed[stored.document_id] = stored
        return ReceivedFile(self._name, stored)

    def upload_interrupted(self) -> None:
        self.clean_up()

    @contextmanager
    def keeping(self, stored: StoredFile) -> Iterator[None]:
        """The transaction that writes the file's row. Once it is committed the file stays, whatever fails after that."""
        with transaction.atomic():
            transaction.on_commit(lambda: self._unclaimed.pop(stored.document_id))
            yield

    def clean_up(self) -> None:
        self._drop()
        storage.remove(stored.stored_name for stored in self._unclaimed.values())
        self._unclaimed.clear()

    def _refuse_without_room(self, size: int) -> None:
        """What cannot fit beside the files that arrived before it is not encrypted; whether it fits is decided at the row."""
        arrived = self._unclaimed.values()
        if refusal := self._held.refusal(len(arrived) + 1, sum(stored.size for stored in arrived) + size):
            self._drop()
            self.refused.append(RefusedFile(self._name, refusal))
            raise SkipFile

    def _drop(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.discard()
