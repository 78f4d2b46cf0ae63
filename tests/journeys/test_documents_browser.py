"""Many documents as a person works with them in Chromium: paused and resumed, failures retried, ticked ones cancelled."""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.documents.files import zipped
from tests.journeys.browsing import PATIENCE, Witness, go_to
from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TOLD = """
window.told = [];
window.Notification = class extends EventTarget {
  static permission = "default";
  static async requestPermission() { return this.permission = window.allows ? "granted" : "denied"; }
  constructor(title, { body }) { super(); window.told.push(`${title}: ${body}`); }
};
"""
FILES = 53  # two pages of the list


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    return make_place("Plenty")


def test_a_queue_is_paused_trimmed_resumed_and_its_failures_retried(page: Page, place: Place) -> None:
    place.owner.post(f"{place.path}documents/pause/")
    documents = place.upload(*((f"note {n}.txt", b"A note about bees, number %d." % n) for n in range(FILES)))
    go_to(page, "Documents")
    rows = page.locator("#document-rows")
    expect(rows).to_contain_text(f"0 of {FILES} documents")
    expect(rows).to_contain_text("Paused")
    expect(rows.get_by_role("row").nth(1)).to_contain_text("in the queue")

    # Ticks outlive the rows, which come anew, and the turning of the page.
    rows.get_by_label("Tick").first.check()
    rows.get_by_label("Tick").nth(1).check()
    rows.get_by_role("link", name="Older").click()
    expect(rows).to_contain_text(f"51 to {FILES} of {FILES}")
    rows.get_by_label("Tick").first.check()
    expect(page.get_by_label("Do with")).to_contain_text("Ticked documents (3)")
    rows.get_by_role("link", name="Newer").click()
    expect(rows).to_contain_text(f"1 to 50 of {FILES}")
    expect(rows.get_by_label("Tick").nth(1)).to_be_checked()
    page.locator("#bulk").get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("3 documents cancelled.")).to_be_visible()

    page.get_by_role("button", name="Resume").click()
    expect(rows).to_contain_text(f"{FILES} documents are done: {FILES - 3} ready, 3 cancelled.")
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    done = "SELECT count(*) FROM documents_stage WHERE outcome = 'done' AND document_id = ANY(%s)"
    assert place.query(done, documents) == [(2 * (FILES - 3),)]

    failed = [str(document) for document in documents[10:14]]
    with place.database.transaction():
        place.database.execute(f'SET LOCAL search_path = "{place.schema}"')
        for reason, ids in (("timeout", failed[:3]), ("internal", failed[3:])):
            place.database.execute(
                "UPDATE documents_document SET state = 'failed', reason = %s, chunks_done = 0 WHERE id = ANY(%s::uuid[])",
                [reason, ids],
            )
    page.reload()
    expect(page.get_by_role("heading", name="4 documents failed")).to_be_visible()
    page.get_by_role("button", name="Retry: Reading the file took too long and was stopped.").click()
    expect(page.get_by_text("3 documents queued again.")).to_be_visible()
    expect(page.get_by_role("heading", name="1 document failed")).to_be_visible()

    page.get_by_label("State").select_option("failed")
    expect(rows.get_by_role("row")).to_have_count(2)
    page.get_by_label("Do with").select_option("all")
    page.locator("#bulk").get_by_role("button", name="Move to trash").click()
    expect(page.get_by_text("1 document moved to the trash.")).to_be_visible()
    expect(page.get_by_role("heading", name="failed")).to_have_count(0)
    place.wait_until_ready(documents[10:13])


@pytest.mark.parametrize("allowed", [True, False])
def test_whoever_asks_is_told_that_a_batch_is_done_without_a_name(page: Page, place: Place, *, allowed: bool) -> None:
    page.add_init_script(f"{TOLD} window.allows = {str(allowed).lower()};")
    place.owner.post(f"{place.path}documents/pause/")
    documents = place.upload(*((f"note {n}.txt", b"A note about bees, number %d." % n) for n in range(2)), ("empty.txt", b"\n"))
    go_to(page, "Documents")
    tell = page.get_by_role("button", name="Tell me when it is done")
    expect(tell).to_have_attribute("aria-pressed", "false")
    tell.click()
    expect(tell).to_have_attribute("aria-pressed", "true")
    place.owner.post(f"{place.path}documents/resume/")  # not on this page, which goes on as it stands
    place.wait_until_final(documents)
    expect(page).to_have_title(re.compile("^2 ready, 1 failed · "), timeout=PATIENCE)  # asked for every ten seconds
    said = page.evaluate("window.told")
    assert [words.rpartition(": ")[2] for words in said] == (["2 ready, 1 failed"] if allowed else [])
    assert "note" not in "".join(said)
    expect(tell).to_have_count(0)
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(page).to_have_title(re.compile("^Documents"))


def test_a_large_file_goes_on_after_a_kill_and_a_reload(page: Page, place: Place, witness: Witness, tmp_path: Path) -> None:
    content = os.urandom(1024) * (36 * 1024)
    large = tmp_path / "large.txt"
    large.write_bytes(content)
    go_to(page, "Documents")
    page.route("**/arriving/**offset=16777216", lambda route: route.abort())
    page.locator("#id_files").set_input_files(large)
    expect(page.get_by_text("Waiting for the connection")).to_be_visible(timeout=PATIENCE)
    place.running.kill("web")
    place.running.start_web()
    page.on("dialog", lambda dialog: dialog.accept())  # that an upload is under way
    page.reload()
    page.unroute_all()  # not before: the page as it was would go on by itself
    witness.problems.clear()  # the browser complained about the requests that were cut off
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
    page.locator("#id_files").set_input_files(large)
    expect(page.locator(".upload .state")).to_have_text("Uploaded", timeout=PATIENCE)
    assert [int(url.rpartition("=")[2]) for url in sent] == [16 * 1024**2, 32 * 1024**2], "the first piece is not sent again"
    ((document,),) = place.query("SELECT id FROM documents_document WHERE size = %s", len(content))
    assert place.download(document).body == content


def test_an_archive_becomes_its_documents(page: Page, tmp_path: Path) -> None:
    archive = tmp_path / "letters.zip"
    archive.write_bytes(
        zipped({"2025/bees.txt": "A letter about bees.", "2026/wasps.txt": "A letter about wasps.", "no.txt": ""})
    )
    go_to(page, "Documents")
    page.locator("#id_files").set_input_files(archive)
    rows = page.locator("#document-rows")
    expect(rows).to_contain_text("3 documents are done: 3 ready", timeout=PATIENCE)
    rows.get_by_role("link", name="letters").click()
    expect(page.get_by_text("no.txt (0 bytes): left out, it is empty")).to_be_visible()
    page.get_by_role("link", name="Show them in the list").click()
    expect(rows.get_by_role("row")).to_have_count(3)
    rows.get_by_role("link", name="wasps").click()
    expect(page.get_by_text("letters/2026/wasps.txt")).to_be_visible()
    page.get_by_role("link", name="letters.zip").click()
    expect(page.get_by_role("heading", name="What became of its files")).to_be_visible()
