"""Keyword search in memory: tokens, stems, packed postings and BM25 over immutable segments.

Refuses to know where postings come from or how they are protected: it takes and gives bytes that only ever lie
encrypted in the database. Nothing here touches a disk, a database or a tenant.
"""

import hashlib
import re
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice, pairwise
from uuid import UUID

import numpy as np
import numpy.typing as npt

from search import languages
from search.languages import ENGLISH, FUNCTION_WORDS, WORD, stem

# Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), usual values.
K1 = 1.2
B = 0.75
MAX_SEGMENTS = 8
MASKS_KEPT = 8

# A posting is one uint64 while it is sorted: term hash (32 bits), row (24 bits), term frequency (8 bits). Sorting the
# numbers sorts by term, then row, and np.sort on 64-bit integers is vectorised, so building an inverted index is one
# sort. A passage has at most 254 word pieces, so 8 bits hold every frequency. In a vocabulary of 200,000 stems a
# query word shares its hash with another stem with probability 0.00005.
_TERM_SHIFT = np.uint64(32)
_ROW_SHIFT = np.uint32(8)
_TF_MASK = np.uint32(0xFF)
MAX_ROWS = 1 << 24
_VERSION, _VERSION_5 = np.uint64(0xF000), np.uint64(0x5000)  # of a UUID, in its first 64 bits
_HEADER = struct.Struct("<III")  # chunks, distinct terms, postings

SAMPLE = 200  # passages by which the language of a document is told
_TAG = re.compile(rb"[a-z]{2}")

Keys = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
# A word of a question: its term in each language of the index. A passage is in one language, and so has at most one of them.
Word = tuple[int, ...]


def words(text: str) -> Iterable[re.Match[str]]:
    """Runs of Unicode letters and digits, as matches, so that positions refer to the text as it was given."""
    return WORD.finditer(text)


def term(word: str, language: str = ENGLISH) -> int:
    """The 32-bit hash of a word's stem. Words of two languages have different ones, however they are spelt."""
    person = b"" if language == ENGLISH else language.encode()
    return int.from_bytes(hashlib.blake2b(stem(word, language).encode(), digest_size=4, person=person).digest(), "big")


def terms(text: str, language: str = ENGLISH) -> list[int]:
    """The terms of a text in order, repeated as often as they occur, function words left out."""
    left_out = FUNCTION_WORDS[language]
    return [term(word, language) for word in WORD.findall(text) if word.casefold() not in left_out]


def forms(word: str, among: tuple[str, ...]) -> Word:
    """The terms of a word in each of some languages, left out those whose function word it is."""
    return tuple(term(word, language) for language in among if word.casefold() not in FUNCTION_WORDS[language])


def beginnings_of_ids(document_id: UUID, passages: int) -> Keys:
    """The first 64 bits of the ids of a document's passages in sequence: uuid5 of RFC 9562, see search.indexing.passage_id.

    Among a million passages two share them with probability 0.0000004.
    """
    name = document_id.bytes
    digests = b"".join(
        [hashlib.sha1(name + b"%d" % sequence, usedforsecurity=False).digest()[:8] for sequence in range(passages)]
    )
    return (np.frombuffer(digests, dtype=">u8").astype(np.uint64) & ~_VERSION) | _VERSION_5


class Malformed(ValueError):
    """These are not postings that `collect` made."""


def collect(texts: Iterable[str]) -> bytes:
    """The postings of one document, whose passages are `texts` in sequence, ready to be encrypted.

    The code of its language stands at the end, where versions that know only English read nothing; English has none.
    """
    waiting = iter(texts)
    sample = list(islice(waiting, SAMPLE))
    language = languages.detect(sample)
    lengths: list[int] = []
    keys: list[int] = []
    for row, text in enumerate(chain(sample, waiting)):
        found = terms(text, language)
        lengths.append(min(len(found), 0xFFFF))
        keys.extend((key << 32) | (row << 8) | min(count, 0xFF) for key, count in Counter(found).items())
    if len(lengths) > MAX_ROWS:
        raise Malformed(f"a document of more than {MAX_ROWS} passages")
    postings = np.sort(np.array(keys, dtype=np.uint64))
    hashes, counts = np.unique(postings >> _TERM_SHIFT, return_counts=True)
    low = postings.astype(np.uint32)
    # Hashes do not compress; what does is kept together.
    body = b"".join(
        [
            np.array(lengths, dtype="<u2").tobytes(),
            counts.astype("<u4").tobytes(),
            (low >> _ROW_SHIFT).astype("<u4").tobytes(),
            (low & _TF_MASK).astype("u1").tobytes(),
        ]
    )
    header = _HEADER.pack(len(lengths), len(hashes), len(keys))
    tag = b"" if language == ENGLISH else language.encode()
    return header + hashes.astype("<u4").tobytes() + zlib.compress(body, 1) + tag


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index is given of one document: its postings and what they are filed under."""

    document_id: UUID
    collection_id: UUID
    generation: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document's passages lie: rows first … first + chunks - 1 of a segment."""

    collection_id: UUID
    generation: int
    segment: int
    first: int
    chunks: int
    language: str


@dataclass(frozen=True, slots=True)
class Segment:
    """Some documents' passages as rows, with an inverted index over them; immutable but for being replaced."""

    documents: tuple[UUID, ...]
    starts: npt.NDArray[np.int64]  # [documents + 1], row at which each begins
    lengths: npt.NDArray[np.uint16]  # [rows], words in the passage
    terms: npt.NDArray[np.uint32]  # [terms], ascending
    bounds: npt.NDArray[np.int64]  # [terms + 1], where each term's postings begin
    postings: npt.NDArray[np.uint32]  # row << 8 | frequency, ascending within a term
    dead: frozenset[UUID] = frozenset()
    alive: Mask | None = None  # None: every row
    # Of `row_of`, once it was asked: beginnings of ids in ascending order, and the row of each.
    known: list[tuple[Keys, Rows]] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def build(
        cls, documents: Iterable[UUID], sizes: npt.NDArray[np.int64], lengths: npt.NDArray[np.uint16], keys: Keys
    ) -> "Segment":
        """From documents of so many passages each and packed postings in any order (sorted in place)."""
        keys.sort()
        high = (keys >> _TERM_SHIFT).astype(np.uint32)
        first = np.flatnonzero(np.concatenate(([True], high[1:] != high[:-1]))) if len(high) else np.zeros(0, np.int64)
        return cls(
            tuple(documents),
            np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
            lengths,
            high[first],
            np.concatenate((first, [len(high)])).astype(np.int64),
            keys.astype(np.uint32),
        )

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        arrays = (self.starts, self.lengths, self.terms, self.bounds, self.postings)
        kept = sum(array.nbytes for array in arrays) + 150 * len(self.documents)
        return kept + (0 if self.alive is None else self.alive.nbytes)

    def without(self, gone: frozenset[UUID]) -> "Segment":
        alive = np.ones(self.rows, dtype=np.bool_) if self.alive is None else self.alive.copy()
        for i, document in enumerate(self.documents):
            if document in gone:
                alive[self.starts[i] : self.starts[i + 1]] = False
        return replace(self, dead=self.dead | gone, alive=alive)

    def row_of(self, beginnings: Keys) -> Rows:
        """int64[n]: the row of each passage whose id begins so, dead rows among them; -1 where it is not here."""
        if not self.rows:
            return np.full(len(beginnings), -1, dtype=np.int64)
        if not self.known:
            sizes = np.diff(self.starts).tolist()
            found = np.concatenate([beginnings_of_ids(*each) for each in zip(self.documents, sizes, strict=True)])
            order = np.argsort(found)
            self.known.append((found[order], order))
        known, rows = self.known[0]
        at = np.minimum(known.searchsorted(beginnings), len(known) - 1)
        return np.where(known[at] == beginnings, rows[at], -1)

    def find(self, key: int) -> npt.NDArray[np.uint32]:
        """The postings of a term, dead rows among them."""
        position = int(self.terms.searchsorted(np.uint32(key)))
        if position == len(self.terms) or self.terms[position] != key:
            return self.postings[:0]
        return self.postings[self.bounds[position] : self.bounds[position + 1]]


def _read(entries: Sequence[Entry]) -> tuple[Segment, list[str]]:
    """Documents as they come out of the database, all at once: a loop over documents, never over postings.

    Returns also the language of each.
    """
    tags: list[str] = []
    sizes, distinct, amounts = (np.empty(len(entries), dtype=np.int64) for _ in range(3))
    columns: tuple[list[bytes], ...] = ([], [], [], [], [])  # hashes, lengths, counts, rows, frequencies
    for i, entry in enumerate(entries):
        chunks, unique, postings = _HEADER.unpack_from(entry.payload)
        middle = _HEADER.size + 4 * unique
        stream = zlib.decompressobj()
        body = stream.decompress(entry.payload[middle:])
        tags.append(_language(stream.unused_data))
        a, b, c = 2 * chunks, 2 * chunks + 4 * unique, 2 * chunks + 4 * unique + 4 * postings
        if len(body) != c + postings or not stream.eof:
            raise Malformed("the lengths of the postings do not agree")
        sizes[i], distinct[i], amounts[i] = chunks, unique, postings
        for column, part in zip(
            columns, (entry.payload[_HEADER.size : middle], body[:a], body[a:b], body[b:c], body[c:]), strict=True
        ):
            column.append(part)
    hashes, lengths, counts, rows, frequencies = (
        np.frombuffer(b"".join(column), dtype=kind)
        for column, kind in zip(columns, ("<u4", "<u2", "<u4", "<u4", "u1"), strict=True)
    )
    if sizes.sum() > MAX_ROWS:
        raise Malformed(f"more than {MAX_ROWS} passages do not fit one segment")
    first = (np.cumsum(sizes) - sizes).astype(np.uint32)
    low = ((rows + np.repeat(first, amounts)) << _ROW_SHIFT) | frequencies
    keys = np.repeat(hashes.astype(np.uint64) << _TERM_SHIFT, counts) | low
    return Segment.build((entry.document_id for entry in entries), sizes, lengths, keys), tags


def _language(tag: bytes) -> str:
    """English without a tag, and with one that only a later version knows, whose words are not found then."""
    if not tag:
        return ENGLISH
    if not _TAG.fullmatch(tag):
        raise Malformed("what follows the postings is no language")
    return next((code for code in FUNCTION_WORDS if code == tag.decode()), ENGLISH)


def _merge(segments: Sequence[Segment]) -> Segment:
    """One segment of what is alive in several."""
    documents: list[UUID] = []
    sizes: list[int] = []
    lengths: list[npt.NDArray[np.uint16]] = []
    keys: list[Keys] = []
    base = 0
    for segment in segments:
        alive = np.ones(segment.rows, dtype=np.bool_) if segment.alive is None else segment.alive
        moved = (np.cumsum(alive) - 1 + base).astype(np.uint32)
        rows = segment.postings >> _ROW_SHIFT
        keep = alive[rows]
        high = np.repeat(segment.terms.astype(np.uint64) << _TERM_SHIFT, np.diff(segment.bounds))[keep]
        keys.append(high | ((moved[rows[keep]] << _ROW_SHIFT) | (segment.postings[keep] & _TF_MASK)))
        lengths.append(segment.lengths[alive])
        for document, (start, end) in zip(segment.documents, pairwise(segment.starts.tolist()), strict=True):
            if document not in segment.dead:
                documents.append(document)
                sizes.append(end - start)
        base += int(alive.sum())
    return Segment.build(documents, np.array(sizes, dtype=np.int64), np.concatenate(lengths), np.concatenate(keys))


@dataclass(frozen=True)
class TermIndex:
    """The searchable words of a workspace's published passages. Immutable: `updated` gives the next one.

    Passages are addressed by row, counted over all segments; rows of removed documents stay until a merge.
    """

    segments: tuple[Segment, ...] = ()
    places: dict[UUID, Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        offsets = np.concatenate(([0], np.cumsum([s.rows for s in self.segments]))).astype(np.int64)
        alive = [s.alive if s.alive is not None else np.ones(s.rows, dtype=np.bool_) for s in self.segments]
        living = np.concatenate(alive) if alive else np.zeros(0, dtype=np.bool_)
        lengths = np.concatenate([s.lengths for s in self.segments]) if self.segments else np.zeros(0, dtype=np.uint16)
        chunks = int(living.sum())
        average = float(lengths[living].mean()) if chunks else 0.0
        penalty = K1 * (1 - B + B * lengths.astype(np.float32) / np.float32(average or 1.0))
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "chunks", chunks)
        object.__setattr__(self, "_penalty", penalty)
        object.__setattr__(self, "_masks", {})

    offsets: npt.NDArray[np.int64] = field(init=False, repr=False)
    chunks: int = field(init=False)
    _penalty: Scores = field(init=False, repr=False)
    _masks: dict[frozenset[UUID], tuple[Mask | None]] = field(init=False, repr=False)

    @property
    def rows(self) -> int:
        return int(self.offsets[-1])

    @property
    def nbytes(self) -> int:
        return sum(s.nbytes for s in self.segments) + (25 + MASKS_KEPT) * self.rows + 380 * len(self.places)

    def generations(self) -> dict[UUID, int]:
        return {document: place.generation for document, place in self.places.items()}

    def updated(self, added: Iterable[Entry] = (), removed: Iterable[UUID] = ()) -> "TermIndex":
        """The index with documents added (replacing earlier postings of theirs) and removed."""
        entries = list(added)
        gone = (set(removed) | {entry.document_id for entry in entries}) & self.places.keys()
        if not entries and not gone:
            return self
        places = {document: place for document, place in self.places.items() if document not in gone}
        segments = list(self.segments)
        for number in {self.places[document].segment for document in gone}:
            segments[number] = segments[number].without(
                frozenset(document for document in gone if self.places[document].segment == number)
            )
        if entries:
            segment, tags = _read(entries)
            for entry, (start, end), tag in zip(entries, pairwise(segment.starts.tolist()), tags, strict=True):
                where = (len(segments), start, end - start)
                places[entry.document_id] = Place(entry.collection_id, entry.generation, *where, tag)
            segments.append(segment)
        return TermIndex(tuple(segments), places)._compacted()

    def _compacted(self) -> "TermIndex":
        """Few segments, few dead rows: the largest is left alone while it outweighs the rest."""
        wasteful = any(s.alive is not None and 2 * int(s.alive.sum()) < s.rows for s in self.segments)
        if len(self.segments) <= MAX_SEGMENTS and not wasteful:
            return self
        largest = max(range(len(self.segments)), key=lambda i: self.segments[i].rows)
        spared = not wasteful and 2 * self.segments[largest].rows > self.rows
        kept = [self.segments[largest]] if spared else []
        merged = _merge([s for i, s in enumerate(self.segments) if not (spared and i == largest)])
        segments = tuple(s for s in (*kept, merged) if s.rows)
        places = {}
        for number, segment in enumerate(segments):
            for document, (start, end) in zip(segment.documents, pairwise(segment.starts.tolist()), strict=True):
                if document not in segment.dead:
                    old = self.places[document]
                    places[document] = replace(old, segment=number, first=start, chunks=end - start)
        return TermIndex(segments, places)

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Those that documents here are in."""
        return tuple(sorted({place.language for place in self.places.values()})) or (ENGLISH,)

    def language(self, document_id: UUID) -> str:
        """Of a document that is here."""
        return self.places[document_id].language

    def asked(self, text: str) -> list[Word]:
        """The words of a question in order, function words left out.

        What is a function word in only some of the languages counts where passages of another have it: "die" is looked for
        among English words, and does not miss in a German question.
        """
        found = (forms(word, self.languages) for word in WORD.findall(text))
        return [word for word in found if len(word) == len(self.languages) or self._postings(word)]

    def scores(self, query: Iterable[Word]) -> Scores:
        """float32[rows]: BM25 of every passage for the words `asked`; 0 where no word matches or the row is dead."""
        scores = np.zeros(self.rows, dtype=np.float32)
        for word, repeats in Counter(query).items():
            found = self._postings(word)
            weight = np.float32(repeats * self._idf(found) * (K1 + 1))
            for rows, tf in found:
                scores[rows] += weight * tf / (tf + self._penalty[rows])
        return scores

    def ample(self, query: Iterable[Word]) -> float:
        """What BM25 gives a passage of average length that has every word of the query, as often as the query has it.

        A score divided by it says how much of the query a passage has, which means the same in every index. A word that is
        nowhere here weighs most: who has only the others has little.
        """
        return float(sum(repeats * self._idf(self._postings(word)) for word, repeats in Counter(query).items()))

    def _postings(self, word: Word) -> list[tuple[Rows, Scores]]:
        """Rows and frequencies of a word in what is alive, for each segment that has any, in each language."""
        found = []
        for key in word:
            for segment, offset in zip(self.segments, self.offsets.tolist(), strict=False):
                postings = segment.find(key)
                if not len(postings):
                    continue
                rows = (postings >> _ROW_SHIFT).astype(np.int64)
                tf = (postings & _TF_MASK).astype(np.float32)
                if segment.alive is not None:
                    alive = segment.alive[rows]
                    rows, tf = rows[alive], tf[alive]
                if len(rows):
                    found.append((rows + offset if offset else rows, tf))
        return found

    def _idf(self, found: list[tuple[Rows, Scores]]) -> float:
        frequency = sum(len(rows) for rows, _ in found)
        return float(np.log1p((self.chunks - frequency + 0.5) / (frequency + 0.5)))

    def having(self, word: str) -> Mask:
        """bool[rows]: passages with a form of a word that no language here leaves out; dead rows may be among them."""
        mask = np.zeros(self.rows, dtype=np.bool_)
        for key in forms(word, self.languages):
            for segment, offset in zip(self.segments, self.offsets.tolist(), strict=False):
                mask[(segment.find(key) >> _ROW_SHIFT).astype(np.int64) + offset] = True
        return mask

    def leaves_out(self, word: str) -> bool:
        """Whether passages may have the word without `having` it: it is a function word of their language."""
        return len(forms(word, self.languages)) < len(self.languages)

    def may_have(self, word: str) -> Mask:
        """bool[rows]: passages that have a form of a word, or that may, since their language leaves it out."""
        mask = self.having(word)
        for number, language in enumerate(self.languages):
            if word.casefold() in FUNCTION_WORDS[language]:
                mask |= self._language_of_row == number
        return mask

    @cached_property
    def _language_of_row(self) -> npt.NDArray[np.int8]:
        """int8[rows]: the place in `languages` of that which each row is in, -1 for dead rows."""
        of_row = np.full(self.rows, -1, dtype=np.int8)
        for place in self.places.values():
            of_row[self.rows_at(place)] = self.languages.index(place.language)
        return of_row

    def telling(self, text: str, count: int, language: str = ENGLISH) -> list[str]:
        """The words that tell a passage from the others, highest tf·idf first; of each stem the form that stands first."""
        first: dict[int, str] = {}
        for match in words(text):
            first.setdefault(term(match.group(), language), match.group())
        weights = {key: tf * self._idf(self._postings((key,))) for key, tf in Counter(terms(text, language)).items()}
        return [first[key] for key in sorted(weights, key=lambda key: -weights[key])[:count]]

    def lengths(self, rows: Rows) -> npt.NDArray[np.uint16]:
        """How many words each passage has, function words left out."""
        found = np.zeros(len(rows), dtype=np.uint16)
        for segment, offset in zip(self.segments, self.offsets.tolist(), strict=False):
            here = (rows >= offset) & (rows < offset + segment.rows)
            found[here] = segment.lengths[rows[here] - offset]
        return found

    def matching(self, collections: Collection[UUID]) -> Mask | None:
        """bool[rows]: passages of documents in these collections that are alive; None when that is every row.

        The same members search the same collections: the last few masks are kept.
        """
        key = frozenset(collections)
        found = self._masks.get(key)
        if found is None:
            if len(self._masks) >= MASKS_KEPT:
                self._masks.clear()
            found = self._masks[key] = (self._mask(key),)
        return found[0]

    def amount(self, collections: Collection[UUID]) -> int:
        """How many passages `matching` lets through."""
        mask = self.matching(collections)
        return self.rows if mask is None else int(np.count_nonzero(mask))

    def _mask(self, collections: frozenset[UUID]) -> Mask | None:
        numbers, of_row = self._collections
        wanted = np.zeros(len(numbers) + 1, dtype=np.bool_)  # the last one is asked for by -1: dead rows
        wanted[[numbers[collection] for collection in collections if collection in numbers]] = True
        mask = wanted[of_row]
        return None if mask.all() else mask

    @cached_property
    def _collections(self) -> tuple[dict[UUID, int], npt.NDArray[np.int32]]:
        """A number for each collection, and int32[rows]: whose each row is, -1 for dead rows."""
        numbers: dict[UUID, int] = {}
        of_row = np.full(self.rows, -1, dtype=np.int32)
        for place in self.places.values():
            of_row[self.rows_at(place)] = numbers.setdefault(place.collection_id, len(numbers))
        return numbers, of_row

    def documents(self, collections: Collection[UUID]) -> list[UUID]:
        return [document for document, place in self.places.items() if place.collection_id in collections]

    def documents_of(self, rows: Rows) -> list[UUID]:
        """The documents that have any of these rows, which are alive."""
        documents, starts = self.owners
        return [documents[n] for n in np.unique(starts.searchsorted(rows, "right") - 1).tolist()]

    def row(self, document_id: UUID, sequence: int) -> int:
        """The row of a passage, or -1 when its document is not published."""
        place = self.places.get(document_id)
        if place is None or not 0 <= sequence < place.chunks:
            return -1
        return int(self.offsets[place.segment]) + place.first + sequence

    def rows_at(self, place: Place) -> slice:
        """The rows of a document that is here."""
        first = int(self.offsets[place.segment]) + place.first
        return slice(first, first + place.chunks)

    def rows_of(self, ids: bytes) -> Rows:
        """int64[n]: the row of each passage of these ids, 16 bytes each, or -1 when its document is not published."""
        beginnings = np.frombuffer(ids, dtype=">u8")[::2].astype(np.uint64)
        rows = np.full(len(beginnings), -1, dtype=np.int64)
        for segment, offset in zip(self.segments, self.offsets.tolist(), strict=False):
            here = segment.row_of(beginnings)
            found = here >= 0 if segment.alive is None else (here >= 0) & segment.alive[here]
            rows[found] = here[found] + offset
        return rows

    def passages(self, rows: npt.NDArray[np.int64]) -> list[tuple[UUID, int]]:
        """Document and sequence of each row."""
        documents, _ = self.owners
        numbers, sequences = self.owned(rows)
        return [(documents[n], s) for n, s in zip(numbers, sequences, strict=True)]

    def owned(self, rows: npt.NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """The number among `owners` of each row's document, and the row's sequence in it."""
        _, starts = self.owners
        numbers = starts.searchsorted(rows, "right") - 1
        return numbers.tolist(), (rows - starts[numbers]).tolist()

    @cached_property
    def owners(self) -> tuple[tuple[UUID, ...], npt.NDArray[np.int64]]:
        """Every document that has rows, dead ones too, and the row at which it begins."""
        starts = [s.starts[:-1] + offset for s, offset in zip(self.segments, self.offsets, strict=False)]
        first = np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64)
        return tuple(chain.from_iterable(s.documents for s in self.segments)), first


def best(scores: Scores, count: int, mask: Mask | None = None) -> npt.NDArray[np.int64]:
    """Rows of the `count` highest scores above zero, best first; equal scores in row order."""
    rows = np.flatnonzero(scores > 0 if mask is None else (scores > 0) & mask)
    if len(rows) > count:
        threshold = np.partition(scores[rows], len(rows) - count)[len(rows) - count]
        rows = rows[scores[rows] >= threshold]
    return rows[np.argsort(-scores[rows], kind="stable")][:count]
