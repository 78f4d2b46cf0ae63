"""The search page in Chromium: results follow the typing, keys move through them, and what was asked is kept for one alone."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import BrowserContext, Page, Request, Route, expect

from tests.journeys.browsing import NewContext, Witness, ask, go_to, sign_in
from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TEXTS = {
    "harbour.txt": "Fishing boats enter the harbour at night by the green buoy.",
    "bakery.txt": "The bakery heats its oven with beech wood at four.",
    "glacier.txt": "The Ostra glacier lost nineteen metres of ice last year.",
}
QUESTION = "fishing boats at night"
# What the browser says of a refused name.
EXPECTED = ("Failed to load resource: the server responded with a status of 422",)
PAUSE = 700  # ms in which a request would have been sent, were there one


@pytest.fixture(scope="module")
def place(make_place: MakePlace) -> Place:
    place = make_place("Quay")
    place.wait_until_ready(place.upload(*((name, text.encode()) for name, text in TEXTS.items())))
    return place


@pytest.fixture
def witness(context: BrowserContext) -> Iterator[Witness]:
    witness = Witness(context, ["fishing", "boats", "night", "glacier"])
    yield witness
    witness.problems = [said for said in witness.problems if not said.startswith(EXPECTED)]
    witness.agree()


class Sent:
    """What the page sent to one of the addresses of the search, as questions."""

    def __init__(self, page: Page, path: str) -> None:
        self.questions: list[str] = []
        self.path = path
        page.on("request", self._note)

    def _note(self, request: Request) -> None:
        if request.method == "POST" and request.url.endswith(self.path):
            self.questions += parse_qs(request.post_data or "", keep_blank_values=True)["q"]


@pytest.fixture
def page(context: BrowserContext, witness: Witness, place: Place) -> Page:
    page = context.new_page()
    sign_in(page, place)
    page.wait_for_load_state()
    return page


def first(page: Page, title: str) -> None:
    expect(page.locator(".result-title").first).to_have_text(title)


def searched(place: Place) -> int:
    return int(place.query("SELECT count(*) FROM audit_entry WHERE event = 'search.searched'")[0][0])


def test_results_follow_the_typing(page: Page, place: Place, witness: Witness) -> None:
    box, sent = page.get_by_role("searchbox"), Sent(page, "/instant/")
    box.press_sequentially(QUESTION, delay=20)
    first(page, "harbour")
    expect(box).to_be_focused()
    expect(box).to_have_value(QUESTION)
    assert 0 < len(sent.questions) < len(QUESTION) / 2, "not one request for each letter"
    expect(page.locator("#live")).to_have_text("3 results found")
    witness.look(page)

    before = len(sent.questions)
    box.press("End")
    box.press_sequentially("  ", delay=20)
    page.wait_for_timeout(PAUSE)
    assert len(sent.questions) == before, "it is the same question"
    box.fill("g")
    page.wait_for_timeout(PAUSE)
    assert len(sent.questions) == before, "one letter is none"
    box.fill("glacier")
    first(page, "glacier")
    box.fill("")
    expect(page.get_by_text("3 passages can be found")).to_be_visible()
    expect(page).to_have_url(f"{place.running.url}{place.path}")
    witness.look(page)


def test_what_is_asked_replaces_what_was_under_way(page: Page) -> None:
    waiting: list[Route] = []
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(parse_qs(request.post_data or "")["q"][0]))

    def hold(route: Route) -> None:
        if "fishing" in (route.request.post_data or ""):
            waiting.append(route)
        else:
            route.continue_()

    page.route("**/instant/", hold)
    box = page.get_by_role("searchbox")
    with page.expect_request("**/instant/"):
        box.fill("fishing boats")
    expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    box.fill("glacier")
    first(page, "glacier")
    expect(page.locator("#results")).not_to_have_attribute("aria-busy", "true")
    assert failed == ["fishing boats"]
    assert len(waiting) == 1

    with page.expect_request("**/instant/"):
        box.fill("fishing boats at")
    box.press("Enter")
    first(page, "harbour")
    assert failed == ["fishing boats", "fishing boats at"]
    page.unroute_all(behavior="ignoreErrors")


def test_where_typing_ends_is_one_search(page: Page, place: Place) -> None:
    place.owner.post(f"{place.path}history/clear/")
    told, sent = Sent(page, "/settled/"), Sent(page, "/instant/")
    box = page.get_by_role("searchbox")
    with page.expect_response("**/settled/"):
        box.press_sequentially("oven wood", delay=20)
    assert told.questions == ["oven wood"]

    before = searched(place)
    box.fill("glacier ice")
    first(page, "glacier")
    box.press("ArrowDown")
    page.keyboard.press("Enter")  # at once: what was opened was looked for
    expect(page.locator("mark")).to_contain_text("nineteen metres")
    place.running.wait(lambda: searched(place) > before, "the search to be written down")
    assert told.questions == ["oven wood", "glacier ice"]

    go_to(page, "Search")
    expect(page.locator(".past a")).to_have_text(["glacier ice", "oven wood"])
    ask(page, "green buoy")
    first(page, "harbour")
    page.wait_for_timeout(PAUSE)
    assert "green buoy" not in sent.questions, "it was asked already"
    page.locator(".result-title a").first.click()
    go_to(page, "Search")
    expect(page.locator(".past a")).to_have_text(["green buoy", "glacier ice", "oven wood"])
    assert "green buoy" not in told.questions
    page.get_by_role("button", name="Clear history and keep none").click()
    expect(page.get_by_text("No list of your searches is kept.")).to_be_visible()


def test_keys_move_through_the_results(page: Page, place: Place) -> None:
    box, titles = page.get_by_role("searchbox"), page.locator(".result-title a")
    page.locator("body").click(position={"x": 5, "y": 300})
    page.keyboard.press("/")
    expect(box).to_be_focused()
    page.keyboard.type("jk harbour?")
    expect(box).to_have_value("jk harbour?")
    first(page, "harbour")
    page.keyboard.press("ArrowDown")
    expect(titles.nth(0)).to_be_focused()
    assert titles.nth(0).evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("j")
    expect(titles.nth(1)).to_be_focused()
    page.keyboard.press("k")
    expect(titles.nth(0)).to_be_focused()
    page.keyboard.press("c")
    expect(page.locator(".result").first.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    link = (
        rf"{re.escape(place.running.url + place.path)}documents/[0-9a-f-]{{36}}/\?page=1&passage=([0-9a-f-]{{36}})#passage-\2"
    )
    assert re.fullmatch(rf"harbour, ([^,]+, )?Documents \(Quay\), {link}", copied)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Copy the citation")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(box).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("mark")).to_contain_text("green buoy")
    page.goto(copied.rpartition(" ")[2])
    expect(page.locator("mark")).to_contain_text("green buoy")


def test_a_search_is_saved_beside_its_results(page: Page, witness: Witness) -> None:
    page.get_by_role("searchbox").fill("beech wood")
    first(page, "bakery")
    page.locator("summary", has_text="Save this search").click()
    page.get_by_label("Name").fill("")
    page.get_by_role("button", name="Save search").click()
    expect(page.get_by_text("Give the search a name.")).to_be_visible()
    page.get_by_label("Name").fill("Ovens")
    page.get_by_role("button", name="Save search").click()
    expect(page.get_by_text("Saved as “Ovens”")).to_be_focused()
    witness.look(page)
    page.get_by_role("link", name="Saved searches").click()
    page.get_by_role("link", name="Ovens", exact=True).click()
    first(page, "bakery")
    witness.look(page)


def test_nothing_found_leads_on(page: Page) -> None:
    page.get_by_role("searchbox").fill('"boats fishing" zebra')
    expect(page.get_by_text("“zebra” occurs in no document that you may see.")).to_be_visible()
    page.get_by_role("button", name="Search without the quotes around “boats fishing”").click()
    first(page, "harbour")
    expect(page.get_by_role("searchbox")).to_have_value("boats fishing zebra")


def test_it_works_without_javascript(new_context: NewContext, place: Place) -> None:
    page = new_context(java_script_enabled=False).new_page()
    sign_in(page, place)
    ask(page, "beech wood")
    first(page, "bakery")
    expect(page.get_by_role("button", name="Copy citation").first).to_be_hidden()
    page.locator("summary", has_text="Why this result").first.click()
    expect(page.get_by_text("Documents (Quay), http").first).to_be_visible()
    page.locator("summary", has_text="Save this search").click()
    page.get_by_label("Name").fill("Woods")
    page.get_by_role("button", name="Save search").click()
    expect(page.get_by_text("“Woods” is saved.")).to_be_visible()
    page.get_by_role("link", name="Delete Woods").click()
    page.get_by_role("button", name="Delete search").click()
    expect(page.get_by_text("“Woods” is deleted.")).to_be_visible()
