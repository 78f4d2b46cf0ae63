"""What people type about documents: which collection, which filter, what name. Checks it; changes nothing."""

from collections.abc import Iterable
from copy import copy
from typing import Any, ClassVar
from uuid import UUID

from django import forms

from documents.access import Candidate, visible_by_name, visible_collections
from documents.describing import Described, Invalid, read_values
from documents.fields import NAME_CHARACTERS, fields_of_visible, same_name
from documents.models import Collection, Document, Field
from documents.reasons import Reason
from documents.receiving import COLLECTION_CHARACTERS, DEFAULT_COLLECTION, collection_open_to
from search.filters import DayInput
from tenants.errors import Refused
from tenants.models import Membership

IN_PROGRESS = "unfinished"
UNREAD = "unread"
GONE = "This collection no longer exists. Choose another."
HINTS = {
    Field.Kind.INTEGER: "A whole number, in digits.",
    Field.Kind.NUMBER: "Digits, with a point before decimals.",
    Field.Kind.DATE: "Year-month-day, such as 2026-03-31.",
}
STATES = [
    ("", "All states"),
    (IN_PROGRESS, "In progress"),
    (Document.State.READY.value, Document.State.READY.label),
    (UNREAD, "Ready, pages missing"),
    *((state.value, state.label) for state in (Document.State.FAILED, Document.State.CANCELLED)),
]


class FilterForm(forms.Form):
    """Which documents a list shows. A value that no longer exists shows all."""

    collection = forms.ChoiceField(required=False)
    state = forms.ChoiceField(required=False, choices=STATES)
    reason = forms.ChoiceField(required=False, choices=[(reason.value, "") for reason in Reason])  # led to, not chosen
    archive = forms.UUIDField(required=False)  # so, too: the document that they came out of

    def __init__(self, *args: Any, collections: dict[UUID, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.auto_id = "filter_%s"  # UploadForm, which has a collection too, is on the same page
        chosen = self.fields["collection"]
        assert isinstance(chosen, forms.ChoiceField)
        chosen.choices = [("", "All collections"), *((str(key), name) for key, name in collections.items())]

    def chosen(self) -> dict[str, Any]:
        """Filters for Document; unknown values are left out."""
        self.is_valid()
        found: dict[str, Any] = {}
        if collection := self.cleaned_data.get("collection"):
            found["collection_id"] = collection
        state = self.cleaned_data.get("state")
        if state == UNREAD:
            found |= {"state": Document.State.READY, "pages_unread__gt": 0}
        elif state:
            found["state__in"] = Document.UNFINISHED if state == IN_PROGRESS else [state]
        if reason := self.cleaned_data.get("reason"):
            found["reason"] = reason
        if archive := self.cleaned_data.get("archive"):
            found["archive"] = archive
        return found


class UploadForm(forms.Form):
    """Where uploaded files go. The files themselves never pass through a form: see `uploads`."""

    collection = forms.ChoiceField(required=False, label="Collection")

    def __init__(self, *args: Any, membership: Membership, names: dict[UUID, str] | None = None, **kwargs: Any) -> None:
        """`names`: those of the collections the member may see, where they have been read already."""
        super().__init__(*args, **kwargs)
        self._membership = membership
        names = visible_by_name(membership) if names is None else names
        self.names = {str(pk): name for pk, name in names.items()}
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

    def metadata(self) -> "MetadataForm":
        """For the fields of the chosen collection, as the request has them."""
        chosen = str(self["collection"].value() or "")
        found = [Described(field, "") for field in fields_of_visible(self._membership, chosen)]
        return MetadataForm(self.data if self.is_bound else None, described=found)


class MetadataForm(forms.Form):
    """What a document has, or is to have, in each field of its collection. `describing` says what is wrong with it."""

    WIDGETS: ClassVar[dict[str, forms.Widget]] = {
        Field.Kind.INTEGER: forms.TextInput(attrs={"inputmode": "numeric"}),
        Field.Kind.NUMBER: forms.TextInput(attrs={"inputmode": "decimal"}),
        Field.Kind.DATE: DayInput(),
        Field.Kind.BOOLEAN: forms.Select(choices=[("", "Not said"), ("yes", "Yes"), ("no", "No")]),
    }

    def __init__(self, *args: Any, described: Iterable[Described], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._described = list(described)
        for each in self._described:
            made = forms.CharField(label=each.field.name, required=False, initial=each.value)
            made.widget = copy(self.WIDGETS.get(each.field.kind, forms.TextInput(attrs={"autocomplete": "off"})))
            made.help_text = HINTS.get(Field.Kind(each.field.kind), "")
            self.fields[self.key(each.field.pk)] = made

    @staticmethod
    def key(field_id: UUID) -> str:
        return f"field-{field_id}"

    def typed(self) -> dict[str, str]:
        """By the names of fields, as `describe` takes it."""
        self.is_valid()
        return {each.field.name: self.cleaned_data.get(self.key(each.field.pk), "") for each in self._described}

    def values(self) -> dict[UUID, str]:
        """By the ids of fields, as it is stored. Raises Invalid."""
        return read_values(self.typed(), {same_name(each.field.name): each.field for each in self._described})

    def refuse(self, invalid: Invalid) -> None:
        keys = {each.field.name: self.key(each.field.pk) for each in self._described}
        for name, said in invalid.errors.items():
            self.add_error(keys.get(name), said)


class PasswordForm(forms.Form):
    """The password of a PDF, as it was typed."""

    password = forms.CharField(
        label="Password of the PDF",
        help_text="Used once, now, to read the text, and kept nowhere.",
        max_length=200,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )


class FieldForm(forms.Form):
    """A field of a collection, as it can be changed once it is there."""

    name = forms.CharField(
        label="Name",
        max_length=NAME_CHARACTERS,
        error_messages={
            "required": "Give the field a name.",
            "max_length": f"A name has at most {NAME_CHARACTERS} characters.",
        },
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    filterable = forms.BooleanField(label="Searches can be filtered by it", required=False)


class NewFieldForm(FieldForm):
    kind = forms.ChoiceField(
        label="Kind",
        choices=Field.Kind.choices,
        initial=Field.Kind.KEYWORD,
        help_text="It cannot be changed later. A keyword is one of a few words that many documents share.",
        error_messages={"required": "Choose a kind.", "invalid_choice": "Choose a kind from the list."},
    )
    field_order = ("name", "kind", "filterable")


class SidecarForm(forms.Form):
    file = forms.FileField(
        label="CSV file",
        error_messages={"required": "Choose a CSV file.", "empty": "The file is empty. Choose another."},
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,.tsv,text/csv"}),
    )


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
