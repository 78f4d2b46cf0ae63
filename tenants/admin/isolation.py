"""What the isolation self-test found, for staff to read: of each workspace, and of runs over the installation."""

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html_join

from tenants.models import IsolationCheck


@admin.register(IsolationCheck)
class IsolationCheckAdmin(admin.ModelAdmin):
    """Results of the isolation self-test: without a workspace, a run over the installation. Nobody changes them."""

    list_display = ("created_at", "whose", "state", "attempts", "trigger", "finished_at")
    list_filter = ("state", "trigger", ("tenant", admin.EmptyFieldListFilter))
    list_select_related = ("tenant",)
    search_fields = ("tenant__name", "tenant__slug")
    fields = readonly_fields = (
        "whose", "trigger", "state", "part_of", "created_at", "started_at", "finished_at",
        "attempts", "by_kind", "found", "failed",
    )  # fmt: skip

    @admin.display(description="Workspace", ordering="tenant__name")
    def whose(self, check: IsolationCheck) -> str:
        return str(check.tenant or "The whole installation")

    @admin.display(description="By kind")
    def by_kind(self, check: IsolationCheck) -> str:
        return ", ".join(f"{kind}: {number:,}" for kind, number in check.counts.get("by_kind", {}).items()) or "–"

    @admin.display(description="Leaks")
    def found(self, check: IsolationCheck) -> str:
        return self._lines(check.leaks)

    @admin.display(description="Failed controls")
    def failed(self, check: IsolationCheck) -> str:
        return self._lines(check.controls)

    @staticmethod
    def _lines(found: list[dict[str, str]]) -> str:
        return format_html_join("", "<div>{}: {} {}</div>", ((f["kind"], f["route"], f["detail"]) for f in found)) or "None"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: IsolationCheck | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: IsolationCheck | None = None) -> bool:
        return False
