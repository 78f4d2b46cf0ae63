"""Metadata of documents in a CSV file: a column `file` that names the document, and columns named like fields.

All or nothing: every line that is wrong is named, and then nothing of the file is used. An empty cell says nothing.
"""

import csv
import io
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from django.db import transaction

from documents.describing import Invalid, read_values, write
from documents.fields import FILE_COLUMN, fields_of, lock, same_name, shown
from documents.models import Collection, Document, Field
from tenants.errors import Refused

MAX_ROWS = 20_000
MAX_CELL = 10_000  # characters
SHOWN_MISTAKES = 200

_NAMES_NOTHING = f"the column “{FILE_COLUMN}” is empty. Name the document's file there."

T = TypeVar("T")


class BadSidecar(Refused):
    """A CSV file of which nothing was stored; `mistakes` names the lines, all of them counted, the first listed."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes, self.total = list(mistakes[:SHOWN_MISTAKES]), len(mistakes)
        super().__init__(" ".join(self.mistakes))


@transaction.atomic
def describe_by_csv(collection: Collection, content: bytes) -> int:
    """Set values of documents that are there, named by their file or their reference. Returns how many it describes.

    Raises BadSidecar.
    """
    lock(collection)
    named = _documents_by_name(collection)

    def document(name: str) -> UUID:
        if problem := _not_one(name, named.get(name, ())):
            raise Refused(problem)
        return named[name][0]

    changes = _read(collection, content, document)
    write(collection, changes)
    return len(changes)


def of_files(collection: Collection, content: bytes, names: Container[str] | None = None) -> dict[str, dict[UUID, str]]:
    """The values of files that are to come into a collection, by the name in the column `file`, as `receive` takes them.

    With `names` a line about any other file is a mistake. Raises BadSidecar.
    """

    def file(name: str) -> str:
        if not name:
            raise Refused(_NAMES_NOTHING)
        if names is not None and name not in names:
            raise Refused(f"there is no file {shown(name)}. Correct the name, or remove the line.")
        return name

    return _read(collection, content, file)


def _read(collection: Collection, content: bytes, meant: Callable[[str], T]) -> dict[T, dict[UUID, str]]:
    """The values of each line, by what it is about; `meant` says that of a name, and raises Refused. Raises BadSidecar."""
    by_name = {same_name(field.name): field for field in fields_of(collection)}
    lines = _lines(content)
    columns, place = _columns(lines[0][1], by_name)
    read: dict[T, dict[UUID, str]] = {}
    first: dict[T, int] = {}
    mistakes: list[str] = []
    for number, cells in lines[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
            mistakes.append(
                f"Line {number}: has {len(cells)} cells, the first line {len(columns)}. Put cells with commas in quotes."
            )
            continue
        cells += [""] * (len(columns) - len(cells))
        name = file_name(cells[place])
        try:
            about = meant(name)
            if about in first:
                raise Refused(f"describes {shown(name)} again, as line {first[about]} does.")
        except Refused as refused:
            mistakes.append(f"Line {number}: {refused}")
            continue
        first[about] = number
        typed = {columns[i]: cell for i, cell in enumerate(cells[: len(columns)]) if i != place and cell.strip()}
        try:
            read[about] = read_values(typed, by_name)
        except Invalid as invalid:
            mistakes += [f"Line {number}, {column}: {said}" for column, said in invalid.errors.items()]
    if mistakes:
        raise BadSidecar(mistakes)
    if not read:
        raise BadSidecar(["The file has no line below the names of its columns."])
    return read


def _lines(content: bytes) -> list[tuple[int, list[str]]]:
    """The cells of each line, and the number of the line they end on. Raises BadSidecar."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadSidecar(["The file is not in UTF-8. Save it as “CSV UTF-8”, then upload it again."]) from None
    if "\0" in text:
        raise BadSidecar(["The file contains zero bytes: it is no CSV file. Save it as “CSV UTF-8”."])
    head = text[: text.find("\n")] if "\n" in text else text
    delimiter = max(",;\t", key=head.count)  # as spreadsheets write it, by language
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            if any(len(cell) > MAX_CELL for cell in cells):
                raise BadSidecar([f"Line {reader.line_num}: a cell has more than {MAX_CELL:,} characters. Is a quote missing?"])
            lines.append((reader.line_num, cells))
            if len(lines) > MAX_ROWS + 1:
                raise BadSidecar([f"The file has more than {MAX_ROWS:,} lines. Split it."])
    except csv.Error:
        raise BadSidecar([f"Line {reader.line_num}: quotes do not match. Put a quote within a cell twice."]) from None
    if not lines or not any(cell.strip() for cell in lines[0][1]):
        raise BadSidecar([f"The file is empty. Its first line names the columns: {FILE_COLUMN}, and fields."])
    return lines


def _columns(names: list[str], by_name: Mapping[str, Field]) -> tuple[list[str], int]:
    """The names of the columns, and which one names the document. Raises BadSidecar."""
    while names and not names[-1].strip():
        names = names[:-1]
    keys = [same_name(name) for name in names]
    mistakes = []
    if FILE_COLUMN not in keys:
        mistakes.append(f"Line 1: there is no column “{FILE_COLUMN}”, which names the document of each line. Add it.")
    for name in dict.fromkeys(names):
        key = same_name(name)
        if keys.count(key) > 1:
            mistakes.append(f"Line 1: the column {shown(name)} stands there {keys.count(key)} times. Keep one.")
        elif key != FILE_COLUMN and key not in by_name:
            mistakes.append(f"Line 1: this collection has no field {shown(name)}. Remove the column, or add the field.")
    if mistakes:
        raise BadSidecar(mistakes)
    return names, keys.index(FILE_COLUMN)


def file_name(name: str) -> str:
    """A name as two of them are compared."""
    return unicodedata.normalize("NFC", name.strip())


def _documents_by_name(collection: Collection) -> dict[str, tuple[UUID, ...]]:
    """The documents of a collection as they are in use, without the trash, by the name of their file and by their reference."""
    read_file = Document._meta.get_field("file_name").reader()
    read_reference = Document._meta.get_field("reference").reader()
    found: defaultdict[str, tuple[UUID, ...]] = defaultdict(tuple)
    there = collection.documents.filter(trashed_at=None, is_current=True).order_by()
    for pk, its_name, its_reference in there.values_list("id", "file_name", "reference"):
        for name in {file_name(read_file(pk, its_name)), file_name(read_reference(pk, its_reference))} - {""}:
            found[name] += (pk,)
    return found


def _not_one(name: str, documents: tuple[UUID, ...]) -> str:
    """Why a name in the column `file` does not say which document is meant; empty when it does."""
    if not name:
        return _NAMES_NOTHING
    if not documents:
        return f"no document of this collection has the file name {shown(name)}. Upload the file first, or correct the name."
    if len(documents) > 1:
        return f"{len(documents)} documents have the file name {shown(name)}. Describe them on their own pages."
    return ""
