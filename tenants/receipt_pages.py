"""Receipts of erasures, for admins and owners of the workspace: the list, one receipt, and the file that is kept."""

from uuid import UUID

from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from tenants import receipts
from tenants.context import public_context
from tenants.models import Receipt
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest

PER_PAGE = 50


@require_GET
@requires("manage")
def receipts_page(request: WorkspaceRequest) -> HttpResponse:
    with public_context():
        page = Paginator(receipts.of_workspace(request.tenant.pk), PER_PAGE).get_page(request.GET.get("page"))
        rows = [(each, each.document["body"]) for each in page.object_list if receipts.genuine(each)]
    return render(request, "receipts/receipts.html", {"page": page, "rows": rows, "signing": receipts.signing_key()})


@require_GET
@requires("manage")
def receipt(request: WorkspaceRequest, receipt_id: UUID) -> HttpResponse:
    shown = _own(request, receipt_id)
    body = shown.document["body"]
    context = {"receipt": shown, "body": body, "rows": receipts.rows(body), "signing": receipts.signing_key()}
    return render(request, "receipts/receipt.html", context)


@require_GET
@requires("manage")
def download(request: WorkspaceRequest, receipt_id: UUID) -> HttpResponse:
    shown = _own(request, receipt_id)
    response = HttpResponse(receipts.as_file(shown.document), content_type="application/json")
    response.headers["Content-Disposition"] = f'attachment; filename="receipt-{shown.pk}.json"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _own(request: WorkspaceRequest, receipt_id: UUID) -> Receipt:
    with public_context():
        found = get_object_or_404(Receipt, pk=receipt_id, tenant_id=request.tenant.pk)
        if not receipts.genuine(found):
            raise Http404
    return found
