"""What people may ask for: a search, and judgments to measure it with."""

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from django import forms

from search import building, filters, indexes, own_searches, questions
from search.evaluation import judgments, uploads
from search.facts import Condition, FactIndex
from search.loaded import facts_of
from search.models import Metric
from search.ranking import Mode
from search.sources import CollectionName, sources
from tenants.models import Membership, Subscription

MAX_QUESTION = 2000
MIN_TYPED = 2  # characters below which typing alone asks nothing
MAX_WORKSPACES = 50  # asked at once
MODES = [(Mode.HYBRID, "Meaning and words"), (Mode.MEANING, "Meaning only"), (Mode.WORDS, "Words only")]


def says_what(asked: str) -> None:
    if not questions.parse(asked).says_what:
        raise forms.ValidationError("Say what to look for, not only what to leave out.")


def question_field(label: str) -> forms.CharField:
    """The search box."""
    return forms.CharField(
        label=label,
        validators=[says_what],
        max_length=MAX_QUESTION,
        error_messages={
            "required": "Type what you are looking for.",
            "max_length": f"Ask in at most {MAX_QUESTION:,} characters.",
        },
        widget=forms.TextInput(
            attrs={
                "type": "search",
                "autocomplete": "off",
                "autocapitalize": "off",
                "enterkeyhint": "search",
                "placeholder": "Ask a question or type words",
                "data-search": True,
            }
        ),
    )


class SearchForm(forms.Form):
    """The search box, its filter and what decides the order."""

    q = question_field("Search this workspace")
    collection = forms.ChoiceField(
        label="Collection",
        required=False,
        error_messages={"invalid_choice": "This collection does not exist any more. Choose another."},
    )
    mode = forms.ChoiceField(label="Rank by", choices=MODES, required=False)
    page = forms.IntegerField(required=False, min_value=1, max_value=1000, widget=forms.HiddenInput)

    def __init__(
        self, asked: Any = None, *, membership: Membership, collections: list[CollectionName] | None = None, **kwargs: Any
    ) -> None:
        asked, clicked = filters.after_click(asked)
        super().__init__(asked, **kwargs)
        self.membership = membership
        self.collections = sources().collections(membership) if collections is None else collections
        field = self.fields["collection"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "All collections"), *((str(found.id), found.name) for found in self.collections)]
        sent = str(self.data.get("collection") or "")
        self.filters = filters.filters_of(found for found in self.collections if sent in ("", str(found.id)))
        for each in self.filters:
            self.fields.update(each.form_fields())
        # The filters on the page are the form's own no more: another collection has others, and a button changed one.
        self.filter_clicked = clicked
        self.filters_changed = self.is_bound and (clicked or str(self.data.get("filters-of", sent)) != sent)
        if self.asked_filters:
            self.fields["q"].error_messages["required"] += " Filters narrow down what a question finds."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for each in self.filters:
            if each.is_empty_range(cleaned):
                self.add_error(each.names[1], "Nothing lies in this range: it ends before it begins.")
        return cleaned

    @property
    def asked_filters(self) -> dict[str, str]:
        """The filters as they were sent, for links and for the next page."""
        return {name: value for name, value in filters.asked_for(self.data).items() if name in self.fields}

    @property
    def lost_filters(self) -> bool:
        """Whether something was asked for that is no filter here, or not for this member."""
        return bool(filters.asked_for(self.data).keys() - self.fields.keys())

    @property
    def conditions(self) -> list[Condition]:
        return [met for each in self.filters if (met := each.condition(self.cleaned_data)) is not None]

    @property
    def active(self) -> list[tuple[str, str]]:
        """The filters that narrow the search: key, and what is asked for in words."""
        asked = getattr(self, "cleaned_data", {})
        return [(each.key, said) for each in self.filters if (said := each.in_words(asked))]

    @property
    def has_wrong_filters(self) -> bool:
        return any(name in self.errors for each in self.filters for name in each.names)

    @property
    def faceted(self) -> list[filters.Filter]:
        return [each for each in self.filters if each.kind in filters.FACETED]

    def filter_rows(self) -> Iterator[tuple[filters.Filter, list[forms.BoundField]]]:
        """Each filter with what it is asked for by; keywords as a choice of what documents have."""
        facts = facts_of(indexes.live()) if any(each.kind == "keyword" for each in self.filters) else FactIndex()
        for each in self.filters:
            bound = [self[name] for name in each.names]
            if each.kind == "keyword":
                asked = str(bound[0].value() or "")
                held = [value for value, _ in facts.amounts(each.fields)]
                # what is asked for stays a choice when no document has it any more, or in another spelling
                others = [value for value in held if value.casefold() != asked.casefold()]
                if 0 < len(held) <= filters.CHOICES:
                    shown = sorted({*others, asked} - {""}, key=str.casefold)
                    bound[0].field.widget = forms.Select(choices=[filters.ANY, *((value, value) for value in shown)])
            yield each, bound

    def again(self, asked: dict[str, str]) -> "SearchForm":
        """Another search by the same member, without asking anew what they may see."""
        return SearchForm(asked, membership=self.membership, collections=self.collections)

    def clean_mode(self) -> Mode:
        return Mode(self.cleaned_data["mode"] or Mode.HYBRID)

    @property
    def asked(self) -> dict[str, str]:
        """What was asked, as a form sends it: kept of shared, saved and remembered searches, and sent again by every button
        below the results ({% asked_again %}). Of a form that is valid.
        """
        return {name: str(self.cleaned_data[name] or "") for name in ("q", "collection", "mode")} | self.asked_filters

    @property
    def visible(self) -> frozenset[UUID]:
        """The collections the member may see."""
        return frozenset(found.id for found in self.collections)

    @property
    def chosen(self) -> frozenset[UUID]:
        """The collections to search: the chosen one, or all that the member may see."""
        chosen = self.cleaned_data["collection"]
        return frozenset({UUID(chosen)}) if chosen else self.visible


class SavedSearchForm(forms.Form):
    """The name a search is saved under."""

    name = forms.CharField(
        label="Name",
        max_length=own_searches.MAX_NAME,
        error_messages={
            "required": "Give the search a name.",
            "max_length": f"Use at most {own_searches.MAX_NAME} characters.",
        },
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class _OwnWorkspaces(forms.MultipleChoiceField):
    """What is no choice is passed over: who has left a workspace meanwhile, or tries ids, learns nothing of it."""

    def to_python(self, value: Any) -> list[str]:
        return [each for each in super().to_python(value) if self.valid_value(each)]

    def validate(self, value: list[str]) -> None:
        super().validate(value)
        if len(value) > MAX_WORKSPACES:
            raise forms.ValidationError(f"Choose at most {MAX_WORKSPACES} workspaces; you chose {len(value)}.")


class FederatedForm(forms.Form):
    """The search box over several workspaces and libraries."""

    q = question_field("Search your workspaces")
    workspaces = _OwnWorkspaces(
        label="Workspaces",
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one workspace."},
    )

    def __init__(
        self, *args: Any, memberships: Iterable[Membership], subscriptions: Iterable[Subscription] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["workspaces"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(str(each.tenant_id), each.tenant.name) for each in memberships] + [
            (str(each.library.tenant_id), f"{each.library.tenant.name} (library)") for each in subscriptions
        ]
        field.initial = [value for value, _ in field.choices][:MAX_WORKSPACES]

    @property
    def chosen(self) -> list[UUID]:
        return [UUID(each) for each in self.cleaned_data["workspaces"]]


class JudgmentsForm(forms.Form):
    """A file of judgments and the name it gets."""

    name = forms.CharField(label="Name", max_length=120, help_text="For example: Questions from support, autumn")
    file = forms.FileField(
        label="File",
        help_text="A .csv or .jsonl file, or a BEIR folder as .zip, up to "
        f"{uploads.MAX_BYTES // 1024**2} MB. It is kept encrypted.",
        error_messages={"required": "Choose a file.", "empty": "The file is empty. Choose another."},
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,.tsv,.jsonl,.ndjson,.json,.zip"}),
    )
    import_corpus = forms.BooleanField(
        label="Also import the documents of a BEIR folder (corpus.jsonl) into a collection of that name",
        help_text=f"Up to {judgments.MAX_CORPUS:,} documents.",
        required=False,
    )


class IndexForm(forms.Form):
    """How the index is built that the database finds candidates by."""

    metric = forms.ChoiceField(
        label="Compared by",
        choices=Metric.choices,
        help_text="All three rank alike, since vectors have the same length; they differ in what PostgreSQL computes.",
        error_messages={"invalid_choice": "Choose one of the three."},
    )
    m = forms.IntegerField(
        label="Links of a passage (m)",
        help_text=f"{building.LEAST_M} to {building.MOST_M}. More find more, and take more room on the disk.",
        error_messages={"required": "Type a number.", "invalid": "Type a whole number."},
    )
    ef_construction = forms.IntegerField(
        label="Passages looked at for them (ef_construction)",
        help_text=f"{building.LEAST_EF} to {building.MOST_EF:,}, at least twice m. More find more, and take longer to build.",
        error_messages={"required": "Type a number.", "invalid": "Type a whole number."},
    )
