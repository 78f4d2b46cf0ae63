"""The results of a search as HTML. Every search waits for them, and a template takes ten times as long, format_html twice:
they ask of each piece anew what it is. Here `_filled` takes what is HTML already and nothing else, so that mypy finds a text
that was not escaped.
"""

from collections.abc import Iterable, Mapping
from html import escape

from django import template
from django.template.context import Context
from django.template.loader import render_to_string
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe

from search.presentation import Shown
from workspace.templatetags.ui import format_name, signed

register = template.Library()

RESULT = """
    <article class="result">
      <h2 class="result-title"><a href="{url}">{title}</a></h2>
      <p class="result-meta">{page_label}<span>{collection}</span>{format}<span class="score">Rank {rank}, score {score}</span></p>
      <p class="passage">{before}{passage}{after}</p>
      {others}{same}
      <details class="disclosure">
        <summary>Why this result<span class="visually-hidden">: {title}</span></summary>
        <dl class="kv kv-tight"><dt>By meaning</dt><dd>{by_meaning}</dd><dt>By words</dt><dd>{by_words}</dd>{words}{phrases}<dt>Citation</dt><dd><span class="mono" id="citation-{id}">{cited} ({workspace}), {origin}{url}</span></dd><dt>Score</dt><dd>{score}: {ranked_by}; 0 is the average candidate, 1 a standard deviation above it</dd></dl>
      </details>
      <div class="row">
        <a class="btn btn-quiet btn-small" href="{alike_url}">More like this<span class="visually-hidden">: {title}</span></a>
        <button class="btn btn-quiet btn-small js-only" type="button" data-copy="#citation-{id}" data-key="c"><span data-label>Copy citation</span><span class="visually-hidden">: {title}</span></button>
      </div>
    </article>"""  # noqa: E501
ABOUT, OTHERS = "<span>{text}</span>", '<p class="meta">{text}</p>'
WORDS, PHRASES = "<dt>Words here</dt><dd>{text}</dd>", "<dt>Word for word</dt><dd>“{text}”</dd>"
HIDDEN = '<input type="hidden" name="{}" value="{}">'
CUT_BEFORE, CUT_AFTER, NOTHING = mark_safe("…&nbsp;"), mark_safe("&nbsp;…"), mark_safe("")
RANKED_BY = {"meaning": "meaning alone", "words": "words alone"}


@register.simple_tag
def asked_again(asked: Mapping[str, str]) -> SafeString:
    """Everything that was asked, as SearchForm.asked gives it, for a form that sends it again."""
    return format_html_join("", HIDDEN, asked.items())


@register.simple_tag(takes_context=True)
def results(context: Context, shown: Iterable[Shown]) -> SafeString:
    """One article for each. Takes from the context: mode, phrases, origin, and whose workspace it is."""
    of_all = _escaped(
        workspace=context["request"].tenant.name,
        origin=context["origin"],
        ranked_by=RANKED_BY.get(context["mode"], "60 % meaning and 40 % words"),
    ) | {"phrases": _if_any(PHRASES, "”, “".join(context.get("phrases") or ()))}
    return mark_safe("".join([_article(item, of_all) for item in shown]))  # noqa: S308  # of pieces that are HTML


def _article(item: Shown, of_all: Mapping[str, SafeString]) -> SafeString:
    texts = _escaped(
        url=item.url,
        title=item.source.title,
        collection=item.source.collection_name,
        rank=str(item.hit.rank),
        score=signed(item.hit.score),
        by_meaning=item.by_meaning,
        by_words=item.by_words,
        cited=item.cited,
        alike_url=item.alike_url,
        id=str(item.chunk_id),
    )
    pieces: dict[str, SafeString] = {
        "page_label": _if_any(ABOUT, item.page_label),
        "format": _if_any(ABOUT, format_name(item.source.format)),
        "before": CUT_BEFORE if item.snippet.cut_before else NOTHING,
        "passage": item.snippet.html,
        "after": CUT_AFTER if item.snippet.cut_after else NOTHING,
        "others": _if_any(OTHERS, item.others),
        "same": render_to_string("search/_same_passage.html", {"same": item.same}) if item.same else NOTHING,
        "words": _if_any(WORDS, ", ".join(item.snippet.words)),
    }
    return _filled(RESULT, **texts, **pieces, **of_all)


def _if_any(piece: str, text: str) -> SafeString:
    return _filled(piece, **_escaped(text=text)) if text else NOTHING


def _escaped(**texts: str) -> dict[str, SafeString]:
    return {name: SafeString(escape(text)) for name, text in texts.items()}


def _filled(fixed: str, **pieces: SafeString) -> SafeString:
    return SafeString(fixed.format(**pieces))
