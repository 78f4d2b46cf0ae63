"""What uploads that are not complete keep on the disk, and how that goes. Knows nothing of how they go on: see `resuming`."""

from datetime import timedelta
from functools import partial

from django.db import transaction
from django.utils import timezone

from documents import storage
from documents.models import Arrival


@transaction.atomic
def drop(arrival: Arrival) -> None:
    """Row and pieces; pieces whose row went otherwise are removed as files that nobody has."""
    Arrival.objects.filter(pk=arrival.pk).delete()
    transaction.on_commit(partial(storage.remove, list(arrival.pieces)))


def drop_abandoned() -> None:
    abandoned = Arrival.objects.filter(touched_at__lt=timezone.now() - timedelta(seconds=storage.ABANDONED_SECONDS))
    for arrival in abandoned:
        with transaction.atomic():
            if abandoned.filter(pk=arrival.pk).delete()[0]:  # else somebody has gone on with it meanwhile
                transaction.on_commit(partial(storage.remove, list(arrival.pieces)))


def stored_names() -> set[str]:
    """Files that are pieces of an upload which may go on."""
    return {name for names in Arrival.objects.values_list("pieces", flat=True) for name in names}
