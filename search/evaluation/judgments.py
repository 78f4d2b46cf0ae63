"""Reads judgments as people have them: CSV, JSON lines, or a BEIR folder, as it is or zipped.

Knows formats alone: nothing is stored, no document is looked up. A file with mistakes is refused whole, with a line
number for each mistake.
"""

import csv
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from search.sources import CorpusText
from tenants.errors import Refused

MAX_UNPACKED_BYTES = 512 * 1024 * 1024
MAX_QUESTIONS = 20_000
MAX_JUDGMENTS = 500_000
MAX_LINES = 5_000_000
MAX_LINE = 5 * 1024 * 1024
MAX_QUESTION = 2_000
MAX_REFERENCE = 500
MAX_GRADE = 100
MAX_CORPUS = 2_000  # documents imported within a request, which holds them in memory; the command has neither limit
MAX_CORPUS_CHARACTERS = 64_000_000
SHOWN_MISTAKES = 20

QUESTION_COLUMNS = ("question", "query", "text")
ID_COLUMNS = ("question_id", "question-id", "query_id", "query-id", "qid", "id")
DOCUMENT_COLUMNS = ("document", "reference", "corpus-id", "corpus_id", "doc_id", "document_id", "doc")
GRADE_COLUMNS = ("grade", "score", "relevance", "rel")


class BadJudgments(Refused):
    """The file cannot be used; `mistakes` names the lines."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes[:SHOWN_MISTAKES]
        more = len(mistakes) - len(self.mistakes)
        super().__init__(" ".join(self.mistakes) + (f" And {more} more." if more > 0 else ""))


@dataclass
class JudgedQuestion:
    """One question; `judgments` maps what the file calls a document to its grade (0: judged not relevant)."""

    reference: str
    text: str
    judgments: dict[str, int] = field(default_factory=dict)


@dataclass
class Parsed:
    questions: list[JudgedQuestion]
    unjudged: int = 0  # questions in the file without any judgment, left out
    split: str = ""  # of a BEIR folder: which qrels file was read

    @property
    def judgments(self) -> int:
        return sum(len(question.judgments) for question in self.questions)


class _Reading:
    """Collects questions and mistakes while a file is read."""

    def __init__(self) -> None:
        self.questions: dict[str, JudgedQuestion] = {}
        self.mistakes: list[str] = []
        self._judgments = 0

    def mistake(self, line: int, problem: str, file: str = "") -> None:
        """Remember it; with too many, stop reading: a small zip may hold millions of bad lines."""
        place = f"{file}, line {line}" if file else f"Line {line}"
        self.mistakes.append(f"{place}: {problem}")
        if len(self.mistakes) >= 5 * SHOWN_MISTAKES:
            raise BadJudgments(self.mistakes)

    def question(self, line: int, reference: str, text: str, file: str = "") -> JudgedQuestion | None:
        text = " ".join(text.replace("\0", " ").split())
        key = reference or text
        if len(reference) > MAX_REFERENCE:
            self.mistake(line, f"the question's id is longer than {MAX_REFERENCE} characters.", file)
            return None
        known = self.questions.get(key)
        if known is not None:
            if text and text != known.text:
                self.mistake(line, f"question {reference} has another text above.", file)
                return None
            return known
        if not text:
            self.mistake(line, "the question is empty.", file)
        elif len(text) > MAX_QUESTION:
            self.mistake(line, f"the question is longer than {MAX_QUESTION:,} characters.", file)
        elif len(self.questions) >= MAX_QUESTIONS:
            raise BadJudgments([f"The file has more than {MAX_QUESTIONS:,} questions. Split it."])
        else:
            self.questions[key] = JudgedQuestion(reference or str(len(self.questions) + 1), text)
            return self.questions[key]
        return None

    def judge(self, line: int, question: JudgedQuestion, reference: str, grade: str | float, file: str = "") -> None:
        reference = reference.strip()
        if not reference:
            self.mistake(line, "no document is named.", file)
            return
        if len(reference) > MAX_REFERENCE or "\0" in reference:
            self.mistake(line, f"the document's name is longer than {MAX_REFERENCE} characters or not text.", file)
            return
        try:
            number = float(grade)
            if number != int(number):
                raise ValueError
        except (ValueError, OverflowError):
            self.mistake(line, f"the grade {str(grade)[:40]!r} is not a whole number.", file)
            return
        if not -MAX_GRADE <= number <= MAX_GRADE:
            self.mistake(line, f"the grade {int(number)} is not between 0 and {MAX_GRADE}.", file)
            return
        self._judgments += 1
        if self._judgments > MAX_JUDGMENTS:
            raise BadJudgments([f"The file has more than {MAX_JUDGMENTS:,} judgments. Split it."])
        value = max(0, int(number))  # some collections grade spam below zero
        if question.judgments.get(reference, value) != value:
            self.mistake(line, f"document {reference[:80]} is graded differently above for the same question.", file)
            return
        question.judgments[reference] = value

    def finish(self, split: str = "") -> Parsed:
        if self.mistakes:
            raise BadJudgments(self.mistakes)
        judged = [question for question in self.questions.values() if any(question.judgments.values())]
        if not judged:
            raise BadJudgments(["The file has no question with a relevant document (grade 1 or more)."])
        return Parsed(judged, len(self.questions) - len(judged), split)


def parse(name: str, file: IO[bytes]) -> Parsed:
    """Judgments from an uploaded file, by the ending of its name. Raises BadJudgments."""
    kind = PurePosixPath(name).suffix.lower()
    if kind == ".zip":
        with _opened_zip(file) as folder:
            return parse_folder(folder)
    if kind in (".csv", ".tsv"):
        return _parse_csv(_lines(file))
    if kind in (".jsonl", ".ndjson", ".json"):
        return _parse_jsonl(_lines(file))
    raise BadJudgments(["Give a .csv, a .jsonl, or a BEIR folder as .zip."])


def _parse_csv(lines: Iterator[str]) -> Parsed:
    """Columns question, document, and optionally grade (1 when missing) and question_id; comma, semicolon or tab."""
    reading = _Reading()
    first = next(lines, "")
    delimiter = max(",;\t", key=first.count)
    rows = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip().casefold() for cell in next(rows, [])]
        columns = {
            kind: next((header.index(name) for name in names if name in header), None)
            for kind, names in (
                ("question", QUESTION_COLUMNS),
                ("id", ID_COLUMNS),
                ("document", DOCUMENT_COLUMNS),
                ("grade", GRADE_COLUMNS),
            )
        }
        asked, named = columns["question"], columns["document"]
        if asked is None or named is None:
            raise BadJudgments(
                ["Line 1: the first line must name the columns: question, document and, if you have grades, grade."]
            )
        for row in rows:
            line = rows.line_num
            if not any(cell.strip() for cell in row):
                continue
            if len(row) < len(header):
                reading.mistake(line, f"{len(row)} column{'s' * (len(row) != 1)} instead of {len(header)}.")
                continue
            identity, grade = columns["id"], columns["grade"]
            question = reading.question(line, row[identity].strip() if identity is not None else "", row[asked])
            if question is not None:
                given = row[grade].strip() if grade is not None else ""
                reading.judge(line, question, row[named], given or 1)
    except csv.Error as error:
        reading.mistake(rows.line_num, f"this is not valid CSV ({error}).")
    return reading.finish()


def _parse_jsonl(lines: Iterator[str]) -> Parsed:
    """One object a line: {"question", "document", "grade"} or {"question", "documents": [name or {document, grade}]}."""
    reading = _Reading()
    for line, item in _objects(lines, reading):
        question = reading.question(line, _text(item, ID_COLUMNS), _text(item, QUESTION_COLUMNS))
        if question is None:
            continue
        documents = item.get("documents")
        if documents is None:
            documents = [item]
        if not isinstance(documents, list | dict) or not documents:
            reading.mistake(line, '"documents" must be a list with at least one document.')
            continue
        if isinstance(documents, dict):
            documents = [{"document": name, "grade": grade} for name, grade in documents.items()]
        for document in documents:
            if isinstance(document, dict):
                grade = next((document[name] for name in GRADE_COLUMNS if name in document), 1)
                if isinstance(grade, bool) or not isinstance(grade, int | float | str):
                    reading.mistake(line, "the grade is not a whole number.")
                    continue
                reading.judge(line, question, _text(document, DOCUMENT_COLUMNS), grade)
            else:
                reading.judge(line, question, str(document), 1)
    return reading.finish()


class Folder(Protocol):
    """A BEIR folder, on disk or in a zip."""

    def names(self) -> list[str]: ...

    def open(self, name: str) -> IO[bytes]: ...


class DiskFolder:
    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise Refused(f"There is no folder {path}.")
        self._path = path

    def names(self) -> list[str]:
        return [file.relative_to(self._path).as_posix() for file in self._path.rglob("*") if file.is_file()]

    def open(self, name: str) -> IO[bytes]:
        return (self._path / name).open("rb")


class ZipFolder:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def names(self) -> list[str]:
        return [
            name
            for name in self._archive.namelist()
            if not name.startswith("__MACOSX/") and not PurePosixPath(name).name.startswith(".")
        ]

    def open(self, name: str) -> IO[bytes]:
        return self._archive.open(name)


# What zipfile and the decompressors below it raise at bytes that are no zip, or one that was damaged.
_DAMAGED = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, OverflowError, ValueError)
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # others may ask for as much memory as they like


@contextmanager
def _opened_zip(file: IO[bytes]) -> Iterator[ZipFolder]:
    """For reading alone: what is done inside must not raise errors of its own that look like a damaged zip."""
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_UNPACKED_BYTES:
                raise BadJudgments([f"The zip holds more than {MAX_UNPACKED_BYTES // 1024**2} MB."])
            if any(member.flag_bits & 1 for member in archive.infolist()):
                raise BadJudgments(["The zip is protected by a password."])
            if any(member.compress_type not in _METHODS for member in archive.infolist()):
                raise BadJudgments(["The zip is compressed in an unusual way. Make it again with the usual method, deflate."])
            yield ZipFolder(archive)
    except _DAMAGED as error:
        raise BadJudgments([f"The zip cannot be read: it is damaged or of an unknown kind ({error})."]) from None


def parse_folder(folder: Folder) -> Parsed:
    """queries.jsonl and one of qrels/*.tsv: test when there is one, else the only one or the first by name."""
    reading = _Reading()
    queries = _find(folder, "queries.jsonl")
    splits = sorted(name for name in folder.names() if PurePosixPath("/" + name).match("*/qrels/*.tsv"))
    if queries is None or not splits:
        missing = "queries.jsonl" if queries is None else "qrels/test.tsv"
        raise BadJudgments([f"There is no {missing}. A BEIR folder has queries.jsonl and qrels/test.tsv."])
    for line, item in _objects(_lines_of(folder, queries), reading, "queries.jsonl"):
        reference = _text(item, ("_id", "id"))
        if not reference:
            reading.mistake(line, 'the question has no "_id".', "queries.jsonl")
        else:
            reading.question(line, reference, _text(item, ("text", "query", "question")), "queries.jsonl")
    split = next((name for name in splits if PurePosixPath(name).name == "test.tsv"), splits[0])
    file = PurePosixPath(split).name
    for line, row in enumerate(_lines_of(folder, split), start=1):
        cells = row.split("\t")
        if not row.strip() or (line == 1 and cells[-1].strip().casefold() in GRADE_COLUMNS):
            continue
        if len(cells) != 3:
            reading.mistake(line, "three columns are expected: query-id, corpus-id, score.", file)
            continue
        question = reading.questions.get(cells[0].strip())
        if question is None:
            reading.mistake(line, f"question {cells[0][:80]} is not in queries.jsonl.", file)
            continue
        reading.judge(line, question, cells[1], cells[2].strip(), file)
    return reading.finish(PurePosixPath(split).stem)


def corpus(folder: Folder) -> Iterator[CorpusText]:
    """The documents of a BEIR folder; none when it has no corpus.jsonl. Raises BadJudgments at the first bad line."""
    name = _find(folder, "corpus.jsonl")
    if name is None:
        return
    reading = _Reading()
    for line, item in _objects(_lines_of(folder, name), reading, "corpus.jsonl"):
        reference = _text(item, ("_id", "id"))
        if not reference:
            reading.mistake(line, 'the document has no "_id".', "corpus.jsonl")
        if reading.mistakes:
            break
        yield CorpusText(reference, _text(item, ("title",)), _text(item, ("text",)))
    if reading.mistakes:
        raise BadJudgments(reading.mistakes)


def corpus_of(file: IO[bytes]) -> list[CorpusText]:
    """The documents of an uploaded BEIR zip, when they are few enough for a request. Raises BadJudgments."""
    texts, characters = [], 0
    with _opened_zip(file) as folder:
        for text in corpus(folder):
            texts.append(text)
            characters += len(text.text)
            if len(texts) > MAX_CORPUS or characters > MAX_CORPUS_CHARACTERS:
                raise BadJudgments(
                    [
                        f"The corpus has more than {MAX_CORPUS:,} documents or "
                        f"{MAX_CORPUS_CHARACTERS // 1_000_000} million characters: too much for the page. Upload it without "
                        "its documents, or have it imported on the server: manage.py evaluate --dataset FOLDER."
                    ]
                )
    return texts


# ---------------------------------------------------------------- reading


def _find(folder: Folder, ending: str) -> str | None:
    """A file by its name alone, wherever it lies; the one least deep."""
    found = [name for name in folder.names() if PurePosixPath("/" + name).match(f"*/{ending}")]
    return min(found, key=lambda name: (name.count("/"), name)) if found else None


def _lines_of(folder: Folder, name: str) -> Iterator[str]:
    with folder.open(name) as raw:
        yield from _lines(raw, PurePosixPath(name).name)


def _lines(raw: IO[bytes], file: str = "") -> Iterator[str]:
    """Lines with their ends, one at a time: whatever is read, no more than a line of it is held twice."""
    number = 0
    while line := raw.readline(MAX_LINE + 1):
        number += 1
        place = f"{file}, line {number}" if file else f"Line {number}"
        if number > MAX_LINES:
            raise BadJudgments([f"{file or 'The file'} has more than {MAX_LINES:,} lines. Split it."])
        if len(line) > MAX_LINE:
            raise BadJudgments([f"{place}: the line is longer than {MAX_LINE // 1024**2} MB."])
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise BadJudgments([f"{place}: this is not UTF-8 text. Save the file as UTF-8."]) from None
        yield from io.StringIO(text, newline="")  # old Macs end lines with a carriage return alone


def _objects(lines: Iterable[str], reading: _Reading, file: str = "") -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            if "\\u" in line:
                json.dumps(item, ensure_ascii=False).encode()  # half a surrogate pair cannot be encoded, nor stored
        except UnicodeEncodeError:
            reading.mistake(number, "this is not valid Unicode: half of a pair of \\u escapes is missing.", file)
            continue
        except (ValueError, RecursionError):
            reading.mistake(number, "this is not JSON.", file)
            continue
        if isinstance(item, dict):
            yield number, item
        else:
            reading.mistake(number, "this is not a JSON object.", file)


def _text(item: dict[str, Any], names: tuple[str, ...]) -> str:
    value = next((item[name] for name in names if name in item), "")
    return str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
