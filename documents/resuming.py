"""Large files that come in pieces, each of which may be the last for now: what was committed is never sent again.

Every piece is an encrypted file of its own, under a key of its own, and counts once it is whole on the disk and in the row:
nothing is ever written over, so no nonce can meet other bytes, whatever breaks off. When all are there they are encrypted
anew into the document's file, in constant memory. Knows no view.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID, uuid5

from django.conf import settings
from django.db import transaction
from django.db.models import Count, QuerySet, Sum
from django.utils import timezone

from documents import fields, quotas, storage
from documents.access import visible_collections, visible_documents
from documents.arrivals import drop
from documents.models import Arrival, Collection, Document
from documents.receiving import receive
from documents.uploads import size_limit
from tenants.errors import Refused
from tenants.locks import alone_with
from tenants.models import Membership

PIECE_BYTES = 16 * 1024**2
NO_ROOM = "There is no room left for a file of this size. Tell your administrator."


class WrongOffset(Exception):
    """The piece does not begin where the last one ended: at `offset`."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


class UnderWay(Exception):
    """Somebody else completes it at this moment: whoever asks again is told what came of it."""


class CutShort(Exception):
    """The piece did not arrive whole, and was not kept."""


def arrivals(membership: Membership, person_id: int) -> QuerySet[Arrival]:
    """The person's own, into collections they may see."""
    return Arrival.objects.filter(created_by_id=person_id, collection__in=visible_collections(membership))


def begin(
    membership: Membership,
    person_id: int,
    collection: Collection,
    name: str,
    size: int,
    modified: str,
    values: Mapping[UUID, str],
    reference: str = "",
) -> Arrival:
    """The person's unfinished upload of the same file, or a new one. Raises Refused before a byte is sent."""
    if not 0 < size <= settings.MAX_UPLOAD_BYTES:
        raise Refused(
            f"The file is larger than the {size_limit()} this installation accepts." if size else "The file is empty."
        )
    about = {
        "name": name,
        "reference": reference,
        "modified": modified,
        "values": {str(field): value for field, value in values.items()},
    }
    with transaction.atomic():
        fields.lock(collection)  # two who begin the same at once go on with one
        for arrival in arrivals(membership, person_id).filter(collection=collection, size=size):
            if arrival.about == about:
                return arrival
        _refuse_without_room(1, size, 2 * size)
        return Arrival.objects.create(created_by_id=person_id, collection=collection, size=size, about=about)


def add(arrival: Arrival, start: int, length: int, body: Iterable[bytes]) -> int:
    """Keep one piece of `length` bytes; returns where the next one begins. Raises WrongOffset, CutShort, Refused."""
    if start != arrival.received:
        raise WrongOffset(arrival.received)
    if not 0 < length <= min(PIECE_BYTES, arrival.size - start):
        raise Refused(f"A piece has 1 to {PIECE_BYTES:,} bytes and ends within the file.")
    _refuse_without_room(0, 0, arrival.size - start + arrival.size)
    with _room():
        stored = storage.store(_piece_id(arrival.pk, len(arrival.pieces)), _whole(body, length))
    try:
        with transaction.atomic():
            locked = Arrival.objects.select_for_update().filter(pk=arrival.pk).first()
            if locked is None or locked.received != start:
                raise WrongOffset(locked.received if locked else 0)
            locked.pieces.append(stored.stored_name)
            locked.received += length
            locked.touched_at = timezone.now()
            locked.save(update_fields=["pieces", "received", "touched_at"])
    except BaseException:
        storage.remove([stored.stored_name])
        raise
    return locked.received


def complete(arrival: Arrival, unless_among: QuerySet[Document] | None = None) -> Document:
    """The document made of all pieces; its id is the arrival's, so that it comes to be once.

    Raises WrongOffset, Refused, UnderWay, and AlreadyHere when one of `unless_among` has the same bytes: the pieces are kept
    then.
    """
    if arrival.received != arrival.size:
        raise WrongOffset(arrival.received)
    with alone_with(uuid5(arrival.pk, "complete")) as alone:  # the id itself is the document's lock
        if not alone:
            raise UnderWay
        with _room():
            stored = storage.store(arrival.pk, _joined(arrival))
        return _received(arrival, stored, unless_among)


def _received(arrival: Arrival, stored: storage.StoredFile, unless_among: QuerySet[Document] | None) -> Document:
    collection = arrival.collection
    try:
        with transaction.atomic():
            fields.lock(collection)  # before the arrival, as whoever erases the collection does
            locked = Arrival.objects.select_for_update().filter(pk=arrival.pk).first()
            if locked is None:
                raise Refused("This upload was completed or cancelled in the meantime.")
            values = {UUID(field): value for field, value in arrival.about["values"].items()}
            document = receive(
                stored,
                arrival.about["name"],
                collection,
                created_by_id=arrival.created_by_id,
                reference=arrival.about["reference"],
                values=values,
                unless_among=unless_among,
            )
            drop(locked)
    except BaseException:
        storage.remove([stored.stored_name])
        raise
    return document


def completed(membership: Membership, person_id: int, arrival_id: UUID) -> Document | None:
    """What came of an upload, for whoever did not hear that it was completed."""
    return visible_documents(membership).filter(pk=arrival_id, created_by_id=person_id).first()


def _refuse_without_room(more: int, size: int, on_disk: int) -> None:
    """As though every unfinished upload were complete: many begun at once are no way round a quota."""
    begun = Arrival.objects.aggregate(count=Count("pk"), size=Sum("size"))
    if refusal := quotas.held().refusal(begun["count"] + more, (begun["size"] or 0) + size):
        raise Refused(refusal)
    if not storage.has_room(on_disk):
        raise Refused(NO_ROOM)


@contextmanager
def _room() -> Iterator[None]:
    """Around what fills the disk: when it is full after all, the person is told so, and what had arrived is kept."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Refused(NO_ROOM) from None


def _piece_id(arrival_id: UUID, number: int) -> UUID:
    """Bound into the piece's encryption: it opens at its place in its upload alone."""
    return uuid5(arrival_id, f"piece {number}")


def _joined(arrival: Arrival) -> Iterator[bytes]:
    for number, name in enumerate(arrival.pieces):
        yield from storage.read(_piece_id(arrival.pk, number), name)


def _whole(body: Iterable[bytes], length: int) -> Iterator[bytes]:
    arrived = 0
    for part in body:
        arrived += len(part)
        yield part
    if arrived != length:
        raise CutShort
