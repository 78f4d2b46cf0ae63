"""How often somebody may ask: answered with 429, which says in words and in `Retry-After` when to try again.

Counts per person and action, for each workspace apart (the cache's keys carry the schema), in fixed windows: at a
window's edge twice the rate can pass, which is no harm for what is limited here. Sign-in has limits of its own (axes,
allauth); their refusals are worded here too.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from axes.handlers.proxy import AxesProxyHandler
from axes.helpers import get_client_username, get_cool_off
from axes.models import AccessAttempt
from django.conf import settings
from django.core.cache import cache
from django.db.models import Max
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from redis.exceptions import RedisError

from tenants.answers import as_json, wants_json
from tenants.wording import counted

logger = logging.getLogger(__name__)
View = Callable[..., HttpResponseBase]


def take(action: str, subject: object, rate: tuple[int, int]) -> int:
    """Count one use by `subject`. 0 when it is allowed, else the seconds until the next one is.

    Open when Redis is away: a limit guards against too much work, not against who may do it, and a search needs no Redis.
    """
    most, seconds = rate
    now = time.time()
    try:
        used = _increased(_key(action, subject, seconds, now), seconds)
    except RedisError:
        logger.warning("no rate limit for %s: Redis is away", action)
        return 0
    return 0 if used <= most else math.ceil(seconds - now % seconds)


def at_least_once(action: str, subject: object, seconds: int, do: Callable[[], object]) -> None:
    """Have it done unless it was in this window of so many seconds. What fails, or is under way, is done again by who comes."""
    key = _key(action, subject, seconds, time.time())
    with suppress(RedisError):
        if cache.get(key):
            return
    do()
    with suppress(RedisError):
        cache.set(key, True, seconds)


def _key(action: str, subject: object, seconds: int, now: float) -> str:
    return f"limit:{action}:{subject}:{int(now // seconds)}"


def _increased(key: str, seconds: int) -> int:
    """In one exchange with Redis, since it is on the way of every search; Django's cache takes two."""
    key = cache.make_and_validate_key(key)
    both = cache._cache.get_client(key, write=True).pipeline(transaction=False)  # type: ignore[attr-defined]
    both.set(key, 0, ex=seconds, nx=True)
    both.incr(key)
    return int(both.execute()[-1])


def limited(action: str, method: str = "POST") -> Callable[[View], View]:
    """Let a member do this as often as RATE_<ACTION> says; requests by another method do not count."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if request.method == method:
                wait = take(action, request.user.pk, getattr(settings, f"RATE_{action.upper()}"))
                if wait:
                    return too_many(request, wait)
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def duration(seconds: int) -> str:
    """At least so long, as people say it: 20 seconds, 1 minute, 12 minutes, 1 hour."""
    for unit, name in ((3600, "hour"), (60, "minute")):
        if seconds >= unit:
            return counted(math.ceil(seconds / unit), name)
    return counted(seconds, "second")


def too_many(request: HttpRequest, seconds: int) -> HttpResponse:
    """429 as whoever asked can read it: a page, a part of one, or JSON."""
    sentence = f"Too many requests in a short time. Nothing was lost. Try again in {duration(seconds)}."
    if wants_json(request):
        response: HttpResponse = as_json([("", sentence)], 429)
    else:
        template = "partials/too_many.html" if request.headers.get("HX-Request") else "429.html"
        context = {"wait": duration(seconds), "sentence": sentence, "reference": getattr(request, "reference", "")}
        response = render(request, template, context, status=429)
    response.headers["Retry-After"] = str(seconds)
    return response


def lock_left(request: Any, credentials: dict[str, Any] | None) -> int:
    """Seconds for which django-axes keeps this account closed to this address: an hour after the last failure that counted."""
    if not AxesProxyHandler.is_locked(request, credentials):
        return 0
    failures = AccessAttempt.objects.filter(
        username=get_client_username(request, credentials), ip_address=request.axes_ip_address
    )
    last = failures.aggregate(last=Max("attempt_time"))["last"] or timezone.now()
    return max(1, math.ceil((last + get_cool_off(request) - timezone.now()).total_seconds()))


def locked_out(request: Any, response: HttpResponse | None = None, credentials: dict[str, Any] | None = None) -> HttpResponse:
    """django-axes' answer to whoever failed too often."""
    return too_many(request, max(1, lock_left(request, credentials)))


def too_many_for_allauth(request: HttpRequest) -> HttpResponse:
    """What allauth's own limits answer: all that end here look back one minute (settings.ACCOUNT_RATE_LIMITS)."""
    return too_many(request, 60)
