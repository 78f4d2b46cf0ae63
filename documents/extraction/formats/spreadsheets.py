"""Workbooks (Excel, OpenDocument): one page per sheet, one line per row, values as the sheet shows them, if the file says."""

import datetime
import io

from python_calamine import CalamineWorkbook, PasswordError

from documents.extraction.archives import Archive
from documents.extraction.formats.opendocument import check
from documents.extraction.formats.tables import row
from documents.reasons import Reason, Unreadable


def read_xlsx(document: bytes) -> list[tuple[str, str]]:
    """(label, text) of every sheet."""
    Archive(document)  # the limits, before the native reader unpacks
    return read_xls(document)


def read_ods(document: bytes) -> list[tuple[str, str]]:
    check(Archive(document))
    return read_xls(document)


def read_xls(document: bytes) -> list[tuple[str, str]]:
    """A workbook before 2007, which is packed into nothing."""
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(document))
    except PasswordError:
        raise Unreadable(Reason.ENCRYPTED, "workbook") from None
    found = []
    for name in workbook.sheet_names:
        lines = (row(map(_written, cells)) for cells in workbook.get_sheet_by_name(name).iter_rows())
        found.append((f"Sheet {name}", "\n".join(filter(None, lines))))
    return found


def _written(value: object) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)
