"""The filters of the search page: which there are where somebody searches, how they are asked for, and what they mean.

Fields of one name and kind are one filter, whichever collections they are in, as far as the member sees these. A filter
travels as `f-…`, a digest of its name and kind: the same for everybody in the workspace, whatever else they see.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.utils import timezone

from search.facts import Added, Condition, Is, Within
from search.sources import CollectionName
from tenants.ciphers import digest

CHOICES = 100  # of a keyword; with more values it is typed
FACETS = 8  # values counted on the page, of each field
RANGES = frozenset({"integer", "number", "date"})
FACETED = frozenset({"keyword", "boolean"})
PREFIX = "f-"
ANY = ("", "Any")
YES_NO = {"yes": "Yes", "no": "No"}
BAD_DAY = "Write year, month and day, such as 2026-03-31."


class DayInput(forms.DateInput):
    input_type = "date"

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs, format="%Y-%m-%d")


@dataclass(frozen=True)
class Filter:
    """`fields` are those that go by this name and kind; none: when a document was added."""

    key: str
    name: str
    kind: str
    fields: frozenset[UUID] = field(default_factory=frozenset)

    @property
    def is_range(self) -> bool:
        return self.kind in RANGES

    @property
    def names(self) -> tuple[str, ...]:
        """The form fields it is asked for by."""
        return (f"{self.key}-from", f"{self.key}-to") if self.is_range else (self.key,)

    def form_fields(self) -> dict[str, forms.Field]:
        if self.is_range:
            return {name: self._bound(end) for name, end in zip(self.names, ("from", "to"), strict=True)}
        if self.kind == "boolean":
            said = {"invalid_choice": "Choose yes, no, or any."}
            return {
                self.key: forms.ChoiceField(
                    label=self.name, required=False, choices=[ANY, *YES_NO.items()], error_messages=said
                )
            }
        typed = forms.TextInput(attrs={"autocomplete": "off"})
        return {self.key: forms.CharField(label=self.name, required=False, max_length=1000, widget=typed)}

    def _bound(self, end: str) -> forms.Field:
        label = f"{self.name}, {end}"
        if self.kind == "date":
            said = {"invalid": BAD_DAY}
            return forms.DateField(
                label=label, required=False, input_formats=["%Y-%m-%d"], widget=DayInput(), error_messages=said
            )
        said = {"invalid": "Write a number in digits, with a point before decimals."}
        typed = forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"})
        return forms.FloatField(label=label, required=False, widget=typed, error_messages=said)

    def condition(self, asked: Mapping[str, Any]) -> Condition | None:
        """What its values in the form's cleaned data mean; None: nothing was asked of it."""
        if not self.is_range:
            text = " ".join(str(asked.get(self.key) or "").split())
            return Is(self.fields, text) if text else None
        low, high = (asked.get(name) for name in self.names)
        if low is None and high is None:
            return None
        if not self.fields:
            return Added(_begins(low), None if high in (None, date.max) else _begins(high + timedelta(days=1)))
        return Within(self.fields, _number(low), _number(high))

    def is_empty_range(self, asked: Mapping[str, Any]) -> bool:
        """From is beyond to: nothing can be in between."""
        low, high = (asked.get(name) for name in self.names) if self.is_range else (None, None)
        return low is not None and high is not None and low > high

    def in_words(self, asked: Mapping[str, Any]) -> str:
        """What is asked of it, as its chip says it; empty: nothing."""
        if not self.is_range:
            text = " ".join(str(asked.get(self.key) or "").split())
            return f"{self.name}: {self.shown(text)}" if text else ""
        low, high = (_in_words(asked.get(name)) for name in self.names)
        if low and high:
            return f"{self.name}: {low} to {high}"
        return f"{self.name}: from {low}" if low else f"{self.name}: up to {high}" if high else ""

    def shown(self, value: str) -> str:
        return YES_NO.get(value, value) if self.kind == "boolean" else value


ADDED = Filter("added", "Added", "date")


def filters_of(collections: Iterable[CollectionName]) -> list[Filter]:
    """Those of the fields of these collections, in their order, and when a document was added."""
    together: dict[tuple[str, str], tuple[str, set[UUID]]] = {}
    for collection in collections:
        for each in collection.fields:
            _, fields = together.setdefault((each.kind, each.name.casefold()), (each.name, set()))
            fields.add(each.id)
    found = [Filter(_key(kind, folded), name, kind, frozenset(fields)) for (kind, folded), (name, fields) in together.items()]
    return [*found, ADDED]


def _key(kind: str, folded: str) -> str:
    return PREFIX + digest("dedupe", f"filter:{kind}:{folded}").hex()[:16]


def after_click(asked: Any) -> tuple[Any, bool]:
    """What a form asks for once its button is heeded (`off` takes a filter off, `pick` sets one). And was one pressed?"""
    if asked is None or not ("off" in asked or "pick" in asked):
        return asked, False
    changed = asked.copy()
    off, (picked, _, value) = str(asked.get("off", "")), str(asked.get("pick", "")).partition("=")
    for name in (off, f"{off}-from", f"{off}-to"):
        if _is_a_filter(name) and name in changed:
            changed[name] = ""
    if _is_a_filter(picked):
        changed[picked] = value
    return changed, True


def _is_a_filter(name: str) -> bool:
    return name.startswith((PREFIX, f"{ADDED.key}-"))


def asked_for(asked: Any) -> dict[str, str]:
    """What is not empty of the filters in what was sent, known or not."""
    return {name: value for name in asked if _is_a_filter(name) and (value := str(asked.get(name) or "").strip())}


@dataclass(frozen=True)
class Facet:
    """Values of a filter with how many documents have each, and whether it is the one that is asked for."""

    filter: Filter
    values: list[tuple[str, str, int, bool]]  # as it is sent, as it is shown
    more: int  # values left out


def facet(its: Filter, counted: Iterable[tuple[str, int]], asked: Mapping[str, Any]) -> Facet:
    picked = str(asked.get(its.key) or "").casefold()
    every = [(value, its.shown(value), amount, value.casefold() == picked) for value, amount in counted]
    listed = [*every[:FACETS], *(each for each in every[FACETS:] if each[-1])]
    return Facet(its, listed, len(every) - len(listed))


def _begins(day: date | None) -> float | None:
    """Seconds since 1970 at which a day begins, in the current time zone."""
    return None if day is None else timezone.make_aware(datetime.combine(day, time())).timestamp()


def _number(value: Any) -> float | None:
    return float(value.toordinal()) if isinstance(value, date) else value


def _in_words(value: Any) -> str:
    if isinstance(value, date):
        return f"{value.day} {value:%b %Y}"
    return "" if value is None else f"{value:.15g}"
