"""The schema of a collection's metadata: which fields its documents can have, of which kind, which the search can filter by.

And what a value of each kind looks like. Refuses to know which document has which value (documents.describing).
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import date
from uuid import UUID

from django.db import IntegrityError, transaction

from documents import access
from documents.models import Collection, Field
from search.facts import Value
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.ciphers import digest
from tenants.errors import Refused
from tenants.models import Membership

Kind = Field.Kind

MAX_FIELDS = 20  # of a collection
NAME_CHARACTERS = 60
FILE_COLUMN = "file"  # of a sidecar: no field can be called that
TEXT_CHARACTERS, KEYWORD_CHARACTERS = 1000, 100
MOST_INTEGER = 2**53  # beyond it, a float64, which the search compares, skips whole numbers
MOST_DIGITS = 15  # that a float64 keeps


def fields_of(collection: Collection) -> list[Field]:
    return list(collection.fields.order_by("position", "id"))


def fields_of_visible(membership: Membership, collection_id: str) -> list[Field]:
    """Of a collection by its id, as somebody sent it; none when the member does not see it."""
    try:
        wanted = UUID(collection_id)
    except ValueError:
        return []
    visible = access.visible_collections(membership).filter(pk=wanted)
    return list(Field.objects.filter(collection__in=visible).order_by("position", "id"))


@transaction.atomic
def add_field(collection: Collection, name: str, kind: str, *, filterable: bool = False) -> Field:
    """Raises Refused when the name is taken or unusable, there are MAX_FIELDS already, or the collection is gone."""
    lock(collection)
    name = _checked(name)
    if kind not in Kind.values:
        raise Refused("Choose a kind from the list.")
    there = fields_of(collection)
    if len(there) >= MAX_FIELDS:
        raise Refused(f"A collection has at most {MAX_FIELDS} fields. Delete one that is not needed.")
    position = 1 + max((field.position for field in there), default=0)
    made = _saved(Field(collection=collection, kind=kind, filterable=filterable, position=position), name)
    record(Event.FIELDS, collection=str(collection.pk))
    return made


def lock(collection: Collection) -> None:
    """Until our transaction ends its fields stay as they are, and nobody else describes its documents.

    Taken before the rows of documents, as whoever erases a collection does. Raises Refused when it is gone.
    """
    if not Collection.objects.select_for_update(no_key=True).filter(pk=collection.pk).exists():
        raise Refused("The collection is not there any more.")


def there(field: Field) -> Field:
    """As it is now, under the collection's lock. Raises Refused when it is gone."""
    lock(field.collection)
    found = Field.objects.filter(pk=field.pk).first()
    if found is None:
        raise Refused("The field is not there any more. Load the page again.")
    return found


def put_name(field: Field, name: str) -> None:
    """Raises Refused when the name is taken or unusable."""
    _saved(field, _checked(name))


def _saved(field: Field, name: str) -> Field:
    field.name, field.name_digest = name, _digest(field.collection_id, name)
    try:
        with transaction.atomic():
            field.save()
    except IntegrityError:
        raise Refused(f"This collection has a field named “{name}” already.") from None
    return field


def same_name(name: str) -> str:
    """Equal for names that count as the same."""
    return _normal(name).casefold()


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _checked(name: str) -> str:
    name = _normal(name)
    if not name:
        raise Refused("Give the field a name.")
    if len(name) > NAME_CHARACTERS:
        raise Refused(f"A name has at most {NAME_CHARACTERS} characters; this one has {len(name)}.")
    if not name.isprintable():
        raise Refused("The name contains characters that cannot be shown.")
    if same_name(name) == FILE_COLUMN:
        raise Refused(f"“{FILE_COLUMN}” is the column of a CSV file that names the document. Choose another name.")
    return name


def _digest(collection_id: UUID, name: str) -> bytes:
    return digest("dedupe", f"field:{collection_id}:{name.casefold()}")


# ---------------------------------------------------------------- values


def read_value(kind: str, typed: str) -> str:
    """What was typed, as it is stored; "" when nothing was. Raises Refused with what is wrong and what to do."""
    text = _normal(typed)
    return _READ[kind](text) if text else ""


def for_search(kind: str, stored: str) -> Value:
    """A stored value as the search compares it."""
    if kind in (Kind.INTEGER, Kind.NUMBER):
        return float(stored)
    if kind == Kind.DATE:
        return date.fromisoformat(stored).toordinal()
    return stored


def _text(text: str, most: int = TEXT_CHARACTERS) -> str:
    if len(text) > most:
        raise Refused(f"At most {most:,} characters; this has {len(text):,}.")
    if not text.isprintable():
        raise Refused("It contains characters that cannot be shown. Remove them.")
    return text


def _keyword(text: str) -> str:
    return _text(text, KEYWORD_CHARACTERS)


def _integer(text: str) -> str:
    if not re.fullmatch(r"[+-]?[0-9]{1,30}", text):
        raise Refused(f"{shown(text)} is not a whole number. Write digits alone, such as 42 or -7.")
    if abs(int(text)) > MOST_INTEGER:
        raise Refused(f"{shown(text)} is too large: whole numbers go up to {MOST_INTEGER}.")
    return str(int(text))


def _number(text: str) -> str:
    if not re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)", text):
        raise Refused(f"{shown(text)} is not a number. Write digits with a point before decimals, such as 1204.50.")
    sign = "-" if text.startswith("-") else ""
    whole, _, decimals = text.lstrip("+-").partition(".")
    whole, decimals = whole.lstrip("0") or "0", decimals.rstrip("0")
    if len(whole.lstrip("0") + decimals) > MOST_DIGITS:
        raise Refused(f"{shown(text)} has more than {MOST_DIGITS} digits. Round it.")
    number = f"{whole}.{decimals}" if decimals else whole
    return number if number == "0" else sign + number


def _date(text: str) -> str:
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise Refused(f"{shown(text)} is not a date. Write year, month and day, such as 2026-03-31.") from None


def _boolean(text: str) -> str:
    word = text.casefold()
    if word in {"yes", "true", "1", "y"}:
        return "yes"
    if word in {"no", "false", "0", "n"}:
        return "no"
    raise Refused(f"{shown(text)} is neither yes nor no. Write yes or no.")


def shown(text: str) -> str:
    return f"“{text[:40]}…”" if len(text) > 40 else f"“{text}”"


_READ: dict[str, Callable[[str], str]] = {
    Kind.TEXT: _text,
    Kind.KEYWORD: _keyword,
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
    Kind.DATE: _date,
    Kind.BOOLEAN: _boolean,
}
