from collections.abc import Iterator
from typing import Any

import pytest

from tests.mail_server import MailServer


@pytest.fixture
def mail_server(settings: Any) -> Iterator[type[MailServer]]:
    """Mail is configured, and the server does as the test says."""
    settings.MAIL_IS_CONFIGURED = True
    settings.EMAIL_BACKEND = "tests.mail_server.MailServer"
    yield MailServer
    MailServer.recover()
