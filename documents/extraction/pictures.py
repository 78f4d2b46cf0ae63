"""A page as a picture: nothing but the colours of its pixels. Knows of file formats the names alone."""

from dataclasses import dataclass

IMAGES = frozenset({"png", "jpeg", "tiff", "webp", "bmp", "gif"})  # files that are pictures
SIDE = 1400  # pixels of the longer side: a page of A4 is 990 wide, twice the width it is shown at
GREY, COLOUR = 1, 3  # bytes of one pixel: how bright it is; or red, green and blue
MAX_BYTES = 64 + SIDE * SIDE * COLOUR  # of an answer that holds one


@dataclass(frozen=True, slots=True)
class Picture:
    """Rows from the top, pixels from the left, `channels` bytes each (GREY or COLOUR)."""

    width: int
    height: int
    channels: int
    pixels: bytes
