"""allauth's two steps for our provider; not found where no provider is configured."""

from collections.abc import Callable
from functools import wraps
from typing import Any

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
        return view(request, *args, **kwargs)

    return guarded


oauth2_login = _where_configured(OAuth2LoginView.adapter_view(OIDCAdapter))
oauth2_callback = _where_configured(OAuth2CallbackView.adapter_view(OIDCAdapter))
