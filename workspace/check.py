"""`bin/up --check`: starts everything in a temporary directory and does the main job over HTTP, like a person.

Knows Cloister by its pages alone: addresses, forms and words, nothing of the code behind them.
"""

import html
import json
import re
import secrets
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path

from workspace import up
from workspace.embedded import Supervisor
from workspace.installation import Installation
from workspace.samples import Sample, samples

STOP_POLLING = 286  # htmx's status for "nothing more will change"
PATIENCE = 180.0  # seconds for a document or a run to become final


class CheckFailed(Exception):
    """What a person would have seen instead of what they should have seen."""


@dataclass(frozen=True)
class Page:
    status: int
    url: str
    text: str


class Browser:
    """Cookies, forms and redirects; nothing else of a browser is needed."""

    def __init__(self, origin: str, supervisor: Supervisor) -> None:
        self.origin = origin
        self._supervisor = supervisor
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(CookieJar())
        )

    def get(self, url: str) -> Page:
        return self._open(urllib.request.Request(self._absolute(url)))  # noqa: S310 (always our own origin)

    def submit(self, form_at: str, fields: dict[str, str], to: str | None = None, files: list["Upload"] | None = None,
               accept: str = "text/html") -> Page:  # fmt: skip
        """Open the page that holds the form, then send it with its token."""
        page = self.get(form_at)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        if token is None:
            raise CheckFailed(f"{page.url} has no form to send")
        body, content_type = encode({"csrfmiddlewaretoken": token[1], **fields}, files or [])
        headers = {"Content-Type": content_type, "Accept": accept, "Referer": page.url, "Origin": self.origin}
        return self._open(urllib.request.Request(self._absolute(to or form_at), body, headers))  # noqa: S310

    def _absolute(self, url: str) -> str:
        return urllib.parse.urljoin(self.origin, html.unescape(url))

    def _open(self, request: urllib.request.Request) -> Page:
        self._supervisor.raise_if_asked_to_stop()
        try:
            with self._opener.open(request, timeout=60) as response:
                return Page(response.status, response.url, response.read().decode())
        except urllib.error.HTTPError as error:
            seen = re.sub(r"<[^>]+>|\s+", " ", error.read().decode(errors="replace"))
            path = urllib.parse.urlsplit(request.full_url).path
            problem = f"{request.get_method()} {path} answered {error.code}: {' '.join(seen.split())[:600]}"
            raise CheckFailed(problem) from None


@dataclass(frozen=True)
class Upload:
    field: str
    name: str
    media_type: str
    content: bytes


def encode(fields: dict[str, str], files: list[Upload]) -> tuple[bytes, str]:
    """A form's body and its content type (RFC 7578 with files)."""
    if not files:
        return urllib.parse.urlencode(fields).encode(), "application/x-www-form-urlencoded"
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for file in files:
        disposition = f'form-data; name="{file.field}"; filename="{file.name}"'
        head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {file.media_type}\r\n\r\n"
        parts.append(head.encode() + file.content + b"\r\n")
    parts.append(f"--{boundary}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


class MainJob:
    """What a person comes for, one method per step."""

    def __init__(self, browser: Browser, site: up.Site, pause: Callable[[float], None]) -> None:
        self.browser = browser
        self.pause = pause
        self.login = site.demo["logins"][0]
        self.home = site.demo["url"]
        self.samples = samples()
        self.documents: dict[str, str] = {}  # address of the document's page, by file name
        self.passages: dict[str, str] = {}  # address of the passage found, by file name
        self.judgments = self.run = ""

    def sign_in(self) -> None:
        self.browser.submit("/accounts/login/", {"login": self.login["email"], "password": self.login["password"]})
        page = self.browser.get(self.home)
        if urllib.parse.urlsplit(page.url).path != self.home:
            raise CheckFailed(f"signing in as {self.login['email']} led to {page.url}")

    def upload(self) -> None:
        form_at = f"{self.home}documents/upload/"
        choice = re.search(r'<option value="([^"]*)"', self.browser.get(form_at).text)
        files = [Upload("files", s.file_name, s.media_type, s.content) for s in self.samples]
        fields = {"collection": choice[1] if choice else ""}
        answer = json.loads(self.browser.submit(form_at, fields, files=files, accept="application/json").text)
        if answer.get("errors") or len(answer["documents"]) != len(files):
            raise CheckFailed(f"the upload was answered with {answer}")
        self.documents = {s.file_name: d["url"] for s, d in zip(self.samples, answer["documents"], strict=True)}

    def wait_until_ready(self) -> None:
        for name, url in self.documents.items():
            page = self.wait_for(f"{url}status/", name)
            if "banner-bad" in page.text or "Cancelled" in page.text:
                raise CheckFailed(f"{name} did not become ready: {' '.join(re.sub(r'<[^>]+>', ' ', page.text).split())}")

    def search(self) -> None:
        for sample in self.samples:
            found = self.browser.submit(self.home, {"q": sample.question})
            first = re.search(r'class="result-title"><a href="([^"]+)"', found.text)
            if first is None or not html.unescape(first[1]).startswith(self.documents[sample.file_name]):
                raise CheckFailed(f"the first result for “{sample.question}” is not {sample.file_name}")
            self.passages[sample.file_name] = first[1]

    def open_the_passages(self) -> None:
        for sample in self.samples:
            if not shows(self.browser.get(self.passages[sample.file_name]), sample):
                raise CheckFailed(f"the page of {sample.file_name} does not show “{sample.words}”")

    def upload_judgments(self) -> None:
        rows = "".join(f'"{s.question}",{s.file_name},1\n' for s in self.samples)
        file = Upload("file", "questions.csv", "text/csv", f"question,document,grade\n{rows}".encode())
        page = self.browser.submit(f"{self.home}evaluation/upload/", {"name": "Check"}, files=[file])
        self.judgments = urllib.parse.urlsplit(page.url).path
        if not re.search(r"/evaluation/[0-9a-f-]{36}/$", self.judgments):
            raise CheckFailed(f"uploading judgments led to {page.url}")

    def run_the_evaluation(self) -> None:
        page = self.browser.submit(self.judgments, {}, to=f"{self.judgments}run/")
        self.run = urllib.parse.urlsplit(page.url).path
        if "/evaluation/runs/" not in self.run:
            raise CheckFailed(f"starting the evaluation led to {page.url}")
        self.wait_for(f"{self.run}status/", "the evaluation")

    def export_the_report(self) -> None:
        report = json.loads(self.browser.get(f"{self.run}export.json").text)
        found = re.search(r'"ndcg@10": ([0-9.]+)', json.dumps(report))
        if found is None or float(found[1]) < 0.99:
            raise CheckFailed(f"the report says nDCG@10 = {found[1] if found else 'nothing'}, and every document stood first")
        if not self.browser.get(f"{self.run}export.csv").text.strip():
            raise CheckFailed("the report as CSV is empty")

    def wait_for(self, url: str, what: str) -> Page:
        """Poll as the page does, until it says that nothing more will change."""
        deadline = time.monotonic() + PATIENCE
        while (page := self.browser.get(url)).status != STOP_POLLING:
            if time.monotonic() > deadline:
                raise CheckFailed(f"{what} was not finished after {PATIENCE:.0f} s")
            self.pause(0.25)
        return page


def shows(page: Page, sample: Sample) -> bool:
    text = html.unescape(re.sub(r"<[^>]+>", "", page.text))
    return sample.words in " ".join(text.split())


def check() -> int:
    """0: everything was done and found. 1: the step that failed says why."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cloister-check-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # for the services' account, when we are root
        installation = Installation.temporary(directory, throwaway=False)
        installation.make_directories()
        steps = up.Steps()
        try:
            with up.running(installation, steps) as supervisor:
                work(installation, supervisor, steps)
                stopping = time.monotonic()
        except CheckFailed as error:
            print(f"\nFailed: {error}")
            tell_logs(installation)
            return 1
        print(f"  {'stopping everything':<44}{time.monotonic() - stopping:7.1f} s")
    print(f"\nEverything works ({time.monotonic() - begun:.0f} s).")
    return 0


def work(installation: Installation, supervisor: Supervisor, steps: up.Steps) -> None:
    with up.listen("127.0.0.1", 0, or_next=False) as listener:
        site = up.start(installation, supervisor, listener, steps, demo=True)
        job = MainJob(Browser(site.url, supervisor), site, time.sleep)
        for label, do in (
            ("sign in", job.sign_in),
            ("upload a PDF, a DOCX and a Markdown file", job.upload),
            ("wait until they are ready", job.wait_until_ready),
            ("search", job.search),
            ("open the passages", job.open_the_passages),
            ("upload judgments", job.upload_judgments),
            ("run an evaluation", job.run_the_evaluation),
            ("export its report", job.export_the_report),
        ):
            with steps.step(label):
                do()


def tell_logs(installation: Installation) -> None:
    for name in ("web", "worker"):
        log = installation.logs / f"{name}.log"
        if log.exists():
            print(f"\nThe end of {log.name}:\n{log.read_text(errors='replace')[-2000:]}")
