"""Downloading gives back the very bytes, as an attachment that no browser interprets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from documents import storage
from tenants.context import workspace
from tenants.streams import HEADER, SEALED_BYTES, SEGMENT_BYTES
from tests.factories import DocumentFactory

Address = Callable[[str], str]


def test_it_works(client_viewer: Client, address: Address, workspace_a: Any) -> None:
    content = bytes(range(256)) * 3000
    with workspace(workspace_a):
        document = DocumentFactory(content=content, file_name='Größe "数据".html')
    response = client_viewer.get(address(f"documents/{document.id}/download/"))
    assert response.status_code == 200
    assert response.streaming
    assert b"".join(response.streaming_content) == content
    assert response["Content-Length"] == str(len(content))
    assert response["Content-Type"] == "application/octet-stream"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Cache-Control"] == "no-store"
    assert response["Content-Disposition"] == "attachment; filename*=utf-8''Gr%C3%B6%C3%9Fe%20%22%E6%95%B0%E6%8D%AE%22.html"


def test_an_empty_file(client_viewer: Client, address: Address, workspace_a: Any) -> None:
    with workspace(workspace_a):
        document = DocumentFactory(content=b"")
    assert b"".join(client_viewer.get(address(f"documents/{document.id}/download/")).streaming_content) == b""


def test_a_missing_or_changed_file_is_said(
    client_viewer: Client, address: Address, workspace_a: Any, listed: Callable[[], list[Path]]
) -> None:
    with workspace(workspace_a):
        missing, changed = DocumentFactory(), DocumentFactory()
        storage.remove([missing.stored_name])
    (path,) = listed()
    path.write_bytes(path.read_bytes()[:-3])
    for document in (missing, changed):
        response = client_viewer.get(address(f"documents/{document.id}/download/"))
        assert response.status_code == 404
        assert "The file is not available" in response.content.decode()


CONTENT = bytes(i % 251 for i in range(2 * SEGMENT_BYTES + 1000))
SIZE = len(CONTENT)


@pytest.fixture
def link(address: Address, workspace_a: Any) -> str:
    with workspace(workspace_a):
        return address(f"documents/{DocumentFactory(content=CONTENT).id}/download/")


def body(response: Any) -> bytes:
    return b"".join(response.streaming_content)


@pytest.mark.parametrize(("asked", "start", "stop"), [
    ("bytes=0-0", 0, 1),
    ("bytes=0-", 0, SIZE),
    (f"bytes={SEGMENT_BYTES - 1}-{SEGMENT_BYTES}", SEGMENT_BYTES - 1, SEGMENT_BYTES + 1),
    (f"bytes={SEGMENT_BYTES}-{2 * SEGMENT_BYTES - 1}", SEGMENT_BYTES, 2 * SEGMENT_BYTES),
    (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
    ("bytes=100-99999999999999999999999", 100, SIZE),
    ("bytes=-10", SIZE - 10, SIZE),
    (f"bytes=-{SIZE + 5}", 0, SIZE),
    ("Bytes= 5-6 ,", 5, 7),
])  # fmt: skip
def test_a_range(client_viewer: Client, link: str, asked: str, start: int, stop: int) -> None:
    response = client_viewer.get(link, headers={"Range": asked})
    assert response.status_code == 206
    assert response["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert response["Content-Length"] == str(stop - start)
    assert response["Accept-Ranges"] == "bytes"
    assert "attachment" in response["Content-Disposition"]
    assert body(response) == CONTENT[start:stop]


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=5-4", "bytes=-", "bytes=", "bytes=a-b", "lines=0-1", "bytes 0-1",
                                   "bytes=1-2-3", "bytes=+1-2", "bytes=\u0661-\u0662"])  # fmt: skip
def test_several_ranges_and_malformed_ones_are_answered_with_the_whole(client_viewer: Client, link: str, asked: str) -> None:
    response = client_viewer.get(link, headers={"Range": asked})
    assert response.status_code == 200
    assert "Content-Range" not in response
    assert body(response) == CONTENT


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={'9' * 5000}-", "bytes=-0"])
def test_a_range_outside_the_file(client_viewer: Client, link: str, asked: str) -> None:
    response = client_viewer.get(link, headers={"Range": asked})
    assert (response.status_code, response["Content-Range"]) == (416, f"bytes */{SIZE}")


def test_a_range_only_of_the_very_same_file(client_viewer: Client, link: str, address: Address, workspace_a: Any) -> None:
    tag = client_viewer.get(link)["ETag"]
    assert tag.startswith('"')
    with workspace(workspace_a):
        twin = address(f"documents/{DocumentFactory(content=CONTENT).id}/download/")
    assert client_viewer.get(twin)["ETag"] != tag  # equal content is not told
    for condition, status in ((tag, 206), (f"W/{tag}", 200), ('"other"', 200), ("Thu, 26 Nov 2026 10:00:00 GMT", 200)):
        headers = {"Range": "bytes=1-2", "If-Range": condition}
        assert client_viewer.get(link, headers=headers).status_code == status
    assert client_viewer.get(link, headers={"If-None-Match": tag}).status_code == 304
    assert client_viewer.get(link, headers={"If-Match": '"other"'}).status_code == 412


def test_head_tells_the_size_and_ignores_a_range(client_viewer: Client, link: str) -> None:
    response = client_viewer.head(link, headers={"Range": "bytes=1-2"})
    assert response.status_code == 200
    assert (response["Content-Length"], response["Accept-Ranges"], response.content) == (str(SIZE), "bytes", b"")


def test_no_range_of_a_file_cut_or_lengthened_is_served(
    client_viewer: Client, link: str, listed: Callable[[], list[Path]]
) -> None:
    (path,) = listed()
    whole = path.read_bytes()
    for changed in (whole[: HEADER.size + SEALED_BYTES], whole[:-1], whole + b"x", whole + whole[-SEALED_BYTES:]):
        path.write_bytes(changed)
        assert client_viewer.get(link, headers={"Range": "bytes=0-9"}).status_code == 404
    path.write_bytes(whole)
    assert body(client_viewer.get(link, headers={"Range": "bytes=0-9"})) == CONTENT[:10]
