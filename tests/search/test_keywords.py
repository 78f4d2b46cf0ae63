"""Words in memory: tokens, stems, postings and BM25, against a plain computation."""

import math
import struct
import zlib
from collections import Counter
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import keywords
from search.indexing import passage_id
from search.keywords import K1, B, Entry, TermIndex, best, collect, term, terms
from tests.search.paragraphs import PARAGRAPHS

COLLECTION = uuid4()
VOCABULARY = ["pump", "valve", "pressure", "engine", "wing", "Flügel", "öl", "42", "x1", "contracts"]
texts = st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join)
documents = st.lists(st.lists(texts, min_size=1, max_size=4), max_size=8)


def entry(passages: list[str], document: UUID | None = None, collection: UUID = COLLECTION, generation: int = 1) -> Entry:
    return Entry(document or uuid4(), collection, generation, collect(passages))


def plain_bm25(passages: list[str], question: str) -> list[float]:
    """The formula, written out."""
    bags = [Counter(terms(passage)) for passage in passages]
    average = sum(sum(bag.values()) for bag in bags) / len(bags)
    scores = [0.0] * len(bags)
    for word, repeats in Counter(terms(question)).items():
        frequency = sum(1 for bag in bags if word in bag)
        idf = math.log1p((len(bags) - frequency + 0.5) / (frequency + 0.5))
        for i, bag in enumerate(bags):
            tf = bag[word]
            norm = K1 * (1 - B + B * sum(bag.values()) / (average or 1))
            if tf:
                scores[i] += repeats * idf * tf * (K1 + 1) / (tf + norm)
    return scores


def test_stems_join_forms_of_a_word():
    assert term("Contracts") == term("contract") == term("CONTRACTING")
    assert term("contract") != term("contrast")


def test_words_of_any_script_are_kept_and_function_words_are_not():
    assert [keywords.stem(word) for word in ("Öl", "ÖL")] == ["öl", "öl"]
    assert len(terms("Der Flügel über дом, 東京 and 42")) == 6
    assert terms("the of and is") == []


@given(documents, texts)
def test_scores_are_bm25(passages: list[list[str]], question: str):
    index = TermIndex().updated([entry(each) for each in passages])
    flat = [text for each in passages for text in each]
    expected = plain_bm25(flat, question) if flat else []
    np.testing.assert_allclose(index.scores(index.asked(question)), expected, rtol=1e-4, atol=1e-5)


@given(documents, st.sets(st.integers(0, 7)))
def test_rows_are_found_by_the_ids_of_passages(passages: list[list[str]], removed: set[int]):
    entries = [entry(each) for each in passages]
    index = TermIndex().updated(entries[::2]).updated(entries[1::2])
    index.rows_of(b"")
    index = index.updated(removed=[entries[number].document_id for number in removed if number < len(entries)])
    places = [(each.document_id, sequence) for each in entries for sequence in range(5)]  # some of which there are not
    ids = b"".join(passage_id(*place).bytes for place in places)
    assert index.rows_of(ids).tolist() == [index.row(*place) for place in places]


def test_ample_is_the_score_of_a_passage_of_average_length_that_has_every_word_once():
    index = TermIndex().updated([entry([text]) for text in ("pump valve", "pump wing", "engine pressure", "wing 42")])
    question = index.asked("pump valve")
    assert index.ample(question) == pytest.approx(float(index.scores(question)[0]), rel=1e-6)
    assert index.ample([]) == 0
    nowhere = index.ample(index.asked("contracts"))
    assert nowhere > index.ample(index.asked("valve")) > index.ample(index.asked("pump")) > 0
    assert index.ample(index.asked("pump pump")) == pytest.approx(2 * index.ample(index.asked("pump")))


@given(documents, st.sampled_from(VOCABULARY))
def test_having_says_which_passages_have_a_word(passages: list[list[str]], word: str):
    index = TermIndex().updated([entry(each) for each in passages[:4]]).updated([entry(each) for each in passages[4:]])
    expected = [term(word) in terms(text) for each in passages for text in each]
    assert index.having(word).tolist() == expected


@given(documents, documents, st.data())
def test_updating_equals_loading_anew(first: list[list[str]], second: list[list[str]], data: st.DataObject):
    old = [entry(each) for each in first]
    index = TermIndex().updated(old)
    gone = set(data.draw(st.lists(st.sampled_from(old), unique=True))) if old else set()
    new = [entry(each, generation=2) for each in second]
    for one in new:  # one at a time, so that segments pile up and merge
        index = index.updated([one])
    index = index.updated(removed=[each.document_id for each in gone])
    kept = [each for each in (*old, *new) if each not in gone]
    fresh = TermIndex().updated(kept)
    assert index.chunks == fresh.chunks
    assert index.generations() == fresh.generations()
    for question in VOCABULARY:
        ours, theirs = index.scores(index.asked(question)), fresh.scores(fresh.asked(question))
        for each in kept:
            for sequence in range(index.places[each.document_id].chunks):
                a, b = index.row(each.document_id, sequence), fresh.row(each.document_id, sequence)
                assert ours[a] == pytest.approx(float(theirs[b]), rel=1e-4, abs=1e-6)
                assert index.passages(np.array([a])) == [(each.document_id, sequence)]
    for each in gone:
        assert index.row(each.document_id, 0) == -1


def test_replacing_a_document_leaves_nothing_of_the_old_one():
    document = uuid4()
    index = TermIndex().updated([entry(["pump"], document), entry(["valve"])])
    index = index.updated([entry(["engine"], document, generation=2)])
    assert not index.scores(index.asked("pump")).any()
    assert index.places[document].generation == 2
    assert index.chunks == 2


def test_many_small_updates_stay_few_segments():
    index = TermIndex()
    for number in range(50):
        index = index.updated([entry([f"word{number} pump"])])
    assert len(index.segments) <= keywords.MAX_SEGMENTS + 1
    assert index.chunks == 50
    assert (index.scores(index.asked("pump")) > 0).sum() == 50


def test_an_index_without_its_documents_shrinks_to_nothing():
    entries = [entry(["pump valve"]) for _ in range(5)]
    index = TermIndex().updated(entries).updated(removed=[each.document_id for each in entries])
    assert index.chunks == 0
    assert index.rows == 0


def test_the_old_index_is_untouched_by_an_update():
    one = entry(["pump"])
    before = TermIndex().updated([one])
    before.updated(removed=[one.document_id])
    assert before.scores(before.asked("pump"))[0] > 0


def test_the_mask_holds_the_passages_of_a_collection():
    other = uuid4()
    a, b = entry(["pump", "valve"]), entry(["pump"], collection=other)
    index = TermIndex().updated([a, b])
    mask = index.matching({other})
    assert mask is not None
    assert mask.tolist() == [False, False, True]
    assert index.matching({COLLECTION, other}) is None
    assert not index.matching(set()).any()
    assert index.documents({other}) == [b.document_id]


@given(st.lists(st.integers(0, 20)), st.integers(1, 30))
def test_best_is_the_head_of_the_sorted_list(values: list[int], count: int):
    scores = np.array(values, dtype=np.float32)
    expected = sorted((i for i, value in enumerate(values) if value > 0), key=lambda i: (-values[i], i))[:count]
    assert best(scores, count).tolist() == expected


def test_damaged_postings_are_refused():
    payload = collect(["pump valve"])
    with pytest.raises(Exception):  # noqa: B017, PT011  # zlib, struct or Malformed: never a wrong answer
        TermIndex().updated([Entry(uuid4(), COLLECTION, 1, payload[:-3])])


# ---------------------------------------------------------------- several languages

MIXED = {language: PARAGRAPHS[language] for language in ("en", "de", "fr", "es")}


@pytest.fixture(scope="module")
def mixed() -> TermIndex:
    """A row for each of four languages, in the order of MIXED."""
    return TermIndex().updated([entry([text]) for text in MIXED.values()])


def having_words(index: TermIndex, question: str) -> list[str]:
    """The languages of the passages that score."""
    scores = index.scores(index.asked(question))
    return [language for language, score in zip(MIXED, scores, strict=True) if score > 0]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("boiler", ["en"]),
        ("complaining tenant", ["en"]),
        ("Heizkessels", ["de"]),
        ("Haus", ["de"]),  # Häuser
        ("haeuser", ["de"]),
        ("MIETERN", ["de"]),
        ("Kessel", []),  # of Heizkessel: compounds are not taken apart
        ("Reparatur", ["de"]),
        ("Vertrag", ["de"]),  # Verträgen
        ("chaudière", ["fr"]),
        ("reparation", ["fr"]),
        ("locataire", ["fr"]),
        ("bâtiment", ["fr"]),
        ("batiment", ["fr"]),
        ("reparación", ["es"]),
        ("inspecciones", ["es"]),
        ("tubería", ["es"]),
        ("ano", ["es"]),  # año: accents do not matter
        ("contrats", ["fr"]),
        ("contratos", ["es"]),
        ("zebra", []),
    ],
)
def test_forms_are_found_in_their_language(mixed: TermIndex, question: str, expected: list[str]):
    assert mixed.languages == ("de", "en", "es", "fr")
    assert having_words(mixed, question) == expected


def test_a_word_spelt_alike_counts_once_in_each_passage_and_weighs_as_one_word():
    texts = {
        "en": "The hotel is in the old town, and it was closed.",
        "de": "Das Hotel ist in der Stadt und war zu.",
    }
    index = TermIndex().updated([entry([text]) for text in texts.values()])
    assert index.languages == ("de", "en")
    (word,) = index.asked("hotel")
    assert len(word) == 2
    scores = index.scores([word])
    idf = math.log1p((2 - 2 + 0.5) / (2 + 0.5))  # two passages, both have it
    lengths = [len(terms(text, language)) for language, text in texts.items()]
    for score, length in zip(scores.tolist(), lengths, strict=True):
        assert score == pytest.approx(idf * (K1 + 1) / (1 + K1 * (1 - B + B * length / np.mean(lengths))), rel=1e-5)


def test_each_language_has_function_words_of_its_own(mixed: TermIndex):
    assert mixed.asked("the") == mixed.asked("der") == mixed.asked("les") == mixed.asked("los") == []
    assert mixed.asked("the zebra") == mixed.asked("zebra") != []
    dice = TermIndex().updated([entry([MIXED["de"]]), entry(["The die is cast by the player, and it is of wood."])])
    assert (dice.scores(dice.asked("die")) > 0).tolist() == [False, True]
    assert dice.ample(dice.asked("die Heizkessel")) > dice.ample(dice.asked("Heizkessel"))
    assert mixed.ample(mixed.asked("die Heizkessel")) == mixed.ample(mixed.asked("Heizkessel"))  # nobody casts one here


@given(documents, texts)
def test_of_english_alone_nothing_is_different(passages: list[list[str]], question: str):
    index = TermIndex().updated([entry(each) for each in passages])
    assert index.languages == ("en",)
    assert index.asked(question) == [(found,) for found in terms(question)]
    for each in passages:  # nothing stands after the compressed part
        payload = collect(each)
        (unique,) = struct.unpack_from("<4xI", payload)
        stream = zlib.decompressobj()
        stream.decompress(payload[12 + 4 * unique :])
        assert stream.unused_data == b""


def test_what_may_have_a_word(mixed: TermIndex):
    def rows(mask: np.ndarray) -> list[str]:
        return [language for language, there in zip(MIXED, mask.tolist(), strict=True) if there]

    assert rows(mixed.having("Leitung")) == rows(mixed.may_have("leitungen")) == ["de"]
    assert not mixed.leaves_out("Leitung")
    assert mixed.leaves_out("die")
    assert rows(mixed.may_have("die")) == ["de"]
    assert rows(mixed.may_have("de")) == ["fr", "es"]


def test_its_telling_words_are_those_of_its_language(mixed: TermIndex):
    assert mixed.telling(MIXED["de"], 100, "de")[0] != ""
    assert not {"die", "des", "wurden"} & {word.casefold() for word in mixed.telling(MIXED["de"], 100, "de")}


def test_languages_stay_through_updates_and_merges():
    entries = {language: entry([text]) for language, text in MIXED.items()}
    index = TermIndex()
    for one in entries.values():
        index = index.updated([one])
    for number in range(keywords.MAX_SEGMENTS + 2):
        index = index.updated([entry([f"word{number}"])])
    assert len(index.segments) < keywords.MAX_SEGMENTS
    for language, one in entries.items():
        assert index.language(one.document_id) == language
    assert (index.scores(index.asked("Haus")) > 0).sum() == 1
    index = index.updated(removed=[entries["de"].document_id])
    assert index.languages == ("en", "es", "fr")
    assert not index.scores(index.asked("Haus")).any()


def test_versions_that_know_only_english_read_postings_of_every_language():
    """As they did: what stands after the compressed part was never looked at."""
    for text in MIXED.values():
        payload = collect([text])
        chunks, unique, postings = struct.unpack_from("<III", payload)
        assert len(zlib.decompress(payload[12 + 4 * unique :])) == 2 * chunks + 4 * unique + 5 * postings
    assert collect([MIXED["de"]]).endswith(b"de")


def test_a_tag_of_a_later_version_is_no_obstacle():
    payload = collect(["pump"])
    index = TermIndex().updated([Entry(uuid4(), COLLECTION, 1, payload + b"zz")])
    assert index.languages == ("en",)
    for damaged in (b"d", b"deu", b"\0\0"):
        with pytest.raises(keywords.Malformed):
            TermIndex().updated([Entry(uuid4(), COLLECTION, 1, payload + damaged)])
