"""allauth's two steps for our provider: not found where none is configured, and its failures are a page that says so."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.core import ratelimit
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse

from tenants.oidc.provider import OIDCAdapter

View = Callable[..., HttpResponse]


def _where_configured(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not settings.OIDC_ISSUER:
            raise Http404
        if refused := ratelimit.consume_or_429(request, action="login"):  # each beginning asks the provider
            return refused
        try:
            return view(request, *args, **kwargs)
        except OAuth2Error as error:  # allauth expects some of its errors only in some places
            return render_authentication_error(request, OIDCAdapter(request).get_provider(), exception=error)

    return guarded


oauth2_login = _where_configured(OAuth2LoginView.adapter_view(OIDCAdapter))
oauth2_callback = _where_configured(OAuth2CallbackView.adapter_view(OIDCAdapter))
