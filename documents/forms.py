"""What people type about documents: which collection, which filter, what name. Checks it; changes nothing."""

from typing import Any
from uuid import UUID

from django import forms

from documents.access import Candidate, visible_by_name, visible_collections
from documents.models import Collection, Document
from documents.receiving import COLLECTION_CHARACTERS, DEFAULT_COLLECTION, collection_open_to
from tenants.errors import Refused
from tenants.models import Membership

IN_PROGRESS = "unfinished"
GONE = "This collection no longer exists. Choose another."
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

    def __init__(self, *args: Any, membership: Membership, names: dict[UUID, str] | None = None, **kwargs: Any) -> None:
        """`names`: those of the collections the member may see, where they have been read already."""
        super().__init__(*args, **kwargs)
        self._membership = membership
        names = visible_by_name(membership) if names is None else names
        chosen = self.fields["collection"]
        assert isinstance(chosen, forms.ChoiceField)
        # first, and so preselected, where a file goes without a choice: never by accident into somebody's collection
        default = next((key for key, name in names.items() if name == DEFAULT_COLLECTION), "")
        others = [(str(key), name) for key, name in names.items() if key != default]
        chosen.choices = [(str(default), DEFAULT_COLLECTION), *others]
        chosen.error_messages["invalid_choice"] = GONE

    def target(self) -> Collection:
        """The chosen collection; without a choice "Documents", made when it is missing. Raises Refused."""
        chosen = self.cleaned_data["collection"]
        if not chosen:
            return collection_open_to(self._membership, DEFAULT_COLLECTION)
        found = visible_collections(self._membership).filter(pk=chosen).first()
        if found is None:
            raise Refused(GONE)
        return found


class CollectionForm(forms.Form):
    name = forms.CharField(
        label="Name",
        max_length=COLLECTION_CHARACTERS,
        error_messages={"required": "Give the collection a name."},
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class NewCollectionForm(CollectionForm):
    """Members who may restrict collections can do so from the start."""

    restricted = forms.BooleanField(
        label="Restricted: only owners and the people you choose see it",
        required=False,
    )

    def __init__(self, *args: Any, membership: Membership, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not membership.can_manage:
            del self.fields["restricted"]


class AccessForm(forms.Form):
    """Who may see a collection: everyone, or owners and the members chosen."""

    EVERYONE, CHOSEN = "everyone", "chosen"

    who = forms.ChoiceField(
        label="Open to",
        choices=[(EVERYONE, "Everyone in this workspace"), (CHOSEN, "Only owners and the people chosen below")],
        widget=forms.RadioSelect,
        error_messages={"required": "Choose who may see the collection."},
    )
    people = forms.TypedMultipleChoiceField(
        label="People",
        coerce=int,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"invalid_choice": "Somebody you chose is not a member any more. Choose again."},
    )

    def __init__(self, *args: Any, candidates: list[Candidate], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        people = self.fields["people"]
        assert isinstance(people, forms.TypedMultipleChoiceField)
        people.choices = [(each.membership.pk, _described(each)) for each in candidates]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("who") == self.EVERYONE and set(cleaned.get("people", ())) - set(self.initial["people"]):
            said = "You chose people, and everyone. Choose “Only owners and the people chosen below”, or no people."
            self.add_error("who", said)
        return cleaned

    @property
    def restricted(self) -> bool:
        return bool(self.cleaned_data["who"] == self.CHOSEN)


def _described(candidate: Candidate) -> str:
    """Two people may have one name; whoever gave none goes by their address."""
    address = "" if candidate.name == candidate.email else f" ({candidate.email})"
    return f"{candidate.name}{address}, {candidate.membership.get_role_display().lower()}"
