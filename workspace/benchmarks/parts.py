"""Where the time of a search page goes, measured from outside: what its view calls is timed where the view finds it.

For the web process that serves benchmarks. Knows nothing of HTTP but the header it answers with.
"""

import json
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponseBase

from search import views
from search.querying import Results
from tenants import limits

HEADER = "X-Milliseconds"
WATCHED: dict[str, tuple[Any, str]] = {
    "rate limit": (limits, "take"),
    "form": (views, "search_form"),
    "search": (views, "search"),
    "fold": (views, "folded"),
    "describe": (views, "described"),
    "audit": (views, "record"),
    "template": (views, "render"),
}


class _Request(threading.local):
    """What this thread has measured of the request it answers."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}


_request = _Request()


def watch() -> None:
    """From here on, for as long as the process lives."""
    for part, (module, name) in WATCHED.items():
        setattr(module, name, _timed(part, getattr(module, name)))


def told(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """The view, with the milliseconds of its parts in a header; what is none of them is "view"."""

    @wraps(view)
    def telling(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        parts: dict[str, float] = {}
        _request.parts = parts
        began = time.perf_counter()
        response = view(request, *args, **kwargs)
        parts["view"] = 1000 * (time.perf_counter() - began) - sum(parts.values())
        response[HEADER] = json.dumps({name: round(value, 3) for name, value in parts.items()})
        return response

    return telling


def _timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        found = function(*args, **kwargs)
        took = 1000 * (time.perf_counter() - began)
        stages = {f"search: {name}": spent for name, spent in found.milliseconds.items()} if isinstance(found, Results) else {}
        for name, spent in {part: took - sum(stages.values()), **stages}.items():
            _request.parts[name] = _request.parts.get(name, 0.0) + spent
        return found

    return timed
