"""A collection of judged documents in the form that the BEIR benchmark gives them, zipped."""

import io
import zipfile

BEIR = {
    "queries.jsonl": b'{"_id": "q1", "text": "What is lift?"}',
    "qrels/test.tsv": b"q1\td1\t1\n",
    "corpus.jsonl": b'{"_id": "d1", "title": "Wings", "text": "Lift holds."}\n{"_id": "d2", "text": "Drag slows."}\n',
}


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()
