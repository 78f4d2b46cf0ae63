"""Too many requests, as a person sees it in Chromium: the sentence stands where the action was, and uploads go on."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place
from tests.journeys.test_main_job import PATIENCE, ask, go_to
from tests.journeys.visitor import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FILES = 4  # two at once: the second is refused at first, however slow this machine is


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    return make_place("Hasty")


@pytest.fixture
def page(browser: Browser, place: Place) -> Iterator[Page]:
    """Signed in at a web process of its own, which allows little."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    with place.running.further_web(RATE_SEARCH="1/900", RATE_UPLOAD="1/6") as origin:
        page = context.new_page()
        page.goto(f"{origin}{place.path}")
        page.get_by_label("E-mail").fill(place.email)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        yield page
        context.close()


def test_a_search_too_many_and_uploads_that_wait(page: Page, place: Place) -> None:
    expect.set_options(timeout=PATIENCE)
    ask(page, "bees")
    ask(page, "wasps")
    refused = page.locator("#results").get_by_role("alert")
    expect(refused).to_contain_text(re.compile(r"Try again in \d+ (second|minute)s?\."))
    expect(refused).to_be_focused()

    go_to(page, "Documents")
    files = [{"name": f"{n}.txt", "mimeType": "text/plain", "buffer": b"Bees, number %d." % n} for n in range(FILES)]
    page.locator("#id_files").set_input_files(files)
    expect(page.get_by_text(re.compile("goes on in [0-9]+ seconds?"))).to_be_visible()
    expect(page.get_by_text(f"{FILES} files uploaded")).to_be_visible()
    expect(page.get_by_text("failed")).to_have_count(0)
