"""Rows for tests, made the way the product makes them."""

from typing import Any
from uuid import uuid4

import factory

from documents import storage
from documents.models import Collection, Document
from documents.receiving import create_collection, title_of


class CollectionFactory(factory.django.DjangoModelFactory[Collection]):
    """A collection with a name of its own. Needs a workspace: `in_workspace_a`."""

    class Meta:
        model = Collection
        skip_postgeneration_save = True

    name = factory.Sequence(lambda n: f"Collection {n}")

    @classmethod
    def _create(cls, model_class: type[Collection], *args: Any, **kwargs: Any) -> Collection:
        return create_collection(kwargs["name"])


class DocumentFactory(factory.django.DjangoModelFactory[Document]):
    """An uploaded document with a real encrypted file of `content`; queued unless said otherwise, its job not enqueued."""

    class Meta:
        model = Document
        skip_postgeneration_save = True

    class Params:
        content = b"Some words in a document."

    collection = factory.SubFactory(CollectionFactory)
    file_name = factory.Sequence(lambda n: f"document {n}.txt")
    title = factory.LazyAttribute(lambda made: title_of(made.file_name))
    id = factory.LazyFunction(uuid4)
    stored = factory.LazyAttribute(lambda made: storage.store(made.id, [made.content]))

    @classmethod
    def _create(cls, model_class: type[Document], *args: Any, **kwargs: Any) -> Document:
        stored = kwargs.pop("stored")
        return model_class.objects.create(stored_name=stored.stored_name, size=stored.size, **kwargs)
