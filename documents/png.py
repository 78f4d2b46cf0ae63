"""Pixels as a PNG file (ISO/IEC 15948, 8 bits a channel). Knows nothing of where they come from."""

import struct
import zlib

import numpy as np

from documents.extraction.pictures import COLOUR, GREY, Picture

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {GREY: 0, COLOUR: 2}
_NONE, _UP = 0, 2  # filter types: pixels as they are, or less the pixel above
_LEVEL = 3  # of zlib; more takes twice the time for 4 % less


def encoded(picture: Picture) -> bytes:
    """In colour, rows are written as the difference to the row above: three quarters of the size for photographs."""
    rows = np.frombuffer(picture.pixels, np.uint8).reshape(picture.height, picture.width * picture.channels)
    lines = np.empty((picture.height, 1 + rows.shape[1]), np.uint8)
    lines[:, 0] = _UP if picture.channels == COLOUR else _NONE
    lines[:, 1:] = rows
    if picture.channels == COLOUR:
        lines[1:, 1:] -= rows[:-1]
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, _COLOUR_TYPES[picture.channels], 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), _LEVEL)), (b"IEND", b"")
    return _SIGNATURE + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
