"""A shared library in Chromium: an owner subscribes, a member searches and reads it, and it is gone when that ends."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.journeys.browsing import NewContext, Witness, go_to, sign_in
from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RULES = "A late return costs a fine of two crowns for every day."
ASK = "fine for a late return"


@pytest.fixture(scope="module")
def shelf(make_place: MakePlace) -> Iterator[Place]:
    """The library; none is left for the journeys that follow."""
    shelf = make_place("Shelf")
    shelf.wait_until_ready(shelf.upload(("rules.txt", RULES.encode())))
    shelf.running.manage("create_admin", shelf.email)  # a library is curated by staff
    shelf.running.manage("make_library", shelf.slug, "--describe", "Rules of lending.", "--reason", "For everybody.")
    yield shelf
    shelf.running.manage("make_library", shelf.slug, "--undo", "--reason", "It was read.")


@pytest.fixture(scope="module")
def place(make_place: MakePlace) -> Place:
    place = make_place("Readers")
    place.wait_until_ready(place.upload(("fines.txt", b"Whoever parks in the yard pays a fine.")))
    place.member("viewer")
    return place


def first(page: Page, title: str) -> None:
    expect(page.locator(".result-title").first).to_have_text(title)


def test_an_owner_subscribes_and_a_member_reads(
    shelf: Place, place: Place, context: BrowserContext, new_context: NewContext
) -> None:
    witness = Witness(context, ["late return", "two crowns"])
    owner = context.new_page()
    sign_in(owner, place)
    go_to(owner, "Settings")
    owner.get_by_role("link", name="Libraries").click()
    expect(owner.get_by_text("Rules of lending.")).to_be_visible()
    owner.get_by_role("button", name="Subscribe to Shelf").click()
    expect(owner.get_by_text("Members of this workspace can search and read Shelf now.")).to_be_visible()
    witness.look(owner)

    reading = new_context()
    seen = Witness(reading, ["late return", "two crowns"])
    member = reading.new_page()
    sign_in(member, place, f"viewer@{place.slug}.example")
    member.get_by_role("link", name="Search libraries too").click()
    member.get_by_role("searchbox").fill(ASK)
    member.get_by_role("button", name="Search", exact=True).click()
    first(member, "rules")
    expect(member.locator(".result").first).to_contain_text("Library: Shelf")
    seen.look(member)

    member.goto(f"{shelf.running.url}{shelf.path}")
    expect(member.get_by_role("region", name="Library")).to_contain_text("you can search and read")
    member.get_by_role("searchbox").press_sequentially(ASK, delay=20)  # instant, for a reader too
    first(member, "rules")
    seen.look(member)
    member.locator(".result-title a").first.click()
    expect(member.locator("mark").first).to_contain_text("late return")
    seen.look(member)
    expect(member.get_by_role("link", name="Download file")).to_be_visible()
    expect(member.get_by_role("button", name="Move to trash")).to_have_count(0)
    expect(member.get_by_role("navigation", name="Workspace").get_by_role("link", name="Documents")).to_have_count(0)

    owner.get_by_role("button", name="End subscription to Shelf").click()
    expect(owner.get_by_text("Shelf is not open to this workspace any more.")).to_be_visible()
    answer = member.goto(f"{shelf.running.url}{shelf.path}")
    assert answer is not None
    assert answer.status == 404
    seen.problems = [said for said in seen.problems if "status of 404" not in said]
    witness.agree()
    seen.agree()
