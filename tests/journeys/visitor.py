"""A person's HTTP client: cookies, CSRF, redirects, forms and uploads, and the bytes of an answer as they came.

Knows addresses and forms alone, nothing of the code that serves them.
"""

import json
import re
import secrets
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from http.cookiejar import CookieJar
from typing import Any

from tests.one_time_code import one_time_code

PASSWORD = "correct-horse-battery-staple"
PATIENCE = 180.0  # seconds; a guard against hanging
File = tuple[str, bytes]  # name, content


@dataclass(frozen=True)
class Answer:
    status: int
    url: str
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def path(self) -> str:
        return urllib.parse.urlsplit(self.url).path

    @property
    def words(self) -> str:
        """What a reader sees, roughly: the text without its tags."""
        return " ".join(re.sub(r"<[^>]+>", " ", self.text).split())

    def json(self) -> Any:
        return json.loads(self.body)


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


class Visitor:
    """One browser profile. Threads want one each."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.cookies = CookieJar()
        common = (urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies))
        self._following = urllib.request.build_opener(*common)
        self._staying = urllib.request.build_opener(*common, _Stay)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        follow: bool = True,
    ) -> Answer:
        url = urllib.parse.urljoin(self.origin, path)
        request = urllib.request.Request(url, body, dict(headers or {}), method=method)
        opener = self._following if follow else self._staying
        try:
            with opener.open(request, timeout=PATIENCE) as response:
                return Answer(response.status, response.url, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.url or url, error.headers, error.read())

    def get(self, path: str, headers: Mapping[str, str] | None = None, *, follow: bool = True) -> Answer:
        return self.request("GET", path, None, headers, follow=follow)

    def post(
        self,
        path: str,
        fields: Mapping[str, str] | None = None,
        files: Sequence[tuple[str, File]] = (),
        headers: Mapping[str, str] | None = None,
        *,
        follow: bool = True,
    ) -> Answer:
        """`files` are pairs of field and file. The CSRF token goes with it, as with every form of a page."""
        body, content_type = encode(fields or {}, files)
        given = {"Content-Type": content_type, "X-CSRFToken": self.token, **(headers or {})}
        return self.request("POST", path, body, given, follow=follow)

    @property
    def token(self) -> str:
        return next((cookie.value or "" for cookie in self.cookies if cookie.name == "csrftoken"), "")

    # -- signing in

    def choose_password(self, link: str) -> None:
        page = self.get(link)
        done = self.post(page.url, {"password1": PASSWORD, "password2": PASSWORD})
        assert done.status == 200, done.words

    def sign_in(self, email: str, password: str = PASSWORD) -> Answer:
        self.get("/accounts/login/")
        answer = self.post("/accounts/login/", {"login": email, "password": password})
        assert "/accounts/login/" not in answer.url, answer.words
        return answer

    def set_up_second_factor(self) -> None:
        """An authenticator app, which the administration pages ask for."""
        page = "/accounts/2fa/totp/activate/"
        asked = self.get(page)
        shown = self.post(asked.url, {"password": PASSWORD, "next": page})
        secret = re.search(r'id="authenticator_secret"[^>]* value="([A-Z2-7]+)"', shown.text)
        assert secret, shown.words
        done = self.post(page, {"code": one_time_code(secret[1])})
        assert done.path == "/accounts/2fa/recovery-codes/", done.words


def encode(fields: Mapping[str, str], files: Sequence[tuple[str, File]]) -> tuple[bytes, str]:
    """A form's body and content type; a file's name goes as the bytes it has, hostile or not (RFC 7578, 4.2)."""
    if not files:
        return urllib.parse.urlencode(fields).encode(), "application/x-www-form-urlencoded"
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for field, (name, content) in files:
        disposition = f'form-data; name="{field}"; filename="{name}"'
        head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: application/octet-stream\r\n\r\n"
        parts.append(head.encode() + content + b"\r\n")
    parts.append(f"--{boundary}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"
