"""How django-allauth behaves here: who may sign up, and second-factor secrets that the database cannot read."""

import base64

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.http import HttpRequest

from tenants.ciphers import InstallationCipher
from tenants.models import User

SECOND_FACTOR = ("mfa_authenticator", "data")


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return settings.SIGN_UP_OPEN

    def clean_email(self, email: str) -> str:
        return User.objects.normalize_email(super().clean_email(email))


class MFAAdapter(DefaultMFAAdapter):
    def encrypt(self, text: str) -> str:
        return base64.b64encode(InstallationCipher().encrypt(SECOND_FACTOR, text.encode())).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return InstallationCipher().decrypt(SECOND_FACTOR, base64.b64decode(encrypted_text)).decode()
