"""What people may ask for: a search, and judgments to measure it with."""

from typing import Any
from uuid import UUID

from django import forms

from search.evaluation import judgments, uploads
from search.sources import sources
from tenants.models import Membership

MAX_QUESTION = 2000


class SearchForm(forms.Form):
    """The search box and its filter."""

    q = forms.CharField(
        label="Search this workspace",
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
    collection = forms.ChoiceField(
        label="Collection",
        required=False,
        error_messages={"invalid_choice": "This collection does not exist any more. Choose another."},
    )
    page = forms.IntegerField(required=False, min_value=1, max_value=1000, widget=forms.HiddenInput)

    def __init__(self, *args: Any, membership: Membership, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.collections = sources().collections(membership)
        field = self.fields["collection"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "All collections"), *((str(found.id), found.name) for found in self.collections)]

    @property
    def visible(self) -> frozenset[UUID]:
        """The collections the member may see."""
        return frozenset(found.id for found in self.collections)

    @property
    def chosen(self) -> frozenset[UUID]:
        """The collections to search: the chosen one, or all that the member may see."""
        chosen = self.cleaned_data["collection"]
        return frozenset({UUID(chosen)}) if chosen else self.visible


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
