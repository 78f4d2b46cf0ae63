"""What documents can be filtered by, in memory: their values by field, and when each was added.

Refuses to know what a field is called, whose it is and where its values come from: a field is an id, a value a text or a
number. Nothing here touches a disk, a database or a tenant.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from sys import getsizeof
from uuid import UUID
from weakref import ReferenceType, ref

import numpy as np
import numpy.typing as npt

from search.keywords import Mask, TermIndex

Value = str | float
Slots = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index is given of one document. `added` in seconds since 1970."""

    document_id: UUID
    generation: int
    added: float
    values: Mapping[UUID, Value]


# ---------------------------------------------------------------- what can be asked


@dataclass(frozen=True, slots=True)
class Is:
    """One of the fields has this text, upper and lower case counting as the same."""

    fields: frozenset[UUID]
    text: str


@dataclass(frozen=True, slots=True)
class Within:
    """One of the fields has a number in the range, ends included; None: open on that side."""

    fields: frozenset[UUID]
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Added:
    """Added at `since` or later, and before `before`."""

    since: float | None
    before: float | None


Condition = Is | Within | Added


# ---------------------------------------------------------------- columns


@dataclass(frozen=True)
class _Texts:
    """The texts of one field: of each slot the place of its text among the different ones."""

    slots: Slots = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    places: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    place_of: dict[str, int] = field(default_factory=dict)  # of the different texts, by their places
    folded: dict[str, tuple[int, ...]] = field(default_factory=dict)  # places by text without case
    texts_nbytes: int = 0

    def extended(self, slots: Slots, texts: Sequence[str]) -> "_Texts":
        known = len(self.place_of)
        place_of, folded, nbytes = dict(self.place_of), self.folded, self.texts_nbytes
        places = np.fromiter((place_of.setdefault(text, len(place_of)) for text in texts), np.int32, len(texts))
        if len(place_of) > known:
            folded = dict(folded)
            for text in islice(place_of, known, None):
                folded[text.casefold()] = (*folded.get(text.casefold(), ()), place_of[text])
                nbytes += 2 * getsizeof(text) + 250
        return _Texts(np.concatenate([self.slots, slots]), np.concatenate([self.places, places]), place_of, folded, nbytes)

    @property
    def nbytes(self) -> int:
        return self.slots.nbytes + self.places.nbytes + self.texts_nbytes

    def having(self, text: str) -> Slots:
        return self.slots[np.isin(self.places, self.folded.get(text.casefold(), ()))]

    def amounts(self, among: Mask) -> Counter[str]:
        amounts = np.bincount(self.places[among[self.slots]], minlength=len(self.place_of)).tolist()
        return Counter({text: amount for text, amount in zip(self.place_of, amounts, strict=True) if amount})


@dataclass(frozen=True)
class _Numbers:
    slots: Slots = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    numbers: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def extended(self, slots: Slots, numbers: Sequence[Value]) -> "_Numbers":
        more = np.array(numbers, dtype=np.float64)
        return _Numbers(np.concatenate([self.slots, slots]), np.concatenate([self.numbers, more]))

    @property
    def nbytes(self) -> int:
        return self.slots.nbytes + self.numbers.nbytes

    def within(self, low: float | None, high: float | None) -> Slots:
        return self.slots[_between(self.numbers, low, high)]


def _between(numbers: npt.NDArray[np.float64], low: float | None, high: float | None) -> Mask:
    passing = ~np.isnan(numbers)
    if low is not None:
        passing &= numbers >= low
    if high is not None:
        passing &= numbers <= high
    return passing


# ---------------------------------------------------------------- the index


@dataclass(frozen=True)
class FactIndex:
    """Every published document of a workspace at a slot. Immutable: `updated` gives the next one.

    A document that changes gets a new slot; old ones stay, dead, until they are half of all.
    """

    slots: dict[UUID, int] = field(default_factory=dict)
    added: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    alive: Mask = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    texts: dict[UUID, _Texts] = field(default_factory=dict)
    numbers: dict[UUID, _Numbers] = field(default_factory=dict)
    generation: int = -1  # the highest of all documents that were ever in it
    _aligned: list[tuple[ReferenceType[TermIndex], Slots]] = field(default_factory=list, init=False, repr=False)

    @property
    def nbytes(self) -> int:
        columns = sum(column.nbytes for column in self.texts.values())
        columns += sum(numbers.nbytes for numbers in self.numbers.values())
        return columns + self.added.nbytes + self.alive.nbytes + 180 * len(self.slots)  # with a slot of each in `_aligned`

    def updated(self, entries: Sequence[Entry] = (), removed: Iterable[UUID] = ()) -> "FactIndex":
        """With documents added (replacing what was known of them) and removed."""
        gone = (set(removed) | {entry.document_id for entry in entries}) & self.slots.keys()
        generation = max([self.generation, *(entry.generation for entry in entries)])
        if not entries and not gone:
            return self
        alive = np.concatenate([self.alive, np.ones(len(entries), dtype=np.bool_)])
        alive[[self.slots[document] for document in gone]] = False
        slots = {document: slot for document, slot in self.slots.items() if document not in gone}
        first = len(self.alive)
        slots.update((entry.document_id, first + i) for i, entry in enumerate(entries))
        added = np.concatenate([self.added, [entry.added for entry in entries]])
        texts, numbers = dict(self.texts), dict(self.numbers)
        for column, (places, values) in _by_column(entries, first).items():
            which, is_text = column
            if is_text:
                texts[which] = texts.get(which, _Texts()).extended(np.array(places, dtype=np.int32), [str(v) for v in values])
            else:
                numbers[which] = numbers.get(which, _Numbers()).extended(np.array(places, dtype=np.int32), values)
        return FactIndex(slots, added, alive, texts, numbers, generation)._compacted()

    def _compacted(self) -> "FactIndex":
        if 2 * len(self.slots) >= len(self.alive):
            return self
        moved = (np.cumsum(self.alive) - 1).astype(np.int32)
        texts, numbers = {}, {}
        for which, column in self.texts.items():
            kept = self.alive[column.slots]
            if kept.any():
                different = list(column.place_of)
                said = [different[place] for place in column.places[kept].tolist()]
                texts[which] = _Texts().extended(moved[column.slots[kept]], said)
        for which, amounts in self.numbers.items():
            kept = self.alive[amounts.slots]
            if kept.any():
                numbers[which] = _Numbers(moved[amounts.slots[kept]], amounts.numbers[kept])
        slots = {document: int(moved[slot]) for document, slot in self.slots.items()}
        return FactIndex(slots, self.added[self.alive], np.ones(len(slots), dtype=np.bool_), texts, numbers, self.generation)

    # -- asking: documents are bool[slots]

    def matching(self, conditions: Iterable[Condition]) -> Mask:
        """bool[slots]: documents that meet all conditions."""
        passing = self.alive.copy()
        for condition in conditions:
            if isinstance(condition, Added):
                before = None if condition.before is None else np.nextafter(condition.before, -np.inf)
                passing &= _between(self.added, condition.since, before)
                continue
            met = np.zeros(len(self.alive), dtype=np.bool_)
            for which in condition.fields:
                if isinstance(condition, Is):
                    if which in self.texts:
                        met[self.texts[which].having(condition.text)] = True
                elif which in self.numbers:
                    met[self.numbers[which].within(condition.low, condition.high)] = True
            passing &= met
        return passing

    def amounts(self, fields: Collection[UUID], among: Mask | None = None) -> list[tuple[str, int]]:
        """The texts of these fields with how many documents (bool[slots]; None: all) have each, the most frequent first.

        What differs in case alone counts as one, in the spelling most documents have.
        """
        documents = self.alive if among is None else among & self.alive
        spelled: Counter[str] = Counter()
        for which in fields:
            if which in self.texts:
                spelled.update(self.texts[which].amounts(documents))
        together: dict[str, tuple[str, int]] = {}
        for text, amount in sorted(spelled.items(), key=lambda pair: (-pair[1], pair[0])):
            spelling, before = together.get(text.casefold(), (text, 0))
            together[text.casefold()] = (spelling, before + amount)
        return sorted(together.values(), key=lambda pair: (-pair[1], pair[0].casefold()))

    # -- between documents here and passages there

    def rows(self, index: TermIndex, documents: Mask) -> Mask:
        """bool[rows] of the term index: passages of these documents (bool[slots])."""
        slots, _, sizes = self._alignment(index)
        return np.repeat(np.append(documents, False)[slots], sizes)

    def documents(self, index: TermIndex, rows: Mask | None) -> Mask:
        """bool[slots]: documents of which any of these passages (bool[rows]; None: all) is."""
        slots, starts, sizes = self._alignment(index)
        if rows is None:
            chosen = sizes > 0
        else:
            before = np.concatenate(([0], np.cumsum(rows)))
            chosen = before[starts + sizes] > before[starts]
        found = np.zeros(len(self.alive) + 1, dtype=np.bool_)
        found[slots[chosen]] = True
        return found[:-1] & self.alive

    def _alignment(self, index: TermIndex) -> tuple[Slots, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of each document that has rows there: its slot here (-1: none), the row it begins at, and how many rows it has."""
        documents, starts = index.owners
        sizes = np.diff(np.append(starts, index.rows))
        known = self._aligned[0] if self._aligned else None
        if known is None or known[0]() is not index:
            slots = np.fromiter((self.slots.get(document, -1) for document in documents), np.int32, len(documents))
            known = (ref(index), slots)
            self._aligned[:] = [known]
        return known[1], starts, sizes


def _by_column(entries: Sequence[Entry], first: int) -> dict[tuple[UUID, bool], tuple[list[int], list[Value]]]:
    """Slots and values of each field; texts apart from numbers."""
    columns: dict[tuple[UUID, bool], tuple[list[int], list[Value]]] = {}
    for slot, entry in enumerate(entries, start=first):
        for which, value in entry.values.items():
            slots, values = columns.setdefault((which, isinstance(value, str)), ([], []))
            slots.append(slot)
            values.append(value)
    return columns
