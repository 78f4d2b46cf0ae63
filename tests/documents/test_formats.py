"""Each format, read in the real sandbox: the words, the pages and their labels, headings and tables."""

from collections.abc import Callable

import pytest

from documents.extraction.formats.plain import read_markdown
from documents.extraction.pages import Extraction
from documents.reasons import Reason, Unreadable
from tests.documents import files

Extract = Callable[[bytes, str], Extraction]


def pages(extraction: Extraction) -> list[tuple[str, str]]:
    return [(page.label, page.text) for page in extraction.pages]


def test_pdf(extract: Extract) -> None:
    found = extract(files.pdf(["Hello (world)\nsecond line", "", "Dritte Seite: Größe"]), "pdf")
    assert found.format == "pdf"
    assert pages(found) == [
        ("Page 1", "Hello (world)\nsecond line"),
        ("Page 2", ""),
        ("Page 3", "Dritte Seite: Größe"),
    ]


def test_docx_headings_tables_and_order(extract: Extract) -> None:
    table = f"<w:tbl><w:tr><w:tc>{files.paragraph('Item')}</w:tc><w:tc>{files.paragraph('Cost')}</w:tc></w:tr></w:tbl>"
    body = files.paragraph("Report", "Heading1") + files.paragraph("Before.") + table + files.paragraph("After.")
    found = extract(files.docx(body), "docx")
    assert found.format == "docx"
    assert pages(found) == [("", "# Report\n\nBefore.\n\nItem | Cost\n\nAfter.")]


def test_docx_headings_of_a_translated_word(extract: Extract) -> None:
    styles = (
        f'<w:styles {files.NAMESPACES}><w:style w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>'
        '<w:style w:styleId="Titel"><w:name w:val="Title"/></w:style>'
        '<w:style w:styleId="Eigene"><w:name w:val="Eigene"/><w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style></w:styles>'
    )
    body = "".join(files.paragraph(word, style) for word, style in (("A", "Titel"), ("B", "berschrift2"), ("C", "Eigene")))
    assert pages(extract(files.docx(body, {"word/styles.xml": styles}), "docx")) == [("", "# A\n\n## B\n\n### C")]


def test_docx_says_alternate_content_once(extract: Extract) -> None:
    box = f"<w:txbxContent>{files.paragraph('boxed')}</w:txbxContent>"
    body = (
        f"<w:p><w:r><mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
        "</mc:AlternateContent><w:t>lead</w:t></w:r></w:p>"
    )
    assert pages(extract(files.docx(body), "docx")) == [("", "lead\n\nboxed")]


def test_docx_equations(extract: Extract) -> None:
    body = (
        "<w:p><w:r><w:t>v = </w:t></w:r><m:oMath><m:f><m:num><m:r><m:t>s</m:t></m:r></m:num>"
        "<m:den><m:r><m:t>t</m:t></m:r></m:den></m:f></m:oMath></w:p>"
    )
    assert pages(extract(files.docx(body), "docx")) == [("", "v = s/t")]


def test_docx_leaves_out_what_was_deleted_and_keeps_what_was_inserted(extract: Extract) -> None:
    body = (
        "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:ins><w:r><w:t>new</w:t></w:r></w:ins></w:p>"
        f"<w:sdt><w:sdtContent>{files.paragraph('controlled')}</w:sdtContent></w:sdt>"
    )
    extra = {"word/footnotes.xml": f"<w:footnotes {files.NAMESPACES}>{files.paragraph('a note')}</w:footnotes>"}
    assert pages(extract(files.docx(body, extra), "docx")) == [("", "new\n\ncontrolled\n\na note")]


def test_pptx_slides_in_the_order_of_the_show(extract: Extract) -> None:
    table = (
        "<p:graphicFrame><a:graphic><a:graphicData><a:tbl><a:tr>"
        "<a:tc><a:txBody><a:p><a:r><a:t>x</a:t></a:r></a:p></a:txBody></a:tc>"
        "<a:tc><a:txBody><a:p><a:r><a:t>y</a:t></a:r></a:p></a:txBody></a:tc>"
        "</a:tr></a:tbl></a:graphicData></a:graphic></p:graphicFrame>"
    )
    slides = [files.shape("Opening", "title") + files.shape("one\ntwo") + table, files.shape("last")]
    found = extract(files.pptx(slides, {0: "say hello"}), "pptx")
    assert found.format == "pptx"
    assert pages(found) == [("Slide 1", "# Opening\n\none\ntwo\n\nx | y\n\nNotes:\nsay hello"), ("Slide 2", "last")]


def test_xlsx_sheets_rows_and_cells(extract: Extract) -> None:
    sheets = {"Budget": [["Item", None, "Cost"], ["Tea", "black", 3.0], ["Milk", None, 1.25]], "Names": [["Ada"]]}
    found = extract(files.xlsx(sheets), "xlsx")
    assert found.format == "xlsx"
    assert pages(found) == [
        ("Sheet Budget", "Item |  | Cost\nTea | black | 3\nMilk |  | 1.25"),
        ("Sheet Names", "Ada"),
    ]


def test_xlsx_a_long_sheet_continues(extract: Extract) -> None:
    found = extract(files.xlsx({"Log": [[f"line {n} with some words", n] for n in range(1000)]}), "xlsx")
    labels = [page.label for page in found.pages]
    assert labels[:2] == ["Sheet Log", "Sheet Log, part 2"]
    assert "\n".join(page.text for page in found.pages).count("with some words") == 1000


def test_odt_headings_lists_tables_and_what_hangs_on_a_paragraph(extract: Extract) -> None:
    body = (
        "<text:tracked-changes><text:changed-region><text:p>gone</text:p></text:changed-region></text:tracked-changes>"
        '<text:h text:outline-level="2">Report</text:h>'
        "<text:p>Before<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>a note</text:p>"
        '</text:note-body></text:note><text:s text:c="2"/><text:span>the</text:span><text:tab/>table.</text:p>'
        "<text:list><text:list-item><text:p>first</text:p></text:list-item></text:list>"
        "<table:table><table:table-header-rows><table:table-row><table:table-cell><text:p>Item</text:p></table:table-cell>"
        '<table:table-cell table:number-columns-repeated="2"/><table:table-cell><text:p>Cost</text:p></table:table-cell>'
        '<table:table-cell table:number-columns-repeated="16384"/></table:table-row></table:table-header-rows></table:table>'
        "<text:p><draw:frame><draw:text-box><text:p>boxed</text:p></draw:text-box></draw:frame></text:p>"
    )
    found = extract(files.opendocument("text", body), "odt")
    assert found.format == "odt"
    assert pages(found) == [("", "## Report\n\nBefore  the\ttable.\n\na note\n\nfirst\n\nItem |  |  | Cost\n\nboxed")]


def test_odp_slides_and_notes(extract: Extract) -> None:
    def frame(text: str, kind: str) -> str:
        box = f"<draw:text-box><text:p>{text}</text:p></draw:text-box>"
        return f'<draw:frame presentation:class="{kind}">{box}</draw:frame>'

    notes = f"<presentation:notes>{frame('say hello', 'notes')}</presentation:notes>"
    slides = f"<draw:page>{frame('Opening', 'title')}{frame('one', 'outline')}{notes}</draw:page><draw:page>"
    found = extract(files.opendocument("presentation", f"{slides}{frame('last', 'outline')}</draw:page>"), "odp")
    assert found.format == "odp"
    assert pages(found) == [("Slide 1", "# Opening\n\none\n\nNotes:\nsay hello"), ("Slide 2", "last")]


def test_ods_sheets(extract: Extract) -> None:
    cells = (
        '<table:table-cell office:value-type="string"><text:p>Tea</text:p></table:table-cell>'
        '<table:table-cell office:value-type="float" office:value="3"><text:p>3</text:p></table:table-cell>'
    )
    body = f'<table:table table:name="Budget"><table:table-row>{cells}</table:table-row></table:table>'
    found = extract(files.opendocument("spreadsheet", body), "ods")
    assert (found.format, pages(found)) == ("ods", [("Sheet Budget", "Tea | 3")])


@pytest.mark.parametrize("kind", ["text", "presentation", "spreadsheet"])
def test_a_locked_opendocument_file_is_named_as_such(extract: Extract, kind: str) -> None:
    with pytest.raises(Unreadable) as caught:
        extract(files.opendocument(kind, "", "<manifest><file-entry><encryption-data/></file-entry></manifest>"), "")
    assert caught.value.reason == Reason.ENCRYPTED


def test_xls_sheets_rows_and_cells(extract: Extract) -> None:
    found = extract(files.xls({"Budget": [["Item", "Größe"], ["Tea", 3.0]], "Names": [["Ada"]]}), "xls")
    assert (found.format, pages(found)) == ("xls", [("Sheet Budget", "Item | Größe\nTea | 3"), ("Sheet Names", "Ada")])


def test_html(extract: Extract) -> None:
    page = (
        "<!doctype html><title>A title</title><script>alert(1)</script><style>p{}</style>"
        "<h2>Part</h2><p>Some <b>bold</b>\n text<br>next<ul><li>first<li><p>second</p></ul>"
        "<table><tr><th>a<td>b<tr><td>c<td>d<br>e</table><img alt='a picture'><pre>  kept\n    so</pre>"
    )
    assert pages(extract(page.encode(), "html")) == [
        (
            "",
            "# A title\n\n## Part\n\nSome bold text\nnext\n\n- first\n\n- second\n\n"
            "a | b\nc | d e\n\na picture\n\n  kept\n    so",
        )
    ]


def test_html_in_its_declared_encoding(extract: Extract) -> None:
    page = '<html><meta charset="iso-8859-1"><p>Grüße'.encode("iso-8859-1")
    assert pages(extract(page, "htm")) == [("", "Grüße")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_in_any_encoding(extract: Extract, encoding: str) -> None:
    text = "Die Größe der Öfen über Köln ist schön, aber die Überprüfung der Anlage dauert noch länger."
    found = extract(text.encode(encoding), "txt")
    assert (found.format, pages(found)) == ("text", [("", text)])


def test_markdown_is_kept_as_it_is(extract: Extract) -> None:
    text = "# Title\n\n- a\n- b\n\n```\ncode  here\n```"
    found = extract(text.encode(), "md")
    assert (found.format, pages(found)) == ("markdown", [("", text)])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(extract: Extract, delimiter: str) -> None:
    rows = [["name", "town"], ["Ada", '"two\nlines"'], ["Bob", "Kiel"]]
    found = extract("\n".join(delimiter.join(row) for row in rows).encode(), "csv")
    assert (found.format, pages(found)) == ("csv", [("", "name | town\nAda | two lines\nBob | Kiel")])


def test_epub_chapters_in_the_order_of_the_spine(extract: Extract) -> None:
    found = extract(files.epub(["<h1>One</h1><p>first", "<html><head><title>Two</title></head><body>second"]), "epub")
    assert found.format == "epub"
    assert pages(found) == [("Part 1", "# One\n\nfirst"), ("Part 2", "# Two\n\nsecond")]


def test_eml_headers_body_and_attachments(extract: Extract) -> None:
    found = extract(files.eml("Größe", "plain words", "<p>html words", {"plan.pdf": b"x"}), "eml")
    assert found.format == "eml"
    assert pages(found) == [
        ("", "# Größe\n\nFrom: Ada <ada@example.org>\nTo: Bob <bob@example.org>\n\nplain words\n\nAttachment: plan.pdf")
    ]


def test_eml_every_body_and_forwarded_messages(extract: Extract) -> None:
    message = (
        b"From: a@example.org\nTo: b@example.org\nSubject: outer\nMIME-Version: 1.0\n"
        b'Content-Type: multipart/mixed; boundary="x"\n\n'
        b"--x\nContent-Type: text/plain\n\nfirst body\n"
        b"--x\nContent-Type: text/html\n\n<p>second <i>body</i>\n"
        b"--x\nContent-Type: message/rfc822\n\nFrom: c@example.org\nSubject: inner\n\nthird body\n--x--\n"
    )
    text = extract(message, "eml").pages[0].text
    assert text.startswith("# outer\n\nFrom: a@example.org\nTo: b@example.org\n\nfirst body\n\nsecond body\n\n")
    assert text.endswith("Forwarded message:\n\n# inner\n\nFrom: c@example.org\n\nthird body")


def test_rtf(extract: Extract) -> None:
    found = extract(files.rtf("Grüße 😀\nzweite"), "rtf")
    assert (found.format, pages(found)) == ("rtf", [("", "Grüße 😀\nzweite")])
    table = rb"{\rtf1 \trowd\intbl a\cell b\cell\row after}"
    assert pages(extract(table, "rtf")) == [("", "a | b\nafter")]


def test_long_text_is_cut_at_headings_into_labelled_parts(extract: Extract) -> None:
    text = "\n\n".join(f"# Chapter {n}\n\n" + "Some words of this chapter. " * 150 for n in range(4))
    found = extract(text.encode(), "md")
    assert [page.label for page in found.pages] == ["Part 1", "Part 2", "Part 3", "Part 4"]
    assert all(page.text.startswith("# Chapter") for page in found.pages)


@pytest.mark.parametrize(
    ("document", "extension", "expected"),
    [
        (files.pdf(["I am a PDF"]), "txt", "pdf"),
        (files.docx(files.paragraph("I am Word")), "pdf", "docx"),
        (b"just words", "pdf", "text"),
        (b"just words", "", "text"),
        (b"<!-- x --><html><p>web", "txt", "html"),
        (files.eml("s", "b"), "txt", "eml"),
        (files.rtf("words"), "doc", "rtf"),
    ],
)
def test_what_the_bytes_say_wins_over_the_extension(extract: Extract, document: bytes, extension: str, expected: str) -> None:
    assert extract(document, extension).format == expected


def test_nul_controls_and_lone_surrogates_are_removed(extract: Extract) -> None:
    assert (
        extract(b"a\x00b\x07c\x1b and so on" + b", with enough words around it" * 50, "txt").pages[0].text.startswith("abc and")
    )
    assert extract(rb"{\rtf1 a\u-10179?b}", "rtf").pages[0].text == "ab"


def test_lines_of_a_markdown_paragraph_are_joined_and_blocks_are_kept() -> None:
    source = (
        "# Title\nA paragraph that\nruns on\n  here.\n\n- an item that\n  runs on\n- another\n1. one\n2. two\n\n"
        "a hard break  \nstays\n\n> quoted\n> lines\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode\nstays\n```\n\n"
        "    indented\n    code\n\n"
        "Underlined\n====\nText\n[link]: https://example.org\n"
    )
    assert read_markdown(source.encode()) == (
        "# Title\nA paragraph that runs on here.\n\n- an item that runs on\n- another\n1. one\n2. two\n\n"
        "a hard break  \nstays\n\n> quoted\n> lines\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode\nstays\n```\n\n"
        "    indented\n    code\n\n"
        "Underlined\n====\nText\n[link]: https://example.org"
    )
