"""Files on disk are ciphertext, complete or absent, private, and open only as the document they belong to."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from documents import storage
from tenants.ciphers import Tampered
from tenants.context import workspace

pytestmark = pytest.mark.usefixtures("in_workspace_a")
MARKER = b"marker-of-the-quiet-garden"
Listed = Callable[[], list[Path]]


def test_what_is_stored_is_read_again() -> None:
    pieces = [MARKER * 5000, b"", b"end"]
    stored = storage.store(uuid4(), pieces)
    assert stored.size == sum(map(len, pieces))
    assert b"".join(storage.read(stored.document_id, stored.stored_name)) == b"".join(pieces)


def test_the_file_is_private_and_says_nothing(listed: Listed, workspace_a: Any) -> None:
    stored = storage.store(uuid4(), [MARKER])
    (path,) = listed()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.parts[-3:] == (workspace_a.id.hex, stored.stored_name[:2], stored.stored_name)
    assert str(stored.document_id) not in str(path)
    assert MARKER not in path.read_bytes()


def test_nothing_is_left_when_the_pieces_break_off(listed: Listed) -> None:
    def broken() -> Any:
        yield MARKER
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        storage.store(uuid4(), broken())
    assert listed() == []


def test_a_file_opens_only_as_its_document() -> None:
    mine, other = storage.store(uuid4(), [b"mine"]), storage.store(uuid4(), [b"other"])
    with pytest.raises(Tampered):
        b"".join(storage.read(mine.document_id, other.stored_name))


def test_a_file_opens_only_in_its_workspace(workspace_a: Any, other_workspace: Any, files_dir: Path) -> None:
    stored = storage.store(uuid4(), [b"mine"])
    (files_dir / workspace_a.id.hex).rename(files_dir / other_workspace.id.hex)
    with workspace(other_workspace), pytest.raises(Tampered):
        b"".join(storage.read(stored.document_id, stored.stored_name))


@pytest.mark.parametrize("name", ["../../../etc/passwd", "", "a/b", "gone0123"])
def test_a_changed_row_leads_nowhere(name: str) -> None:
    with pytest.raises(storage.FileMissing):
        b"".join(storage.read(uuid4(), name))


def test_orphans_go_once_they_are_old(listed: Listed) -> None:
    kept, orphan = storage.store(uuid4(), [b"kept"]), storage.store(uuid4(), [b"orphan"])
    partial = storage.IncomingFile(uuid4())
    partial.write(b"half an upload")
    assert storage.remove_orphans({kept.stored_name}) == 0, "young files may be waiting for their row"
    for path in listed():
        os.utime(path, (0, 0))
    assert storage.remove_orphans({kept.stored_name}) == 2
    assert [path.name for path in listed()] == [kept.stored_name]
    assert orphan.stored_name != kept.stored_name
