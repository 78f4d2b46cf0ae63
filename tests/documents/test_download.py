"""Downloading gives back the very bytes, as an attachment that no browser interprets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.test import Client

from documents import storage
from tenants.context import workspace
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
