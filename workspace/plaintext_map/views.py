"""The page that says what the database can read of a workspace. Every member reads it; who manages may start a look."""

from typing import Any

from django.contrib import messages
from django.db import connection
from django.db.models import Sum
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import HTMX_STOP_POLLING

from documents import access
from documents.models import Document
from search import indexes
from search.models import Chunk, IndexEntry, Protection
from tenants.ciphers import HEADER
from tenants.context import public_context
from tenants.errors import Refused
from tenants.keys.providers import NONCE_BYTES
from tenants.models import PlaintextCheck
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest
from tenants.wording import counted
from workspace.plaintext_map import auditing
from workspace.plaintext_map.columns import PUBLIC, Kind, Table, tables_at
from workspace.plaintext_map.stores import GROUPS, stores

SIGNS = {  # icon, tone and word of each kind; the padlock is not among them: it belongs to sealed
    Kind.ENCRYPTED: ("shield-check", "ready", "Encrypted"),
    Kind.DERIVED: ("finger-print", "cancelled", "Digest"),
    Kind.DISGUISED: ("eye-slash", "warn", "Disguised"),
    Kind.CLEAR: ("eye", "warn", "Readable"),
}
SHOWN_BYTES = 48


@never_cache
@require_GET
@requires("read")
def plaintext(request: WorkspaceRequest) -> HttpResponse:
    context, level = _context(request), indexes.least_held()
    context |= {
        "groups": _groups(context["check"], level),
        "figures": _figures(),
        "level": level.label,
        "sample": _sample(request),
    }
    return render(request, "plaintext/index.html", context)


@never_cache
@require_GET
@requires("read")
def status(request: WorkspaceRequest) -> HttpResponse:
    """What the page polls while a look is under way."""
    context = _context(request)
    code = 200 if context["running"] else HTMX_STOP_POLLING
    return render(request, "plaintext/_check.html", context, status=code)


@require_POST
@requires("manage")
def start(request: WorkspaceRequest) -> HttpResponse:
    try:
        with public_context():
            auditing.request_check(request.tenant)
    except Refused as refused:
        messages.error(request, str(refused))
    return redirect("plaintext")


@require_POST
@requires("manage")
def cancel(request: WorkspaceRequest) -> HttpResponse:
    with public_context():
        if not auditing.cancel(request.tenant):
            messages.info(request, "The look had ended before it could be cancelled.")
    return redirect("plaintext")


def _context(request: WorkspaceRequest) -> dict[str, Any]:
    with public_context():
        checks = list(PlaintextCheck.objects.filter(tenant=request.tenant)[:12])
    ended = [check for check in checks if not check.is_unfinished]
    check = ended[0] if ended else None
    places = [each for each in auditing.described(check) if each["found"] or each["kind"] == "unknown"] if check else []
    return {
        "running": next((each for each in checks if each.is_unfinished), None),
        "check": check,
        "places": places,
        "controls": check.report.get("controls", []) if check else [],
    }


def _groups(check: PlaintextCheck | None, level: Protection) -> list[tuple[str, list[dict[str, Any]]]]:
    report = check.report if check else {}
    looked = {each["name"]: each for each in auditing.described(check, level)}
    groups: dict[str, list[dict[str, Any]]] = {group: [] for group in GROUPS}
    for scope, tables in (("", tables_at(level)), ("public.", PUBLIC)):
        for name, table in tables.items():
            rows = report.get("tables", {}).get(f"{scope}{name}")
            checked = f"{counted(rows['rows'], 'row')} read" if rows else ""
            groups["database"].append(_row(f"{scope}{name}", table, checked))
    for store in stores(level):
        checked = looked[store.name]["checked"]
        row = {"title": store.title, "kinds": [(SIGNS[store.kind], [store.holds])], "learns": store.learns, "checked": checked}
        groups[store.group].append(row)
    return [(GROUPS[group], rows) for group, rows in groups.items()]


def _row(name: str, table: Table, checked: str) -> dict[str, Any]:
    kinds: dict[Kind, list[str]] = {}
    for _, kind, what in table.columns():
        kinds.setdefault(kind, [])
        if what not in kinds[kind]:
            kinds[kind].append(what)
    signed = [(SIGNS[kind], words) for kind, words in kinds.items()]
    return {"title": table.what, "name": name, "kinds": signed, "learns": table.learns, "checked": checked}


def _figures() -> dict[str, int]:
    """Of everybody's documents; canaries among them, since the database holds them as well."""
    return {
        "documents": Document.objects.count(),
        "bytes": Document.objects.aggregate(sum=Sum("size"))["sum"] or 0,
        "passages": Chunk.objects.count(),
        "vectors": IndexEntry.objects.count(),
    }


def _sample(request: WorkspaceRequest) -> dict[str, Any] | None:
    """The newest document the member may see, as they see it and as the database does."""
    document = access.visible_documents(request.membership).first()
    if document is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT title, size, state FROM documents_document WHERE id = %s", [document.pk])
        title, size, state = cursor.fetchone()
        cursor.execute(
            "SELECT c.text, e.vector::text FROM search_chunk c "
            "LEFT JOIN search_indexentry e ON e.chunk_id = c.id AND e.index_id = %s "
            "WHERE c.document_id = %s ORDER BY c.sequence LIMIT 1",
            [indexes.live().id, document.pk],
        )
        passage = cursor.fetchone()
    title = bytes(title)
    nonce = HEADER.size + NONCE_BYTES
    chunk = Chunk.objects.filter(document_id=document.pk).order_by("sequence").first()
    return {
        "document": document,
        "header": title[: HEADER.size].hex(" "),
        "nonce": title[HEADER.size : nonce].hex(" "),
        "content": title[nonce:-16].hex(" "),
        "tag": title[-16:].hex(" "),
        "size": size,
        "state": state,
        "passage": chunk.text[:160] if chunk else "",
        "passage_stored": bytes(passage[0])[:SHOWN_BYTES].hex(" ") if passage else "",
        "vector": ", ".join(passage[1].strip("[]").split(",")[:6]) if passage and passage[1] else "",
    }
