"""Metadata and filters in Chromium: a field is made, files get values with their upload, a value is picked and taken off."""

import re

import pytest
from playwright.sync_api import BrowserContext, FilePayload, expect

from tests.journeys.browsing import Witness, ask, go_to, sign_in
from tests.journeys.conftest import MakePlace

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def text(name: str) -> FilePayload:
    return {"name": name, "mimeType": "text/plain", "buffer": f"A letter about bees, {name}".encode()}


def csv(content: str) -> FilePayload:
    return {"name": "metadata.csv", "mimeType": "text/csv", "buffer": content.encode()}


def test_from_a_field_to_a_filtered_search(make_place: MakePlace, context: BrowserContext) -> None:
    place = make_place("Shelves")
    witness = Witness(context, unsaid=["larkspur", "fenwick"])
    page = context.new_page()
    sign_in(page, place)
    collection = place.collection("Letters")
    page.goto(f"{place.running.url}{place.path}collections/{collection}/fields/")
    page.get_by_label("Name").fill("Region")
    page.get_by_label("Searches can be filtered by it").check()
    page.get_by_role("button", name="Add field").click()
    expect(page.get_by_role("link", name="Region", exact=True)).to_be_visible()

    page.get_by_role("link", name="Upload with metadata").click()
    page.get_by_label("Region").fill("Larkspur")
    page.locator("#id_files").set_input_files([text("one.txt")])
    expect(page.get_by_role("link", name="one.txt")).to_be_visible()
    page.get_by_label("CSV file").set_input_files([csv("file,Reign\ntwo.txt,Fenwick\n")])
    page.locator("#id_files").set_input_files([text("two.txt")])
    expect(page.locator(".upload", has_text="two.txt")).to_contain_text("In the CSV file: Line 1: this collection has no field")
    page.get_by_label("CSV file").set_input_files([csv("file,Region\ntwo.txt,Fenwick\n")])
    page.locator("#id_files").set_input_files([text("two.txt")])
    expect(page.get_by_role("link", name="two.txt")).to_be_visible()
    documents = [row[0] for row in place.query("SELECT id FROM documents_document WHERE collection_id = %s", collection)]
    place.wait_until_ready(documents)

    go_to(page, "Search")
    ask(page, "bees")
    results = page.locator("#results")
    expect(results.locator("article")).to_have_count(2)
    results.get_by_text("Narrow down by Region").click()
    results.get_by_role("button", name=re.compile("Larkspur")).click()
    expect(results.locator("article")).to_have_count(1)
    expect(results.get_by_role("link", name="one", exact=True)).to_be_visible()
    page.get_by_text("Filters (1 on)").click()
    expect(page.get_by_label("Region", exact=False).first).to_have_value("Larkspur")  # the form beside it learned of it
    ask(page, "letter")
    expect(results.locator("mark", has_text="letter")).to_have_count(1)
    results.get_by_role("button", name="Take off the filter Region: Larkspur").click()
    expect(results.locator("article")).to_have_count(2)
    ask(page, "bees")
    expect(results.locator("mark", has_text="bees")).to_have_count(2)
    witness.look(page)
    witness.problems = [said for said in witness.problems if "status of 422" not in said]  # the wrong CSV file
    witness.agree()
