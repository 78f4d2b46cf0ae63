"""Files of judgments: the three formats, and what is wrong with a file said by line."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.evaluation import judgments
from search.evaluation.judgments import BadJudgments, DiskFolder, corpus, parse, parse_csv, parse_folder, parse_jsonl
from tenants.errors import Refused
from tests.search.conftest import jsonl


def beir(qrels: str, queries: bytes = b"", folder: str = "", extra: dict[str, bytes] | None = None) -> bytes:
    queries = queries or jsonl({"_id": "q1", "text": "What is lift?"}, {"_id": "q2", "text": "What is drag?"})
    files = {"queries.jsonl": queries, "qrels/test.tsv": qrels.encode(), **(extra or {})}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(folder + name, content)
    return out.getvalue()


def mistakes(name: str, content: bytes) -> str:
    with pytest.raises(BadJudgments) as refused:
        parse(name, content)
    return " ".join(refused.value.mistakes)


def test_csv_with_grades():
    parsed = parse_csv("question,document,grade\nHow?,a.pdf,2\nHow?,b.pdf,0\nWhy?,c.pdf,1\n")
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


def test_a_corpus_is_offered_to_the_registered_importer(monkeypatch: pytest.MonkeyPatch):
    got = []

    def importer(texts: object, name: str, person: int | None) -> int:
        got.extend(texts)  # type: ignore[arg-type]
        return len(got)

    monkeypatch.setattr(judgments, "_importer", importer)
    content = beir("q1\td1\t1\n", extra={"corpus.jsonl": jsonl({"_id": "d1", "text": "Lift holds."})})
    assert judgments.import_corpus(content, "Name", 1) == 1
    assert got[0].reference == "d1"
    assert judgments.import_corpus(beir("q1\td1\t1\n"), "Name", 1) == 0


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
        (beir("q1\td1\t1\n", queries=b"\xff\xfe"), "queries.jsonl is not UTF-8"),
    ],
)
def test_a_bad_zip_says_where(content: bytes, said: str):
    assert said in mistakes("x.zip", content)


def test_a_zip_without_the_files_says_what_is_missing():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("readme.txt", "x")
    assert "There is no queries.jsonl" in mistakes("x.zip", out.getvalue())


def test_limits_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(judgments, "MAX_BYTES", 50)
    assert "larger than" in mistakes("x.csv", b"x" * 51)
    monkeypatch.undo()
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
        parsed = parse_jsonl("\n".join(lines))
    except BadJudgments:
        return
    assert parsed.judgments <= len(rows)
    assert all(grade >= 1 for question in parsed.questions for grade in question.judgments.values())
