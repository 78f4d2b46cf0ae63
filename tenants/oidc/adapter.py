"""What a person may do here with what the provider says of them."""

import logging
from typing import Any, ClassVar

from allauth.account.models import EmailAddress
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.providers.base import AuthProcess
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from tenants import names, people
from tenants.models import User

logger = logging.getLogger(__name__)


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    error_messages: ClassVar[dict[str, str]] = {
        **DefaultSocialAccountAdapter.error_messages,
        "no_password": "Choose a password first: without one you could not sign in any more.",
        "no_verified_email": "Confirm an e-mail address first: without one you could not get back in.",
        "connected_other": "This identity belongs to another account here.",
    }

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        """Refuse to make an account by itself unless the address is proved, new here, and expected."""
        if sociallogin.is_existing or sociallogin.state.get("process") == AuthProcess.CONNECT:
            return
        address = next((each.email for each in sociallogin.email_addresses if each.verified), "")
        if not address:
            raise ImmediateHttpResponse(_refused(request, "unverified"))
        taken = User.objects.filter(email=address).exists() or EmailAddress.objects.filter(email__iexact=address).exists()
        if taken:
            raise ImmediateHttpResponse(_refused(request, "taken", address))
        if not settings.SIGN_UP_OPEN and not people.is_invited(address):
            raise ImmediateHttpResponse(_refused(request, "uninvited", address))

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        return True  # pre_social_login has decided

    def populate_user(self, request: HttpRequest, sociallogin: Any, data: dict[str, Any]) -> Any:
        user = sociallogin.user
        user.email, user.name = data.get("email") or "", names.told_of_person(data.get("name") or "")
        return user

    def on_authentication_error(
        self, request: HttpRequest, provider: Any, error: Any = None, exception: Any = None, extra_context: Any = None
    ) -> None:
        """Which of three pages it is; the log has the cause, as far as it is of our own wording."""
        from tenants.oidc.provider import NotAnswering, NotBelieved

        ours = isinstance(exception, NotAnswering | NotBelieved)
        cause = f"{type(exception).__name__} ({exception})" if ours else type(exception).__name__
        logger.warning("reference %s: single sign-on failed: %s", getattr(request, "reference", ""), cause)
        kind = {NotAnswering: "away", NotBelieved: "not-believed"}.get(type(exception), "away" if exception else "lost")
        extra_context["problem"] = kind


def _refused(request: HttpRequest, reason: str, address: str = "") -> HttpResponse:
    return render(request, "socialaccount/refused.html", {"reason": reason, "address": address}, status=403)
