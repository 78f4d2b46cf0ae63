"""Who is acting: set where work enters (a request, a command, a job), read where it is written down (tenants.audit)."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Actor:
    """A person, or what acts without one. `via` is how: "web", "console", "command", "job". `reason`: what they gave."""

    who: str
    via: str
    person_id: int | None = None
    reason: str = ""


NOBODY = Actor("Cloister", "job")
SIGNED_OUT = Actor("somebody who is not signed in", "web")


def person(user: Any, via: str = "web", reason: str = "") -> Actor:
    """A `User`, as what acts."""
    return Actor(user.email, via, user.pk, reason)


_actor: ContextVar[Actor] = ContextVar("actor", default=NOBODY)


def actor() -> Actor:
    return _actor.get()


def become(somebody: Actor) -> None:
    """For the rest of the enclosing `acting`: who it is becomes known on the way (a request's person)."""
    _actor.set(somebody)


@contextmanager
def acting(as_whom: Actor) -> Iterator[None]:
    before = _actor.set(as_whom)
    try:
        yield
    finally:
        _actor.reset(before)
