"""How mail leaves. Without a mail server messages wait, encrypted, until staff hand their link to the person they are for."""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend

from tenants.ciphers import InstallationCipher
from tenants.context import public_context
from tenants.models import OutgoingMail, mail_id

LINK = re.compile(r"https?://\S+")


def _context(pk: str) -> tuple[str, str, str]:
    return ("tenants_outgoingmail", "sealed_body", pk)


_withheld = threading.local()


@contextmanager
def withheld() -> Iterator[None]:
    """Nothing this thread sends leaves: for what is undone afterwards, which mail could not be."""
    _withheld.is_on = True
    try:
        yield
    finally:
        _withheld.is_on = False


class ServerBackend(EmailBackend):
    """Django's e-mail backend of an installation with a mail server."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        if getattr(_withheld, "is_on", False):
            return 0
        return super().send_messages(email_messages)


class HandOverBackend(BaseEmailBackend):
    """Django's e-mail backend of an installation whose EMAIL_HOST is not set."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        cipher = InstallationCipher()
        rows = []
        for message in email_messages:
            for recipient in message.recipients():
                pk = mail_id()
                sealed = cipher.encrypt(_context(pk), str(message.body).encode())
                rows.append(OutgoingMail(id=pk, recipient=recipient, subject=message.subject[:200], sealed_body=sealed))
        with public_context():
            OutgoingMail.objects.bulk_create(rows)
        return len(email_messages)


def body(mail: OutgoingMail) -> str:
    return InstallationCipher().decrypt(_context(mail.id), bytes(mail.sealed_body)).decode()


def link(mail: OutgoingMail) -> str:
    """The first link of a message; empty when it has none."""
    found = LINK.search(body(mail))
    return found.group() if found else ""
