"""People in Chromium: invited, limited by their role, in two workspaces, removed while a page is open, and shut out."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.journeys.browsing import NewContext, sign_in
from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place
from tests.journeys.visitor import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def open_members(page: Page, place: Place) -> None:
    page.goto(f"{place.running.url}{place.path}members/")


def invite(page: Page, place: Place, email: str, role: str) -> str:
    open_members(page, place)
    page.get_by_label("E-mail").fill(email)
    page.locator("#id_role").select_option(label=role)
    page.get_by_role("button", name="Create invitation").click()
    return page.get_by_label(f"Link for {email or 'whoever has it'}").input_value()


def look_again(page: Page) -> None:
    """What a browser says when a tab comes to the front: the page asks whether it may still be shown."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_a_person_comes_works_moves_and_is_gone(make_place: MakePlace, new_context: NewContext) -> None:
    orchard, meadow = make_place("Orchard"), make_place("Meadow")
    owner, newcomer = (new_context().new_page() for _ in range(2))
    sign_in(owner, orchard)

    # invited to an address, joins by making an account
    link = invite(owner, orchard, "newcomer@example.org", "Viewer")
    newcomer.goto(link)
    expect(newcomer.get_by_role("heading", name="Join Orchard")).to_be_visible()
    newcomer.get_by_label("Name").fill("Nora Newcomer")
    newcomer.get_by_label("Password", exact=True).fill(PASSWORD)
    newcomer.get_by_role("button", name="Create account and join").click()
    expect(newcomer.get_by_role("searchbox")).to_be_focused()

    # a viewer searches, and is told who may do more
    navigation = newcomer.get_by_role("navigation", name="Workspace")
    expect(navigation.get_by_role("link", name="Settings")).to_have_count(0)
    newcomer.goto(f"{orchard.running.url}{orchard.path}documents/upload/")
    expect(newcomer.get_by_text("Editors, admins and owners of this workspace can do this.")).to_be_visible()
    open_members(newcomer, orchard)
    expect(newcomer.get_by_role("button", name=re.compile("Remove|Change"))).to_have_count(0)
    expect(newcomer.get_by_role("table", name="What each role may do")).to_be_visible()

    # made an editor
    open_members(owner, orchard)
    owner.get_by_label("Role of newcomer@example.org").select_option(label="Editor")
    owner.get_by_role("button", name="Change the role of newcomer@example.org").click()
    expect(owner.get_by_text("Nora Newcomer is editor now.")).to_be_visible()
    newcomer.goto(f"{orchard.running.url}{orchard.path}documents/upload/")
    expect(newcomer.get_by_role("button", name="Upload documents")).to_be_visible()

    # joins another workspace by a link without an address, and switches
    other_owner = new_context().new_page()
    sign_in(other_owner, meadow)
    newcomer.goto(invite(other_owner, meadow, "", "Viewer"))
    newcomer.get_by_role("button", name="Join the workspace").click()
    expect(newcomer.get_by_role("searchbox")).to_be_focused()
    newcomer.locator("details.switcher summary").click()
    newcomer.locator("details.switcher").get_by_role("link", name="Orchard").click()
    expect(newcomer).to_have_url(f"{orchard.running.url}{orchard.path}")

    # removed: the open page goes, the other workspace stays
    open_members(owner, orchard)
    owner.get_by_role("button", name="Remove newcomer@example.org").click()
    expect(owner.get_by_text("Nora Newcomer is no longer a member.")).to_be_visible()
    expect(newcomer.get_by_role("searchbox")).to_be_visible()
    look_again(newcomer)
    expect(newcomer.get_by_role("heading", name="Not found")).to_be_visible()
    newcomer.goto(f"{meadow.running.url}{meadow.path}")
    expect(newcomer.get_by_role("searchbox")).to_be_visible()

    # suspended: the open page says why; resumed, it works again
    meadow.running.manage("suspend_workspace", meadow.slug, "--reason", "The invoice of March is open")
    look_again(newcomer)
    expect(newcomer.get_by_role("heading", name="Meadow is suspended")).to_be_visible()
    expect(newcomer.get_by_text("The invoice of March is open")).to_be_visible()
    meadow.running.manage("suspend_workspace", meadow.slug, "--resume")
    newcomer.reload()
    expect(newcomer.get_by_role("searchbox")).to_be_visible()


def test_an_open_page_asks_by_itself(make_place: MakePlace, new_context: NewContext) -> None:
    """Nobody has to touch it: it is gone within the 20 seconds after which it asks. The browser's clock is put forward."""
    place = make_place("Idle")
    place.member("viewer")
    page = new_context().new_page()
    page.clock.install()
    sign_in(page, place, f"viewer@{place.slug}.example")
    rows = place.query("SELECT id FROM tenants_user WHERE email = %s", f"viewer@{place.slug}.example")
    place.owner.post(f"{place.path}members/{rows[0][0]}/remove/")
    expect(page.get_by_role("searchbox")).to_be_visible()
    page.clock.fast_forward(20_000)
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()


def test_an_owner_hands_over_and_deletes(make_place: MakePlace, new_context: NewContext) -> None:
    place = make_place("Manor")
    place.member("editor")
    page = new_context().new_page()
    sign_in(page, place)
    page.goto(f"{place.running.url}{place.path}settings/")
    page.get_by_role("link", name="Delete workspace").click()
    page.get_by_label("Address").fill("something else")
    page.get_by_role("button", name="Delete in 14 days").click()
    expect(page.get_by_role("alert")).to_contain_text("not the address of this workspace")
    page.get_by_label("Address").fill(place.slug)
    page.get_by_role("button", name="Delete in 14 days").click()
    expect(page.get_by_text("This workspace will be deleted on")).to_be_visible()
    page.get_by_role("button", name="Keep workspace").click()
    expect(page.get_by_text("The workspace is kept.")).to_be_visible()
    page.get_by_role("link", name="Hand it over").click()
    page.get_by_label(re.compile("Editor")).check()
    page.get_by_role("button", name="Hand workspace over").click()
    expect(page.get_by_text("is the owner now, and you are an admin")).to_be_visible()
    page.goto(f"{place.running.url}{place.path}settings/")
    expect(page.get_by_role("link", name="Delete workspace")).to_have_count(0)
