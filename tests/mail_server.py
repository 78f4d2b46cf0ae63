"""A mail server as far as the tests' mailbox is one, that can be away or refuse an address: Django's own keeps everything."""

from collections.abc import Sequence
from smtplib import SMTPRecipientsRefused
from typing import ClassVar

from django.core.mail import EmailMessage
from django.core.mail.backends.locmem import EmailBackend


class MailServer(EmailBackend):
    away: ClassVar[bool] = False
    refused: ClassVar[set[str]] = set()

    @classmethod
    def is_away(cls) -> None:
        cls.away = True

    @classmethod
    def refuses(cls, address: str) -> None:
        cls.refused.add(address)

    @classmethod
    def recover(cls) -> None:
        cls.away = False
        cls.refused.clear()

    def open(self) -> bool:
        if self.away:
            raise ConnectionRefusedError
        return True

    def send_messages(self, messages: Sequence[EmailMessage]) -> int:
        self.open()
        for message in messages:
            if bad := self.refused.intersection(message.recipients()):
                raise SMTPRecipientsRefused(dict.fromkeys(bad, (550, b"No such person")))
        return super().send_messages(messages)
