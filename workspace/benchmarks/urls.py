"""The workspace's pages as they are, the search telling where its time goes, and what a search is held against: a page behind
the same middleware that asks the model and the index, and does nothing else.
"""

import time
from functools import cache
from uuid import UUID

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, URLResolver, path

from search import indexes, ranking
from search.candidates import over_fetch
from search.embeddings import embedder
from search.indexes import Live
from search.loaded import binary_cursor, sealed_index, terms_of
from search.models import Protection
from search.views import search_page
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest
from workspace import urls_workspace
from workspace.benchmarks.parts import told

FLOOR, READY = "benchmark/floor/", "benchmark/ready/"
CANDIDATES = (
    "SELECT chunk_id FROM search_indexentry WHERE index_id = %s ORDER BY vector::halfvec(384) <=> %s::halfvec(384) LIMIT %s"
)


@requires("search")
def floor(request: WorkspaceRequest) -> HttpResponse:
    """Milliseconds of the bare embedding and of the bare candidate query, and how many candidates there were."""
    live, amount = _asked(request.tenant.pk)
    began = time.perf_counter()
    query = embedder().embed_query(request.POST["q"], b"floor" + request.tenant.pk.bytes)
    embedded = time.perf_counter()
    if live.protection == Protection.SEALED:
        rows, _ = sealed_index(live).nearest(query, terms_of(live), None, ranking.WINDOW)
        found = len(rows)
    else:
        with binary_cursor() as cursor:
            cursor.execute(CANDIDATES, [live.id, indexes.asked_form(live, query), amount])
            found = len(cursor.fetchall())
    searched = time.perf_counter()
    parts = {"embedding": 1000 * (embedded - began), "candidates": 1000 * (searched - embedded)}
    return JsonResponse({"found": found, "milliseconds": parts})


@requires("search")
def ready(request: HttpRequest) -> HttpResponse:
    """200 once a sealed index has trained what it is asked with."""
    live = indexes.live()
    segments = sealed_index(live).segments if live.protection == Protection.SEALED else ()
    is_training = any(segment.wants_lists and segment.lists is None for segment in segments)
    return HttpResponse(status=503 if is_training else 200)


@cache
def _asked(tenant: UUID) -> tuple[Live, int]:
    """The index, and as many candidates as a search asks it for. Read once: nothing changes while it is measured."""
    live = indexes.live()
    return live, over_fetch(live, terms_of(live).chunks, None)[0]


urlpatterns: list[URLPattern | URLResolver] = [
    path("", told(search_page), name="search"),
    path(FLOOR, floor),
    path(READY, ready),
    *urls_workspace.urlpatterns,
]
handler400, handler403 = urls_workspace.handler400, urls_workspace.handler403
handler404, handler500 = urls_workspace.handler404, urls_workspace.handler500
