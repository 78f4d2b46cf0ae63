"""What leaves of a log: the whole of it, signed, to be checked without us; rows for a spreadsheet; the head, by mail."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from tenants import notices, proofs, signing, witness
from tenants.audit.events import label_of
from tenants.audit.models import Entry, Head
from tenants.audit.recording import exported_by
from tenants.audit.verifying import entries
from tenants.context import current_tenant, public_context
from tenants.models import Tenant
from tenants.spreadsheets import line
from tenants.sweeping import sweeper

MAIL_EVERY = timedelta(days=1)
COLUMNS = ("number", "time (UTC)", "event", "who", "how", "reason", "about")


def signed_export() -> dict[str, Any]:
    """The current workspace's whole log as proofs.check_log takes it: in the clear, signed. Raises Tampered."""
    tenant = current_tenant()
    found = list(entries())
    last = (
        {"number": found[-1]["number"], "digest": found[-1]["digest"]} if found else {"number": 0, "digest": proofs.FIRST.hex()}
    )
    body = {
        "workspace": str(tenant.pk),
        "name": tenant.name,
        "installation": settings.PUBLIC_URL,
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "head": last,
        "entries": found,
    }
    with public_context():
        return signing.signed(proofs.AUDIT_LOG, body)


def as_csv(chosen: Iterable[Entry]) -> Iterator[str]:
    """Rows for a spreadsheet. Not signed."""
    export = exported_by()
    yield line(COLUMNS)
    for entry in chosen:
        row = export(entry)
        details = row["details"]
        about = "; ".join(f"{name}: {value}" for name, value in details["about"].items() if value not in (None, ""))
        yield line((row["number"], row["at"], label_of(row["event"]), details["who"], details["via"], details["reason"], about))


def _mailed_name(tenant: Tenant) -> str:
    return f"audit-mailed/{tenant.pk}"


@sweeper
def mail_head() -> None:
    """Once a day, when something was added: with the mail an owner can prove later what the log was then."""
    tenant = current_tenant()
    last = witness.record(_mailed_name(tenant))
    if last is not None and timezone.now() - datetime.fromisoformat(last["at"]) < MAIL_EVERY:
        return
    head = Head.objects.filter(pk=1).first()
    if head is None or head.number == (last or {}).get("number", 0):
        return
    digest = bytes(head.digest).hex()
    key = signing.public_key()
    words = (
        f"The audit log of the workspace {tenant.name} has {head.number} entries now.\n\n"
        f"Head: {head.number}:{digest}\n"
        f"Public key of this installation: {key} ({proofs.fingerprint(key)})\n\n"
        "Keep this mail. An export of the log that does not contain this head was changed since:\n"
        f"    manage.py verify_audit_log --export FILE --head {head.number}:{digest}\n"
    )
    with public_context():
        if notices.tell_owners(tenant, f"Log of {tenant.name}: {head.number} entries", words):
            witness.keep(_mailed_name(tenant), {"number": head.number, "at": timezone.now().isoformat()})
