"""Bringing in many documents at once from where the server can read them: a folder, or texts of another system."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

from django.conf import settings

from documents import storage
from documents.access import collection_open_to
from documents.models import Collection, Document
from documents.receiving import collection_named, receive
from documents.uploads import RefusedFile, safe_name, size_limit
from search.sources import CorpusText
from tenants.errors import Refused
from tenants.models import Membership

_PIECE_BYTES = 1 << 20


@dataclass(slots=True)
class Import:
    """What an import did: documents queued, references that were there already, files not taken and why."""

    collection: Collection
    documents: list[UUID] = field(default_factory=list)
    already: int = 0
    refused: list[RefusedFile] = field(default_factory=list)


def import_folder(
    path: Path, collection_name: str, *, created_by_id: int | None = None, progress: Callable[[int], None] | None = None
) -> Import:
    """Queue every file below a folder (or one file), hidden ones left out; the reference is the path within the folder.

    A file whose reference is already in the collection is not taken twice. Raises Refused when there is no such folder.
    """
    path = Path(path)
    if not path.exists():
        raise Refused(f"There is no {path}. Give a folder, or a file, that this server can read.")
    root = path.parent if path.is_file() else path
    done = Import(collection_named(collection_name))
    known = references_in(done.collection)
    for file in [path] if path.is_file() else _files(path):
        reference = file.relative_to(root).as_posix()
        if reference in known:
            done.already += 1
            continue
        name = safe_name(file.name)
        try:
            if file.stat().st_size > settings.MAX_UPLOAD_BYTES:
                message = f"The file is larger than the {size_limit()} this installation accepts."
                done.refused.append(RefusedFile(reference, message))
                continue
            stored = storage.store(uuid4(), _pieces(file))
        except OSError as error:
            done.refused.append(RefusedFile(reference, f"The file could not be read: {error.strerror}."))
            continue
        document = receive(stored, name, done.collection, created_by_id=created_by_id, reference=reference)
        done.documents.append(document.id)
        if progress:
            progress(len(done.documents))
    return done


def import_texts(
    items: Iterable[CorpusText],
    collection_name: str,
    *,
    by: Membership | None = None,
    progress: Callable[[int], None] | None = None,
) -> Import:
    """Queue texts as documents; those whose reference is already in the collection are left as they are.

    With `by` the collection must be one that the member may see; commands ask nobody. Raises Refused.
    """
    done = Import(collection_open_to(by, collection_name) if by else collection_named(collection_name))
    known = references_in(done.collection)
    for item in items:
        if item.reference in known:
            done.already += 1
            continue
        known.add(item.reference)
        body = "\n\n".join(filter(None, (item.title.strip(), item.text)))
        stored = storage.store(uuid4(), [body.encode()])
        title = item.title.strip() or item.reference
        document = receive(
            stored,
            safe_name(f"{item.reference}.txt"),
            done.collection,
            created_by_id=by.user_id if by else None,
            title=title,
            reference=item.reference,
        )
        done.documents.append(document.id)
        if progress:
            progress(len(done.documents))
    return done


def references_in(collection: Collection) -> set[str]:
    """The references the documents of a collection are known by elsewhere."""
    read = Document._meta.get_field("reference").reader()
    return {read(pk, value) for pk, value in collection.documents.values_list("id", "reference")} - {""}


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts):
            yield file


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as raw:
        while piece := raw.read(_PIECE_BYTES):
            yield piece
