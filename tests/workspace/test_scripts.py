"""static/js in Chromium against a server that only counts: uploads, keys, buttons that fire once, choices that stay.

What the product's own pages do with them is tested where those pages are.
"""

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import django_htmx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from documents import png
from documents.extraction.pictures import GREY, Picture

pytestmark = pytest.mark.browser

STATIC = Path(__file__).parents[2] / "static"
HTMX = Path(django_htmx.__file__).parent / "static" / "django_htmx" / "htmx-2.min.js"
SCRIPTS = {"/app.js": STATIC / "js/app.js", "/upload.js": STATIC / "js/upload.js", "/htmx.js": HTMX}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'"
CONFIG = re.search(r'<meta name="htmx-config".*>', (STATIC.parent / "templates/base.html").read_text())
assert CONFIG
PAGE = f"""<!doctype html><html lang="en"><head><title>Test</title><meta name="csrf-token" content="secret">
{CONFIG.group()}
<script src="/htmx.js" defer></script><script src="/app.js" defer></script><script src="/upload.js" defer></script>
</head><body><div id="live"></div><main id="main"><div class="page">
<form id="search" method="post" hx-post="/search" hx-target="#results" data-busy="off">
<input type="search" name="q" data-search><button data-busy="Searching…">Search</button></form>
<section id="results"></section>
<form id="slow" method="post" action="/slow"><button id="save" name="save" value="yes" data-busy="Saving…">Save</button></form>
<form method="post" action="/upload" data-dropzone data-max-bytes="5000">
<input type="hidden" name="collection" value="minutes">
<div class="dropzone"><input type="file" name="files" id="files" multiple required><button>Upload</button></div>
<div data-uploads></div></form>
<div id="rows" hx-get="/rows" hx-trigger="documents-changed from:body"></div>
<details class="menu"><summary>Menu</summary>
<label><input type="radio" data-preference="theme" value="dark">Dark</label></details>
<input id="link" value="https://example.org/s/1" readonly><button id="copy" data-copy="#link">Copy</button>
<figure id="drawn" data-picture><a href="/drawn.png"><img src="/drawn.png" alt="Drawn" loading="lazy"></a>
<figcaption data-otherwise hidden>No picture.</figcaption></figure>
<figure id="missing" data-picture><a href="/missing.png"><img src="/missing.png" alt="Missing" loading="lazy"></a>
<figcaption data-otherwise hidden>No picture.</figcaption></figure>
<label>Off<input type="checkbox" data-preference="shortcuts" value="off"></label>
</div></main><dialog id="keys"><p>Keys</p></dialog></body></html>"""
RESULTS = "".join(
    f'<article class="result"><h2 class="result-title"><a href="/document/{number}">Result {number}</a></h2>'
    f'<button data-key="r" hx-post="/judge/{number}" hx-swap="none">Relevant</button></article>'
    for number in (1, 2, 3)
)


class Counter(ThreadingHTTPServer):
    """Answers the page's requests and remembers them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.posts: list[tuple[str, str, bytes]] = []
        self.uploading = self.most_uploading = self.refreshed = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Counter

    def do_GET(self) -> None:
        if self.path in SCRIPTS:
            return self.answer(SCRIPTS[self.path].read_bytes(), kind="text/javascript")
        if self.path == "/drawn.png":
            return self.answer(png.encoded(Picture(1, 1, GREY, b"x")), kind="image/png")
        if self.path == "/missing.png":
            return self.answer(b"<p>No picture", status=404)
        if self.path == "/rows":
            self.server.refreshed += 1
            return self.answer(b"<p>Rows</p>")
        return self.answer(PAGE.encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((self.path, self.headers.get("X-CSRFToken", ""), body))
        if self.path == "/upload":
            return self.upload(body)
        if self.path == "/slow":
            time.sleep(0.5)
            return self.answer(b"<p>Saved</p>")
        if self.path == "/search" and b"q=wrong" in body:
            return self.answer(b'<div role="alert" tabindex="-1" data-focus>Ask again</div>', status=422)
        if self.path == "/search" and b"q=broken" in body:
            return self.answer(b"<p>A trace of the error</p>", status=500)
        return self.answer(RESULTS.encode() if self.path == "/search" else b"")

    def upload(self, body: bytes) -> None:
        with self.server.lock:
            self.server.uploading += 1
            self.server.most_uploading = max(self.server.most_uploading, self.server.uploading)
        time.sleep(0.01)
        with self.server.lock:
            self.server.uploading -= 1
        if b"refused.exe" in body:
            refusal = {"documents": [], "errors": [{"name": "refused.exe", "message": "Programs cannot be read."}]}
            return self.answer(json.dumps(refusal).encode(), kind="application/json", status=422)
        stored = {"documents": [{"id": "1", "url": "/document/1", "name": "a", "state": "queued"}], "errors": []}
        return self.answer(json.dumps(stored).encode(), kind="application/json")

    def answer(self, body: bytes, *, kind: str = "text/html; charset=utf-8", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
        )
        yield browser
        browser.close()


@pytest.fixture
def counter() -> Iterator[Counter]:
    server = Counter()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def screen(chromium: Browser, counter: Counter) -> Iterator[Page]:
    context = chromium.new_context()
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(counter.address)
    yield page
    assert problems == []
    context.close()


def test_it_uploads_a_hundred_files_two_at_a_time(screen: Page, counter: Counter) -> None:
    files = [{"name": f"{number}.txt", "mimeType": "text/plain", "buffer": b"text"} for number in range(100)]
    files.append({"name": "refused.exe", "mimeType": "application/octet-stream", "buffer": b"MZ"})
    screen.locator("#files").set_input_files(files)
    expect(screen.get_by_text("100 files uploaded · 1 failed")).to_be_visible(timeout=30_000)
    expect(screen.get_by_text("Programs cannot be read.")).to_be_visible()
    expect(screen.locator("#rows")).to_have_text("Rows")
    assert len(counter.posts) == 101
    assert counter.most_uploading <= 2
    path, token, body = counter.posts[0]
    assert (path, token) == ("/upload", "secret")
    assert b'name="collection"' in body
    assert body.count(b'name="files"') == 1


def test_it_refuses_empty_and_too_large_files_without_sending_them(screen: Page, counter: Counter) -> None:
    screen.locator("#files").set_input_files(
        [
            {"name": "empty.txt", "mimeType": "text/plain", "buffer": b""},
            {"name": "large.txt", "mimeType": "text/plain", "buffer": b"x" * 5001},
        ]
    )
    expect(screen.get_by_text("This file is empty.")).to_be_visible()
    expect(screen.get_by_text("This file is larger than the 5.0 kB this installation accepts.")).to_be_visible()
    assert counter.posts == []


def test_it_sends_a_form_once(screen: Page, counter: Counter) -> None:
    screen.evaluate("for (let i = 0; i < 3; i += 1) document.querySelector('#save').click()")
    expect(screen.get_by_text("Saved")).to_be_visible()
    assert [(path, body) for path, _, body in counter.posts] == [("/slow", b"save=yes")]


def test_it_searches_and_walks_through_the_results(screen: Page, counter: Counter) -> None:
    screen.keyboard.press("/")
    screen.keyboard.type("minutes")
    screen.keyboard.press("Enter")
    expect(screen.locator(".result")).to_have_count(3)
    expect(screen.locator("[data-search]")).to_be_focused()
    screen.keyboard.press("ArrowDown")
    screen.keyboard.press("ArrowDown")
    expect(screen.get_by_role("link", name="Result 2")).to_be_focused()
    screen.keyboard.press("r")
    screen.wait_for_timeout(200)
    assert counter.posts[-1][:2] == ("/judge/2", "secret")
    screen.keyboard.press("Escape")
    expect(screen.locator("[data-search]")).to_be_focused()


def test_it_moves_the_focus_to_what_is_wrong(screen: Page) -> None:
    screen.fill("[data-search]", "wrong")
    screen.keyboard.press("Enter")
    expect(screen.get_by_role("alert")).to_be_focused()


def test_it_says_that_a_request_failed_and_nothing_of_why(screen: Page) -> None:
    screen.fill("[data-search]", "broken")
    screen.keyboard.press("Enter")
    expect(screen.get_by_role("alert")).to_contain_text("Something went wrong on our side")
    expect(screen.get_by_text("A trace of the error")).to_have_count(0)


def test_it_lists_the_keys_and_switches_them_off(screen: Page) -> None:
    screen.keyboard.press("?")
    expect(screen.locator("#keys")).to_be_visible()
    screen.keyboard.press("Escape")
    expect(screen.locator("#keys")).to_be_hidden()
    screen.get_by_label("Off").check()
    screen.keyboard.press("?")
    expect(screen.locator("#keys")).to_be_hidden()


def test_it_keeps_the_theme_in_a_cookie_and_closes_the_menu(screen: Page) -> None:
    screen.get_by_text("Menu").click()
    screen.get_by_label("Dark").check()
    assert screen.evaluate("document.documentElement.dataset.theme") == "dark"
    assert [(cookie["name"], cookie["value"]) for cookie in screen.context.cookies()] == [("theme", "dark")]
    screen.keyboard.press("Escape")
    expect(screen.get_by_label("Dark")).to_be_hidden()


def test_it_copies_and_says_so(screen: Page) -> None:
    screen.context.grant_permissions(["clipboard-read", "clipboard-write"])
    screen.click("#copy")
    expect(screen.locator("#copy")).to_have_text("Copied")
    expect(screen.locator("#live")).to_have_text("Copied")
    assert screen.evaluate("navigator.clipboard.readText()") == "https://example.org/s/1"


def test_it_leaves_nothing_readable_in_the_browser(screen: Page) -> None:
    screen.fill("[data-search]", "minutes")
    screen.keyboard.press("Enter")
    expect(screen.locator(".result")).to_have_count(3)
    assert "minutes" not in screen.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")


def test_a_picture_that_does_not_come_gives_way_to_words(screen: Page) -> None:
    expect(screen.locator("#missing figcaption")).to_be_visible()
    expect(screen.locator("#missing img")).to_be_hidden()
    expect(screen.locator("#drawn img")).to_have_js_property("naturalWidth", 1)
    expect(screen.locator("#drawn figcaption")).to_be_hidden()
