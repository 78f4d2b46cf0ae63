"""How many pages a reader has done: readers of what takes long say it, whoever runs them may hear it. Knows neither."""

import time
from collections.abc import Callable

SECONDS = 0.5  # between two times that it is heard

Told = Callable[[int, int], object]  # pages done, of how many
_hear: Told | None = None
_heard = 0.0


def hear(told: Told) -> None:
    """From here on, in this process."""
    global _hear, _heard
    _hear, _heard = told, time.monotonic()


def tell(done: int, total: int) -> None:
    global _heard
    if _hear is not None and time.monotonic() - _heard >= SECONDS:
        _heard = time.monotonic()
        _hear(done, total)
