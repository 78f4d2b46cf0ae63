"""Models whose rows grant access: every change through them is sealed (tenants/seals.py), in the same transaction."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Self, TypeVar

from django.db import models

Row = TypeVar("Row", bound=models.Model)


class SealedQuerySet(models.QuerySet[Row]):
    """Django's, for a model in `seals.SHEETS` or `seals.WAYS`: what it changes or deletes at once is sealed too."""

    def update(self, **values: Any) -> int:
        from tenants import seals

        if not seals.concerns(self.model, values):
            return super().update(**values)
        with seals.changing_many(self):
            return super().update(**values)

    update.alters_data = True  # type: ignore[attr-defined]

    def delete(self) -> tuple[int, dict[str, int]]:
        from tenants import seals

        with seals.deleting(self.model, self):
            return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable[Row], *args: Any, **kwargs: Any) -> list[Row]:
        from tenants import seals

        rows = list(objs)
        with seals.making_many(rows, self.db):
            return super().bulk_create(rows, *args, **kwargs)


class Sealed(models.Model):
    """A row with a `seal` of its own."""

    class Meta:
        abstract = True

    if not TYPE_CHECKING:  # to a type checker it is what every model has
        objects = models.Manager.from_queryset(SealedQuerySet)()

    def save(self, *args: Any, **kwargs: Any) -> None:
        from tenants import seals

        with seals.changing(self, kwargs.get("using"), kwargs.get("update_fields")):
            super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        from tenants import seals

        with seals.deleting(type(self), [self], kwargs.get("using")):
            return super().delete(*args, **kwargs)

    def follow(self, fresh: Self, fields: Collection[str] | None = None) -> None:
        """Take over the columns of the row as it is now."""
        for field in self._meta.concrete_fields:
            if fields is None or field.attname in fields:
                setattr(self, field.attname, getattr(fresh, field.attname))
