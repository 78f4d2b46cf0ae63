"""Numbers as people read them, on pages, in the console and in sentences. Refuses to know what is counted."""

UNITS = ("kB", "MB", "GB", "TB")


def counted(number: int, one: str, many: str = "") -> str:
    """1 page, 1,204 pages, 2 entries; `many` where an s is not enough."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(count: float) -> str:
    """Bytes in decimal units: 900 bytes, 4.2 MB."""
    if count < 1000:
        return counted(round(count), "byte")
    for unit in UNITS:
        count /= 1000
        if count < 999.95 or unit == UNITS[-1]:
            break
    return f"{count:.1f}\N{NO-BREAK SPACE}{unit}"
