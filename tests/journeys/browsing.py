"""What people do in Chromium on every journey (sign in, move about, ask), and a witness of all that the browser does.

Knows labels and roles of elements as a reader of the screen does, and nothing of a journey's subject.
"""

import re
from collections.abc import Callable, Iterable
from urllib.parse import unquote_plus

from playwright.sync_api import BrowserContext, Page, expect

from tests.journeys import visitor
from tests.journeys.place import Place

NewContext = Callable[..., BrowserContext]
PATIENCE = visitor.PATIENCE * 1000  # ms
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error("violated", event.effectiveDirective, event.blockedURI, event.sourceFile, event.lineNumber));
"""
DOUBLE_IDS = """
Object.entries(Object.groupBy(document.querySelectorAll("[id]"), (element) => element.id))
  .filter(([id, elements]) => elements.length > 1).map(([id]) => id)
"""


class Witness:
    """Sees everything a browser context asks for, complains about and keeps; `unsaid` may stand in no address and no title."""

    def __init__(self, context: BrowserContext, unsaid: Iterable[str] = ()) -> None:
        self.unsaid = [words.casefold() for words in unsaid]
        self.problems: list[str] = []
        self.addresses: list[str] = []
        self.titles: set[str] = set()
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("console", lambda said: self.problems.append(said.text) if said.type in ("error", "warning") else None)
        context.on("weberror", lambda error: self.problems.append(str(error.error)))
        context.on("request", lambda request: self.addresses.append(request.url))

    def look(self, page: Page, *, scripts: bool = True) -> None:
        """At the page as it stands now."""
        self.titles.add(page.title())
        self.addresses.append(page.url)
        if scripts:
            kept = page.evaluate("({...localStorage, ...sessionStorage, ...history.state})")
            self.addresses.append(kept.pop("htmx-current-path-for-history", ""))  # htmx notes it whatever it is told
            assert kept == {}
            doubled = page.evaluate(DOUBLE_IDS)
            assert doubled == [], f"{doubled} stand twice on {page.url}"

    def agree(self) -> None:
        assert self.problems == []
        said = unquote_plus(" ".join([*self.addresses, *sorted(self.titles)])).casefold()
        for words in self.unsaid:
            assert words not in said, f"{words!r} stands in an address or a title"
        assert not re.search(r"[?&]q=", said)


def give_password(page: Page, place: Place, email: str = "", *, origin: str = "", path: str = "") -> None:
    """On the way to the workspace, or to `path`; what comes then (a second factor, a page) is for the caller to expect."""
    page.goto(f"{origin or place.running.url}{path or place.path}")
    page.get_by_label("E-mail").fill(email or place.email)
    page.get_by_label("Password", exact=True).fill(visitor.PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def sign_in(page: Page, place: Place, email: str = "", *, origin: str = "", path: str = "") -> None:
    """The owner, or the member with this address; afterwards the page is the workspace's first."""
    give_password(page, place, email, origin=origin, path=path)
    expect(page).to_have_url(f"{origin or place.running.url}{place.path}")


def sign_out(page: Page) -> None:
    page.locator("details.account summary").click()
    page.locator("details.account").get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/accounts/login/"))


def go_to(page: Page, name: str) -> None:
    link = page.get_by_role("navigation", name="Workspace").get_by_role("link", name=name, exact=True)
    address = link.get_attribute("href") or ""
    link.click()
    page.wait_for_url(f"**{address}")  # loaded: what a test does next is done to the page it went to


def ask(page: Page, question: str) -> None:
    page.get_by_role("searchbox").fill(question)
    page.get_by_role("search").get_by_role("button", name="Search").click()
