"""Checks what Cloister signed and exported, without Cloister: receipts of erasures and audit logs.

Needs Python and `cryptography`, and nothing of this project, so that whoever holds the file can run it elsewhere:

    python proofs.py FILE [--key PUBLIC_KEY]

A signature proves who signed only when the public key is known from elsewhere: give it with --key.
"""

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Iterable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

RECEIPT, AUDIT_LOG = "cloister-receipt/1", "cloister-audit-log/1"
FIRST = bytes(32)  # what the first entry of a log follows


class Forged(Exception):
    """It is not what was signed: says where it breaks."""


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and without spaces, in UTF-8: what is signed and hashed."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def signed_bytes(kind: str, body: Any) -> bytes:
    return kind.encode() + b"\n" + canonical(body)


def fingerprint(public_key: str) -> str:
    """The first 16 hex digits of its SHA-256, in fours: short enough to compare by eye."""
    digits = hashlib.sha256(base64.b64decode(public_key)).hexdigest()[:16]
    return " ".join(digits[at : at + 4] for at in range(0, 16, 4))


def check_signature(document: Any, public_key: str | None = None) -> Any:
    """The body of a signed document: {"format", "body", "public_key", "signature"}, keys and signature in base64.

    With `public_key` it must be that key's. Raises Forged.
    """
    try:
        kind, body, key = document["format"], document["body"], document["public_key"]
        signature, raw = base64.b64decode(document["signature"], validate=True), base64.b64decode(key, validate=True)
        if len(document) != 4 or kind not in (RECEIPT, AUDIT_LOG):
            raise ValueError
        verifier = Ed25519PublicKey.from_public_bytes(raw)
    except (KeyError, TypeError, ValueError):
        raise Forged("This is no receipt and no audit log of Cloister, or it is damaged.") from None
    if public_key is not None and public_key != key:
        raise Forged(f"It is signed by another key ({fingerprint(key)}) than the one given.")
    try:
        verifier.verify(signature, signed_bytes(kind, body))
    except InvalidSignature:
        raise Forged("The signature does not fit: it was changed after it was signed, or never signed by this key.") from None
    return body


def entry_digest(workspace: str, entry: dict[str, Any], previous: bytes) -> bytes:
    """SHA-256 of an entry and all that stand before it. Of `entry` everything counts but its "digest"."""
    content = {name: value for name, value in entry.items() if name != "digest"}
    return hashlib.sha256(canonical(["cloister/audit/v1", workspace, previous.hex(), content])).digest()


def check_chain(
    workspace: str, entries: Iterable[dict[str, Any]], previous: bytes = FIRST, number: int = 0
) -> tuple[int, bytes]:
    """The number and digest of the last entry, when each follows from the one before. Raises Forged."""
    for entry in entries:
        number += 1
        if entry.get("number") != number:
            raise Forged(f"Entry {number} is missing: entry {entry.get('number')} stands in its place.")
        previous = entry_digest(workspace, entry, previous)
        if entry.get("digest") != previous.hex():
            raise Forged(f"Entry {number} was changed, or an entry before it was.")
    return number, previous


def check_log(document: Any, public_key: str | None = None, head: str | None = None) -> dict[str, Any]:
    """The body of an exported audit log: signed, whole, unchanged. Raises Forged.

    `head` is one that was mailed, "NUMBER:DIGEST": the log must contain it.
    """
    body: dict[str, Any] = check_signature(document, public_key)
    if document["format"] != AUDIT_LOG:
        raise Forged("This is no audit log.")
    number, digest = check_chain(body["workspace"], body["entries"])
    if (number, digest.hex()) != (body["head"]["number"], body["head"]["digest"]):
        raise Forged(f"It ends at entry {number}; {body['head']['number']} were signed.")
    if head is not None:
        at, _, expected = head.partition(":")
        if not at.isdecimal() or len(expected) != 64:
            raise Forged("A head is a number, a colon and 64 hexadecimal digits.")
        if not 1 <= int(at) <= number or body["entries"][int(at) - 1]["digest"] != expected.lower():
            raise Forged(f"It does not contain the head {at}: it was rewritten, or cut off before that entry.")
    return body


def check_receipt(document: Any, public_key: str | None = None) -> dict[str, Any]:
    """The body of a receipt. Raises Forged."""
    body: dict[str, Any] = check_signature(document, public_key)
    if document["format"] != RECEIPT:
        raise Forged("This is no receipt.")
    return body


def check(document: Any, public_key: str | None = None, head: str | None = None) -> str:
    """One sentence about a genuine file. Raises Forged."""
    kind = document.get("format") if isinstance(document, dict) else None
    if kind == AUDIT_LOG or head is not None:
        body = check_log(document, public_key, head)
        return f"Genuine: {body['head']['number']} entries, none missing or changed, exported {body['exported_at']}."
    body = check_receipt(document, public_key)
    return f"Genuine: receipt {body['receipt']} of {body['at']}."


def main() -> int:
    parser = argparse.ArgumentParser(description="Check a receipt or an exported audit log of Cloister.")
    parser.add_argument("file")
    parser.add_argument("--key", help="the installation's public key, from elsewhere than the file")
    parser.add_argument(
        "--head", metavar="NUMBER:DIGEST", help="of an audit log: a head that was mailed; the log must contain it"
    )
    given = parser.parse_args()
    try:
        with open(given.file, encoding="utf-8") as file:
            document = json.load(file)
        print(check(document, given.key, given.head))
    except (OSError, ValueError) as error:
        print(f"{given.file} cannot be read: {error}", file=sys.stderr)
        return 2
    except (Forged, KeyError, TypeError) as error:
        print(f"FORGED: {error}", file=sys.stderr)
        return 1
    if given.key is None:
        print(f"Signed by the key {document['public_key']} ({fingerprint(document['public_key'])}).")
        print("Compare it with the one your provider publishes: whoever forges a file can sign it with a key of their own.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
