"""How django-allauth behaves here: who may sign up, and second-factor secrets that the database cannot read."""

import base64
from typing import Any, ClassVar

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.http import HttpRequest

from tenants.ciphers import InstallationCipher
from tenants.models import User

SECOND_FACTOR = ("mfa_authenticator", "data")


class AccountAdapter(DefaultAccountAdapter):
    error_messages: ClassVar[dict[str, str]] = {
        **DefaultAccountAdapter.error_messages,
        "email_password_mismatch": "The e-mail address or the password is wrong.",
        "too_many_login_attempts": "Too many attempts failed. Wait a while, then try again.",
        "incorrect_password": "This is not your password.",
        "enter_current_password": "Type your current password.",
        "email_taken": "There is an account with this address already.",
        "duplicate_email": "This address belongs to your account already.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return settings.SIGN_UP_OPEN

    # Links in mail lead to the installation's own address: a host that a workspace brought is its owner's to redirect.

    def get_reset_password_from_key_url(self, key: str) -> str:
        return f"{settings.PUBLIC_URL}/accounts/password/reset/key/{key}/"

    def get_email_confirmation_url(self, request: HttpRequest, emailconfirmation: Any) -> str:
        return f"{settings.PUBLIC_URL}/accounts/confirm-email/{emailconfirmation.key}/"

    def clean_email(self, email: str) -> str:
        return User.objects.normalize_email(super().clean_email(email))


class MFAAdapter(DefaultMFAAdapter):
    error_messages: ClassVar[dict[str, str]] = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": "This code is wrong or too old. Type the one your app shows now.",
    }

    def encrypt(self, text: str) -> str:
        return base64.b64encode(InstallationCipher().encrypt(SECOND_FACTOR, text.encode())).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return InstallationCipher().decrypt(SECOND_FACTOR, base64.b64decode(encrypted_text)).decode()
