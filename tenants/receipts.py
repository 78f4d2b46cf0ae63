"""Receipts: signed statements of what was erased, issued once it was looked for and not found.

One id, one receipt: issuing it again gives the same document, which the witness keeps whatever happens to the database.
Refuses to know what was erased: whoever erased it says what, how much, and what it could not reach.
"""

import hashlib
import json
import struct
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from tenants import proofs, witness
from tenants.context import public_context
from tenants.keys.keyring import derive, wrap_binding
from tenants.keys.providers import KeyUnavailable, named
from tenants.models import Receipt, TenantKey
from tenants.proofs import RECEIPT, fingerprint
from tenants.signing import public_key, signed
from tenants.wording import counted

NO_FINGERPRINT = "not held"
ORDER = (  # in which a page tells what was counted
    "wrapping keys", "wrapped keys", "documents", "bytes", "files", "pages", "metadata values", "passages", "vectors",
    "sealed vectors", "term entries", "filter entries", "judgments", "log entries", "tables", "schemas", "database roles",
    "jobs", "cache entries", "members",
)  # fmt: skip


def issue(
    receipt_id: UUID,
    kind: Receipt.Kind,
    tenant_id: UUID,
    name: str,
    *,
    what: Sequence[UUID],
    erased_at: str,
    counts: dict[str, int],
    keys: list[dict[str, Any]],
    cannot_reach: list[str],
    verified: dict[str, int],
) -> Receipt:
    """The receipt of that id, made now unless there is one. `erased_at` in ISO 8601; `what`: ids of documents."""
    kept = f"receipts/{receipt_id}"
    with witness.alone(kept):
        document = witness.record(kept)
        if document is None:
            body = {
                "receipt": str(receipt_id),
                "at": timezone.now().isoformat(),
                "erased_at": erased_at,
                "installation": settings.PUBLIC_URL,
                "kind": kind.value,
                "workspace": {"id": str(tenant_id), "name": name},
                "what": [str(each) for each in what],
                "counts": counts,
                "keys": keys,
                "verified": verified,
                "cannot_reach": cannot_reach,
            }
            document = signed(RECEIPT, body)
            witness.keep(kept, document)
    body = document["body"]
    with public_context():
        made, _ = Receipt.objects.get_or_create(
            pk=receipt_id,
            defaults={
                "tenant_id": tenant_id,
                "kind": body["kind"],
                "issued_at": datetime.fromisoformat(body["at"]),
                "document": document,
            },
        )
    return made


def of_workspace(tenant_id: UUID) -> QuerySet[Receipt]:
    """Newest first. To be read in public context."""
    return Receipt.objects.filter(tenant_id=tenant_id)


def genuine(receipt: Receipt) -> bool:
    """Whether we signed it: a row that somebody planted or changed is no receipt."""
    try:
        proofs.check_receipt(receipt.document, public_key())
    except proofs.Forged:
        return False
    return True


def rows(body: dict[str, Any]) -> list[tuple[str, int | None, int | None]]:
    """What was counted, how many were erased and how many are left (None: not counted); the database keeps no order."""
    counts, verified = body["counts"], body["verified"]
    names = sorted(counts.keys() | verified.keys(), key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return [(name, counts.get(name), verified.get(name)) for name in names]


def as_file(document: dict[str, Any]) -> str:
    """What is handed out: `bin/verify` reads it."""
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def key_fingerprints(tenant_id: UUID) -> list[dict[str, Any]]:
    """Which keys a workspace has, to be recognised later: digests of a label derived from each, which tell nothing of it."""
    found = []
    rows = TenantKey.objects.filter(tenant_id=tenant_id).exclude(state=TenantKey.State.DESTROYED).order_by("version")
    for version, wrapped, held_by in rows.values_list("version", "wrapped", "provider"):
        try:
            key = named(held_by).unwrap(tenant_id, bytes(wrapped), wrap_binding(tenant_id, version))
        except KeyUnavailable:
            label = NO_FINGERPRINT
        else:
            label = hashlib.sha256(derive(key, b"receipt", tenant_id.bytes, struct.pack(">I", version))).hexdigest()[:16]
        found.append({"version": version, "provider": held_by, "fingerprint": label})
    return found


def signing_key() -> dict[str, str]:
    """The installation's public key, to be kept by whoever gets receipts, and its fingerprint to compare by eye."""
    key = public_key()
    return {"public_key": key, "fingerprint": fingerprint(key)}


def backups_in_words() -> str:
    """For how long a backup made before still holds what was erased."""
    days = settings.BACKUP_DAYS
    return f"until the last of them is deleted, which this installation does after {counted(days, 'day')}"
