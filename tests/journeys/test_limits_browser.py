"""Too many requests, as a person sees it in Chromium: the sentence stands where the action was, and uploads go on."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.journeys.browsing import ask, go_to, sign_in
from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ONCE = "1/1000000000"  # its window ends in 2033: no edge of one lies between two searches
FILES = 4  # two at once: the second is refused at first, however slow this machine is


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    return make_place("Hasty")


@pytest.fixture
def page(context: BrowserContext, place: Place) -> Iterator[Page]:
    """Signed in at a web process of its own, which allows little."""
    with place.running.further_web(RATE_SEARCH=ONCE, RATE_UPLOAD="1/6") as origin:
        page = context.new_page()
        sign_in(page, place, origin=origin)
        yield page
        page.close()


def test_a_search_too_many_and_uploads_that_wait(page: Page, place: Place) -> None:
    ask(page, "bees")
    ask(page, "wasps")
    refused = page.locator("#results").get_by_role("alert")
    expect(refused).to_contain_text(re.compile(r"Try again in [\d,]+ hours?\."))
    expect(refused).to_be_focused()

    go_to(page, "Documents")
    files = [{"name": f"{n}.txt", "mimeType": "text/plain", "buffer": b"Bees, number %d." % n} for n in range(FILES)]
    page.locator("#id_files").set_input_files(files)
    shown = page.locator("#main")
    expect(shown.get_by_text(re.compile("goes on in [0-9]+ seconds?"))).to_be_visible()
    expect(shown.get_by_text(f"{FILES} files uploaded")).to_be_visible()
    expect(page.get_by_text("failed")).to_have_count(0)
