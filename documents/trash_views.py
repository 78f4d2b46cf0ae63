"""The screens of the trash: what lies in it, taking it out, erasing it for good. They translate and hold no logic."""

from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Page as ListPage
from django.core.paginator import Paginator
from django.db.models import Count, QuerySet, Sum
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from documents import access, erasing, series, trash
from documents.models import Document
from tenants.errors import Refused
from tenants.models import Person
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest
from tenants.wording import counted

PER_PAGE = 50


@require_GET
@requires("upload")
def trash_page(request: WorkspaceRequest) -> HttpResponse:
    found = access.visible_trash(request.membership).select_related("collection").order_by("-trashed_at", "id")
    page: ListPage[Document] = Paginator(series.once(found), PER_PAGE).get_page(request.GET.get("page"))
    people = Person.objects.in_bulk([each.trashed_by_id for each in page.object_list if each.trashed_by_id])
    rows = [(each, people.get(each.trashed_by_id or 0), trash.days_left(each)) for each in page.object_list]
    held = found.aggregate(size=Sum("size"))["size"] or 0
    return render(
        request, "documents/trash.html", {"page": page, "rows": rows, "held": held, "trash_days": settings.TRASH_DAYS}
    )


@require_POST
@requires("upload")
def document_restore(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    shown = get_object_or_404(access.visible_trash(request.membership), pk=document_id)
    if not trash.restore([shown.id]):
        messages.error(request, f"“{shown.title}” is not in the trash any more.")
        return redirect("trash")
    if shown.can_be_retried:
        messages.success(request, f"“{shown.title}” is back. It was not finished: retry it to make it searchable.")
    else:
        messages.success(request, f"{shown.called} is back, as it was{series.with_versions(shown)}.")
    return redirect("document", shown.id) if request.POST.get("from") == "trash" else redirect("documents")


@require_http_methods(["GET", "POST"])
@requires("upload")
def document_erase(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    """From the trash alone: what is erased was out of sight before."""
    shown = get_object_or_404(access.visible_trash(request.membership), pk=document_id)
    if request.method == "POST":
        return _erase(request, [shown.id], f"{shown.called} is erased{series.with_versions(shown)}.")
    found = access.visible_trash(request.membership).filter(pk__in=series.with_all([shown.id]))
    others = Document.objects.filter(collection__in=access.visible_collections(request.membership))  # in the trash, too
    context = {
        "document": shown,
        "counted": _counted(found),
        "came_from": others.filter(pk__in=found.values("archive")).order_by("-created_at").first(),
        "came_out": others.filter(archive__in=found.values("pk")).count(),
        "cannot_reach": erasing.cannot_reach(),
    }
    return render(request, "documents/document_erase.html", context)


@require_http_methods(["GET", "POST"])
@requires("upload")
def trash_empty(request: WorkspaceRequest) -> HttpResponse:
    """Erase what the member sees of it: of what they were told, and not of what came since."""
    found = access.visible_trash(request.membership)
    if request.method == "POST":
        seen = _moment(request.POST.get("seen", ""))
        return _erase(request, list(found.filter(trashed_at__lte=seen).values_list("id", flat=True)))
    there = _counted(found)
    if not there["files"]:
        return redirect("trash")
    shown = {
        "counted": there,
        "documents_total": series.once(found).count(),
        "seen": timezone.now().isoformat(),
        "cannot_reach": erasing.cannot_reach(),
    }
    return render(request, "documents/trash_empty.html", shown)


def _counted(trashed: QuerySet[Document]) -> dict[str, int]:
    """What erasing these removes, every version of them."""
    return trashed.aggregate(files=Count("pk"), size=Sum("size"), pages=Sum("pages"), passages=Sum("chunks_done"))


def _moment(sent: str) -> datetime:
    """As the page has it; now where there is none."""
    try:
        found = datetime.fromisoformat(sent)
    except ValueError:
        return timezone.now()
    return found if found.tzinfo else timezone.now()


def _erase(request: WorkspaceRequest, ids: list[UUID], done: str = "") -> HttpResponse:
    """What is taken out of the trash before its turn comes stays."""
    try:
        erased = erasing.erase(ids, trashed_at__isnull=False)
    except Refused as refused:
        messages.error(request, str(refused))
        return redirect("trash")
    if not erased.documents:
        messages.error(request, "Nothing was erased: it is not in the trash any more.")
        return redirect("trash")
    return show_receipt(request, erased, done or f"{counted(erased.documents, 'document')} erased.")


def show_receipt(request: WorkspaceRequest, erased: erasing.Erased, done: str) -> HttpResponse:
    """To the receipt, for those who may see it."""
    if erased.receipt is None:
        messages.success(request, done)
    elif request.membership.can_manage:
        messages.success(request, f"{done} This is the receipt.")
        return redirect("receipt", erased.receipt)
    else:
        messages.success(request, f"{done} Admins and owners see its receipt, {erased.receipt}.")
    return redirect("trash")
