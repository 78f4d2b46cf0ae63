"""The staff console's pages for workspaces: the list, those in trouble first, and what staff may do to one."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Case, F, IntegerField, QuerySet, Value, When
from django.db.models.functions import Coalesce, Lower
from django.forms import BaseInlineFormSet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tenants import provisioning, staff_access, stats, wording
from tenants.admin.hostnames import DomainInline
from tenants.admin.people import MembershipInline, TellsOwners
from tenants.admin.verbs import VERBS, ReasonForm, ViewForm, possible
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.errors import Refused
from tenants.models import Domain, StaffAccess, Tenant, User, WorkspaceStats
from tenants.stats import Trouble

TROUBLE_NOW = Case(
    When(status=Tenant.Status.FAILED, then=Value(Trouble.NEVER_MADE.value)),
    default=Coalesce(F("stats__trouble"), Value(Trouble.NONE.value)),
    output_field=IntegerField(),
)


class InTrouble(admin.SimpleListFilter):
    title = "trouble"
    parameter_name = "trouble"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("some", "Needs somebody"), ("none", "None")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> QuerySet[Tenant]:
        match self.value():
            case "some":
                return queryset.filter(trouble_now__gt=0)  # type: ignore[misc]  # annotated
            case "none":
                return queryset.filter(trouble_now=0)  # type: ignore[misc]
        return queryset


class Kept(admin.SimpleListFilter):
    title = "deletion"
    parameter_name = "deletion"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("hold", "Legal hold"), ("scheduled", "To be deleted")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> QuerySet[Tenant]:
        match self.value():
            case "hold":
                return queryset.exclude(legal_hold="")
            case "scheduled":
                return queryset.exclude(delete_at=None)
        return queryset


@admin.register(Tenant)
class WorkspaceAdmin(TellsOwners):
    list_display = ("name", "slug", "trouble", "state", "documents", "size", "members", "index", "queue", "last_activity")
    list_filter = (InTrouble, "status", Kept)
    ordering = (TROUBLE_NOW.desc(), Lower("name"))
    list_per_page = 50
    list_select_related = ("stats",)
    search_fields = ("name", "slug", "domains__domain")
    fieldsets = (
        (None, {"fields": ("name", "slug", "state")}),
        ("At most", {"fields": ("quota_documents", "quota_bytes", "quota_members"), "description": "Empty: no limit."}),
        ("For support", {"fields": ("id", "schema_name", "schema_version", "created_at")}),
    )
    readonly_fields = ("id", "schema_name", "schema_version", "state", "created_at")
    inlines = (DomainInline, MembershipInline)
    actions = ("try_again",)
    change_form_template = "admin/tenants/tenant/change_form.html"

    # ---------------------------------------------------------------- the list

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        return super().get_queryset(request).annotate(trouble_now=TROUBLE_NOW)

    @admin.display(description="status", ordering="status")
    def state(self, tenant: Tenant) -> str:
        words = [tenant.get_status_display()]
        if tenant.suspended_at is not None:
            words = [f"{words[0]} since {date_format(tenant.suspended_at)}: {tenant.suspension}"]
        if tenant.delete_at is not None:
            words.append(f"to be deleted on {date_format(tenant.delete_at)}")
        if tenant.legal_hold:
            words.append(f"legal hold: {tenant.legal_hold}")
        return "; ".join(words)

    @admin.display(ordering="stats__documents")
    def documents(self, tenant: Tenant) -> str:
        return _against(_stats(tenant).documents, tenant.quota_documents, "{:,}".format)

    @admin.display(ordering="stats__bytes")
    def size(self, tenant: Tenant) -> str:
        return _against(_stats(tenant).bytes, tenant.quota_bytes, wording.size)

    @admin.display(ordering="stats__members")
    def members(self, tenant: Tenant) -> str:
        return _against(_stats(tenant).members, tenant.quota_members, "{:,}".format)

    @admin.display(ordering="stats__unsearchable")
    def index(self, tenant: Tenant) -> str:
        kept = _stats(tenant)
        if kept.refreshed_at is None and not kept.entries:
            return "–"
        if kept.behind:
            return "waits for upgrade"
        gaps = kept.unsearchable or abs(kept.passages - kept.entries) or kept.pages_missing
        return f"{kept.entries:,} passages, " + ("gaps" if gaps else "complete")

    @admin.display(ordering="stats__unfinished")
    def queue(self, tenant: Tenant) -> str:
        kept = _stats(tenant)
        parts = ((kept.unfinished + kept.runs_unfinished, "unfinished"), (kept.jobs_failed, "failed jobs"))
        return ", ".join(f"{number:,} {words}" for number, words in parts if number) or "empty"

    @admin.display(ordering="stats__last_activity_at")
    def last_activity(self, tenant: Tenant) -> str:
        moment = _stats(tenant).last_activity_at
        return "–" if moment is None else date_format(moment, "DATETIME_FORMAT")

    @admin.display(ordering="trouble_now")
    def trouble(self, tenant: Tenant) -> str | SafeString:
        failed = tenant.status == Tenant.Status.FAILED
        words = "It could not be created." if failed else _stats(tenant).trouble_words or "–"
        serious = Trouble(tenant.trouble_now).is_serious
        return format_html('<span class="cl-severe">{}</span>', words) if serious else words

    @admin.action(description="Try again to create", permissions=["change"])
    def try_again(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        for tenant in queryset.filter(status=Tenant.Status.FAILED):
            try:
                provisioning.retry(tenant)
            except Refused as refusal:
                messages.error(request, str(refusal))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {**(extra_context or {}), "title": "Workspaces"})

    # ---------------------------------------------------------------- one workspace

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> tuple[str, ...]:
        return self.readonly_fields if obj is None else (*self.readonly_fields, "slug")

    def get_fieldsets(self, request: HttpRequest, obj: Tenant | None = None) -> Any:
        return self.fieldsets if obj is not None else ((None, {"fields": ("name", "slug")}),)

    def get_inlines(self, request: HttpRequest, obj: Tenant | None) -> Any:
        return self.inlines if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: Tenant, form: forms.ModelForm, change: bool) -> None:
        if change:
            obj.save(update_fields=form.changed_data)  # the rest may have changed since the page was loaded
            if "name" in form.changed_data:
                record(Event.RENAMED, obj)
            if limits := {name: getattr(obj, name) for name in form.changed_data if name.startswith("quota_")}:
                record(Event.QUOTA, obj, **limits)
            stats.mark_due([obj.pk])
            return
        made = provisioning.open_workspace(obj.name, obj.slug, None)
        obj.__dict__.update(made.__dict__)
        messages.info(request, f"{obj.name} is being created; its status becomes active in a moment.")

    def save_formset(self, request: HttpRequest, form: Any, formset: BaseInlineFormSet, change: bool) -> None:
        super().save_formset(request, form, formset, change)
        if formset.model is Domain:
            for words, domains in (("added", formset.new_objects), ("removed", formset.deleted_objects)):
                for domain in domains:
                    record(Event.HOSTNAME, form.instance, hostname=domain.domain, change=words)
            for domain, _ in formset.changed_objects:
                record(Event.HOSTNAME, form.instance, hostname=domain.domain, change="changed")

    def has_delete_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        return obj is not None and obj.status == Tenant.Status.FAILED  # a real one needs its erasure, not a DELETE

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("<uuid:pk>/view-as-member/", view(self.view_as_member), name="workspace-view-as-member"),
            *[path(f"<uuid:pk>/{name}/", view(self.act), {"verb": name}, name=f"workspace-{name}") for name in VERBS],
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        tenant = self.get_object(request, object_id)
        more = {"verbs": possible(tenant), "stats": _stats(tenant)} if tenant is not None else {}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **more})

    def act(self, request: HttpRequest, pk: Any, verb: str) -> HttpResponseBase:
        """The page of one of VERBS: what it does, and the reason where one is asked for."""
        tenant, chosen = self._workspace(request, pk), VERBS[verb]
        form = ReasonForm(request.POST or None) if chosen.asks else forms.Form(request.POST or None)
        if chosen.asks:
            form.fields["reason"].help_text = chosen.asks
        if request.method == "POST" and (form.is_valid() or not chosen.asks):
            reason = [form.cleaned_data["reason"]] if chosen.asks else []
            try:
                chosen.apply(tenant, *reason)
            except Refused as refusal:
                form.add_error(None, str(refusal))
            else:
                stats.mark_due([tenant.pk])
                self.log_change(request, tenant, ": ".join([chosen.label, *reason]))
                messages.success(request, chosen.done.format(tenant.name))
                return redirect(_page(tenant))
        return self._form_page(request, tenant, form, chosen.label, chosen.consequence, dangerous=chosen.dangerous)

    def view_as_member(self, request: HttpRequest, pk: Any) -> HttpResponseBase:
        """Ask to view a workspace, and what became of earlier requests."""
        tenant = self._workspace(request, pk)
        form = ViewForm(request.POST or None)
        form.fields["reason"].help_text = "The owners read it, now and later."
        if request.method == "POST" and form.is_valid():
            assert isinstance(request.user, User)  # staff are signed in
            try:
                staff_access.request(tenant, request.user, form.cleaned_data["reason"], form.cleaned_data["minutes"])
            except Refused as refusal:
                form.add_error(None, str(refusal))
            else:
                self.log_change(request, tenant, f"Asked to view: {form.cleaned_data['reason']}")
                told = "The owners have been mailed." if settings.MAIL_IS_CONFIGURED else "Tell an owner: no mail is sent here."
                messages.success(request, f"You asked to view {tenant.name}. {told}")
                return redirect("admin:workspace-view-as-member", pk=tenant.pk)
        hours = settings.STAFF_ACCESS_DELAY_HOURS
        consequence = "You see what a viewer sees, without restricted collections, and change nothing. " + (
            f"The owners are mailed now. You can begin when one consents, or {hours} hours later if none refuses."
            if settings.MAIL_IS_CONFIGURED
            else "You can begin when an owner consents; this installation sends no mail, so tell one yourself."
        )
        accesses = staff_access.concerning(tenant)
        mine = [access for access in accesses if access.staff_id == request.user.pk and access.is_open]
        usable = [access for access in mine if access.state != StaffAccess.State.WAITING]
        if mine and not usable:
            consequence = f"You have asked to view {tenant.name}. No owner has answered yet."
        more = {"accesses": accesses, "asked_already": bool(mine), "usable": bool(usable), "workspace_url": tenant.path}
        return self._form_page(request, tenant, form, "Ask to view as a member", consequence, more)

    def _workspace(self, request: HttpRequest, pk: Any) -> Tenant:
        tenant = self.get_object(request, str(pk))
        if tenant is None or not self.has_change_permission(request, tenant):
            raise Http404
        return tenant

    def _form_page(
        self,
        request: HttpRequest,
        tenant: Tenant,
        form: forms.Form,
        label: str,
        consequence: str,
        more: dict[str, Any] | None = None,
        *,
        dangerous: bool = False,
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"{label}: {tenant.name}",
            "opts": self.opts,
            "tenant": tenant,
            "form": form,
            "label": label,
            "consequence": consequence,
            "dangerous": dangerous,
            **(more or {}),
        }
        status = 422 if form.errors else 200
        return TemplateResponse(request, "admin/tenants/tenant/act.html", context, status=status)


def _page(tenant: Tenant) -> str:
    return reverse("admin:tenants_tenant_change", args=[tenant.pk])


def _stats(tenant: Tenant) -> WorkspaceStats:
    """What is known; zeros for a workspace that no worker has counted."""
    return getattr(tenant, "stats", None) or WorkspaceStats(tenant=tenant)


def _against(used: int, most: int | None, words: Callable[[int], str]) -> str:
    """What is used, of what a quota allows where there is one."""
    return words(used) if most is None else f"{words(used)} of {words(most)}"
