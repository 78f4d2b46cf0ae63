"""Encryption as the product does it, against the bare cipher on the same bytes: what formats, bindings and Python cost."""

import os
import secrets
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from documents.models import Page
from tenants.context import workspace
from tenants.provisioning import create_workspace
from tenants.streams import SEGMENT_BYTES, EncryptingWriter, decrypt_chunks
from workspace.benchmarks.measuring import Comparison, Setting, alternate, typical

SIDES = {
    "product": "tenants.streams in 64 KiB segments and tenants.fields row by row, bound to their place",
    "reference": "AESGCM of cryptography on the same bytes in the same pieces: files with one nonce and no associated data; "
    "rows with a fresh random nonce each, bound to the row's id, as AES-GCM must be used at the least",
}
PIECE_BYTES = 1 << 20  # how uploads and imports hand a file over
ROW_BYTES = (1500, 300)
NONCE = bytes(12)  # the reference's: its key is thrown away


class _Nowhere(BytesIO):
    """Takes what is written and keeps nothing of it."""

    def write(self, data: Any) -> int:
        return len(data)


def run(say: Callable[[str], None], *, rounds: int = 5, megabytes: int = 256, rows: int = 20_000) -> Comparison:
    tenant, _ = create_workspace("Benchmark", f"bench-{secrets.token_hex(6)}")
    with workspace(tenant):
        return Comparison("encryption", "MB/s", SIDES, [*_files(say, rounds, megabytes), *_rows(say, rounds, rows)])


def _files(say: Callable[[str], None], rounds: int, megabytes: int) -> Iterator[Setting]:
    say(f"a file of {megabytes} MB, {rounds} rounds")
    context, bare = ("documents_document", "file", str(uuid4())), AESGCM(secrets.token_bytes(32))
    content = secrets.token_bytes(PIECE_BYTES)
    segments = [content[start : start + SEGMENT_BYTES] for start in range(0, PIECE_BYTES, SEGMENT_BYTES)]
    sealed = BytesIO(b"".join(bare.encrypt(NONCE, segment, None) for segment in segments) * megabytes)

    def write(raw: BytesIO) -> None:
        writer = EncryptingWriter(raw, context)
        for _ in range(megabytes):
            writer.write(content)
        writer.finish()

    def write_bare() -> None:
        for _ in range(megabytes):
            for segment in segments:
                bare.encrypt(NONCE, segment, None)

    def read_bare() -> None:
        sealed.seek(0)
        while segment := sealed.read(SEGMENT_BYTES + 16):
            bare.decrypt(NONCE, segment, None)

    def read() -> None:
        written.seek(0)
        for _ in decrypt_chunks(written, context):
            pass

    size = megabytes * PIECE_BYTES
    times = alternate(lambda: write(_Nowhere()), write_bare, rounds)
    yield _setting(f"a file of {megabytes} MB encrypted", size, times, {"bytes": size})
    write(written := BytesIO())
    times = alternate(read, read_bare, rounds)
    yield _setting(f"a file of {megabytes} MB decrypted", size, times, {"bytes": size})


def _rows(say: Callable[[str], None], rounds: int, rows: int) -> Iterator[Setting]:
    field, keys = Page._meta.get_field("text"), [uuid4() for _ in range(rows)]
    bare = AESGCM(secrets.token_bytes(32))
    for size in ROW_BYTES:
        say(f"{rows} rows of {size} bytes, {rounds} rounds")
        text = secrets.token_hex(size // 2)
        plain = text.encode()
        write = field.writer()
        written = [(key, write(key, text)) for key in keys]

        def encrypt(text: str = text) -> None:
            write = field.writer()
            for key in keys:
                write(key, text)

        def decrypt(written: list[tuple[Any, bytes]] = written) -> None:
            read = field.reader()
            for key, value in written:
                read(key, value)

        def encrypt_bare(plain: bytes = plain) -> None:
            for key in keys:
                nonce = os.urandom(12)
                nonce + bare.encrypt(nonce, plain, str(key).encode())

        bare_written = [(key, NONCE + bare.encrypt(NONCE, plain, str(key).encode())) for key in keys]

        def decrypt_bare(written: list[tuple[Any, bytes]] = bare_written) -> None:
            for key, value in written:
                bare.decrypt(value[:12], value[12:], str(key).encode())

        for done, product, reference in (("encrypted", encrypt, encrypt_bare), ("decrypted", decrypt, decrypt_bare)):
            times = alternate(product, reference, rounds)
            detail = {"rows": rows, "bytes": size, "product_us": 0.0, "reference_us": 0.0}
            yield _setting(f"rows of {size} bytes {done}", size * rows, times, detail)


def _setting(name: str, size: int, times: tuple[list[float], list[float]], detail: dict[str, Any]) -> Setting:
    product, reference = typical(*times)
    if rows := detail.get("rows"):  # microseconds of a row: what Python costs is the same for each, whatever its size
        detail |= {"product_us": round(product / rows * 1e6, 2), "reference_us": round(reference / rows * 1e6, 2)}
    return Setting(name, size / product / 1e6, size / reference / 1e6, "higher", detail)
