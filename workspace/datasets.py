"""Test collections in BEIR's layout: corpus into documents, judgments beside them, and an evaluation of both.

The one place that knows documents and judgments at once.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from documents.importing import import_texts
from search.canaries import peoples_judgment_sets
from search.evaluation import runs
from search.evaluation.judgments import DiskFolder, Parsed, corpus, parse_folder
from search.models import JudgmentSet, Run
from search.sources import CorpusText
from tenants.errors import Refused
from workspace.waiting import until_final

Say = Callable[[str], None]


def evaluate_dataset(path: Path, say: Say) -> Run:
    """Import the BEIR folder at `path` where it is not there yet, wait until every document is final, run."""
    if not path.is_dir():
        raise Refused(f"There is no folder {path}. Give one in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/test.tsv.")
    folder, name = DiskFolder(path), path.resolve().name
    parsed = parse_folder(folder)
    done = import_texts(_Corpus(folder), name, progress=lambda n: say(f"queued {n} documents") if n % 200 == 0 else None)
    until_final(done.collection, say)
    return runs.evaluate(
        judgment_set_named(f"{name} ({parsed.split})", parsed), collection_id=done.collection.pk, on_progress=reporter(say)
    )


class _Corpus:
    """Read from the disk each time it is gone through: it may be larger than memory."""

    def __init__(self, folder: DiskFolder) -> None:
        self._folder = folder

    def __iter__(self) -> Iterator[CorpusText]:
        return corpus(self._folder)


def judgment_set_named(name: str, parsed: Parsed) -> JudgmentSet:
    """The set of that name with as many questions and judgments, or a new one."""
    for found in peoples_judgment_sets().order_by("-created_at"):
        if found.name == name and (found.questions_total, found.judgments_total) == (len(parsed.questions), parsed.judgments):
            return found
    return runs.create_judgment_set(name, parsed)


def find_judgment_set(wanted: str | None) -> JudgmentSet:
    """By id or name; without one, the only set there is. Raises Refused."""
    found = list(peoples_judgment_sets().order_by("created_at"))
    if wanted:
        found = [each for each in found if wanted in (each.name, str(each.pk))]
    match found:
        case [only]:
            return only
        case []:
            raise Refused("There are no such judgments: upload them on the evaluation page, or give --dataset FOLDER.")
        case _:
            raise Refused("Several judgment sets fit; name one by its id: " + ", ".join(str(each.pk) for each in found))


def reporter(say: Say) -> Callable[[int, int], None]:
    return lambda done, total: say(f"{done} of {total} questions") if done % 50 == 0 or done == total else None
