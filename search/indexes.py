"""Which index a workspace searches through, which are written besides it, and how each holds a vector.

Refuses to know how an index comes to be (`building`) and how it is asked (`querying`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

import numpy as np
from django.conf import settings
from django.db import connection, transaction

from search.cloak import Cloak, HalfVectors, Vectors
from search.halfvec import HalfVector
from search.models import FIRST_INDEX, Metric, Protection, StoredCloak, VectorIndex
from search.pool import pool
from tenants import witness
from tenants.alarms import raise_alarm
from tenants.ciphers import seed
from tenants.context import current_tenant
from tenants.models import Alarm

METRICS: dict[str, tuple[str, str]] = {  # pgvector's operator and operator class for halfvec
    Metric.COSINE: ("<=>", "halfvec_cosine_ops"),
    Metric.INNER_PRODUCT: ("<#>", "halfvec_ip_ops"),
    Metric.L2: ("<->", "halfvec_l2_ops"),
}


@dataclass(frozen=True, slots=True)
class Live:
    """The index a query goes through, and the generation of what may be found."""

    id: int
    protection: str
    metric: str
    model: str
    dimension: int
    is_of_first_model: bool  # whose vectors lie beside the passages (search.vectors)
    generation: int


def live() -> Live:
    """Of the current workspace, in one look: what a query begins with."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT live.id, live.protection, live.metric, live.model, live.dimension, live.model = first.model, "
            "first.generation "
            "FROM search_vectorindex live, search_vectorindex first WHERE live.state = 'live' AND first.id = %s",
            [FIRST_INDEX],
        )
        row = cursor.fetchone()
    assert row is not None, "the migration makes both rows"
    return Live(*row)


def as_live(index: VectorIndex) -> Live:
    """An index to be asked though it is not in use, or not yet."""
    made = (index.id, index.protection, index.metric, index.model, index.dimension, index.is_of_first_model)
    return Live(*made, live().generation)


def written() -> list[VectorIndex]:
    """Every index that gets what is stored: the live one, one that is being built, those kept to go back to."""
    return list(VectorIndex.objects.filter(state__in=VectorIndex.WRITTEN).order_by("id"))


def models() -> list[str]:
    """The embedding models by which written indexes are, by name."""
    return sorted({index.model for index in written()})


def least_held() -> Protection:
    """How protected the current workspace's vectors are in fact: as its least protected index, being removed or not."""
    present = VectorIndex.objects.filter(state__in=[*VectorIndex.WRITTEN, VectorIndex.State.RETIRING])
    return min((Protection(level) for level in present.values_list("protection", flat=True)), key=lambda level: level.rank)


# ---------------------------------------------------------------- what was agreed to


@dataclass(frozen=True, slots=True)
class Agreed:
    """Kept outside the database: who can only write there cannot have vectors stored less protected than the owners chose.

    `least` is the least protected level that anything may be stored at; while a change is under way `wanted` is where it leads
    and `before` what is agreed to again when it comes to nothing.
    """

    least: Protection
    wanted: Protection | None = None
    before: Protection | None = None


def _agreed_in() -> str:
    return f"protection/{current_tenant().pk}"


def agreed() -> Agreed:
    kept = witness.record(_agreed_in())
    if kept is None:
        return Agreed(Protection.CLOAKED)
    return Agreed(**{name: Protection(value) for name, value in kept.items() if value})


def agree(terms: Agreed) -> None:
    witness.keep(_agreed_in(), asdict(terms))


def is_agreed(index: VectorIndex | Live) -> bool:
    """Raises an alarm where it is not: nobody but who writes to the database has made it so."""
    if Protection(index.protection).rank >= agreed().least.rank:
        return True
    raise_alarm(Alarm.Kind.ROW, f"search_vectorindex {index.id}: {index.protection}", current_tenant())
    return False


# ---------------------------------------------------------------- before the first document


def prepare() -> None:
    """Before a document is embedded, and not in a transaction: a workspace's first document brings its secrets into being,
    and, where the installation asks for another level than the migration's, that level.
    """
    for index in written():
        if index.id == FIRST_INDEX and index.protection != settings.DEFAULT_PROTECTION:
            index = _begin_as_set(index)
        if index.protection == Protection.CLOAKED:
            cloak(index.id)


def _begin_as_set(index: VectorIndex) -> VectorIndex:
    """The level of a workspace that holds nothing yet, and whose level nobody chose, is the installation's."""
    with transaction.atomic(durable=True):
        row = VectorIndex.objects.select_for_update().get(pk=index.pk)
        with connection.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM search_chunk), (SELECT count(*) FROM search_vectorindex)")
            holds_something, indexes = cursor.fetchone()
        if not holds_something and indexes == 1:
            row.protection = settings.DEFAULT_PROTECTION
            agree(Agreed(Protection(row.protection)))
            row.save(update_fields=["protection"])
    return row


# ---------------------------------------------------------------- how a vector is held


def stored_form(index: VectorIndex, vectors: Vectors, chunk_ids: Sequence[UUID]) -> list[str] | None:
    """float32[n, d] as the index's entries hold it; None for a sealed index, which has none, and for one nobody agreed to.

    `vectors` as they are stored: noise follows what is stored, so the same float16 vector always gets the same noise.
    """
    if index.is_sealed or not is_agreed(index):
        return None
    if index.protection == Protection.OPEN:
        return [vector_text(row) for row in vectors.astype(np.float16)]
    disguised = cloak(index.id).disguise(vectors, chunk_ids)
    if index.metric != Metric.COSINE:  # which compares directions alone: without the noise in lengths the others do so too
        lengths = np.linalg.norm(disguised.astype(np.float32), axis=1, keepdims=True)
        disguised = (disguised / lengths).astype(np.float16)
    return [vector_text(row) for row in disguised]


def asked_form(index: Live, query: Vectors) -> HalfVector:
    """float32[d] as an index that the database ranks by is asked for it."""
    if index.protection == Protection.OPEN:
        return HalfVector.of(query.astype(np.float16))
    return HalfVector.of(cloak(index.id).disguise_query(query))


def rest_form(query: Vectors) -> HalfVector:
    """What an open index's `asked_form` rounds away of a query: with both it is compared as exactly as in float32."""
    return HalfVector.of((query - query.astype(np.float16)).astype(np.float16))


def vector_text(vector: HalfVectors) -> str:
    """A vector as PostgreSQL reads a halfvec; five digits tell every float16 apart."""
    return ("[" + "%.5g," * (len(vector) - 1) + "%.5g]") % tuple(vector.tolist())


def cloak(index_id: int) -> Cloak:
    """The current workspace's cloak of that index, kept in the pool. Made on first use, which must not be inside a
    transaction.
    """
    return pool().get(current_tenant().id, f"cloak {index_id}", 0, lambda old: _load_cloak(index_id))


def _load_cloak(index_id: int) -> Cloak:
    kept = StoredCloak.objects.filter(index_id=index_id).first()
    if kept is None:
        # Durable: rolled back with somebody's transaction it would live on in the pool and disguise what nobody can undo.
        with transaction.atomic(durable=True):
            index = VectorIndex.objects.select_for_update().get(pk=index_id)
            kept = StoredCloak.objects.filter(index=index).first() or make_cloak(index)
    return Cloak.from_bytes(kept.rotation)


def make_cloak(index: VectorIndex) -> StoredCloak:
    """A rotation of its own, and the noise of every other cloaked index of the same model.

    Of two copies with noise of their own the mean has less of it (0.53 instead of 0.75), so the noise key of a model is never
    drawn anew: whoever has an old backup has two. With the same noise one copy is the other turned, and both tell no more
    than either. Another model's vectors are others, and their noise is by a key of its own; how far its copy tells more of the
    first one's depends on how alike the two models are, and no key decides that (docs/security.md).

    Hence also what a new rotation cannot do: whoever knows the one before and has the rows of 384 passages under both works
    out the new one exactly. It helps against who has learnt the rotation and not copied the rows under it.
    """
    of_model = str(FIRST_INDEX) if index.is_of_first_model else index.model
    made = Cloak.create(index.dimension, seed("cloak", "noise", of_model))
    return StoredCloak.objects.create(index=index, rotation=made.to_bytes())
