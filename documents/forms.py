"""What people type about documents: which collection, which filter, what name. Checks it; changes nothing."""

from typing import Any
from uuid import UUID

from django import forms

from documents.models import Collection, Document
from documents.receiving import COLLECTION_CHARACTERS, DEFAULT_COLLECTION, collection_choices, collection_named

IN_PROGRESS = "unfinished"
STATES = [
    ("", "All states"),
    (IN_PROGRESS, "In progress"),
    *((state.value, state.label) for state in (Document.State.READY, Document.State.FAILED, Document.State.CANCELLED)),
]


class FilterForm(forms.Form):
    """Which documents a list shows. A value that no longer exists shows all."""

    collection = forms.ChoiceField(required=False)
    state = forms.ChoiceField(required=False, choices=STATES)

    def __init__(self, *args: Any, collections: dict[UUID, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        chosen = self.fields["collection"]
        assert isinstance(chosen, forms.ChoiceField)
        chosen.choices = [("", "All collections"), *((str(key), name) for key, name in collections.items())]

    def chosen(self) -> dict[str, Any]:
        """Filters for Document; unknown values are left out."""
        self.is_valid()
        found: dict[str, Any] = {}
        if collection := self.cleaned_data.get("collection"):
            found["collection_id"] = collection
        if state := self.cleaned_data.get("state"):
            found["state__in"] = Document.UNFINISHED if state == IN_PROGRESS else [state]
        return found


class UploadForm(forms.Form):
    """Where uploaded files go. The files themselves never pass through a form: see `uploads`."""

    collection = forms.ChoiceField(required=False, label="Collection")

    def __init__(self, *args: Any, collections: dict[UUID, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = dict(collection_choices()) if collections is None else collections
        chosen = self.fields["collection"]
        assert isinstance(chosen, forms.ChoiceField)
        # first, and so preselected, where a file goes without a choice: never by accident into somebody's collection
        default = next((key for key, name in names.items() if name == DEFAULT_COLLECTION), "")
        others = [(str(key), name) for key, name in names.items() if key != default]
        chosen.choices = [(str(default), DEFAULT_COLLECTION), *others]
        chosen.error_messages["invalid_choice"] = "This collection no longer exists. Choose another."

    def target(self) -> Collection:
        """The chosen collection; without a choice "Documents", made when it is missing."""
        chosen = self.cleaned_data["collection"]
        return Collection.objects.get(pk=chosen) if chosen else collection_named(DEFAULT_COLLECTION)


class CollectionForm(forms.Form):
    name = forms.CharField(
        label="Name",
        max_length=COLLECTION_CHARACTERS,
        error_messages={"required": "Give the collection a name."},
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
