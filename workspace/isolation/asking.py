"""Requests in this process, through the real middleware and URL confs, that leave nothing behind.

Each is undone with its transaction: rows, sessions, messages and jobs it would have written are never committed, and mail
does not leave, so that
even a request that gets through where it must not destroys nothing. Runs in whatever transaction the caller has open.
"""

import logging
import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIRequest
from django.db import transaction
from django.http import HttpResponseBase

from tenants import mail
from tenants.audit import recording
from tenants.models import User

VARYING_HEADERS = frozenset({"content-length", "date", "expires", "last-modified", "set-cookie"})
CSRF_TOKEN = re.compile(r'((?:csrf-token" content|csrfmiddlewaretoken" value)=")[^"]+"')
NOISY = ("django.request", "django.security.csrf", "workspace.middleware")


@cache
def site() -> "Asking":
    """The process's one."""
    return Asking()


@contextmanager
def undone() -> Iterator[None]:
    """A transaction, or a part of one, that is always rolled back."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@dataclass(frozen=True)
class Answer:
    """What the asker gets; `text` holds headers and body, without what differs every time."""

    status: int
    text: str

    def without(self, *values: str) -> str:
        """To compare: status and text, with what was asked for taken out where it is given back."""
        text = f"{self.status}\n{self.text}"
        for value in sorted(filter(None, values), key=len, reverse=True):
            for form in {value, quote(value), quote(value, safe="")}:
                text = text.replace(form, "…") if len(form) > 5 else text
        return text


class Asking(BaseHandler):
    """The site without its server."""

    def __init__(self) -> None:
        super().__init__()
        self.load_middleware()

    def ask(
        self,
        person: User | None,
        method: str,
        path: str,
        *,
        form: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """`person` is signed in for this request alone; None: nobody is."""
        request = _request(method, path, urlencode(form or {}), urlencode(query or {}))
        request._cached_user = person or AnonymousUser()  # type: ignore[attr-defined]  # what django.contrib.auth would have read
        request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]  # as Django's test client: ours is the form
        with undone(), mail.withheld(), recording.withheld(), quiet():
            response = self.get_response(request)
            return _answer(response, getattr(request, "reference", ""))


def _request(method: str, path: str, body: str, query: str) -> WSGIRequest:
    secure = settings.HTTPS
    return WSGIRequest({
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": settings.HOSTS[0],
        "SERVER_PORT": "443" if secure else "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": settings.HOSTS[0],
        "HTTP_X_FORWARDED_PROTO": "https" if secure else "http",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body.encode()),
        "wsgi.url_scheme": "https" if secure else "http",
    })  # fmt: skip


def _answer(response: HttpResponseBase, reference: str) -> Answer:
    """Read to its end and not closed: closing says that a request has ended, at which Django closes the connection."""
    body = b"".join(response.streaming_content) if response.streaming else response.content  # type: ignore[attr-defined]
    headers = sorted(f"{name}: {value}" for name, value in response.items() if name.lower() not in VARYING_HEADERS)
    cookies = sorted(f"cookie: {name}" for name in response.cookies)
    text = CSRF_TOKEN.sub(r'\1"', body.decode(errors="replace"))
    if reference:
        text = text.replace(reference, "")
    return Answer(response.status_code, "\n".join([*headers, *cookies, text]))


def unknown(value: str) -> str:
    """Of the same shape, and nobody's."""
    try:
        UUID(value)
    except ValueError:
        pass
    else:
        return str(uuid4())
    if value.isdecimal():
        return "9" * 9
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxyz") for _ in value)


@contextmanager
def quiet() -> Iterator[None]:
    """Hundreds of refusals are what is wanted here: only errors are logged, for this thread."""
    mine = threading.get_ident()

    def wanted(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or record.thread != mine

    loggers = [logging.getLogger(name) for name in NOISY]
    for logger in loggers:
        logger.addFilter(wanted)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(wanted)
