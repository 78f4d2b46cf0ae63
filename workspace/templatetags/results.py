"""The results of a search as HTML. Every search waits for them, and a template takes five times as long: it asks of each piece
anew what it is. All but the fixed text goes through format_html, which escapes it.
"""

from collections.abc import Iterable, Iterator

from django import template
from django.template.context import Context
from django.template.loader import render_to_string
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from search.presentation import Shown
from workspace.templatetags.ui import format_name, signed

register = template.Library()

RESULT = """
    <article class="result">
      <h2 class="result-title"><a href="{url}">{title}</a></h2>
      <p class="result-meta">{about}<span class="score">Rank {rank}, score {score}</span></p>
      <p class="passage">{before}{passage}{after}</p>
      {others}{same}
      <details class="disclosure">
        <summary>Why this result<span class="visually-hidden">: {title}</span></summary>
        <dl class="kv kv-tight">{why}</dl>
      </details>
      <div class="row">
        <a class="btn btn-quiet btn-small" href="{alike_url}">More like this<span class="visually-hidden">: {title}</span></a>
        <button class="btn btn-quiet btn-small js-only" type="button" data-copy="#{citation}" data-key="c"><span data-label>Copy citation</span><span class="visually-hidden">: {title}</span></button>
      </div>
    </article>"""  # noqa: E501
ABOUT, WHY = "<span>{}</span>", "<dt>{}</dt><dd>{}</dd>"
CITATION = '<span class="mono" id="{}">{} ({}), {}{}</span>'
OTHERS = '<p class="meta">{}</p>'
CUT_BEFORE, CUT_AFTER, NOTHING = mark_safe("…&nbsp;"), mark_safe("&nbsp;…"), mark_safe("")
RANKED_BY = {"meaning": "meaning alone", "words": "words alone"}


@register.simple_tag(takes_context=True)
def results(context: Context, shown: Iterable[Shown]) -> SafeString:
    """One article for each. Takes from the context: mode, phrases, origin, and whose workspace it is."""
    workspace, origin = context["request"].tenant.name, context["origin"]
    ranked_by = RANKED_BY.get(context["mode"], "60 % meaning and 40 % words")
    phrases = "”, “".join(context.get("phrases") or ())

    def why(item: Shown, citation: str) -> Iterator[tuple[str, str]]:
        yield "By meaning", item.by_meaning
        yield "By words", item.by_words
        if item.snippet.words:
            yield "Words here", ", ".join(item.snippet.words)
        if phrases:
            yield "Word for word", f"“{phrases}”"
        yield "Citation", format_html(CITATION, citation, item.cited, workspace, origin, item.url)
        score = signed(item.hit.score)
        yield "Score", f"{score}: {ranked_by}; 0 is the average candidate, 1 a standard deviation above it"

    def article(item: Shown) -> SafeString:
        citation, source = f"citation-{item.chunk_id}", item.source
        about = [(each,) for each in (item.page_label, source.collection_name, format_name(source.format)) if each]
        return format_html(
            RESULT,
            url=item.url,
            title=source.title,
            about=format_html_join("", ABOUT, about),
            rank=item.hit.rank,
            score=signed(item.hit.score),
            before=CUT_BEFORE if item.snippet.cut_before else NOTHING,
            passage=item.snippet.html,
            after=CUT_AFTER if item.snippet.cut_after else NOTHING,
            others=format_html(OTHERS, item.others) if item.others else NOTHING,
            same=render_to_string("search/_same_passage.html", {"same": item.same}) if item.same else NOTHING,
            why=format_html_join("", WHY, why(item, citation)),
            alike_url=item.alike_url,
            citation=citation,
        )

    return mark_safe("".join(map(article, shown)))  # noqa: S308  # every part was escaped above
