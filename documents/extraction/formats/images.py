"""Pictures: what they show, upright and on white, through Pillow. A TIFF has pages; of an animation the first picture counts.

Formats come from the bytes; each decoder is imported here, since the sandbox lets none be imported later.
"""

import io

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    MpoImagePlugin,  # noqa: F401 - what a camera calls JPEG may be one
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from documents.extraction import recognition
from documents.extraction.answers import MAX_PAGES
from documents.extraction.pages import Origin
from documents.extraction.pictures import COLOUR, GREY, SIDE, Picture
from documents.reasons import Reason, Unreadable

_DECODERS = [
    one.format
    for one in (
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        TiffImagePlugin.TiffImageFile,
        WebPImagePlugin.WebPImageFile,
    )
]
_MOST_PIXELS = 100_000_000  # counted below; decoded in colour they take 300 MB
_READING_SIDE = 4000
_SMALL_SIDE = 1600  # pictures of a screen have letters of 12 pixels, and recognition wants some 25
_A4_INCHES = 11.7  # what the longer side is taken for: files seldom say it truly
Image.MAX_IMAGE_PIXELS = None


def read_image(document: bytes) -> list[tuple[str, str, Origin]]:
    """(label, text, origin) of every page: all are still to be recognised."""
    image = _opened(document, 1)
    count = getattr(image, "n_frames", 1) if image.format == TiffImagePlugin.TiffImageFile.format else 1
    if count > MAX_PAGES:
        raise Unreadable(Reason.TOO_COMPLEX, "pages")
    return [("" if count == 1 else f"Page {number}", "", Origin.SCANNED) for number in range(1, count + 1)]


def draw_image(document: bytes, number: int) -> Picture:
    image = _shown(document, number, SIDE)
    grey = image.mode == "L"
    return Picture(image.width, image.height, GREY if grey else COLOUR, image.tobytes())


def recognise_image(document: bytes, number: int) -> str:
    image = _shown(document, number, _READING_SIDE).convert("L")
    if max(image.size) < _SMALL_SIDE:
        image = image.resize((2 * image.width, 2 * image.height), Image.Resampling.LANCZOS)
    return recognition.words(image.tobytes(), image.width, image.height, round(max(image.size) / _A4_INCHES))


def _opened(document: bytes, number: int) -> Image.Image:
    """One page, not yet decoded. Raises Unreadable when there is none, or decoding it would take too much."""
    try:
        image = Image.open(io.BytesIO(document), formats=_DECODERS)
        image.seek(number - 1)
    except (OSError, EOFError, SyntaxError) as error:
        raise Unreadable(Reason.DAMAGED, type(error).__name__) from None
    if image.width * image.height > _MOST_PIXELS:
        raise Unreadable(Reason.TOO_LARGE, "pixels")
    return image


def _shown(document: bytes, number: int, side: int) -> Image.Image:
    """Grey ("L") or in colour ("RGB"), turned as a camera says, at most `side` pixels long."""
    image = _opened(document, number)
    image.draft(None, (side, side))  # JPEG is decoded smaller, at a part of the cost
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel; a plain conversion would cut them off at 255
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    image.thumbnail((side, side))
    return image
