"""/accounts/oidc/login/ and /accounts/oidc/login/callback/."""

from allauth.socialaccount.providers.oauth2.urls import default_urlpatterns

from tenants.oidc.provider import OIDCProvider

urlpatterns = default_urlpatterns(OIDCProvider)
