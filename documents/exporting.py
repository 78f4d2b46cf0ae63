"""Everything a workspace's members put in, as it was: one ZIP, written piece by piece while it is read.

    files/COLLECTION/PATH        each file, under the path it was imported from, or its name
    archives/COLLECTION/PATH     ZIP files that were opened: what came out of them is under files
    older/COLLECTION/PATH        versions that are not in use, with "(version 1)" in their names
    metadata/COLLECTION.csv      values in the fields of the collection, as `import_documents --metadata` reads them
    judgments/NAME.csv           as the evaluation page reads them (docs/judgments.md)
    documents.csv                what is known of each document
    missing.txt                  files that could not be read, whole or in part; only if there are any

Left out: what is in the trash, canaries, and searches, which are their members' own.
"""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any
from zipfile import ZipFile, ZipInfo

from django.db.models import Count, Sum
from django.utils import timezone

from documents import storage
from documents.access import every_collection
from documents.fields import FILE_COLUMN, fields_of
from documents.models import Collection, Document
from search.canaries import peoples_judgment_sets
from search.evaluation.reports import judgments_as_csv
from tenants.ciphers import Tampered
from tenants.spreadsheets import as_csv, line

COLUMNS = ("collection", "path", "title", "reference", "bytes", "state", "added (UTC)")
_OTHERS = ("older", "archives")
_PIECE_BYTES = 1 << 18
_BATCH = 200  # documents read at a time
_UNFIT = re.compile(r'[\x00-\x1f<>:"/\\|?*]')


class _Written(io.RawIOBase):
    """What a ZipFile writes, until it is taken. Not seekable, so that sizes come after each file."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        self.size += len(piece)
        return len(piece)

    def taken(self) -> bytes:
        pieces, self._pieces, self.size = self._pieces, [], 0
        return b"".join(pieces)


class _Paths:
    """Paths in the archive, each once, for file systems that take upper and lower case for the same too."""

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()

    def free(self, folder: str, wanted: str) -> str:
        path = PurePosixPath(folder, wanted)
        found = str(path)
        while number := self._used[found.casefold()]:  # how often it was wanted: many scanners call every file the same
            self._used[found.casefold()] += 1
            found = str(path.with_name(f"{path.stem} ({number + 1}){path.suffix}"))
        self._used[found.casefold()] += 1
        return found


def total() -> tuple[int, int]:
    """How many documents an archive holds, and their bytes."""
    found = Document.objects.filter(collection__in=every_collection(), trashed_at=None).aggregate(
        n=Count("id"), size=Sum("size")
    )
    return found["n"], found["size"] or 0


def archive() -> Iterator[bytes]:
    """The ZIP of the current workspace, in pieces. What is added or removed meanwhile may be in it or not."""
    out, paths = _Written(), _Paths()
    missing: list[str] = []
    known = [line(COLUMNS)]
    with ZipFile(out, "w", zipfile.ZIP_STORED, strict_timestamps=False) as made:
        for collection in every_collection():
            folder = paths.free("files", _part(collection.name))
            older, archives = (str(PurePosixPath(other, PurePosixPath(folder).relative_to("files"))) for other in _OTHERS)
            names = {field.pk: field.name for field in fields_of(collection)}
            rows = [[FILE_COLUMN, *names.values()]]
            for document in _documents(collection):
                if not document.is_current:
                    path = paths.free(older, _older(document))
                else:
                    path = paths.free(archives if _is_opened(document) else folder, _place(document))
                if not (yield from _file(made, out, document, path)):
                    missing.append(path)
                known.append(line(_known(collection, document, path)))
                if (
                    path.startswith(f"{folder}/")
                    and path in made.NameToInfo
                    and (values := {value.field_id: value.value for value in document.values.all()})
                ):
                    rows.append([path.removeprefix(f"{folder}/"), *(values.get(pk, "") for pk in names)])
            if len(rows) > 1:
                _text(made, paths.free("metadata", f"{_part(collection.name)}.csv"), as_csv(rows))
        for judgments in peoples_judgment_sets().order_by("created_at", "id"):
            _text(made, paths.free("judgments", f"{_part(judgments.name)}.csv"), judgments_as_csv(judgments))
        _text(made, "documents.csv", "\ufeff" + "".join(known))
        if missing:
            _text(made, "missing.txt", "\n".join(["These could not be read, or not to their end:", *missing, ""]))
    yield out.taken()


def _documents(collection: Collection) -> Iterator[Document]:
    """With their values, a few in memory at a time."""
    ids = list(collection.documents.filter(trashed_at=None).order_by("created_at", "id").values_list("id", flat=True))
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]
        found = Document.objects.filter(trashed_at=None).prefetch_related("values").in_bulk(batch)
        yield from (found[pk] for pk in batch if pk in found)


def _file(made: ZipFile, out: _Written, document: Document, path: str) -> Generator[bytes, None, bool]:
    """Write a file, yielding what the archive has meanwhile; returns whether it could be read to its end."""
    try:
        file = storage.WholeFile(document.pk, document.stored_name)
        with made.open(_info(path, document.created_at), "w", force_zip64=True) as entry:
            for piece in file.read(0, file.size):
                entry.write(piece)
                if out.size >= _PIECE_BYTES:
                    yield out.taken()
    except (storage.FileMissing, Tampered):
        return False
    return True


def _text(made: ZipFile, path: str, content: str) -> None:
    made.writestr(_info(path, timezone.now()), content)


def _info(path: str, at: datetime) -> ZipInfo:
    return ZipInfo(path, at.astimezone(UTC).timetuple()[:6])


def _known(collection: Collection, document: Document, path: str) -> tuple[str, ...]:
    added = document.created_at.astimezone(UTC).isoformat(sep=" ", timespec="seconds")
    about = (document.title, document.reference, str(document.size), document.state)
    return collection.name, path, *about, added.removesuffix("+00:00")


def _is_opened(document: Document) -> bool:
    """An archive whose files are documents: imported beside them it would bring back those that were deleted or replaced."""
    return document.is_archive and document.state == Document.State.READY


def _place(document: Document) -> str:
    """Within its collection: where it was imported from, or the name of its file."""
    reference = document.reference
    parts = reference.split("/")
    if parts[-1] == document.file_name and all(part == _part(part) for part in parts):
        return reference
    return _part(document.file_name)


def _older(document: Document) -> str:
    place = PurePosixPath(_place(document))
    return str(place.with_name(_part(document.download_name)))


def _part(name: str) -> str:
    """One part of a path, on any system, that leads nowhere else."""
    name = _UNFIT.sub("_", name).rstrip(". ")
    return name.replace(".", "_", 1) if name.startswith(".") else name or "unnamed"
