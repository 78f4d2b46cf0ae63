"""Work that belongs to a request and that nobody waits for: done when the answer has been sent.

Knows nothing of what is done. Not for what must not be lost: a process that is killed in between has not done it.
"""

import logging
from collections.abc import Callable

from django.http import HttpResponse

from tenants import alarms
from tenants.acting import acting, actor
from tenants.context import current_tenant, workspace
from tenants.database import connection
from tenants.keys import presence
from tenants.privacy import describe_exception

logger = logging.getLogger(__name__)


def afterwards(response: HttpResponse, work: Callable[[], object]) -> HttpResponse:
    """Have `work` done when the server closes the response, in the same workspace and by the same actor.

    It has its answer by then, so that what fails is logged and goes no further.
    """
    tenant, by, close = current_tenant(), actor(), response.close

    def closing() -> None:
        try:
            with presence.using(tenant.pk), acting(by), workspace(tenant):
                work()
        except Exception as error:
            logger.error("not done after the answer: %s", describe_exception(error))
        finally:
            try:
                connection.return_to_public()
                alarms.flush()
            finally:
                close()

    response.close = closing  # type: ignore[method-assign]
    return response
