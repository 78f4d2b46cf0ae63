"""Rich Text Format, through striprtf; its table cells become "a | b"."""

from striprtf.striprtf import rtf_to_text

from documents.extraction.formats.tables import row


def read_rtf(document: bytes) -> str:
    text = rtf_to_text(document.decode("latin-1"), errors="ignore")
    return "\n".join(row(line.split("|")) if line.endswith("|") else line for line in text.split("\n"))
