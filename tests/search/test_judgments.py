"""Files of judgments: the three formats, and what is wrong with a file said by line."""

import io
import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.evaluation import judgments
from search.evaluation.judgments import BadJudgments, DiskFolder, Parsed, corpus, parse_folder
from search.sources import CorpusText
from tenants.errors import Refused
from tests.search.conftest import jsonl


def parse(name: str, content: bytes) -> Parsed:
    return judgments.parse(name, io.BytesIO(content))


def beir(
    qrels: str,
    queries: bytes = b"",
    folder: str = "",
    extra: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    queries = queries or jsonl({"_id": "q1", "text": "What is lift?"}, {"_id": "q2", "text": "What is drag?"})
    files = {"queries.jsonl": queries, "qrels/test.tsv": qrels.encode(), **(extra or {})}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(folder + name, content)
    return out.getvalue()


def mistakes(name: str, content: bytes) -> str:
    with pytest.raises(BadJudgments) as refused:
        parse(name, content)
    return " ".join(refused.value.mistakes)


def test_csv_with_grades():
    parsed = parse("x.csv", b"question,document,grade\nHow?,a.pdf,2\nHow?,b.pdf,0\nWhy?,c.pdf,1\n")
    assert [(q.text, q.judgments) for q in parsed.questions] == [("How?", {"a.pdf": 2, "b.pdf": 0}), ("Why?", {"c.pdf": 1})]
    assert parsed.judgments == 3


@pytest.mark.parametrize(
    "text",
    [
        "question;document\nHow?;a.pdf\n",
        "Question\tDocument\nHow?\ta.pdf\n",
        'query,doc_id,score\n"How?",a.pdf,1\n',
        "document,question,grade\r\na.pdf,How?,\r\n",
    ],
)
def test_csv_as_spreadsheets_write_it(text: str):
    parsed = parse("x.csv", b"\xef\xbb\xbf" + text.encode())
    assert [(q.text, q.judgments) for q in parsed.questions] == [("How?", {"a.pdf": 1})]


def test_jsonl_in_both_shapes():
    parsed = parse(
        "x.jsonl",
        jsonl(
            {"question": "How?", "document": "a.pdf", "grade": 2},
            {"question": "How?", "document": "b.pdf"},
            {"id": "7", "query": "Why?", "documents": ["c.pdf", {"document": "d.pdf", "grade": 3}]},
            {"question": "Who?", "documents": {"e.pdf": 2}},
        ),
    )
    assert [(q.reference, q.text, q.judgments) for q in parsed.questions] == [
        ("1", "How?", {"a.pdf": 2, "b.pdf": 1}),
        ("7", "Why?", {"c.pdf": 1, "d.pdf": 3}),
        ("3", "Who?", {"e.pdf": 2}),
    ]


@pytest.mark.parametrize("folder", ["", "cranfield/"])
def test_a_beir_folder_as_zip(folder: str):
    parsed = parse("x.zip", beir("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n", folder=folder))
    assert [(q.reference, q.text, q.judgments) for q in parsed.questions] == [("q1", "What is lift?", {"d1": 2, "d2": 0})]
    assert (parsed.unjudged, parsed.split) == (1, "test")


def test_a_beir_folder_on_disk_with_its_corpus(tmp_path: Path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "dev.tsv").write_text("q1\td1\t1\n")
    (tmp_path / "queries.jsonl").write_bytes(jsonl({"_id": "q1", "text": "What is lift?"}))
    (tmp_path / "corpus.jsonl").write_bytes(jsonl({"_id": "d1", "title": "Wings", "text": "Lift holds."}))
    folder = DiskFolder(tmp_path)
    assert parse_folder(folder).split == "dev"
    assert [(text.reference, text.title, text.text) for text in corpus(folder)] == [("d1", "Wings", "Lift holds.")]
    with pytest.raises(Refused, match="There is no folder"):
        DiskFolder(tmp_path / "nowhere")


def test_the_corpus_of_a_zip(monkeypatch: pytest.MonkeyPatch):
    lines = jsonl({"_id": "d1", "title": "Wings", "text": "Lift holds."}, {"_id": "d2", "text": "Drag slows."})
    content = beir("q1\td1\t1\n", extra={"corpus.jsonl": lines})
    assert judgments.corpus_of(io.BytesIO(content)) == [
        CorpusText("d1", "Wings", "Lift holds."),
        CorpusText("d2", "", "Drag slows."),
    ]
    assert judgments.corpus_of(io.BytesIO(beir("q1\td1\t1\n"))) == []
    for limit, value in (("MAX_CORPUS", 1), ("MAX_CORPUS_CHARACTERS", 20)):
        with monkeypatch.context() as patched:
            patched.setattr(judgments, limit, value)
            with pytest.raises(BadJudgments, match="evaluate --dataset FOLDER"):
                judgments.corpus_of(io.BytesIO(content))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n1,2\n", "Line 1: the first line must name the columns"),
        (b"question,document,grade\nHow?,a.pdf,good\n", "Line 2: the grade 'good' is not a whole number"),
        (b"question,document,grade\nHow?,a.pdf,1.5\n", "Line 2: the grade '1.5' is not a whole number"),
        (b"question,document,grade\nHow?,a.pdf,900\n", "Line 2: the grade 900 is not between"),
        (b"question,document,grade\nHow?,,1\n", "Line 2: no document is named"),
        (b"question,document,grade\n,a.pdf,1\n", "Line 2: the question is empty"),
        (b"question,document,grade\nHow?,a.pdf\n", "Line 2: 2 columns instead of 3"),
        (b"question,document,grade\nHow?,a,1\nHow?,a,2\n", "Line 3: document a is graded differently above"),
        (b'question,document\n"How?,a\n', "this is not valid CSV"),
        (b"question,document\n\xff\xfe,a\n", "Line 2: this is not UTF-8"),
        (b"question,document,grade\nHow?,a,0\n", "no question with a relevant document"),
        (b"", "Line 1: the first line must name the columns"),
    ],
)
def test_a_bad_csv_says_where(content: bytes, said: str):
    assert said in mistakes("x.csv", content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"question": "How?", "document": "a"}\n{broken\n', "Line 2: this is not JSON"),
        (b"[1, 2]\n", "Line 1: this is not a JSON object"),
        (b'{"question": "How?"}\n', "Line 1: no document is named"),
        (b'{"question": "How?", "documents": []}\n', "at least one document"),
        (b'{"question": "How?", "document": "a", "grade": true}\n', "the grade is not a whole number"),
        (b'{"question": ["x"], "document": "a"}\n', "Line 1: the question is empty"),
        (b'{"id": "1", "question": "A?", "document": "a"}\n{"id": "1", "question": "B?", "document": "a"}\n', "another text"),
        (b"[" * 100_000, "this is not JSON"),
        (rb'{"question": "How \ud800?", "document": "a"}', "Line 1: this is not valid Unicode"),
        (rb'{"question": "How?", "document": "a\udfff"}', "Line 1: this is not valid Unicode"),
        (rb'{"question": "How?", "documents": {"\udc00": 1}}', "Line 1: this is not valid Unicode"),
        (b'{"id": "' + b"x" * 501 + b'", "question": "How?", "document": "a"}', "the question's id is longer than 500"),
    ],
)
def test_bad_json_lines_say_where(content: bytes, said: str):
    assert said in mistakes("x.jsonl", content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not a zip", "cannot be read"),
        (beir("q9\td1\t1\n"), "test.tsv, line 1: question q9 is not in queries.jsonl"),
        (beir("q1\td1\n"), "test.tsv, line 1: three columns are expected"),
        (beir("q1\td1\tx\n"), "test.tsv, line 1: the grade 'x'"),
        (beir("q1\td1\t1\n", queries=b'{"text": "no id"}'), 'queries.jsonl, line 1: the question has no "_id"'),
        (beir("q1\td1\t1\n", queries=b"\xff\xfe"), "queries.jsonl, line 1: this is not UTF-8"),
        (beir("q1\td1\t1\n", compression=zipfile.ZIP_LZMA), "compressed in an unusual way"),
    ],
)
def test_a_bad_zip_says_where(content: bytes, said: str):
    assert said in mistakes("x.zip", content)


def test_a_zip_without_the_files_says_what_is_missing():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("readme.txt", "x")
    assert "There is no queries.jsonl" in mistakes("x.zip", out.getvalue())


def test_a_damaged_zip_is_refused():
    """Bytes overwritten inside what is compressed: zlib finds out, not zipfile."""
    queries = jsonl(*({"_id": f"q{n}", "text": f"What is the answer to question {n * n}?"} for n in range(200)))
    content = bytearray(beir("q1\td1\t1\n", queries=queries, compression=zipfile.ZIP_DEFLATED))
    content[60:160] = bytes(100)
    assert "it is damaged" in mistakes("x.zip", bytes(content))


def test_a_corpus_with_half_a_surrogate_pair_is_refused():
    content = beir("q1\td1\t1\n", extra={"corpus.jsonl": rb'{"_id": "d1", "text": "Lift \ud800 holds."}'})
    with pytest.raises(BadJudgments, match=r"corpus.jsonl, line 1: this is not valid Unicode"):
        judgments.corpus_of(io.BytesIO(content))


def test_whole_surrogate_pairs_are_characters():
    parsed = parse("x.jsonl", rb'{"question": "Where is \ud83d\ude00?", "document": "\u00e4"}')
    assert [(q.text, q.judgments) for q in parsed.questions] == [("Where is \U0001f600?", {"ä": 1})]


def test_a_line_that_is_too_long_is_said_and_not_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(judgments, "MAX_LINE", 60)
    long = jsonl({"_id": "q1", "text": "x" * 60})
    assert "queries.jsonl, line 1: the line is longer than" in mistakes("x.zip", beir("q1\td1\t1\n", queries=long))
    assert "Line 2: the line is longer than" in mistakes("x.csv", b"question,document\nHow?,a" + b" " * 60)
    assert "Line 1: the line is longer than" in mistakes("x.jsonl", long)


def test_old_and_unusual_ends_of_lines():
    assert len(parse("x.csv", b"question,document\rHow?,a\rWhy?,b\r").questions) == 2
    line = json.dumps({"question": "One\u2028two?", "document": "a"}, ensure_ascii=False)
    assert [q.text for q in parse("x.jsonl", line.encode()).questions] == ["One two?"]


def test_limits_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(judgments, "MAX_UNPACKED_BYTES", 10)
    assert "The zip holds more than" in mistakes("x.zip", beir("q1\td1\t1\n"))
    monkeypatch.setattr(judgments, "MAX_QUESTIONS", 1)
    assert "more than 1 questions" in mistakes("x.csv", b"question,document\na,b\nc,d\n")
    monkeypatch.setattr(judgments, "MAX_QUESTION", 5)
    assert "longer than 5 characters" in mistakes("x.csv", b"question,document\nabcdefg,b\n")


def test_only_the_first_mistakes_are_shown():
    content = "question,document,grade\n" + "How?,a,x\n" * 500
    with pytest.raises(BadJudgments) as refused:
        parse("x.csv", content.encode())
    assert len(refused.value.mistakes) == judgments.SHOWN_MISTAKES
    assert "more." in str(refused.value)


def test_another_ending_is_refused():
    assert "Give a .csv" in mistakes("x.docx", b"")


@given(st.binary(max_size=400), st.sampled_from(["x.csv", "x.jsonl", "x.zip"]))
def test_garbage_is_refused_and_never_crashes(content: bytes, name: str):
    with pytest.raises(BadJudgments):
        parse(name, content)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20), st.integers(1, 3))))
def test_what_is_written_is_read(rows: list[tuple[str, str, int]]):
    lines = [json.dumps({"question": q, "documents": [{"document": d, "grade": g}]}) for q, d, g in rows]
    try:
        parsed = parse("x.jsonl", "\n".join(lines).encode())
    except BadJudgments:
        return
    assert parsed.judgments <= len(rows)
    assert all(grade >= 1 for question in parsed.questions for grade in question.judgments.values())


KEYS = st.sampled_from(["question", "text", "query", "document", "documents", "grade", "id", "_id", "title"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4)  # surrogates too
JSON = (
    SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(KEYS | st.text(st.characters(), max_size=4), SCALARS, max_size=3)
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=4)


def accepted(name: str, content: bytes) -> None:
    """Refused in words, or such that it can be stored."""
    try:
        parsed = parse(name, content)
    except BadJudgments as refused:
        str(refused).encode()
        return
    for question in parsed.questions:
        "".join([question.reference, question.text, *question.judgments]).encode()


@given(st.lists(OBJECTS, min_size=1, max_size=3))
def test_any_json_is_refused_or_can_be_stored(objects: list[dict[str, Any]]):
    accepted("x.jsonl", jsonl(*objects))
    accepted("x.zip", beir("q1\td1\t1\n", queries=jsonl(*objects)))


@given(st.lists(st.lists(st.text(max_size=6), max_size=4), max_size=5), st.sampled_from(",;\t"))
def test_any_csv_is_refused_or_can_be_stored(rows: list[list[str]], delimiter: str):
    lines = [f"question{delimiter}document", *(delimiter.join(row) for row in rows)]
    accepted("x.csv", "\n".join(lines).encode())


WHOLE = {
    kind: beir(
        "query-id\tcorpus-id\tscore\nq1\td1\t2\n",
        extra={"corpus.jsonl": jsonl({"_id": "d1", "text": "Lift holds. " * 30})},
        compression=kind,
    )
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
}


@settings(max_examples=300)
@given(st.sampled_from(sorted(WHOLE)), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12), st.data())
def test_any_damage_to_a_zip_is_refused_in_words(kind: int, damage: list[tuple[int, int]], data: st.DataObject):
    content = bytearray(WHOLE[kind])
    for place, value in damage:
        content[place % len(content)] = value
    cut = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    accepted("x.zip", bytes(content[:cut]))
    with suppress(BadJudgments):
        judgments.corpus_of(io.BytesIO(content))


def test_reading_stops_when_there_are_too_many_mistakes():
    """A zip of a few kilobytes may hold millions of bad lines: most of them are never looked at."""
    looked_at = 0

    def lines():
        nonlocal looked_at
        for looked_at in range(1, 1_000_000):  # noqa: B007
            yield "x\n"

    with pytest.raises(judgments.BadJudgments, match="And 80 more"):
        judgments._parse_jsonl(lines())
    assert looked_at == 100


def test_a_file_of_blank_lines_has_an_end(monkeypatch):
    monkeypatch.setattr(judgments, "MAX_LINES", 10)
    with pytest.raises(judgments.BadJudgments, match="more than 10 lines"):
        judgments.parse("x.jsonl", io.BytesIO(b"\n" * 11))
