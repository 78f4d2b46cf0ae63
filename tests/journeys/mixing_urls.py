"""A workspace's pages and, beside them, views that go wrong in every way a view can: for test_mixing.py."""

from collections.abc import Iterator

from django.db import DatabaseError, connection, transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import include, path

from documents.models import Collection
from documents.receiving import create_collection

handler400, handler403, handler404, handler500 = (f"workspace.views.error_{code}" for code in (400, 403, 404, 500))


class Wrong(Exception):
    pass


def _names() -> str:
    return "\n".join(collection.name for collection in Collection.objects.all())


def exception(request: HttpRequest) -> HttpResponse:
    _names()
    raise Wrong


def inside_a_transaction(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        create_collection("never kept")
        raise Wrong


def database(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 / 0")
    return HttpResponse("never")


def rollback(request: HttpRequest) -> HttpResponse:
    try:
        with transaction.atomic():
            create_collection("never kept")
            with transaction.atomic():
                _names()
            raise Wrong
    except Wrong:
        return HttpResponse(_names())


def savepoint(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        try:
            with transaction.atomic():
                create_collection("never kept")
                raise Wrong
        except Wrong:
            return HttpResponse(_names())


def swallowed(request: HttpRequest) -> HttpResponse:
    """PostgreSQL makes a rollback of this commit."""
    with transaction.atomic():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 / 0")
        except DatabaseError:
            pass
    return HttpResponse(_names())


def raw(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("/* raw */ RESET ROLE")
    return HttpResponse(_names())


def setting(request: HttpRequest) -> HttpResponse:
    """Left in the session, it would make every later statement fail."""
    with connection.cursor() as cursor:
        cursor.execute("/* raw */ SET search_path = ''")
        cursor.execute("SET default_transaction_read_only = on")
    return HttpResponse(_names())


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def pieces() -> Iterator[str]:
        for _ in range(20):
            yield _names() + "\n"

    return StreamingHttpResponse(pieces(), content_type="text/plain")


def broken_stream(request: HttpRequest) -> StreamingHttpResponse:
    def pieces() -> Iterator[str]:
        yield _names()
        with transaction.atomic():
            _names()
            raise Wrong

    return StreamingHttpResponse(pieces(), content_type="text/plain")


WRONG = (exception, inside_a_transaction, database)  # these answer 500
RIGHT = (rollback, savepoint, swallowed, raw, setting)  # these answer the workspace's collections

urlpatterns = [
    path("", include("workspace.urls_workspace")),
    *[path(f"mixing/{view.__name__}/", view) for view in (*WRONG, *RIGHT, stream, broken_stream)],
]
