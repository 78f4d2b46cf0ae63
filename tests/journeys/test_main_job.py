"""The main job in Chromium, from signing in to signing out, and its core again without JavaScript.

Every page is watched: what the browser complains about, where words of a question turn up, and what stays behind in it.
"""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from documents.extraction.pictures import SIDE
from tests.documents import files
from tests.journeys.browsing import NewContext, Witness, ask, go_to, sign_in, sign_out
from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place
from tests.running import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHAPTER = "<html><body><h1>Bees</h1><p>The queen of the third hive was marked with a violet dot in spring.</p></body></html>"
# One fact for each format; the question asks for it in other words, and the passage must hold the last part.
SUBJECTS: dict[str, tuple[bytes, str, str]] = {
    "harbour.pdf": (
        files.pdf(["The harbour master keeps the tide tables.", "Fishing boats may enter at night by the green buoy."]),
        "Where do fishing boats enter the harbour at night?",
        "green buoy",
    ),
    "bakery.docx": (
        files.docx(files.paragraph("Opening hours") + files.paragraph("The bakery fires its oven with beech wood at four.")),
        "What wood heats the oven of the bakery?",
        "beech wood",
    ),
    "glacier.pptx": (
        files.pptx([files.shape("Glaciers"), files.shape("The Ostra glacier lost nineteen metres of ice last year.")]),
        "How much ice did the Ostra glacier lose?",
        "nineteen metres",
    ),
    "budget.xlsx": (
        files.xlsx({"Budget": [["Item", "Amount"], ["Repair of the organ pipes", 4210], ["Candles", 77]]}),
        "How much does the repair of the organ pipes cost?",
        "4210",
    ),
    "chess.html": (
        b"<html><head><title>Chess</title></head><body><p>The chess club meets in the old observatory.</p></body></html>",
        "Where does the chess club meet?",
        "old observatory",
    ),
    "compost.md": (
        b"# Compost\n\nTurn the compost heap every eleven days and cover it with straw.\n",
        "How often is the compost heap turned?",
        "eleven days",
    ),
    "violin.txt": (
        b"The violin was varnished with amber resin by a maker in Cremona.\n",
        "With what was the violin varnished?",
        "amber resin",
    ),
    "ferries.csv": (
        b"ferry,destination,fare\nSeagull,Puffin Island,12.50\nGannet,Mainland,3.20\n",
        "What is the fare of the ferry Seagull to Puffin Island?",
        "12.50",
    ),
    "bees.epub": (files.epub([CHAPTER]), "With which colour was the queen of the hive marked?", "violet dot"),
    "invoice.eml": (
        files.eml("Invoice for the telescope", "The telescope mirror will be delivered by the courier from Jena."),
        "Who delivers the mirror of the telescope?",
        "courier from Jena",
    ),
    "lease.rtf": (
        files.rtf("The lease of the mill ends after ninety months without notice."),
        "When does the lease of the mill end?",
        "ninety months",
    ),
}


def payload(name: str) -> dict[str, str | bytes]:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": SUBJECTS[name][0]}


def judgments() -> bytes:
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["question", "document", "grade"])
    rows.writerows([question, name, 1] for name, (_, question, _) in SUBJECTS.items())
    return out.getvalue().encode()


def unsaid() -> Iterator[str]:
    """Questions, passages, and the words that only the two of a document share."""
    for _, question, passage in SUBJECTS.values():
        yield from (question, passage)
        yield from {*re.findall(r"\w{4,}", question.casefold())} & {*re.findall(r"\w{4,}", passage.casefold())}


@pytest.fixture(scope="module")
def place(make_place: MakePlace) -> Place:
    return make_place("Archive")


@pytest.fixture
def witness(context: BrowserContext) -> Iterator[Witness]:
    witness = Witness(context, unsaid())
    yield witness
    witness.agree()


def first_result(page: Page, name: str) -> None:
    """The fact is found first, with its document, its collection, its passage and a score."""
    passage = SUBJECTS[name][2]
    result = page.locator(".result").first
    expect(result.locator(".result-title")).to_have_text(name.rpartition(".")[0])
    expect(result.locator(".passage")).to_contain_text(passage)
    expect(result.locator(".passage mark").first).to_be_visible()
    expect(result.locator(".result-meta .score")).to_have_text(re.compile(r"^Rank 1, score [+−]\d+\.\d\d$"))


def test_the_witness_sees(context: BrowserContext, place: Place) -> None:
    """What the other tests rely on: a complaint of the browser, a word in an address, something kept."""
    witness = Witness(context, unsaid())
    page = context.new_page()
    page.goto(f"{place.running.url}/accounts/login/?next=/%3Fabout=green+buoy")
    page.evaluate("document.head.append(Object.assign(document.createElement('style'), {textContent: 'p {}'}))")
    page.wait_for_timeout(100)
    assert any("violated style-src" in problem for problem in witness.problems)
    witness.problems.clear()
    with pytest.raises(AssertionError, match="green buoy"):
        witness.agree()
    page.evaluate("sessionStorage.setItem('a', 'b')")
    with pytest.raises(AssertionError):
        witness.look(page)


def test_it_does_the_main_job(context: BrowserContext, witness: Witness, place: Place) -> None:
    page = context.new_page()
    sign_in(page, place, path="/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    expect(page.get_by_text("Nothing can be found yet")).to_be_visible()
    witness.look(page)

    # a collection
    go_to(page, "Documents")
    page.get_by_role("link", name="Collections").click()
    page.get_by_label("New collection").fill("Parish papers")
    page.get_by_role("button", name="Create collection").click()
    expect(page.get_by_role("link", name="Parish papers", exact=True)).to_be_visible()
    witness.look(page)

    # every format at once; the states change on the page that stands
    go_to(page, "Documents")
    page.evaluate("document.body.dataset.loaded = 'once'")
    page.locator("form[data-dropzone] select[name=collection]").select_option(label="Parish papers")
    with place.held("documents_page"):
        page.locator("#id_files").set_input_files([payload(name) for name in SUBJECTS])
        expect(page.get_by_text(f"{len(SUBJECTS)} files uploaded")).to_be_visible()
        expect(page.locator("td .state-working, td .state-queued")).to_have_count(len(SUBJECTS))
    expect(page.locator("td .state-ready")).to_have_count(len(SUBJECTS))
    expect(page.get_by_text("None in progress").or_(page.get_by_text(f"{len(SUBJECTS)} documents")).first).to_be_visible()
    assert page.evaluate("document.body.dataset.loaded") == "once"
    expect(page.locator("td", has_text="Parish papers")).to_have_count(len(SUBJECTS))
    witness.look(page)

    # search
    go_to(page, "Search")
    for name in SUBJECTS:
        ask(page, SUBJECTS[name][1])
        first_result(page, name)
        witness.look(page)
    ask(page, SUBJECTS["harbour.pdf"][1])
    first_result(page, "harbour.pdf")
    expect(page.locator(".result").first.locator(".result-meta")).to_contain_text("Page 2")
    expect(page.locator(".result").first.locator(".result-meta")).to_contain_text("Parish papers")

    # share
    page.get_by_role("button", name="Share this search").click()
    link = page.get_by_label("Link to this search").input_value()
    assert re.fullmatch(rf"{re.escape(place.running.url + place.path)}s/[\w-]{{16}}/", link)
    titles = page.locator(".result-title").all_inner_texts()

    # the passage in its document
    page.locator(".result").first.locator(".result-title a").click()
    expect(page.locator("mark")).to_contain_text("green buoy")
    expect(page.locator('[aria-current="true"] mark')).to_be_in_viewport()
    expect(page.get_by_role("heading", name="Page 2")).to_be_visible()
    expect(page.get_by_role("img", name="Picture of page 2")).to_have_js_property("naturalHeight", SIDE)
    witness.look(page)

    # the file, as it was
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download file").click()
    assert downloading.value.suggested_filename == "harbour.pdf"
    assert downloading.value.path().read_bytes() == SUBJECTS["harbour.pdf"][0]

    # the same results for another member, and for nobody else
    shared = place.member("viewer").get(link)
    assert re.findall(r'class="result-title"><a [^>]+>([^<]+)<', shared.text) == titles
    assert "green</mark> <mark" in shared.text or "green buoy" in shared.words
    assert not any(word in shared.url.casefold() for word in ("harbour", "fishing"))

    # judgments and a run with live progress
    go_to(page, "Evaluation")
    page.get_by_role("link", name="Upload judgments").click()
    page.get_by_role("textbox", name="Name").fill("Parish questions")
    page.get_by_label("File", exact=True).set_input_files({"name": "judged.csv", "mimeType": "text/csv", "buffer": judgments()})
    page.get_by_role("button", name="Upload judgments").click()
    expect(page.get_by_role("heading", name="Parish questions")).to_be_visible()
    witness.look(page)
    with place.held("search_answer"):
        page.get_by_role("button", name="Run evaluation").click()
        expect(page.get_by_text(f"Preparing {len(SUBJECTS)} questions")).to_be_visible()
        page.evaluate("document.body.dataset.loaded = 'once'")
        witness.look(page)
    expect(page.get_by_text("Question by question")).to_be_visible()
    assert page.evaluate("document.body.dataset.loaded") == "once"
    figures = dict(zip(page.locator(".figure dt").all_inner_texts(), page.locator(".figure dd").all_inner_texts(), strict=True))
    assert float(figures["nDCG@10"]) > 0.95
    assert float(figures["Recall@10"]) == 1
    witness.look(page)

    # its files
    reports = {}
    for kind in ("JSON", "CSV"):
        with page.expect_download() as downloading:
            page.get_by_role("link", name=kind).click()
        reports[kind] = downloading.value.path().read_bytes()
    report = json.loads(reports["JSON"])
    assert (report["queries"], len(report["questions"])) == (len(SUBJECTS), len(SUBJECTS))
    assert f"{report['ndcg@10']:.3f}" == figures["nDCG@10"]
    rows = list(csv.DictReader(io.StringIO(reports["CSV"].decode("utf-8-sig"))))
    assert {row["question"] for row in rows} == {question for _, question, _ in SUBJECTS.values()}

    # one question
    page.get_by_role("link", name=SUBJECTS["bees.epub"][1]).click()
    expect(page.get_by_role("heading", name="Expected documents")).to_be_visible()
    expect(page.get_by_text("Place 1", exact=True)).to_be_visible()
    witness.look(page)

    # a document in the trash is not found any more, unless that is taken back
    page.get_by_role("link", name="bees", exact=True).first.click()
    document = page.url
    page.get_by_role("button", name="Move to trash").click()
    expect(page.get_by_text("“bees” is in the trash.")).to_be_visible()
    witness.look(page)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("“bees” is back, as it was.")).to_be_visible()
    page.goto(document)
    page.get_by_role("button", name="Move to trash").click()
    expect(page.get_by_text("“bees” is in the trash.")).to_be_visible()
    go_to(page, "Search")
    ask(page, SUBJECTS["bees.epub"][1])
    expect(page.locator(".result").first).to_be_visible()
    expect(page.locator("#results")).not_to_contain_text("violet dot")
    expect(page.locator(".result-title", has_text="bees")).to_have_count(0)
    assert place.owner.get(document).status == 404
    witness.look(page)

    # erased for good, with a receipt that says so without Cloister
    go_to(page, "Documents")
    page.get_by_role("link", name="Trash (1)").click()
    witness.look(page)
    page.get_by_role("link", name="Erase bees now").click()
    witness.look(page)
    page.get_by_role("button", name="Erase document").click()
    expect(page.get_by_text("“bees” is erased. This is the receipt.")).to_be_visible()
    witness.look(page)
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download receipt").click()
    receipt, key = downloading.value.path(), place.running.manage("installation_key")["public_key"]
    subprocess.run([sys.executable, ROOT / "tenants" / "proofs.py", receipt, "--key", key], env={}, check=True)

    # out
    sign_out(page)
    page.goto(f"{place.running.url}{place.path}")
    expect(page).to_have_url(re.compile("/accounts/login/"))
    witness.look(page)


def test_it_works_without_javascript(new_context: NewContext, make_place: MakePlace) -> None:
    place = make_place("Plain")
    context = new_context(java_script_enabled=False)
    witness = Witness(context, unsaid())
    page = context.new_page()
    sign_in(page, place)

    page.get_by_role("link", name="Upload documents").click()
    page.locator("#id_files").set_input_files([payload("compost.md"), payload("violin.txt")])
    page.get_by_role("button", name="Upload documents").click()
    expect(page.get_by_text("2 files uploaded")).to_be_visible()
    while page.locator("td .state-ready").count() < 2:
        assert page.locator("td .state-failed").count() == 0
        page.wait_for_timeout(300)
        page.reload()
    witness.look(page, scripts=False)

    go_to(page, "Search")
    ask(page, SUBJECTS["compost.md"][1])
    first_result(page, "compost.md")
    expect(page).to_have_url(f"{place.running.url}{place.path}")
    witness.look(page, scripts=False)
    page.get_by_role("button", name="Share this search").click()
    expect(page).to_have_url(re.compile(r"/s/[\w-]{16}/$"))
    first_result(page, "compost.md")
    page.locator(".result-title a").first.click()
    expect(page.locator("mark")).to_contain_text("eleven days")

    go_to(page, "Evaluation")
    page.get_by_role("link", name="Upload judgments").click()
    page.get_by_role("textbox", name="Name").fill("Garden questions")
    page.get_by_label("File", exact=True).set_input_files({"name": "judged.csv", "mimeType": "text/csv", "buffer": judgments()})
    page.get_by_role("button", name="Upload judgments").click()
    expect(page.get_by_role("heading", name="Garden questions")).to_be_visible()
    page.get_by_role("button", name="Run evaluation").click()
    page.wait_for_url(re.compile("/evaluation/runs/"))
    while page.get_by_text("Question by question").count() == 0:
        assert page.get_by_role("alert").count() == 0
        page.wait_for_timeout(300)
        page.reload()
    expect(page.locator(".figure", has_text="nDCG@10")).to_be_visible()
    expect(page.locator(".banner-warn")).to_contain_text("counted as not found")  # nine of the documents are not here
    witness.look(page, scripts=False)
    witness.agree()
