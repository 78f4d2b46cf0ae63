"""The screens of collections: naming, restricting and deleting them. They translate and hold no logic."""

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from documents import access, erasing, series, trash
from documents.access import visible_collections
from documents.forms import AccessForm, CollectionForm, NewCollectionForm
from documents.models import Document
from documents.receiving import create_collection, rename_collection
from documents.trash_views import show_receipt
from tenants.errors import Refused
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest
from tenants.wording import counted


@require_GET
@requires("read")
def collections(request: WorkspaceRequest) -> HttpResponse:
    return _collections(request, NewCollectionForm(membership=request.membership))


@require_POST
@requires("upload")
def collection_create(request: WorkspaceRequest) -> HttpResponse:
    form = NewCollectionForm(request.POST, membership=request.membership)
    if form.is_valid():
        name, restricted = form.cleaned_data["name"], form.cleaned_data.get("restricted", False)
        try:
            collection = create_collection(name, by=request.membership, restricted=restricted)
        except Refused as refused:
            form.add_error("name", str(refused))
        else:
            messages.success(request, f"Collection “{collection.name}” is ready for documents.")
            return redirect("collection-access", collection.pk) if restricted else redirect("collections")
    return _collections(request, form, status=422)


@require_http_methods(["GET", "POST"])
@requires("upload")
def collection_rename(request: WorkspaceRequest, collection_id: UUID) -> HttpResponse:
    collection = get_object_or_404(visible_collections(request.membership), pk=collection_id)
    form = CollectionForm(request.POST or None, initial={"name": collection.name})
    if request.method == "POST" and form.is_valid():
        try:
            rename_collection(collection, form.cleaned_data["name"])
        except Refused as refused:
            form.add_error("name", str(refused))
        else:
            return redirect("collections")
    shown = {"collection": collection, "form": form}
    return render(request, "documents/collection_rename.html", shown, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@requires("manage")
def collection_access(request: WorkspaceRequest, collection_id: UUID) -> HttpResponse:
    """Who may see it."""
    member = request.membership
    collection = get_object_or_404(visible_collections(member), pk=collection_id)
    candidates = access.candidates()
    # for who restricts it now, their own name is chosen already: nobody locks themselves out by forgetting it
    chosen = access.named_in(collection) if collection.restricted else {member.pk}
    current = {"who": AccessForm.CHOSEN if collection.restricted else AccessForm.EVERYONE, "people": list(chosen)}
    sent = request.POST if request.method == "POST" else None
    form = AccessForm(sent, candidates=candidates, initial=current)
    if request.method == "POST" and form.is_valid():
        try:
            change = access.set_access(collection, member, restricted=form.restricted, chosen=form.cleaned_data["people"])
        except Refused as refused:
            form.add_error("people", str(refused))
        else:
            messages.success(request, change.in_words(collection.name))
            return redirect("collections")
    shown = {"collection": collection, "form": form, "any_candidates": bool(candidates)}
    return render(request, "documents/collection_access.html", shown, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@requires("manage")
def collection_delete(request: WorkspaceRequest, collection_id: UUID) -> HttpResponse:
    """Erases it with everything in it; `only=trash` moves its documents to the trash instead, where each can be restored."""
    collection = get_object_or_404(visible_collections(request.membership), pk=collection_id)
    there = collection.documents.filter(trashed_at=None)
    if request.method == "POST" and request.POST.get("only") == "trash":
        ids = there.order_by("-is_current").values_list("id", flat=True)  # with the first of a document all of it goes
        moved = sum(trash.trash(batch, request.user.pk) for batch in erasing.batches(ids))
        messages.success(
            request, f"{counted(moved, 'document')} of “{collection.name}” moved to the trash. The collection stays."
        )
        return redirect("trash")
    if request.method == "POST":
        try:
            erased = erasing.erase_collection(collection)
        except Refused as refused:
            messages.error(request, str(refused))
            return redirect("collections")
        return show_receipt(
            request, erased, f"Collection “{collection.name}” is erased, with {counted(erased.documents, 'document')}."
        )
    shown = {
        "collection": collection,
        "documents_total": there.filter(is_current=True).count(),
        "trashed_total": series.once(collection.documents.exclude(trashed_at=None)).count(),
        "trash_days": settings.TRASH_DAYS,
        "cannot_reach": erasing.cannot_reach(),
    }
    return render(request, "documents/collection_delete.html", shown)


def _collections(request: WorkspaceRequest, form: CollectionForm, status: int = 200) -> HttpResponse:
    in_use = Q(documents__trashed_at=None, documents__is_current=True)
    shown = visible_collections(request.membership).annotate(
        documents_total=Count("documents", filter=in_use),
        documents_ready=Count("documents", filter=in_use & Q(documents__state=Document.State.READY)),
    )
    rows = sorted(shown, key=lambda collection: collection.name.casefold())
    return render(request, "documents/collections.html", {"rows": rows, "form": form}, status=status)
