"""What a workspace's search keeps decrypted in memory, brought up to date: its words, what its documents
can be filtered by, and vectors: sealed, all of them; else those that searches came near to.

Refuses to know what is looked for.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
from django.db import connection

from search import facts, indexes, keywords, sealed, vectors
from search.facts import FactIndex
from search.indexes import Live
from search.keywords import TermIndex
from search.models import Facts, Protection, SealedVectors, Terms
from search.opened import OpenedVectors
from search.pool import pool
from search.sealed import SealedIndex
from search.sources import sources
from tenants.context import current_tenant
from tenants.keys import presence

HALF = 2  # bytes
OPENED_SHARE = 1 / 8  # of the pool, for the true vectors of one index in the database: of more passages none are kept


def term_index() -> TermIndex:
    """The words of everything published in the current workspace, as new as the database."""
    return terms_of(indexes.live())


def terms_of(live: Live) -> TermIndex:
    return _known(live).terms


def opened_of(live: Live, terms: TermIndex) -> OpenedVectors | None:
    """Of an index in the database, by the rows of these words. None where they are others by now, or all vectors need too much
    room.
    """
    known: _Known | None = pool().held(current_tenant().id, "terms")
    if known is None or known.terms is not terms or known.opened is None or known.opened.index_id != live.id:
        return None
    return known.opened


@dataclass(frozen=True)
class _Known:
    """What is found by words, and what of its vectors is held."""

    terms: TermIndex
    opened: OpenedVectors | None

    @property
    def nbytes(self) -> int:
        return self.terms.nbytes + (self.opened.nbytes if self.opened else 0)


def _known(live: Live) -> _Known:
    def load(old: _Known | None) -> _Known:
        terms = _load_terms(old.terms if old else None)
        if live.protection == Protection.SEALED or terms.rows * live.dimension * HALF > pool().budget * OPENED_SHARE:
            return _Known(terms, None)
        before = old.opened if old else None
        if before is None or before.index_id != live.id:
            return _Known(terms, OpenedVectors(live.id, live.dimension, terms))
        return _Known(terms, before.following(terms))

    return pool().get(current_tenant().id, "terms", live.generation, load)


def _load_terms(old: TermIndex | None) -> TermIndex:
    """Bring an index up to date by what was published after its newest document, and what is there no more.

    A generation is given under the index row's lock until its transaction ends: whatever was not seen has a higher one.
    """
    known = {} if old is None else old.generations()
    current = set(Terms.objects.values_list("document_id", flat=True))
    read = Terms._meta.get_field("payload").reader()
    rows = Terms.objects.values_list("document_id", "collection_id", "generation", "payload")
    newer = rows.filter(generation__gt=max(known.values(), default=-1))
    entries = [keywords.Entry(document, where, number, read(document, blob)) for document, where, number, blob in newer]
    return (old or TermIndex()).updated(entries, known.keys() - current)


def facts_of(live: Live) -> FactIndex:
    """What everything published in the current workspace can be filtered by."""
    return pool().get(current_tenant().id, "facts", live.generation, _load_facts)


def _load_facts(old: FactIndex | None) -> FactIndex:
    """As `_load_terms`: what was published or described later has a higher generation. Of many there is only a date."""
    known = old or FactIndex()
    read = Facts._meta.get_field("payload").reader()
    with binary_cursor() as cursor:
        cursor.execute("SELECT document_id FROM search_terms")
        current = {document for (document,) in cursor.fetchall()}
        cursor.execute(
            "SELECT t.document_id, greatest(t.generation, f.generation), f.payload "
            "FROM search_terms t LEFT JOIN search_facts f USING (document_id) WHERE t.generation > %s OR f.generation > %s",
            [known.generation, known.generation],
        )
        newer = cursor.fetchall()
    added = sources().added([document for document, *_ in newer])
    field_id = cache(UUID)  # few fields, many values
    entries = []
    for document, generation, payload in newer:
        values = {} if payload is None else {field_id(which): value for which, value in read(document, payload).items()}
        since = added[document].timestamp() if document in added else math.nan
        entries.append(facts.Entry(document, generation, since, values))
    return known.updated(entries, known.slots.keys() - current)


def _load_vectors(live: Live, old: SealedIndex | None) -> SealedIndex:
    """As `_load_terms`, by the same generations."""
    known = {} if old is None else old.generations()
    current = set(Terms.objects.values_list("document_id", flat=True))
    load = _sealed_vectors if live.is_of_first_model else _further_vectors
    entries = load(live, max(known.values(), default=-1))
    return (old or SealedIndex(live.dimension)).updated(entries, known.keys() - current)


def _sealed_vectors(live: Live, generation: int) -> Iterator[sealed.Entry]:
    """Of documents published after that generation, each encrypted as one."""
    read = SealedVectors._meta.get_field("payload").reader()
    with binary_cursor() as cursor:
        cursor.execute(
            "SELECT t.document_id, t.generation, v.payload FROM search_terms t JOIN search_sealedvectors v USING (document_id) "
            "WHERE t.generation > %s",
            [generation],
        )
        for document, since, payload in cursor:
            yield sealed.Entry(document, since, np.frombuffer(read(document, payload), dtype="<f2").reshape(-1, live.dimension))


def _further_vectors(live: Live, generation: int) -> Iterator[sealed.Entry]:
    """The same by a further model, whose vectors are encrypted one by one."""
    with binary_cursor() as cursor:
        cursor.execute(
            f"SELECT t.document_id, t.generation, p.id, p.embedding "  # noqa: S608  # fixed names
            f"FROM search_terms t JOIN {vectors.passages(live, 'p')} USING (document_id) "
            "WHERE t.generation > %(generation)s ORDER BY t.document_id, p.sequence",
            {"generation": generation, "model": live.model},
        )
        for (document, since), rows in groupby(cursor, itemgetter(0, 1)):
            yield sealed.Entry(document, since, vectors.opened(live, (row[2:] for row in rows)))


def sealed_index(live: Live) -> SealedIndex:
    """The current workspace's vectors, decrypted; many get their inverted lists in the background."""
    tenant = current_tenant().id

    def load(old: SealedIndex | None) -> SealedIndex:
        made = _load_vectors(live, old)
        sealed.train_in_background(made, lambda: presence.begin_using(tenant), lambda: presence.end_using(tenant))
        return made

    return pool().get(tenant, f"vectors {live.model}", live.generation, load)


@contextmanager
def binary_cursor() -> Iterator[Any]:
    """A cursor whose answers come in PostgreSQL's binary format: ids and ciphertexts without a detour through hex."""
    with connection.cursor() as cursor:
        cursor.cursor.format = psycopg.pq.Format.BINARY
        yield cursor
