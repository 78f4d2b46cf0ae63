"""The staff console's pages for workspaces and people. Nothing here reads a tenant schema: no content is visible."""

from allauth.account.models import EmailAddress
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.db.models import Count, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.html import format_html

from tenants import mail, provisioning
from tenants.ciphers import Tampered
from tenants.errors import Refused
from tenants.models import Domain, Membership, OutgoingMail, Tenant, User

admin.site.unregister(Group) if admin.site.is_registered(Group) else None


class DomainInline(admin.TabularInline):
    model = Domain
    extra = 0


class MembershipInline(admin.TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ("user",)


@admin.register(Tenant)
class WorkspaceAdmin(admin.ModelAdmin):
    list_display = ("name", "slug", "status", "members", "created_at")
    list_filter = ("status",)
    search_fields = ("name", "slug")
    readonly_fields = ("id", "schema_name", "status", "created_at")
    inlines = (DomainInline, MembershipInline)
    actions = ("try_again",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        return super().get_queryset(request).annotate(member_count=Count("memberships"))

    @admin.display(ordering="member_count")
    def members(self, tenant: Tenant) -> int:
        return tenant.member_count

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> tuple[str, ...]:
        return self.readonly_fields if obj is None else (*self.readonly_fields, "slug")

    def save_model(self, request: HttpRequest, obj: Tenant, form: ModelForm, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        made = provisioning.open_workspace(obj.name, obj.slug, None)
        obj.__dict__.update(made.__dict__)
        messages.info(request, f"{obj.name} is being created; its status becomes active in a moment.")

    def has_delete_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        return obj is not None and obj.status == Tenant.Status.FAILED  # a real one needs its erasure, not a DELETE

    @admin.action(description="Try again to create", permissions=["change"])
    def try_again(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        for tenant in queryset.exclude(status=Tenant.Status.ACTIVE):
            try:
                provisioning.retry(tenant)
            except Refused as refusal:
                messages.error(request, str(refusal))


@admin.register(User)
class PersonAdmin(UserAdmin):
    list_display = ("email", "name", "is_staff", "is_active", "last_login")
    list_filter = ("is_staff", "is_active")
    search_fields = ("email", "name")
    ordering = ("email",)
    fieldsets = (
        (None, {"fields": ("email", "name", "password")}),
        ("Access", {"fields": ("is_active", "is_staff")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")
    add_fieldsets = ((None, {"fields": ("email", "name", "usable_password", "password1", "password2")}),)
    filter_horizontal = ()
    inlines = (MembershipInline,)

    def save_model(self, request: HttpRequest, obj: User, form: ModelForm, change: bool) -> None:
        """Staff vouch for the address, as an invitation would; the console has one kind of staff."""
        obj.is_superuser = obj.is_staff
        super().save_model(request, obj, form, change)
        EmailAddress.objects.update_or_create(user=obj, primary=True, defaults={"email": obj.email, "verified": True})


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):
    list_display = ("user", "tenant", "role")
    list_filter = ("role",)
    list_select_related = ("user", "tenant")
    search_fields = ("user__email", "tenant__name", "tenant__slug")
    autocomplete_fields = ("user", "tenant")


@admin.register(OutgoingMail)
class OutgoingMailAdmin(admin.ModelAdmin):
    """Superusers only: a message's link signs in or resets a password."""

    list_display = ("subject", "recipient", "created_at")
    fields = readonly_fields = ("recipient", "subject", "created_at", "link_to_hand_over")

    @admin.display(description="Link")
    def link_to_hand_over(self, message: OutgoingMail) -> str:
        try:
            return format_html("<code>{}</code>", mail.link(message) or mail.body(message))
        except Tampered:
            return "This message cannot be opened: it was changed, or the installation's key is another."

    def has_view_permission(self, request: HttpRequest, obj: OutgoingMail | None = None) -> bool:
        return bool(request.user.is_superuser)

    has_module_permission = has_view_permission

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: OutgoingMail | None = None) -> bool:
        return False
