"""The screens of metadata: the fields of a collection, and what documents have in them. They translate and hold no logic."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods

from documents import describing, fields, sidecar
from documents.access import visible_collections, visible_documents
from documents.forms import FieldForm, MetadataForm, NewFieldForm, SidecarForm
from documents.models import Collection, Field
from search.evaluation.uploads import MAX_BYTES, MemoryUploadHandler
from tenants.errors import Refused
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest
from tenants.wording import counted


@require_http_methods(["GET", "POST"])
@requires("upload")
def collection_fields(request: WorkspaceRequest, collection_id: UUID) -> HttpResponse:
    """Which fields a collection has; a POST adds one."""
    collection = get_object_or_404(visible_collections(request.membership), pk=collection_id)
    form = NewFieldForm(request.POST) if request.method == "POST" else NewFieldForm()
    if request.method == "POST" and form.is_valid():
        asked = form.cleaned_data
        try:
            made = fields.add_field(collection, asked["name"], asked["kind"], filterable=asked["filterable"])
        except Refused as refused:
            form.add_error("name", str(refused))
        else:
            messages.success(request, f"Field “{made.name}” is there.")
            return redirect("collection-fields", collection.pk)
    shown = {"collection": collection, "form": form, "rows": fields.fields_of(collection), "most": fields.MAX_FIELDS}
    return render(request, "documents/fields.html", shown, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@requires("upload")
def field_change(request: WorkspaceRequest, collection_id: UUID, field_id: UUID) -> HttpResponse:
    field = _field(request, collection_id, field_id)
    current = {"name": field.name, "filterable": field.filterable}
    form = FieldForm(request.POST if request.method == "POST" else None, initial=current)
    if request.method == "POST" and form.is_valid():
        try:
            describing.change_field(field, form.cleaned_data["name"], filterable=form.cleaned_data["filterable"])
        except Refused as refused:
            form.add_error("name", str(refused))
        else:
            return redirect("collection-fields", collection_id)
    shown = {"collection": field.collection, "field": field, "form": form}
    return render(request, "documents/field_change.html", shown, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@requires("manage")
def field_delete(request: WorkspaceRequest, collection_id: UUID, field_id: UUID) -> HttpResponse:
    field = _field(request, collection_id, field_id)
    if request.method == "POST":
        try:
            documents = describing.delete_field(field)
        except Refused as refused:
            messages.error(request, str(refused))
        else:
            messages.success(request, f"Field “{field.name}” is deleted, with its values in {counted(documents, 'document')}.")
        return redirect("collection-fields", collection_id)
    shown = {"collection": field.collection, "field": field, "held": describing.held(field)}
    return render(request, "documents/field_delete.html", shown)


def _field(request: WorkspaceRequest, collection_id: UUID, field_id: UUID) -> Field:
    found: Field = get_object_or_404(
        Field.objects.select_related("collection"),
        pk=field_id,
        collection_id=collection_id,
        collection__in=visible_collections(request.membership),
    )
    return found


@require_http_methods(["GET", "POST"])
@requires("upload")
def document_describe(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    document = get_object_or_404(visible_documents(request.membership).select_related("collection"), pk=document_id)
    form = MetadataForm(request.POST if request.method == "POST" else None, described=describing.described(document))
    if request.method == "POST":
        try:
            describing.describe(document, form.typed())
        except describing.Invalid as invalid:
            form.refuse(invalid)
        except Refused as refused:
            form.add_error(None, str(refused))
        else:
            return redirect("document", document.pk)
    shown = {"document": document, "form": form}
    return render(request, "documents/describe.html", shown, status=422 if form.errors else 200)


@csrf_exempt  # the check reads the body: it is made inside, once the handler that keeps files off the disk is in place
@require_http_methods(["GET", "POST"])
@requires("upload")
def collection_describe(request: WorkspaceRequest, collection_id: UUID) -> HttpResponseBase:
    """Describes documents of a collection by a CSV file."""
    collection = get_object_or_404(visible_collections(request.membership), pk=collection_id)
    handler = MemoryUploadHandler(request)
    request.upload_handlers = [handler]
    return _describe(request, collection, handler)


@csrf_protect
def _describe(request: WorkspaceRequest, collection: Collection, handler: MemoryUploadHandler) -> HttpResponse:
    form = SidecarForm(request.POST, request.FILES) if request.method == "POST" else SidecarForm()
    bad: sidecar.BadSidecar | None = None
    if request.method == "POST" and form.is_valid():
        try:
            documents = sidecar.describe_by_csv(collection, form.cleaned_data["file"].read())
        except sidecar.BadSidecar as error:
            bad = error
        except Refused as refused:
            form.add_error("file", str(refused))
        else:
            messages.success(request, f"{counted(documents, 'document')} of “{collection.name}” described.")
            return redirect("collection-fields", collection.pk)
    if handler.too_large:
        form.errors.pop("file", None)
        form.add_error("file", f"The file is larger than {MAX_BYTES // 1024**2} MB. Split it.")
    shown = {"collection": collection, "form": form, "bad": bad, "rows": fields.fields_of(collection)}
    return render(request, "documents/describe_csv.html", shown, status=422 if bad or form.errors else 200)
