"""The addresses of documents in a workspace: how each is asked for, and the least role that may."""

from typing import Any

from documents.models import Document

ROUTES = [  # address, method, the least role
    ("documents/", "get", "viewer"),
    ("documents/rows/", "get", "viewer"),
    ("documents/upload/", "get", "editor"),
    ("documents/upload/", "post", "editor"),
    ("documents/{document}/", "get", "viewer"),
    ("documents/{document}/status/", "get", "viewer"),
    ("documents/{document}/download/", "get", "viewer"),
    ("documents/{document}/delete/", "get", "editor"),
    ("documents/{document}/delete/", "post", "editor"),
    ("documents/{document}/retry/", "post", "editor"),
    ("documents/{document}/cancel/", "post", "editor"),
    ("collections/", "get", "viewer"),
    ("collections/create/", "post", "editor"),
    ("collections/{collection}/rename/", "get", "editor"),
    ("collections/{collection}/rename/", "post", "editor"),
    ("collections/{collection}/access/", "get", "admin"),
    ("collections/{collection}/access/", "post", "admin"),
    ("collections/{collection}/delete/", "get", "admin"),
    ("collections/{collection}/delete/", "post", "admin"),
]
ROLES = ["viewer", "editor", "admin", "owner"]


def path_of(route: str, document: Document) -> str:
    return route.format(document=document.id, collection=document.collection_id)


def without_reference(response: Any) -> str:
    """The page, without what differs each time it is asked for."""
    text = response.content.decode()
    for token in (response.wsgi_request.reference, str(response.context["csrf_token"]) if response.context else ""):
        text = text.replace(token, "") if token else text
    return text
