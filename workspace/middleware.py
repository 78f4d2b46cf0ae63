"""A number for each request, so that an error page and a log line can be matched without showing either to the other."""

import logging
import secrets
from collections.abc import Callable

from csp.constants import UNSAFE_INLINE
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponseBase
from django.http.multipartparser import MultiPartParserError

from tenants.privacy import describe_exception

logger = logging.getLogger(__name__)

# Answered with 4xx: no fault of ours.
ANSWERS = (Http404, PermissionDenied, BadRequest, SuspiciousOperation, MultiPartParserError)


class QueuePageStyles:
    """Lets the staff's queue pages keep the <style> elements django-rq writes; scripts stay as forbidden as everywhere."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if request.path.startswith("/admin/queues/"):
            response._csp_update = {"style-src": [UNSAFE_INLINE]}  # type: ignore[attr-defined]  # as csp.decorators.csp_update
        return response


class ReferenceNumber:
    """Sets `request.reference`; an error's page shows it, its log line carries it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.reference = secrets.token_hex(4)  # type: ignore[attr-defined]
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        level = logging.INFO if isinstance(exception, ANSWERS) else logging.ERROR
        logger.log(level, "reference %s: %s", request.reference, describe_exception(exception))  # type: ignore[attr-defined]
