"""Puts words into everything that takes some, where nobody sees it, and takes them away again.

A document that cannot be read, a search, refused names, a request to the web server: what the canaries of the isolation
self-test do not cover. It lies in the canaries' collection, which nobody is shown.
"""

import logging
import secrets
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from django.conf import settings

from documents import erasing, ingestion, storage
from documents.models import Collection, Document
from documents.receiving import create_collection, receive
from search import querying
from tenants.audit import recording
from tenants.context import workspace
from tenants.errors import Refused
from tenants.locks import alone_with
from workspace.isolation import canaries
from workspace.isolation.asking import quiet
from workspace.isolation.canaries import Canary

logger = logging.getLogger(__name__)
ALPHABET = "bcdfghjklmnpqrstvwxz"  # no vowels: not a word, and no stemmer takes anything off


def new_word() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(16))


@contextmanager
def planted(canary: Canary) -> Iterator[list[str]]:
    """The words that now stand in the workspace; what is put there for this alone is gone afterwards, however it ends."""
    word = new_word()
    try:
        with workspace(canary.tenant), quiet(), recording.withheld():
            _clear()
            _plant(canary, word)
        yield [canary.asked, canary.told, word]
    finally:
        with workspace(canary.tenant):
            _clear()


def _plant(canary: Canary, word: str) -> None:
    collection = Collection.objects.get(pk=canary.ids["collection"])
    stored = storage.store(uuid4(), [b"%PDF-1.7 ", word.encode()])
    with alone_with(stored.document_id):  # the job that is queued for it finds it done
        document = receive(stored, f"{word}.pdf", collection, title=f"{canaries.TITLE}{word}")
        ingestion.ingest(document.id)
    querying.search(f"{word} {canary.asked}", collections=[collection.pk])
    with suppress(Refused):
        create_collection(word * 100)
    _ask_web_server(f"{canary.tenant.path}?q={word}", word)


def _ask_web_server(path: str, word: str) -> None:
    """As a stranger, by the address that links name; where it does not answer, its log has nothing to show."""
    if not settings.PUBLIC_URL.startswith(("http://", "https://")):
        return
    headers = {"User-Agent": word, "Referer": f"{settings.PUBLIC_URL}/{word}"}
    form = urllib.parse.urlencode({"q": word}).encode()
    for data in (None, form):
        with suppress(urllib.error.URLError, OSError):
            request = urllib.request.Request(f"{settings.PUBLIC_URL}{path}", data, headers)  # noqa: S310 - http(s) alone
            urllib.request.urlopen(request, timeout=3).close()  # noqa: S310


def _clear() -> None:
    """Also what a killed check left behind: in that collection only the canary is ready."""
    leftover = Document.objects.filter(collection__is_canary=True).exclude(state=Document.State.READY)
    erasing.discard_documents(leftover.exclude(state__in=Document.UNFINISHED))
