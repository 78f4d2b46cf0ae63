"""Text recognition (OCR) by Debian's libtesseract, loaded before the lock-down, so that a child of the sandbox needs no
program and no file for it. Knows nothing of documents.

Without the library or its language data nothing is loaded, which is no fault: pages that are pictures are then not read.
"""

import ctypes
from itertools import takewhile

_LIBRARY = "libtesseract.so.5"
# PSM_AUTO: finds columns and blocks; its variants that turn the page read a file at first use. Measured (docs/benchmarks.md):
# taking a page for one column (4) or one block (6) broke 40 % of the phrases of two columns, and found no word more.
_TEXT_OF_ANY_LAYOUT = 3
_GREY_BYTES = 1

_tesseract: ctypes.CDLL | None = None
_handle: ctypes.c_void_p | None = None


def load(languages: str) -> str:
    """Make recognition ready in those of the languages ("eng+deu") that are installed. Returns them, empty when none is.

    Starts no thread: to be called with OMP_THREAD_LIMIT=1 in the environment.
    """
    global _tesseract, _handle
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return ""
    library.TessBaseAPICreate.restype = ctypes.c_void_p
    library.TessBaseAPIGetUTF8Text.restype = ctypes.c_void_p
    library.TessBaseAPIGetLoadedLanguagesAsVector.restype = ctypes.POINTER(ctypes.c_char_p)
    handle = ctypes.c_void_p(library.TessBaseAPICreate())
    if library.TessBaseAPIInit3(handle, None, languages.encode()):  # loads those it finds, and fails when it finds none
        return ""
    library.TessBaseAPISetPageSegMode(handle, _TEXT_OF_ANY_LAYOUT)
    _tesseract, _handle = library, handle
    loaded = library.TessBaseAPIGetLoadedLanguagesAsVector(handle)
    names = (loaded[place] for place in range(languages.count("+") + 1))
    return "+".join(name.decode() for name in takewhile(bool, names))


def words(pixels: bytes, width: int, height: int, dots_per_inch: int) -> str:
    """The text in a picture of grey pixels, rows from the top, one byte each. Only after `load` returned a language."""
    assert _tesseract is not None
    _tesseract.TessBaseAPISetImage(_handle, pixels, width, height, _GREY_BYTES, width * _GREY_BYTES)
    _tesseract.TessBaseAPISetSourceResolution(_handle, dots_per_inch)
    found = _tesseract.TessBaseAPIGetUTF8Text(_handle)
    return ctypes.string_at(found).decode("utf-8", "replace") if found else ""
