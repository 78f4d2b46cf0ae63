"""What an authenticator app shows, computed by the standard alone: the tests ask our code nothing."""

import base64
import hmac
import struct
import time


def one_time_code(secret: str, later: int = 0) -> str:
    """Six digits for now, or for so many half minutes later (RFC 6238); `secret` is base32."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.digest(key, struct.pack(">Q", int(time.time()) // 30 + later), "sha1")
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"
