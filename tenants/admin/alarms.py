"""The staff console's list of alarms (tenants/alarms.py): what was found, and why somebody settled it."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path

from tenants import alarms
from tenants.admin.verbs import ReasonForm
from tenants.models import Alarm


class Settled(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Open"), ("settled", "Settled")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alarm]) -> QuerySet[Alarm]:
        match self.value():
            case "open":
                return queryset.filter(settled_at=None)
            case "settled":
                return queryset.exclude(settled_at=None)
        return queryset


@admin.register(Alarm)
class AlarmAdmin(admin.ModelAdmin):
    list_display = ("what", "subject", "tenant", "times", "first_at", "last_at", "settled_because")
    list_display_links = ("what",)
    list_filter = (Settled, "kind")
    list_select_related = ("tenant",)
    search_fields = ("subject", "tenant__name", "tenant__slug")
    fields = readonly_fields = ("what", "subject", "tenant", "times", "first_at", "last_at", "settled_at", "settled_because")
    actions = None
    change_form_template = "admin/tenants/alarm/change_form.html"

    @admin.display(description="what", ordering="kind")
    def what(self, alarm: Alarm) -> str:
        return alarm.get_kind_display()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Alarm | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Alarm | None = None) -> bool:
        return False

    def get_urls(self) -> list[Any]:
        return [
            path("<uuid:pk>/settle/", self.admin_site.admin_view(self.settle), name="alarm-settle"),
            *super().get_urls(),
        ]

    def settle(self, request: HttpRequest, pk: Any) -> HttpResponseBase:
        """Close it, giving a reason."""
        alarm = self.get_object(request, str(pk))
        if alarm is None or not self.has_view_permission(request, alarm):
            raise Http404
        form: forms.Form = ReasonForm(request.POST or None)
        form.fields["reason"].help_text = "What you found, and what you did. The alarm is kept with it."
        if request.method == "POST" and form.is_valid():
            if alarms.settle(alarm, form.cleaned_data["reason"]):
                messages.success(request, "The alarm is settled. If it happens again, there is another.")
            else:
                messages.info(request, "Somebody settled this alarm before.")
            return redirect("admin:tenants_alarm_changelist")
        context = {
            **self.admin_site.each_context(request),
            "title": "Settle an alarm",
            "opts": self.opts,
            "alarm": alarm,
            "form": form,
        }
        return TemplateResponse(request, "admin/tenants/alarm/settle.html", context, status=422 if form.errors else 200)
