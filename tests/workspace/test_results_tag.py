"""The results of a search are put together without a template: what people wrote arrives escaped, once."""

from html import escape
from types import SimpleNamespace
from uuid import uuid4

from django.template import Context
from django.utils.safestring import SafeString

from search.highlighting import Snippet
from search.presentation import Link, Shown
from search.querying import Hit
from search.sources import Source
from workspace.templatetags.results import results

HOSTILE = """<b>&{0}{title}'\""""


def test_what_people_wrote_is_escaped_once_wherever_it_stands() -> None:
    hit = Hit(
        document_id=uuid4(),
        sequence=0,
        rank=1,
        score=1.0,
        dense=0.5,
        keyword=2.0,
        dense_rank=1,
        keyword_rank=1,
        more=2,
        language="en",
        length=10,
    )
    shown = Shown(
        hit=hit,
        chunk_id=uuid4(),
        source=Source(hit.document_id, HOSTILE, "/document/", uuid4(), HOSTILE, "text"),
        page=1,
        page_label=HOSTILE,
        snippet=Snippet(SafeString("a <mark>word</mark>"), cut_before=True, cut_after=True, words=(HOSTILE,)),
        url=HOSTILE,
        alike_url=HOSTILE,
        same=(Link(HOSTILE, "/other/"),),
    )
    request = SimpleNamespace(tenant=SimpleNamespace(name=HOSTILE))
    found = results(Context({"request": request, "origin": HOSTILE, "mode": "hybrid", "phrases": [HOSTILE]}), [shown])
    assert HOSTILE not in found
    assert "<b>" not in found
    assert escape(escape("<b>")) not in found
    title, collection, label, citation, url, alike, phrase, words, same = 4, 1, 1, 5, 2, 1, 1, 1, 1
    assert found.count(escape(HOSTILE)) == sum((title, collection, label, citation, url, alike, phrase, words, same))
    assert "<mark>word</mark>" in found
