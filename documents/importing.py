"""Bringing in many documents at once from where the server can read them: a folder, or texts of another system."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction

from documents import quotas, sidecar, storage
from documents.models import Collection, Document
from documents.receiving import collection_named, collection_open_to, receive
from documents.storage import StoredFile
from documents.uploads import RefusedFile, safe_name, size_limit
from search.sources import CorpusText
from tenants.audit.recording import withheld
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


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import of a folder would do: files to take by their reference, how many are there already, those refused."""

    files: dict[str, Path]
    already: int
    refused: list[RefusedFile]
    values: Mapping[str, Mapping[UUID, str]]  # metadata, by reference


def plan_folder(path: Path, collection: Collection, *, patterns: Sequence[str] = (), metadata: bytes = b"") -> Plan:
    """Look at a folder (or one file) without taking anything; a file's reference is its path within the folder.

    Hidden files are left out. `patterns`: only files whose reference, or name, fits one, as a shell writes them. `metadata`: a
    CSV file whose column `file` holds references (documents.sidecar). A file whose reference, or name, is in the collection
    with the same bytes, in use or newest, is not taken twice; with other bytes it becomes the next version. Raises Refused: no
    such folder, nothing in it that fits, no room, and BadSidecar.
    """
    if not path.exists():
        raise Refused(f"There is no {path}. Give a folder, or a file, that this server can read.")
    root = path.parent if path.is_file() else path
    found = {file.relative_to(root).as_posix(): file for file in ([path] if path.is_file() else _files(path))}
    chosen = {name: file for name, file in found.items() if not patterns or _fits(file, name, patterns)}
    if patterns and not chosen:
        raise Refused(f"No file in {path} fits {' or '.join(patterns)}.")
    values = sidecar.of_files(collection, metadata, {sidecar.file_name(name) for name in found}) if metadata else {}
    known = _known(collection)
    already = 0
    files: dict[str, Path] = {}
    refused: list[RefusedFile] = []
    for name, file in chosen.items():
        try:
            if any(each.is_same(file.stat().st_size, _pieces(file)) for each in known.get(name, ())):
                already += 1
                continue
            fits = file.stat().st_size <= settings.MAX_UPLOAD_BYTES
        except OSError as error:
            refused.append(_unreadable(name, error))
            continue
        if fits:
            files[name] = file
        else:
            refused.append(RefusedFile(name, f"The file is larger than the {size_limit()} this installation accepts."))
    _refuse_without_room(_sizes(files.values()))
    return Plan(files, already, refused, values)


def planned(path: Path, collection_name: str, *, patterns: Sequence[str] = (), metadata: bytes = b"") -> Plan:
    """`plan_folder` for a collection that need not be there yet, and is not made; nor is it in the log. Raises Refused."""
    with transaction.atomic(), withheld():  # the log is not locked while a slow disk is read
        plan = plan_folder(path, collection_named(collection_name), patterns=patterns, metadata=metadata)
        transaction.set_rollback(True)
    return plan


def import_folder(
    path: Path,
    collection_name: str,
    *,
    patterns: Sequence[str] = (),
    metadata: bytes = b"",
    created_by_id: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Import:
    """Queue what `plan_folder` finds. Raises Refused."""
    plan = planned(path, collection_name, patterns=patterns, metadata=metadata)
    collection = collection_named(collection_name)
    done = Import(collection, already=plan.already, refused=plan.refused)
    for reference, file in plan.files.items():
        try:
            stored = storage.store(uuid4(), _pieces(file))
        except OSError as error:
            done.refused.append(_unreadable(reference, error))
            continue
        with kept(stored):
            document = receive(
                stored,
                safe_name(file.name),
                collection,
                created_by_id=created_by_id,
                reference=reference,
                values=plan.values.get(sidecar.file_name(reference)),
            )
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
    """Queue texts as documents; those whose reference is already in the collection with the same
    text are left as they are, and with another become its next version.

    `items` are gone through twice, the first time to see whether there is room for them. With `by` the collection must
    be one that the member may see; commands ask nobody. Raises Refused.
    """
    if iter(items) is items:
        raise TypeError("texts to import are gone through twice: give a sequence")
    with transaction.atomic():  # refused, it leaves no empty collection behind
        done = Import(collection_open_to(by, collection_name) if by else collection_named(collection_name))
        known = _known(done.collection)
        _refuse_without_room(len(_body(item)) for item in items if not _is_known(item, known))
    taken: set[str] = set()
    for item in items:
        if item.reference in taken or _is_known(item, known):
            done.already += 1
            continue
        taken.add(item.reference)
        stored = storage.store(uuid4(), [_body(item)])
        title = item.title.strip() or item.reference
        with kept(stored):
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


@dataclass(frozen=True, slots=True)
class _Known:
    """A version of what a name stands for."""

    size: int
    content_digest: bytes | None

    def is_same(self, size: int, pieces: Iterable[bytes]) -> bool:
        """Whether these are its bytes; they are gone through only when the size says nothing. Older rows know no digest."""
        if self.size != size or self.content_digest is None:
            return self.size == size
        return self.content_digest == storage.content_digest(pieces)


def _known(collection: Collection) -> dict[str, list[_Known]]:
    """By reference, or file name where there is none, as versions follow each other: the one in use, and the newest where
    that is another; without what is in the trash.
    """
    reference, name = Document._meta.get_field("reference").reader(), Document._meta.get_field("file_name").reader()
    found: dict[str, list[_Known]] = {}
    rows = collection.documents.filter(trashed_at=None).order_by("version")
    columns = ("id", "reference", "file_name", "is_current", "size", "content_digest")
    for pk, its_reference, its_name, is_current, size, digest in rows.values_list(*columns):
        key = reference(pk, its_reference) or name(pk, its_name)
        in_use = [] if is_current else found.get(key, [])[:1]
        found[key] = [*in_use, _Known(size, None if digest is None else bytes(digest))]
    return found


def _is_known(item: CorpusText, known: Mapping[str, list[_Known]]) -> bool:
    body = _body(item)
    return any(each.is_same(len(body), [body]) for each in known.get(item.reference, ()))


def _refuse_without_room(sizes: Iterable[int]) -> None:
    """Before anything is stored. Without a limit nothing is looked at."""
    held = quotas.held()
    if not held.is_limited:
        return
    documents = size = 0
    for each in sizes:
        documents, size = documents + 1, size + each
    if refusal := held.refusal(documents, size):
        raise Refused(refusal)


@contextmanager
def kept(stored: StoredFile) -> Iterator[None]:
    """Around what writes the file's row: no row, no file, whatever kept the row from being written."""
    try:
        yield
    except BaseException:
        storage.remove([stored.stored_name])
        raise


def _body(item: CorpusText) -> bytes:
    return "\n\n".join(filter(None, (item.title.strip(), item.text))).encode()


def _sizes(files: Iterable[Path]) -> Iterator[int]:
    for file in files:
        with suppress(OSError):
            yield file.stat().st_size


def _fits(file: Path, reference: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(reference, pattern) or fnmatchcase(file.name, pattern) for pattern in patterns)


def _unreadable(reference: str, error: OSError) -> RefusedFile:
    return RefusedFile(reference, f"The file could not be read: {error.strerror}.")


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts):
            yield file


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as raw:
        while piece := raw.read(_PIECE_BYTES):
            yield piece
