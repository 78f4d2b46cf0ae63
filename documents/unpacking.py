"""The files of an archive become documents of their own; the archive's own text says what became of each.

The archive is opened in the sandbox alone: here its files arrive in pieces and are encrypted as they come. Each has an id that
follows from the archive's and its path in it, so that a run which was cut off is followed by one that makes the rest. Knows
no format of archives.
"""

import errno
import os
import time
from collections import Counter
from enum import StrEnum
from uuid import UUID, uuid5

from django.conf import settings

from documents import erasing, ledger, series, storage, versions
from documents.extraction.members import MAX_FILES, ZIP, LeftOut, Member, Spoilt, folder_of
from documents.extraction.pages import Extraction, Page, flowing
from documents.extraction.sandbox import Sandbox
from documents.importing import kept
from documents.models import Document
from documents.reasons import Reason, Unreadable
from documents.receiving import receive
from documents.uploads import safe_name, safe_path
from documents.versions import AlreadyHere, same_bytes
from tenants.ciphers import digest
from tenants.errors import Refused
from tenants.wording import counted, size

TURN_SECONDS = 20.0  # a file takes some 40 ms; ten thousand would keep other workspaces from the worker for minutes
COMPARED_BYTES = 20_000_000  # of a file that is held in memory to be compared before it is stored


class TurnIsOver(Exception):
    """Some files became documents; the others are for a later run, after those who wait."""


class _Taken(StrEnum):
    """A file that is a document: of its own, or since before."""

    ADDED = ""
    ALREADY = "here already"


def unpack(archive: Document, sandbox: Sandbox) -> Extraction:
    """Make documents of an archive's files and return its text. Raises ledger.Stopped and TurnIsOver between two of
    them, and as `Sandbox.unpack` does; Unreadable, too, when the workspace has no room for the next one.
    """
    if archive.archive is not None:  # the sandbox opens what is within an archive, and says so of no file it hands out
        raise Unreadable(Reason.TOO_COMPLEX, "archive", ZIP)
    ledger.found(archive.pk, ZIP)
    run = _Run(archive)
    try:
        sandbox.unpack(storage.read(archive.pk, archive.stored_name), run.take)
    except Unreadable as unreadable:
        unreadable.format = ZIP
        raise
    return Extraction(ZIP, tuple(Page(number, *part) for number, part in enumerate(flowing([run.listing()]), 1)))


class _Run:
    def __init__(self, archive: Document) -> None:
        self._archive = archive
        self._folder = folder_of(archive.reference or archive.file_name)
        self._values = {value.field_id: value.value for value in archive.values.all()}
        there = Document.objects.filter(archive=archive.pk)
        self._there = dict(there.values_list("pk", "trashed_at"))
        self._erased = set(erasing.erased_ids())  # after what is there: what goes in between is in one of them
        self._references: set[str] = set()
        self._became: Counter[LeftOut | _Taken] = Counter()
        self._lines: list[str] = []
        self._until: float | None = None  # set with the first file that became a document in this run

    def take(self, member: Member) -> None:
        became = member.left_out or self._document(member)
        self._became[became] += 1
        if became is not LeftOut.SYSTEM:
            said = f": {became}" if became is _Taken.ALREADY else f": left out, {became}" if isinstance(became, LeftOut) else ""
            self._lines.append(f"{_shown(member.path)} ({size(member.size)}){said}")

    def _document(self, member: Member) -> LeftOut | _Taken:
        reference = safe_path(f"{self._folder}/{member.path}")
        if not reference:
            return LeftOut.NAME
        if reference in self._references:
            return LeftOut.SAME_NAME
        self._references.add(reference)
        pk = uuid5(self._archive.pk, digest("dedupe", f"file:{reference}").hex())  # keyed: nobody can try whether a name is it
        if pk in self._there:
            return _Taken.ADDED if self._there[pk] is None else LeftOut.DELETED
        if pk in self._erased:
            return LeftOut.DELETED
        self._go_on(member)
        if self._is_outdated():
            return LeftOut.OUTDATED
        if member.size > settings.MAX_UPLOAD_BYTES:
            return LeftOut.REFUSED
        if not storage.has_room(member.size):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            self._receive(pk, member, reference)
        except Spoilt as spoilt:
            return spoilt.why
        except AlreadyHere:
            return _Taken.ALREADY
        except Refused:
            ledger.still_working(self._archive.pk)  # the collection can be gone, and the archive with it
            raise Unreadable(Reason.NO_ROOM, "quota", ZIP) from None
        self._until = self._until or time.monotonic() + TURN_SECONDS
        return _Taken.ADDED

    def _go_on(self, member: Member) -> None:
        if self._until is not None and time.monotonic() > self._until:
            raise TurnIsOver
        ledger.reading(self._archive.pk, done=member.number - 1, total=member.total, kept=self._until is not None)

    def _is_outdated(self) -> bool:
        """Asked before each file: a newer version may be opened at any time, and its files must stay the newest.

        One that nobody has opened yet may turn out to be damaged, and none would bring these files.
        """
        newer = series.of_series(series.of(self._archive)).filter(version__gt=self._archive.version, trashed_at=None)
        given_up = (Document.State.FAILED, Document.State.CANCELLED)
        return any(version.is_archive for version in newer.exclude(state__in=given_up))

    def _receive(self, pk: UUID, member: Member, reference: str) -> None:
        archive, pieces = self._archive, member.pieces
        named = archive.collection.documents.filter(name_digest=versions.name_digest(archive.collection_id, reference))
        if member.size <= COMPARED_BYTES and named.filter(size=member.size).exists():
            pieces = iter(whole := list(pieces))
            if same := same_bytes(storage.content_digest(whole), named):
                raise AlreadyHere(same, same_name=True)
        stored = storage.store(pk, pieces)
        with kept(stored):
            receive(
                stored,
                safe_name(member.path),
                archive.collection,
                created_by_id=archive.created_by_id,
                reference=reference,
                values=self._values,
                unless_among=named,
                archive=archive.pk,
            )

    def listing(self) -> str:
        """How many became what, then a line for each file."""
        added, already, system = self._became[_Taken.ADDED], self._became[_Taken.ALREADY], self._became[LeftOut.SYSTEM]
        total = self._became.total() - system
        said = [f"{counted(added, 'document')} of {counted(total, 'file')}"]
        said += [f"{already:,} here already"] if already else []
        said += [f"{left:,} left out"] if (left := total - added - already) else []
        last = [f"Not listed: {counted(system, 'file')} hidden or added by a system, such as .DS_Store"] if system else []
        last += ["What comes after these was not looked at."] if self._became.total() > MAX_FILES else []
        return "\n".join([f"{', '.join(said)}.", "", *self._lines, *last])


def _shown(path: str) -> str:
    return safe_path(f"x/{path}").removeprefix("x/") or safe_name(path)
