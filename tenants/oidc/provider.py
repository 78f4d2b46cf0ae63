"""The one provider that settings name. Its word is taken only when signed (OpenID Connect Core 1.0, 3.1.3.7).

allauth's own provider trusts the token's issuer and signature to TLS and lets the userinfo answer override the token;
here the discovery document must name the configured issuer, the token must be signed by its keys, and userinfo must be
about the same subject. The authorization code is bound to this browser by state and PKCE.
"""

import hashlib
from typing import Any

import jwt
from allauth.account.models import EmailAddress
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.providers.base import ProviderAccount
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.provider import OAuth2Provider
from allauth.socialaccount.providers.oauth2.views import OAuth2Adapter
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from requests import RequestException

from tenants.models import User

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")  # never HMAC, none
CLOCK_SKEW_SECONDS = 60


class NotAnswering(OAuth2Error):
    """The provider cannot be reached, or answers with something else than what the protocol has."""


class NotBelieved(OAuth2Error):
    """The provider's answer is not for us, not from it, or out of date."""


class OIDCAdapter(OAuth2Adapter):
    provider_id = "oidc"

    def _fetch(self, address: str, **headers: str) -> Any:
        try:
            with get_adapter().get_requests_session() as session:
                answer = session.get(address, headers=headers)
                answer.raise_for_status()
                return answer.json()
        except (RequestException, ValueError):
            raise NotAnswering(address) from None

    @property
    def configuration(self) -> dict[str, Any]:
        if not hasattr(self, "_configuration"):
            found = self._fetch(f"{settings.OIDC_ISSUER}/.well-known/openid-configuration")
            if not isinstance(found, dict) or str(found.get("issuer", "")).rstrip("/") != settings.OIDC_ISSUER:
                raise NotBelieved("the discovery document names another issuer")
            self._configuration: dict[str, Any] = found
        return self._configuration

    def _endpoint(self, name: str) -> str:
        try:
            return str(self.configuration[name])
        except KeyError:
            raise NotAnswering(name) from None

    access_token_url = property(lambda self: self._endpoint("token_endpoint"))
    authorize_url = property(lambda self: self._endpoint("authorization_endpoint"))

    @property
    def basic_auth(self) -> bool:
        """client_secret_basic is what a provider that says nothing expects (OpenID Connect Discovery 1.0, 3)."""
        return "client_secret_post" not in self.configuration.get("token_endpoint_auth_methods_supported", [])

    def parse_token(self, data: dict[str, Any]) -> Any:
        if not isinstance(data.get("access_token"), str) or not isinstance(data.get("id_token"), str):
            raise NotAnswering("token_endpoint")
        return super().parse_token(data)

    def complete_login(self, request: HttpRequest, app: Any, token: Any, **kwargs: Any) -> Any:
        claims = self._verified(kwargs["response"]["id_token"])
        if "email" not in claims and "userinfo_endpoint" in self.configuration:
            more = self._fetch(self._endpoint("userinfo_endpoint"), Authorization=f"Bearer {token.token}")
            if not isinstance(more, dict) or more.get("sub") != claims["sub"]:
                raise NotBelieved("userinfo is about somebody else")
            # whether an address is verified is said by whoever says the address
            claims = more | {name: value for name, value in claims.items() if name != "email_verified"}
        if not isinstance(claims.get("email", ""), str):
            raise NotBelieved("the address is not text")
        return self.get_provider().sociallogin_from_response(request, claims)

    def _verified(self, id_token: str) -> dict[str, Any]:
        """The claims of a token signed by the issuer, for this client, and in date."""
        try:
            keys = jwt.PyJWKSet.from_dict(self._fetch(self._endpoint("jwks_uri"))).keys
            wanted = jwt.get_unverified_header(id_token).get("kid")
            key = next(key for key in keys if wanted is None or key.key_id == wanted)
            claims: dict[str, Any] = jwt.decode(
                id_token,
                key=key.key,
                algorithms=list(ALGORITHMS),
                audience=settings.OIDC_CLIENT_ID,
                issuer=self.configuration["issuer"],
                leeway=CLOCK_SKEW_SECONDS,
                options={"require": ["iss", "sub", "aud", "exp", "iat"]},
            )
            if claims.get("azp", settings.OIDC_CLIENT_ID) != settings.OIDC_CLIENT_ID:
                raise NotBelieved("the token was given to another client")
            return claims
        except (jwt.PyJWTError, StopIteration, TypeError, AttributeError) as error:
            raise NotBelieved(type(error).__name__) from None


class OIDCAccount(ProviderAccount):
    def to_str(self) -> str:
        return str(self.account.extra_data.get("email") or settings.OIDC_NAME)


class OIDCProvider(OAuth2Provider):
    id, slug = "oidc", "oidc"
    name = "OpenID Connect"
    account_class = OIDCAccount
    oauth2_adapter_class = OIDCAdapter

    def __init__(self, request: HttpRequest, app: Any = None) -> None:
        super().__init__(request, app)
        self.name = app.name

    def redirect(self, request: HttpRequest, process: str, *args: Any, **kwargs: Any) -> HttpResponse:
        """By way of a page of our own: browsers hold a form's redirect to form-action, which allows no other origin."""
        response = super().redirect(request, process, *args, **kwargs)
        if not isinstance(response, HttpResponseRedirect):
            return response
        return render(request, "socialaccount/leaving.html", {"address": response.url, "provider": self})

    def get_default_scope(self) -> list[str]:
        return ["openid", "profile", "email"]

    def get_scope_from_request(self, request: HttpRequest) -> list[str]:
        """allauth would let a link add to what is asked for."""
        return self.get_scope()

    def get_auth_params_from_request(self, request: HttpRequest, action: str) -> dict[str, str]:
        return self.get_auth_params()

    def extract_uid(self, data: dict[str, Any]) -> str:
        """Of a bounded length, whatever the provider calls its people; another issuer's same subject is another person."""
        return hashlib.sha256(f"{settings.OIDC_ISSUER}\0{data['sub']}".encode()).hexdigest()

    def extract_extra_data(self, data: dict[str, Any]) -> dict[str, str]:
        return {"email": str(data.get("email", ""))}  # to tell connections apart; nothing else is kept

    def extract_common_fields(self, data: dict[str, Any]) -> dict[str, str]:
        return {"email": User.objects.normalize_email(data.get("email")), "name": str(data.get("name") or "")}

    def extract_email_addresses(self, data: dict[str, Any]) -> list[EmailAddress]:
        email = User.objects.normalize_email(data.get("email"))
        verified = data.get("email_verified") is True or data.get("email_verified") == "true"
        return [EmailAddress(email=email, verified=verified, primary=True)] if email else []


provider_classes = [OIDCProvider]
