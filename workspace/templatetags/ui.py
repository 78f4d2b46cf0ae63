"""The small words of every template: icons, states, form fields, sizes and dates. Knows Django forms and the partials
it renders; refuses to know any model of Cloister."""

import datetime
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from django import forms, template
from django.core.exceptions import NON_FIELD_ERRORS
from django.forms.utils import flatatt
from django.template.base import NodeList, Parser, Token
from django.template.context import Context
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from heroicons.templatetags.heroicons import heroicon_outline

from tenants.wording import size

register = template.Library()

# What a stored state is called on a page, and which of the five signs stands beside the word.
STATES: dict[str, tuple[str, str]] = {
    "queued": ("queued", "Queued"),
    "pending": ("queued", "Pending"),
    "extracting": ("working", "Extracting text"),
    "chunking": ("working", "Splitting into passages"),
    "embedding": ("working", "Embedding"),
    "indexing": ("working", "Indexing"),
    "working": ("working", "Working"),
    "running": ("working", "Running"),
    "creating": ("working", "Creating"),
    "provisioning": ("working", "Creating"),
    "cancelling": ("working", "Cancelling"),
    "erasing": ("working", "Erasing"),
    "ready": ("ready", "Ready"),
    "active": ("ready", "Active"),
    "done": ("ready", "Done"),
    "finished": ("ready", "Done"),
    "complete": ("ready", "Done"),
    "accepted": ("ready", "Accepted"),
    "passed": ("ready", "Passed"),
    "clean": ("ready", "Nothing found"),
    "found": ("failed", "Plaintext found"),
    "failed": ("failed", "Failed"),
    "leaks": ("failed", "Leaks found"),
    "inconclusive": ("warn", "Inconclusive"),
    "alone": ("cancelled", "Nothing to compare with"),
    "interrupted": ("cancelled", "Interrupted"),
    "left out": ("cancelled", "Not tried"),
    "suspended": ("warn", "Suspended"),
    "expired": ("cancelled", "Expired"),
    "cancelled": ("cancelled", "Cancelled"),
    "revoked": ("cancelled", "Revoked"),
}

PREFERENCES = {"theme": {"light", "dark"}, "density": {"compact"}, "shortcuts": {"off"}}


FORMATS = {
    "pdf": "PDF",
    "docx": "Word",
    "pptx": "PowerPoint",
    "xlsx": "Excel",
    "xls": "Excel",
    "odt": "OpenDocument text",
    "odp": "OpenDocument slides",
    "ods": "OpenDocument sheets",
    "doc": "Word before 2007",
    "ppt": "PowerPoint before 2007",
    "msg": "Outlook message",
    "html": "HTML",
    "markdown": "Markdown",
    "text": "Plain text",
    "csv": "CSV",
    "epub": "EPUB",
    "eml": "E-mail",
    "rtf": "RTF",
    "zip": "ZIP archive",
    "png": "PNG picture",
    "jpeg": "JPEG picture",
    "tiff": "TIFF picture",
    "webp": "WebP picture",
    "bmp": "BMP picture",
    "gif": "GIF picture",
}


class Problem(NamedTuple):
    """One line of the summary above a form; an empty anchor means that no single field is at fault."""

    anchor: str
    label: str
    message: str


@register.simple_tag
@cache  # few, and drawing one takes longer than any other word here
def icon(name: str, size: int = 20) -> str:
    """A heroicons outline drawing, hidden from screen readers: it stands beside a word or in a named button."""
    classes = "icon" if size >= 20 else "icon icon-small"
    return heroicon_outline(name, size=size, focusable="false", **{"class": classes, "aria-hidden": "true"})


@register.inclusion_tag("partials/state.html")
def state(value: object, word: str = "") -> dict[str, str]:
    """The sign and the word of a stored state; `word` replaces the word where a page has a better one."""
    kind, default = STATES.get(str(value), ("queued", str(value).replace("_", " ").capitalize()))
    return {"kind": kind, "word": word or default}


@register.inclusion_tag("partials/field.html")
def field(bound: forms.BoundField, label: str = "", hint: str | bool | None = None, **attrs: object) -> dict[str, object]:
    """Label, hint, control and error of one form field; further keyword arguments become attributes of the control.

    `label` and `hint` replace the form's own words where a third party's form has none that fit; hint=False drops them.
    """
    shown_hint = bound.help_text if hint is None else hint
    widget = bound.field.widget
    hint_id, error_id = f"{bound.auto_id}_hint", f"{bound.auto_id}_error"
    described_by = " ".join(part for part in (hint_id if shown_hint else "", error_id if bound.errors else "") if part)
    given: dict[str, Any] = {name.replace("_", "-"): value for name, value in attrs.items()}
    kind = _kind(widget)
    if described_by and kind != "group":
        given["aria-describedby"] = described_by
    if bound.errors:
        given["aria-invalid"] = "true"
    if str(widget.attrs.get("placeholder", "")).lower() == str(bound.label).lower():
        given["placeholder"] = False  # it would only repeat the label
    return {
        "field": bound,
        "label": label or bound.label,
        "hint": shown_hint,
        "kind": kind,
        "control": _control(bound, given),
        "hint_id": hint_id,
        "error_id": error_id,
        "described_by": described_by,
        "optional": not bound.field.required and kind != "check",
    }


def _control(bound: forms.BoundField, attrs: dict[str, Any]) -> str:
    """As `as_widget` gives it; one line of text, which every search has, without its three templates."""
    widget = bound.field.widget
    if type(widget) is not forms.TextInput or bound.field.localize:
        return bound.as_widget(attrs=attrs)
    attrs = bound.build_widget_attrs(attrs, widget)
    if bound.auto_id and "id" not in widget.attrs:
        attrs.setdefault("id", bound.auto_id)
    made = widget.get_context(bound.html_name, bound.value(), attrs)["widget"]
    value = "" if made["value"] is None else format_html(' value="{}"', made["value"])
    return format_html('<input type="{}" name="{}"{}{}>', made["type"], made["name"], value, flatatt(made["attrs"]))


@register.inclusion_tag("partials/form_errors.html")
def form_errors(form: forms.BaseForm) -> dict[str, list[Problem]]:
    """The focusable summary above a form that was refused; nothing for a form without errors."""
    return {"problems": list(_problems(form))}


@register.filter(name="bytes")
def byte_size(count: int | str | None) -> str:
    """A number of bytes in decimal units as a person reads it: 900 bytes, 4.2 MB."""
    return "" if count is None or count == "" else size(float(count))


@register.filter
def count(number: int | str | None) -> str:
    """A whole number in groups of three digits: 1,204."""
    return "" if number is None or number == "" else f"{int(number):,}"


@register.filter
def signed(number: float | None) -> str:
    """A score that counts from an average, with its sign: +2.68, −0.42."""
    return "" if number is None else f"{number:+.2f}".replace("-", "−")


@register.filter
def format_name(form: str) -> str:
    """What people call a file's format: Markdown, Word, plain text."""
    return FORMATS.get(form, form)


@register.filter
def exact_date(moment: datetime.datetime | datetime.date | None) -> str:
    """A <time> with day and minute in the current time zone, whose name the footer of every page gives."""
    if moment is None:
        return ""
    if not isinstance(moment, datetime.datetime):
        return format_html('<time datetime="{}">{}</time>', moment.isoformat(), f"{moment.day} {moment:%b %Y}")
    if timezone.is_aware(moment):
        moment = timezone.localtime(moment)
    words = f"{moment.day} {moment:%b %Y, %H:%M}"
    return format_html('<time datetime="{}">{}</time>', moment.isoformat(timespec="seconds"), words)


@register.simple_tag
def time_zone_name() -> str:
    """The name of the zone that exact_date writes in."""
    return timezone.get_current_timezone_name()


@register.simple_tag(takes_context=True)
def passkeys_work(context: Context) -> bool:
    """Whether a browser lets this address ask for one: HTTPS, or a name for the machine itself (W3C, Secure Contexts)."""
    request = context["request"]
    return bool(request.is_secure() or request.get_host().partition(":")[0] == "localhost")


@register.simple_tag(takes_context=True)
def preferences(context: Context) -> SafeString:
    """The choices this browser keeps in cookies, as data- attributes of <html>, so that nothing flashes."""
    request = context.get("request")
    cookies = getattr(request, "COOKIES", {})
    chosen = ((name, cookies.get(name)) for name in PREFERENCES)
    return format_html_join("", ' data-{}="{}"', ((name, value) for name, value in chosen if value in PREFERENCES[name]))


class CaptureNode(template.Node):
    """Renders what it encloses into a variable: a block's words can then be tested and used twice."""

    child_nodelists = ("nodelist",)

    def __init__(self, name: str, nodelist: NodeList) -> None:
        self.name = name
        self.nodelist = nodelist

    def render(self, context: Context) -> SafeString:
        context[self.name] = SafeString(self.nodelist.render(context).strip())
        return SafeString("")


@register.tag
def capture(parser: Parser, token: Token) -> CaptureNode:
    """{% capture name %}…{% endcapture %}"""
    words = token.split_contents()
    if len(words) != 2:
        raise template.TemplateSyntaxError("capture takes one name")
    nodelist = parser.parse(("endcapture",))
    parser.delete_first_token()
    return CaptureNode(words[1], nodelist)


def _kind(widget: forms.Widget) -> str:
    if isinstance(widget, forms.RadioSelect | forms.CheckboxSelectMultiple):
        return "group"
    if isinstance(widget, forms.CheckboxInput):
        return "check"
    if isinstance(widget, forms.PasswordInput):
        return "password"
    return "control"


def _problems(form: forms.BaseForm) -> Iterator[Problem]:
    for message in form.non_field_errors():
        yield Problem("", "", str(message))
    for name, errors in form.errors.items():
        if name == NON_FIELD_ERRORS:
            continue
        bound = form[name]
        anchor = bound.auto_id if _kind(bound.field.widget) == "group" else bound.id_for_label
        for message in errors:
            yield Problem("" if bound.is_hidden else str(anchor), str(bound.label), str(message))
