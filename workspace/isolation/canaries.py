"""What each workspace keeps to be looked for from the others: one of everything, with words that nobody else has.

Made through the verbs people's own documents go through, so that it lies where theirs lie, encrypted as theirs are. The
words are kept nowhere else: whoever looks for them opens them with the workspace's own keys first.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import QuerySet

from documents import describing, erasing, fields, ingestion, storage
from documents.models import Collection, Document, Field, Page, Value
from documents.receiving import create_collection, receive
from search import indexes
from search.canaries import canary_id
from search.evaluation import runs
from search.evaluation.judgments import JudgedQuestion, Parsed
from search.models import (
    Answer,
    Chunk,
    Facts,
    FurtherVector,
    IndexEntry,
    Judgment,
    JudgmentSet,
    Protection,
    Question,
    Run,
    SealedVectors,
    SharedSearch,
    Terms,
)
from tenants.audit import recording
from tenants.ciphers import Tampered
from tenants.context import current_tenant, workspace
from tenants.errors import Refused
from tenants.locks import alone_with
from tenants.models import Tenant

TITLE = "Canary "
LETTERS = "bcdfghjklmnprstvwz", "aeiou"


@dataclass(frozen=True)
class Canary:
    """One workspace's set. `asked` finds it in a search, `told` stands in what is found; `ids` by kind, as in routes."""

    tenant: Tenant
    asked: str
    told: str
    stored_name: str
    ids: dict[str, str]
    held_in: type[IndexEntry | SealedVectors | FurtherVector]  # where the live index has its vectors

    @property
    def document_id(self) -> UUID:
        return UUID(self.ids["document"])

    def rows(self) -> Iterator[QuerySet[Any]]:
        """The rows it consists of; asked of whichever workspace the connection is in."""
        document, judged, run = self.document_id, UUID(self.ids["judgments"]), self.ids["run"]
        yield Collection.objects.filter(pk=self.ids["collection"])
        yield Document.objects.filter(pk=document)
        yield Page.objects.filter(document_id=document)
        yield Chunk.objects.filter(document_id=document)
        yield self.held_in.objects.filter(document_id=document)
        yield Terms.objects.filter(document_id=document)
        yield Field.objects.filter(pk=self.ids["field"])
        yield Value.objects.filter(document_id=document)
        yield Facts.objects.filter(document_id=document)
        yield SharedSearch.objects.filter(pk=self.ids["shared search"])
        yield JudgmentSet.objects.filter(pk=judged)
        yield Question.objects.filter(judgment_set_id=judged)
        yield Judgment.objects.filter(question__judgment_set_id=judged)
        yield Run.objects.filter(pk=run)
        yield Answer.objects.filter(run_id=run)


def _held_in(live: indexes.Live) -> type[IndexEntry | SealedVectors | FurtherVector]:
    if live.protection != Protection.SEALED:
        return IndexEntry
    return SealedVectors if live.is_of_first_model else FurtherVector


def ensure(tenant: Tenant) -> Canary:
    """The workspace's canaries, made anew when something of them is missing. Raises Refused when that cannot be done."""
    with workspace(tenant):
        if found := find():
            return found
        with alone_with(canary_id("set")) as alone:
            if not alone:
                raise Refused("The canaries are being made at this moment. Try again in a minute.")
            with recording.withheld():  # nobody did it, and nobody wants to read it every time
                remove()
                make()
            found = find()
    if found is None:
        raise Refused("The canaries could not be made: they are not found where they were put.")
    return found


def find() -> Canary | None:
    """The current workspace's canaries; None when anything is missing, unfinished, or does not open."""
    try:
        return _find()
    except (Tampered, storage.FileMissing):
        return None


def _find() -> Canary | None:
    document = Document.objects.filter(collection__is_canary=True, state=Document.State.READY).first()
    judged = canary_id("judgments")
    run = Run.objects.filter(judgment_set_id=judged, state=Run.State.READY).first()
    question = Question.objects.filter(judgment_set_id=judged).first()
    shared = SharedSearch.objects.filter(pk=_shared_id()).first()
    if document is None or run is None or question is None or shared is None:
        return None
    field = document.collection.fields.first()
    chunk = Chunk.objects.filter(document_id=document.id).first()
    asked, told = shared.query["q"], document.title.removeprefix(TITLE)
    found = Canary(
        tenant=current_tenant(),
        asked=asked,
        told=told,
        stored_name=document.stored_name,
        ids={
            "document": str(document.id),
            "collection": str(document.collection_id),
            "field": str(field.pk) if field else str(UUID(int=0)),
            "passage": str(chunk.pk) if chunk else "",
            "judgments": str(judged),
            "run": str(run.pk),
            "question": str(question.pk),
            "shared search": shared.pk,
            "workspace": current_tenant().slug,
        },
        held_in=_held_in(indexes.live()),
    )
    page = Page.objects.filter(document_id=document.id).first()
    file = b"".join(storage.read(document.id, document.stored_name)).decode()
    texts = [page.text if page else "", chunk.text if chunk else "", file]
    whole = all(asked in text and told in text for text in texts) and all(rows.exists() for rows in found.rows())
    return found if whole else None


def make() -> None:
    """A new set in the current workspace. Raises Refused when the installation cannot read or embed documents."""
    asked, told = _word(), _word()
    name = f"{TITLE}{told}"
    with transaction.atomic():  # nobody sees the collection before it is marked
        collection = create_collection(name)
        collection.is_canary = True
        collection.save(update_fields=["is_canary"])
    text = f"The canary {asked} lives in this workspace and sings {told}.\n"
    stored = storage.store(uuid4(), [text.encode()])
    with alone_with(stored.document_id):  # the job that is queued for it finds it done
        document = receive(stored, f"{name}.txt", collection, title=name)
        ingestion.ingest(document.id)
    document.refresh_from_db()
    field = fields.add_field(collection, name, Field.Kind.KEYWORD, filterable=True)
    describing.describe(document, {field.name: told})
    if document.state != Document.State.READY:
        raise Refused(f"The canary document did not become ready. {document.what_happened} {document.what_to_do}".rstrip())
    question = JudgedQuestion("1", f"Where does {asked} sing {told}?", {str(document.id): 1})
    judged = runs.create_judgment_set(name, Parsed([question]), identity=canary_id("judgments"))
    marked = Collection.objects.filter(pk=collection.id)
    with transaction.atomic():  # an evaluation leaves canaries out; for everybody else it stays one
        marked.update(is_canary=False)
        run = runs.evaluate(judged, collection_id=collection.id)
        marked.update(is_canary=True)
    if run.state != Run.State.READY:
        raise Refused(f"The canary run did not finish. {run.detail or run.state}")
    SharedSearch.objects.create(pk=_shared_id(), query={"q": asked, "collection": ""})


def remove() -> None:
    """Whatever there is of the current workspace's canaries."""
    for collection in Collection.objects.filter(is_canary=True):
        erasing.discard(collection)
    JudgmentSet.objects.filter(pk=canary_id("judgments")).delete()
    SharedSearch.objects.filter(pk=_shared_id()).delete()


def _shared_id() -> str:
    return canary_id("shared search").hex[:16]


def _word() -> str:
    """Sixteen letters that can be spoken: 51 bits, so that no text holds them by chance."""
    return "".join(secrets.choice(LETTERS[place % 2]) for place in range(16))
