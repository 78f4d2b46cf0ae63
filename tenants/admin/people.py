"""The staff console's pages for people, their memberships, and mail that waits to be handed over."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.admin import Authenticator
from allauth.socialaccount.admin import (  # from there: they must be registered to be taken off
    SocialAccount,
    SocialApp,
    SocialToken,
)
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db.models import Exists, Model, OuterRef, QuerySet
from django.forms import BaseInlineFormSet, ModelForm
from django.http import HttpRequest
from django.utils.html import format_html

from tenants import mail, notices
from tenants.ciphers import Tampered
from tenants.models import Membership, OutgoingMail, User
from tenants.permissions import Role
from tenants.sessions import end_sessions

# permissions come with being staff; the provider for single sign-on comes from the environment, and its tokens are not kept
for stock in (Group, SocialApp, SocialToken, SocialAccount, Authenticator):
    if admin.site.is_registered(stock):
        admin.site.unregister(stock)


def _only_owner_of(user: User) -> bool:
    """Whether some workspace would have no owner without this person."""
    others = Membership.objects.filter(tenant_id=OuterRef("tenant_id"), role=Role.OWNER).exclude(user=user)
    return Membership.objects.filter(user=user, role=Role.OWNER).exclude(Exists(others)).exists()


class KeepsAnOwner(BaseInlineFormSet):
    """Refuses what would leave a workspace that has an owner without one."""

    def clean(self) -> None:
        super().clean()
        if any(self.errors):
            return
        ended = [form.instance for form in self.initial_forms if form.initial["role"] == Role.OWNER and not self._stays(form)]
        made = {form.instance.tenant_id for form in self.forms if form.cleaned_data and self._stays(form)}
        for membership in ended:
            others = Membership.objects.filter(tenant_id=membership.tenant_id, role=Role.OWNER)
            if membership.tenant_id not in made and not others.exclude(pk__in=[each.pk for each in ended]).exists():
                raise ValidationError(f"{membership.tenant} keeps at least one owner: make somebody else its owner first.")

    def _stays(self, form: Any) -> bool:
        return form not in self.deleted_forms and form.cleaned_data.get("role") == Role.OWNER


class MembershipForm(ModelForm):
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        before = Membership.objects.filter(pk=self.instance.pk, role=Role.OWNER).first()
        moved = before is not None and (cleaned.get("role") != Role.OWNER or cleaned.get("tenant") != before.tenant)
        if before is not None and moved and _is_last(before):
            raise ValidationError(f"{before.tenant} keeps at least one owner: make somebody else its owner first.")
        return cleaned


def _is_last(owner: Membership) -> bool:
    others = Membership.objects.filter(tenant_id=owner.tenant_id, role=Role.OWNER).exclude(pk=owner.pk)
    return owner.role == Role.OWNER and not others.exists()


class MembershipInline(admin.TabularInline):
    model = Membership
    formset = KeepsAnOwner
    extra = 0
    autocomplete_fields = ("user",)


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
    actions = ("sign_out_everywhere",)

    @admin.action(description="Sign out everywhere", permissions=["change"])
    def sign_out_everywhere(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        ended = sum(end_sessions(user) for user in queryset)
        messages.success(request, f"Ended sessions: {ended}.")

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj is not None and _only_owner_of(obj))

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Deleting many at once would ask nobody whether owners stay."""
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}

    def save_model(self, request: HttpRequest, obj: User, form: ModelForm, change: bool) -> None:
        """Staff vouch for the address, as an invitation would; the console has one kind of staff."""
        obj.is_superuser = obj.is_staff
        super().save_model(request, obj, form, change)
        EmailAddress.objects.update_or_create(user=obj, primary=True, defaults={"email": obj.email, "verified": True})


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):
    form = MembershipForm
    actions = None  # deleting many at once would ask nobody whether an owner stays
    list_display = ("user", "tenant", "role")
    list_filter = ("role",)
    list_select_related = ("user", "tenant")
    search_fields = ("user__email", "tenant__name", "tenant__slug")
    autocomplete_fields = ("user", "tenant")

    def has_delete_permission(self, request: HttpRequest, obj: Membership | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj is not None and _is_last(obj))


class MeansOfSigningIn(admin.ModelAdmin):
    """Staff see that a person has one, and take it away when it is lost: the person is told. They make and change none."""

    what: str  # in the words of the person who is told
    actions = None
    search_fields = ("user__email",)
    list_select_related = ("user",)

    @admin.display(description="Email", ordering="user__email")
    def email(self, obj: Any) -> str:
        return obj.user.email

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def delete_model(self, request: HttpRequest, obj: Authenticator | SocialAccount) -> None:
        super().delete_model(request, obj)
        words = f"Staff removed from your account: {self.what}. If you did not ask them to, ask them why."
        notices.tell([obj.user.email], "A way to sign in was removed", words)


@admin.register(Authenticator)
class AuthenticatorAdmin(MeansOfSigningIn):
    list_display = fields = readonly_fields = ("user", "email", "type", "created_at", "last_used_at")  # never its data
    list_filter = ("type",)
    what = "a second factor"


@admin.register(SocialAccount)
class SocialAccountAdmin(MeansOfSigningIn):
    list_display = fields = readonly_fields = ("user", "email", "provider", "uid", "last_login", "date_joined")
    what = "single sign-on"


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
