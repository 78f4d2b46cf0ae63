"""The page of a workspace's audit log, for its owners: read, filtered, checked, exported."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import HTMX_STOP_POLLING

from documents import access
from search.sources import sources
from tenants import proofs, signing
from tenants.audit import exporting, verifying
from tenants.audit.events import Event, label_of
from tenants.audit.models import Entry, Head
from tenants.audit.recording import exported_by, record
from tenants.ciphers import Tampered
from tenants.context import public_context
from tenants.models import Person
from tenants.permissions import Role, requires
from tenants.requests import WorkspaceRequest
from tenants.wording import counted
from tenants.wording import size as bytes_in_words

PER_PAGE = 50
GROUPS = {  # by the first part of an event's name
    "person": "Sign-ins",
    "member": "Members",
    "document": "Documents",
    "collection": "Collections",
    "search": "Searches",
    "evaluation": "Evaluations",
    "workspace": "The workspace",
    "index": "How vectors are held",
    "queue": "The queue of documents",
    "keys": "Keys",
    "staff": "Staff",
    "library": "Libraries",
    "access": "Commands on the server",
    "proof": "Checks and alarms",
}


class LogFilter(forms.Form):
    kind = forms.ChoiceField(label="Kind", required=False, choices=[("", "Everything"), *GROUPS.items()])
    person = forms.ChoiceField(label="Who", required=False)
    since = forms.DateField(label="From", required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label="To", required=False, widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, *args: Any, people: Mapping[int, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        chosen = self.fields["person"]
        assert isinstance(chosen, forms.ChoiceField)
        chosen.choices = [("", "Anybody"), *((str(pk), name) for pk, name in people.items()), ("none", "Nobody signed in")]

    def entries(self) -> QuerySet[Entry]:
        """Newest first. A filter that cannot be read filters nothing, and says so beside its field."""
        self.is_valid()
        given, found = self.cleaned_data, Entry.objects.all()
        if kind := given.get("kind"):
            found = found.filter(event__startswith=f"{kind}.")
        if person := given.get("person"):
            found = found.filter(person_id=None) if person == "none" else found.filter(person_id=int(person))
        if since := given.get("since"):
            found = found.filter(at__gte=_midnight(since))
        if until := given.get("until"):
            found = found.filter(at__lt=_midnight(until) + timedelta(days=1))
        return found

    @property
    def query(self) -> str:
        return urlencode({name: value for name, value in self.cleaned_data.items() if value})


@dataclass(frozen=True)
class Row:
    """An entry as it is read. `url`: of what it is about, while it is there for the reader."""

    number: int
    at: datetime
    label: str
    who: str
    via: str
    reason: str
    about: str
    url: str = ""
    opens: bool = True


@never_cache
@require_GET
@requires("own")
def log(request: WorkspaceRequest) -> HttpResponse:
    form = LogFilter(request.GET, people=_people())
    found = form.entries()
    page: Page[Entry] = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    context = {"form": form, "page": page, "rows": _rows(request, page.object_list), "filtered": bool(form.query)}
    return render(request, "log/index.html", {**context, **_chain(request)})


@never_cache
@require_GET
@requires("own")
def status(request: WorkspaceRequest) -> HttpResponse:
    """What the page polls while the log is being checked."""
    context = _chain(request)
    return render(request, "log/_chain.html", context, status=200 if context["checking"] else HTMX_STOP_POLLING)


@require_POST
@requires("own")
def check(request: WorkspaceRequest) -> HttpResponse:
    verifying.request_check()
    return redirect("log")


@never_cache
@require_GET
@requires("own")
def export(request: WorkspaceRequest, kind: str) -> HttpResponse | StreamingHttpResponse:
    """`json`: the whole log, signed. `csv`: what the filter shows, for a spreadsheet."""
    if kind not in ("json", "csv"):
        raise Http404
    record(Event.LOG_EXPORTED, format=kind)
    response: HttpResponse | StreamingHttpResponse
    if kind == "csv":
        chosen = LogFilter(request.GET, people=_people()).entries().order_by("number")
        response = StreamingHttpResponse(
            exporting.as_csv(chosen.iterator(chunk_size=2000)), content_type="text/csv; charset=utf-8"
        )
    else:
        try:
            document = exporting.signed_export()
        except Tampered:
            messages.error(
                request, "An entry cannot be opened: nothing was exported. Check the log, then ask whoever runs this."
            )
            return redirect("log")
        response = HttpResponse(json.dumps(document, ensure_ascii=False, indent=1), content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="log-{request.tenant.slug}-{timezone.now():%Y-%m-%d}.{kind}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _chain(request: WorkspaceRequest) -> dict[str, Any]:
    head = Head.objects.get(pk=1)
    with public_context():
        key = signing.public_key()
    return {
        "head": head,
        "digest": bytes(head.digest).hex(),
        "verdict": verifying.last_verdict(request.tenant),
        "checking": verifying.is_being_checked(),
        "public_key": key,
        "fingerprint": proofs.fingerprint(key),
    }


def _people() -> dict[int, str]:
    """Who is in the log and still a member; who left is found under everything."""
    return {person.pk: person.email for person in Person.objects.order_by("email")}


def _rows(request: WorkspaceRequest, entries: Iterable[Entry]) -> list[Row]:
    export, opened = exported_by(), []
    for entry in entries:
        try:
            opened.append((entry, export(entry)["details"]))
        except Tampered:
            opened.append((entry, None))
    ids = {UUID(details["about"]["document"]) for _, details in opened if details and details["about"].get("document")}
    documents = sources().describe(ids, sources().visible(request.membership)) if ids else {}
    collections = access.visible_by_name(request.membership)
    return [_row(entry, details, documents, collections) for entry, details in opened]


def _row(entry: Entry, details: dict[str, Any] | None, documents: Mapping[UUID, Any], collections: Mapping[UUID, str]) -> Row:
    label = label_of(entry.event)
    if details is None:
        return Row(entry.number, entry.at, label, "", "", "", "This entry does not open: it was changed.", opens=False)
    about, url = details["about"], ""
    if document := about.get("document"):
        source = documents.get(UUID(document))
        url = source.url if source else ""
        words = [f"“{source.title}”" if source else "a document that is gone"]
    elif collection := about.get("collection"):
        words = [f"“{collections[UUID(collection)]}”" if UUID(collection) in collections else "a collection that is gone"]
        url = reverse("collections") if UUID(collection) in collections else ""
    else:
        words = []
    words += _words(about)
    return Row(entry.number, entry.at, label, details["who"], details["via"], details["reason"], ", ".join(words), url)


def _words(about: Mapping[str, Any]) -> Iterator[str]:
    """What an entry says beyond the document or collection; ids of what has no name are left to the export."""
    for name, value in about.items():
        if value in (None, ""):
            continue
        match name:
            case "again":
                yield "what had been interrupted, or an older backup brought back"
            case "found" | "unknown":
                yield f"{value:,} {name}"
            case "results":
                yield counted(int(value), "result")
            case "while_typing":
                yield "while typing"
            case "documents" | "questions" | "people":
                yield counted(int(value), name.removesuffix("s").replace("people", "person"))
            case "page":
                yield f"page {value}"
            case "bytes":
                yield bytes_in_words(int(value))
            case "role":
                yield f"as {Role(value).label.lower()}" if value in Role.values else str(value)
            case "before":
                yield f"before: {Role(value).label.lower()}" if value in Role.values else str(value)
            case "restricted" | "required":
                yield name if value else f"not {name}"
            case "quota_documents" | "quota_bytes" | "quota_members":
                yield f"{value:,} {name.removeprefix('quota_')} at most"
            case "minutes":
                yield f"{value} minutes"
            case (
                "kind"
                | "subject"
                | "member"
                | "address"
                | "staff"
                | "command"
                | "hostname"
                | "change"
                | "format"
                | "provider"
                | "on"
                | "version"
            ):
                yield str(value)


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
