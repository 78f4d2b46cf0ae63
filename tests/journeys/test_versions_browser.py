"""A second version and the same file again, as a person meets them in Chromium."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.journeys.browsing import Witness, go_to
from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    return make_place("Versions")


@pytest.fixture
def page(page: Page, witness: Witness) -> Iterator[Page]:
    yield page
    witness.problems = [said for said in witness.problems if "status of 422" not in said]  # what is here already


def choose(page: Page, name: str, text: bytes) -> None:
    page.locator("#id_files").set_input_files(FilePayload(name=name, mimeType="text/plain", buffer=text))


def test_a_new_version_is_compared_and_the_old_one_used_again(page: Page) -> None:
    go_to(page, "Documents")
    rows, files = page.locator("#document-rows"), page.get_by_role("list", name="Files")
    choose(page, "bees.txt", b"Bees sleep.\nBees hum in the garden.\n")
    expect(rows).to_contain_text("Ready")
    choose(page, "copy.txt", b"Bees sleep.\nBees hum in the garden.\n")
    expect(files).to_contain_text("Already here as “bees”")
    files.get_by_role("button", name="Upload copy.txt anyway").click()
    expect(rows.get_by_role("link", name="copy")).to_be_visible()
    choose(page, "bees.txt", b"Bees sleep.\nWasps hum in the garden.\n")
    expect(rows).to_contain_text("version 2")
    expect(rows.get_by_role("link", name="bees")).to_have_count(1)
    rows.get_by_role("link", name="bees").click()
    page.get_by_role("link", name="Compare with version 1").click()
    expect(page.locator("ins")).to_have_text("+ Wasps hum in the garden.")
    expect(page.locator("del")).to_have_text("− Bees hum in the garden.")
    page.get_by_role("navigation").get_by_role("link", name="bees").click()
    page.get_by_role("button", name="Use version 1 again").click()
    expect(page.get_by_text("Version 1 of “bees” is in use again")).to_be_visible()
    page.get_by_role("link", name="Version 2", exact=True).click()
    expect(page.get_by_role("heading", name="Version 2 of 2, not in use")).to_be_visible()
