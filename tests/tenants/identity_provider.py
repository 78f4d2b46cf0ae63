"""A stand-in for the world's OpenID Connect providers: a small HTTP server that signs people in without asking."""

import base64
import hashlib
import json
import secrets
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa


class IdentityProvider:
    """Start it with `with`. What it says can be spoilt: `claims`, `userinfo`, `configuration`, `signing_key`, `refuses`."""

    def __init__(self) -> None:
        self.key = self.signing_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.claims: dict[str, Any] = {"sub": "person-1", "email": "Ann@Example.org", "email_verified": True, "name": "Ann"}
        self.userinfo: dict[str, Any] = {}
        self.configuration: dict[str, Any] = {}
        self.refuses = False
        self.codes: dict[str, dict[str, str]] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"provider": self}))
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "IdentityProvider":
        Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()  # seconds until it heeds shutdown()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def settings(self) -> dict[str, Any]:
        """What workspace/settings.py makes of the environment of an installation that uses it."""
        app = {"name": "Guild", "client_id": "cloister", "secret": "a-client-secret"}
        return {
            "OIDC_ISSUER": self.issuer,
            "OIDC_CLIENT_ID": "cloister",
            "OIDC_NAME": "Guild",
            "SOCIALACCOUNT_PROVIDERS": {"oidc": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]}},
        }

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            **self.configuration,
        }

    def keys(self) -> dict[str, Any]:
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**key, "kid": "1", "use": "sig", "alg": "RS256"}]}

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser goes with its code."""
        back = {"state": asked["state"]}
        if self.refuses:
            return f"{asked['redirect_uri']}?{urlencode(back | {'error': 'access_denied'})}"
        code = secrets.token_urlsafe(8)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode(back | {'code': code})}"

    def token(self, asked: dict[str, str]) -> dict[str, Any]:
        begun = self.codes.pop(asked["code"])
        proof = base64.urlsafe_b64encode(hashlib.sha256(asked["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        assert proof == begun["code_challenge"]
        assert begun["redirect_uri"] == asked["redirect_uri"]
        assert (asked["client_id"], asked["client_secret"]) == ("cloister", "a-client-secret")
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": "cloister", "iat": now, "exp": now + 60, **self.claims}
        return {
            "access_token": "an-access-token",
            "token_type": "Bearer",
            "id_token": jwt.encode(claims, self.signing_key, "RS256", headers={"kid": "1"}),
        }


class _Handler(BaseHTTPRequestHandler):
    provider: IdentityProvider

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/authorize":
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            self.send_response(302)
            self.send_header("Location", self.provider.authorize(asked))
            self.end_headers()
            return
        answers = {
            "/.well-known/openid-configuration": self.provider.discovery,
            "/keys": self.provider.keys,
            "/userinfo": lambda: self.provider.userinfo,
        }
        self._answer(answers[parts.path]())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._answer(self.provider.token({name: values[0] for name, values in parse_qs(body).items()}))

    def _answer(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
