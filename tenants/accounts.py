"""How django-allauth behaves here: who may sign up, and second-factor secrets that the database cannot read."""

import base64
from typing import Any, ClassVar

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.signals import password_changed, password_reset, password_set
from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect

from tenants import seals
from tenants.ciphers import InstallationCipher
from tenants.limits import lock_left, too_many
from tenants.models import User
from tenants.sessions import end_sessions

SECOND_FACTOR = ("mfa_authenticator", "data")
WAYS = {
    "reauthenticate": "Use your password",
    "mfa_reauthenticate": "Use a code",
    "mfa_reauthenticate:webauthn": "Use a passkey",
}


NOT_SEALED = "You cannot sign in: your account was changed outside of Cloister. Tell whoever runs this installation."


class AccountAdapter(DefaultAccountAdapter):
    error_messages: ClassVar[dict[str, str]] = {
        **DefaultAccountAdapter.error_messages,
        "email_password_mismatch": "The e-mail address or the password is wrong.",
        "too_many_login_attempts": "Too many attempts failed. Try again in 5 minutes.",
        "incorrect_password": "This is not your password.",
        "enter_current_password": "Type your current password.",
        "email_taken": "There is an account with this address already.",
        "duplicate_email": "This address belongs to your account already.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return settings.SIGN_UP_OPEN

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """allauth would answer 200 with a sentence in the form; a limit is a 429 everywhere."""
        try:
            super().pre_authenticate(request, **credentials)
        except ValidationError:
            wait = max(settings.SIGN_IN_FAILURES_SECONDS, lock_left(request, credentials))
            raise ImmediateHttpResponse(too_many(request, wait)) from None

    # Somebody whose rows were not all written by Cloister (tenants/seals.py) does not sign in, in whatever way.

    def authenticate(self, request: HttpRequest, **credentials: Any) -> User | None:
        user = super().authenticate(request, **credentials)
        if isinstance(user, User) and not seals.person_stands(user):
            self.authentication_failed(request, **credentials)
            return None
        return user

    def pre_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponseBase | None:
        """By other means than a password: a passkey, single sign-on, a link."""
        if not seals.person_stands(user):
            messages.error(request, NOT_SEALED)
            return redirect(settings.LOGIN_URL)
        response: HttpResponseBase | None = super().pre_login(request, user, **kwargs)
        return response

    def login(self, request: HttpRequest, user: User) -> None:
        """At the end of all of them: a second factor may have been planted since the first."""
        if not seals.person_stands(user):
            messages.error(request, NOT_SEALED)
            raise ImmediateHttpResponse(redirect(settings.LOGIN_URL))
        super().login(request, user)

    def send_password_reset_mail(self, user: User, email: str, context: dict[str, Any]) -> None:
        """To an address that is theirs; nothing tells whoever asked."""
        if seals.person_stands(user):
            super().send_password_reset_mail(user, email, context)

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, str]]:
        return [
            method | {"description": WAYS.get(method["id"], method["description"])}
            for method in super().get_reauthentication_methods(user)
        ]

    def second_factors(self, user: User) -> list[dict[str, str]]:
        """The pages on which this person can prove a second factor they have, passkeys first."""
        found = [way for way in self.get_reauthentication_methods(user) if way["id"] != "reauthenticate"]
        return sorted(found, key=lambda way: way["id"], reverse=True)

    # Links in mail lead to the installation's own address: a host that a workspace brought is its owner's to redirect.

    def get_reset_password_from_key_url(self, key: str) -> str:
        return f"{settings.PUBLIC_URL}/accounts/password/reset/key/{key}/"

    def get_email_confirmation_url(self, request: HttpRequest, emailconfirmation: Any) -> str:
        return f"{settings.PUBLIC_URL}/accounts/confirm-email/{emailconfirmation.key}/"

    def clean_email(self, email: str) -> str:
        return User.objects.normalize_email(super().clean_email(email))


def _end_other_sessions(request: HttpRequest, user: User, **kwargs: object) -> None:
    """They could not be used any more, as they are bound to the old password; nor shall they be listed as if they could."""
    end_sessions(user, but=request.session)


for _signal in (password_changed, password_set, password_reset):
    _signal.connect(_end_other_sessions, dispatch_uid="tenants.accounts")


class MFAAdapter(DefaultMFAAdapter):
    error_messages: ClassVar[dict[str, str]] = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": "This code is wrong or too old. Type the one your app shows now, or a recovery code.",
        "unverified_email": "Confirm all your e-mail addresses first, or remove those you cannot confirm.",
        "add_email_blocked": "With a second factor set up, an address cannot be added. Switch the second factor off first.",
        "cannot_delete_authenticator": "This second factor cannot be removed.",
        "cannot_generate_recovery_codes": "Set up an app or a passkey first; recovery codes replace one of them.",
    }

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """A passkey belongs to one hostname: one made here does not work on a workspace's own."""
        return {**super().get_public_key_credential_rp_entity(), "name": "Cloister"}

    def generate_authenticator_name(self, user: Any, type: Any) -> str:
        return f"Passkey in {context.request.session.browser or 'a browser'}"

    def encrypt(self, text: str) -> str:
        return base64.b64encode(InstallationCipher().encrypt(SECOND_FACTOR, text.encode())).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return InstallationCipher().decrypt(SECOND_FACTOR, base64.b64decode(encrypted_text)).decode()
