"""The addresses of documents in a workspace: how each is asked for, and the least role that may."""

from typing import Any

from django.utils import timezone

from documents.models import Arrival, Document, Field

ROUTES = [  # address, method, the least role
    ("documents/", "get", "viewer"),
    ("documents/rows/", "get", "viewer"),
    ("documents/act/", "post", "editor"),
    ("documents/pause/", "post", "editor"),
    ("documents/resume/", "post", "editor"),
    ("documents/upload/", "get", "editor"),
    ("documents/upload/", "post", "editor"),
    ("documents/arriving/", "post", "editor"),
    ("documents/arriving/{arrival}/", "get", "editor"),
    ("documents/arriving/{arrival}/", "put", "editor"),
    ("documents/arriving/{arrival}/", "delete", "editor"),
    ("documents/arriving/{arrival}/complete/", "post", "editor"),
    ("documents/{document}/", "get", "viewer"),
    ("documents/{document}/status/", "get", "viewer"),
    ("documents/{document}/download/", "get", "viewer"),
    ("documents/{document}/pictures/1/", "get", "viewer"),
    ("documents/{document}/delete/", "post", "editor"),
    ("documents/{document}/retry/", "post", "editor"),
    ("documents/{document}/unlock/", "get", "editor"),
    ("documents/{document}/unlock/", "post", "editor"),
    ("documents/{document}/cancel/", "post", "editor"),
    ("documents/{document}/use/", "post", "editor"),
    ("documents/{document}/compare/", "get", "viewer"),
    ("documents/{trashed}/restore/", "post", "editor"),
    ("documents/{trashed}/erase/", "get", "editor"),
    ("documents/{trashed}/erase/", "post", "editor"),
    ("documents/trash/", "get", "editor"),
    ("documents/trash/empty/", "get", "editor"),
    ("documents/trash/empty/", "post", "editor"),
    ("export/", "get", "owner"),
    ("export/", "post", "owner"),
    ("collections/", "get", "viewer"),
    ("collections/create/", "post", "editor"),
    ("collections/{collection}/rename/", "get", "editor"),
    ("collections/{collection}/rename/", "post", "editor"),
    ("collections/{collection}/access/", "get", "admin"),
    ("collections/{collection}/access/", "post", "admin"),
    ("collections/{collection}/fields/", "get", "editor"),
    ("collections/{collection}/fields/", "post", "editor"),
    ("collections/{collection}/fields/{field}/", "get", "editor"),
    ("collections/{collection}/fields/{field}/", "post", "editor"),
    ("collections/{collection}/fields/{field}/delete/", "get", "admin"),
    ("collections/{collection}/fields/{field}/delete/", "post", "admin"),
    ("collections/{collection}/describe/", "get", "editor"),
    ("collections/{collection}/describe/", "post", "editor"),
    ("documents/{document}/describe/", "get", "editor"),
    ("documents/{document}/describe/", "post", "editor"),
    ("collections/{collection}/delete/", "get", "admin"),
    ("collections/{collection}/delete/", "post", "admin"),
]
ROLES = ["viewer", "editor", "admin", "owner"]


def path_of(route: str, document: Document) -> str:
    """A field and an upload in pieces have their collection's id, see `made_ready`."""
    collection = document.collection_id
    return route.format(document=document.id, trashed=document.id, collection=collection, field=collection, arrival=collection)


def made_ready(document: Document, route: str) -> Document:
    """In the trash, for addresses that lead there; with a field in its collection, for addresses of one."""
    if "{field}" in route:
        collection = document.collection
        Field.objects.create(
            id=collection.id, collection=collection, name="State", name_digest=b"f" * 32, kind="keyword", position=1
        )
    if "{arrival}" in route:
        Arrival.objects.create(id=document.collection_id, collection=document.collection, created_by_id=0, about={}, size=1)
    if "{trashed}" in route:
        document.trashed_at = timezone.now()
        document.save(update_fields=["trashed_at"])
    return document


def without_reference(response: Any) -> str:
    """The page, without what differs each time it is asked for."""
    text = response.content.decode()
    for token in (response.wsgi_request.reference, str(response.context["csrf_token"]) if response.context else ""):
        text = text.replace(token, "") if token else text
    return text
