"""A number for each request, so that an error page and a log line can be matched without showing either to the other."""

import logging
import secrets
from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from tenants.privacy import describe_exception

logger = logging.getLogger(__name__)


class ReferenceNumber:
    """Sets `request.reference`; an error's page shows it, its log line carries it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.reference = secrets.token_hex(4)  # type: ignore[attr-defined]
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        logger.error("reference %s: %s", request.reference, describe_exception(exception))  # type: ignore[attr-defined]
