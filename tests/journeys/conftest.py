"""One running installation for all journeys, workspaces to make in it, and a Chromium."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.journeys.browsing import PATIENCE, NewContext, Witness, sign_in
from tests.journeys.place import Place
from tests.running import Running

CHROMIUM = {
    "executable_path": os.environ.get("CHROMIUM", "/usr/bin/chromium"),
    "args": [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        "--disable-component-update",
        "--disable-sync",
    ],
}
MakePlace = Callable[[str], Place]


@pytest.fixture(scope="session")
def database(running: Running) -> Iterator[psycopg.Connection[Any]]:
    """The installation's database, as its administrator; sees ciphertext like everybody who copies it."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def make_place(running: Running, database: psycopg.Connection[Any]) -> MakePlace:
    """Make a workspace with an owner who is signed in."""
    numbers = count(1)

    def make(name: str) -> Place:
        slug = f"{name.lower()}-{next(numbers)}"
        owner = f"owner@{slug}.example"
        made = running.manage("create_workspace", name, "--slug", slug, "--owner", owner)
        place = Place(running, database, made, owner)
        if "worker" in running.processes and running.is_alive("worker"):  # canaries first: tests count rows
            done = "SELECT EXISTS (SELECT FROM search_sharedsearch)"
            running.wait(lambda: place.query(done) == [(True,)], "the canaries")
        return place

    return make


@pytest.fixture
def all_alive(running: Running) -> Iterator[None]:
    """For tests that kill: both processes live before, and again afterwards, whatever happened between."""
    revive(running)
    yield
    revive(running)


def revive(running: Running) -> None:
    for name, start in (("web", running.start_web), ("worker", running.start_worker)):
        if name not in running.processes or not running.is_alive(name):
            running.processes.pop(name, None)
            start()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Ends with this package: while Playwright runs, Django takes its thread for asynchronous and refuses the database."""
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE)
        browser = playwright.chromium.launch(**CHROMIUM)  # type: ignore[arg-type]
        yield browser
        browser.close()


@pytest.fixture
def new_context(browser: Browser) -> Iterator[NewContext]:
    """Make a browser profile of its own, with the options of Playwright's; closed after the test."""
    made: list[BrowserContext] = []

    def make(**options: Any) -> BrowserContext:
        made.append(browser.new_context(**options))
        made[-1].set_default_timeout(PATIENCE)
        return made[-1]

    yield make
    for context in made:
        context.close()


@pytest.fixture
def context(new_context: NewContext) -> BrowserContext:
    return new_context(permissions=["clipboard-read", "clipboard-write"])


@pytest.fixture
def witness(context: BrowserContext) -> Iterator[Witness]:
    witness = Witness(context)
    yield witness
    witness.agree()


@pytest.fixture
def page(context: BrowserContext, witness: Witness, place: Place) -> Iterator[Page]:
    """The owner of the module's `place` is signed in; the page is looked at once more at the end."""
    page = context.new_page()
    sign_in(page, place)
    yield page
    witness.look(page)
    page.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[pytest.TestReport]:
    """What the processes said is shown beside a failure; nobody else could tell why a page answered 500."""
    report = yield
    running = getattr(item, "funcargs", {}).get("running")
    if report.failed and running is not None:
        report.sections += [(f"end of {name}.log", running.log(name)[-5000:]) for name in ("web", "worker")]
    return report
