"""The screen on which a PDF's password is typed. Holds no logic of its own."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from documents import unlocking
from documents.access import visible_documents
from documents.forms import PasswordForm
from tenants.errors import Refused
from tenants.limits import limited
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest


@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
@requires("upload")
@limited("password")
def document_unlock(request: WorkspaceRequest, document_id: UUID) -> HttpResponse:
    shown = get_object_or_404(visible_documents(request.membership), pk=document_id)
    if not shown.is_locked:
        messages.info(request, "This document does not ask for a password.")
        return redirect("document", document_id)
    form = PasswordForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            unlocking.unlock(shown, form.cleaned_data["password"])
        except Refused as refused:
            form.add_error("password", str(refused))
        else:
            messages.success(request, "The PDF was read. Its text becomes searchable now; the password is forgotten.")
            return redirect("document", document_id)
    return render(
        request, "documents/document_unlock.html", {"document": shown, "form": form}, status=422 if form.is_bound else 200
    )
