"""Three small documents made on the spot, each with a passage that only it holds: what `bin/up --check` uploads."""

import io
import zipfile
from dataclasses import dataclass

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


@dataclass(frozen=True)
class Sample:
    file_name: str
    media_type: str
    content: bytes
    question: str
    words: str  # of the passage that answers it, as they must be shown


def samples() -> list[Sample]:
    return [
        Sample(
            "lighthouse.pdf",
            "application/pdf",
            _pdf(["The keeper of Brannock lighthouse lights the lamp", "with whale oil forty minutes before sunset."]),
            "When does the keeper light the lamp of the lighthouse?",
            "forty minutes before sunset",
        ),
        Sample(
            "greenhouse.docx",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            _docx(["Tomatoes in the greenhouse are watered", "with rain from the copper barrel at dawn."]),
            "How are the tomatoes in the greenhouse watered?",
            "the copper barrel",
        ),
        Sample(
            "railway.md",
            "text/markdown",
            b"# The mountain railway\n\nThe night train to Aldersee leaves from platform eleven and carries bicycles free.\n",
            "From which platform does the night train leave?",
            "platform eleven",
        ),
    ]


def _pdf(lines: list[str]) -> bytes:
    """One page of PDF 1.4 in a standard font, with the cross-reference table that readers check (ISO 32000-1, 7.5)."""
    shown = " ".join(f"({line}) Tj T*" for line in lines)
    drawing = f"BT /F1 14 Tf 18 TL 72 720 Td {shown} ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, offsets = io.BytesIO(), []
    out.write(b"%PDF-1.4\n")
    for number, content in enumerate(objects, 1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % offset for offset in offsets)
    out.write(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table))
    return out.getvalue()


def _docx(paragraphs: list[str]) -> bytes:
    body = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/word/document.xml" ContentType="{main}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
        f'<Relationship Id="r1" Type="{OFFICE}/officeDocument" Target="word/document.xml"/></Relationships>',
        "word/document.xml": f'<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>',
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>{content}')
    return out.getvalue()
