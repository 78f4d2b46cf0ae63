"""Receipts of erasures, for staff to read and hand out; a workspace's own outlives it. Nobody changes them."""

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html

from tenants import proofs, receipts
from tenants.models import Receipt

FORGED = "Not signed by this installation"


@admin.register(Receipt)
class ReceiptAdmin(admin.ModelAdmin):
    """Ids and numbers: no receipt holds content. Nothing is said of a row that we did not sign."""

    list_display = ("issued_at", "kind", "workspace", "counted", "id")
    list_filter = ("kind",)
    search_fields = ("id", "tenant_id")
    date_hierarchy = "issued_at"
    fields = readonly_fields = ("kind", "workspace", "tenant_id", "issued_at", "counted", "signed_with", "file")

    @admin.display(description="Workspace")
    def workspace(self, receipt: Receipt) -> str:
        return str(receipt.document["body"]["workspace"]["name"]) if receipts.genuine(receipt) else FORGED

    @admin.display(description="Erased")
    def counted(self, receipt: Receipt) -> str:
        if not receipts.genuine(receipt):
            return FORGED
        return ", ".join(f"{name}: {number:,}" for name, number in receipt.document["body"]["counts"].items()) or "–"

    @admin.display(description="Signed with")
    def signed_with(self, receipt: Receipt) -> str:
        return proofs.fingerprint(receipt.document["public_key"]) if receipts.genuine(receipt) else FORGED

    @admin.display(description="To hand out")
    def file(self, receipt: Receipt) -> str:
        return format_html("<pre>{}</pre>", receipts.as_file(receipt.document)) if receipts.genuine(receipt) else FORGED

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Receipt | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Receipt | None = None) -> bool:
        return False
