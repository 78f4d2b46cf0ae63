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
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model, QuerySet
from django.forms import BaseInlineFormSet, ModelForm
from django.http import HttpRequest
from django.utils.html import format_html

from tenants import mail, notices, people, seals
from tenants.ciphers import Tampered
from tenants.models import Membership, OutgoingMail, Tenant, User
from tenants.permissions import Role
from tenants.sessions import end_sessions

# permissions come with being staff; the provider for single sign-on comes from the environment, and its tokens are not kept
for stock in (Group, SocialApp, SocialToken, SocialAccount, Authenticator):
    if admin.site.is_registered(stock):
        admin.site.unregister(stock)


def _only_owner_of(user: User) -> bool:
    """Whether some workspace would have no owner without this person."""
    return any(map(_is_last, Membership.objects.filter(user=user, role=Role.OWNER)))


class KeepsAnOwner(BaseInlineFormSet):
    """Refuses what would leave a workspace that has an owner without one who can sign in."""

    def clean(self) -> None:
        super().clean()
        if any(self.errors):
            return
        ended = [form.instance for form in self.initial_forms if form.initial["role"] == Role.OWNER and not self._stays(form)]
        made = {
            form.instance.tenant_id
            for form in self.forms
            if form.cleaned_data and self._stays(form) and form.instance.user.is_active
        }
        for membership in ended:
            others = people.owners_besides(membership.tenant_id, None)
            if membership.tenant_id not in made and {each.pk for each in others} <= {each.pk for each in ended}:
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
    """Whether the workspace would have no owner who can sign in; what was planted is none, and can go."""
    return owner.role == Role.OWNER and seals.stands(owner) and not people.owners_besides(owner.tenant_id, owner.user_id)


class PersonForm(UserChangeForm):
    def clean_email(self) -> str:
        """An address that somebody else has proved to be theirs is not vouched for a second time."""
        email = User.objects.normalize_email(self.cleaned_data["email"])
        theirs = EmailAddress.objects.filter(email=email, verified=True).exclude(user_id=self.instance.pk)
        if theirs.exists():
            raise ValidationError(f"{email} belongs to another account.")
        return email


class NewPersonForm(AdminUserCreationForm):
    clean_email = PersonForm.clean_email


class TellsOwners(admin.ModelAdmin):
    """Memberships changed on its page are written into the workspaces' logs, and their owners are told."""

    def save_formset(self, request: HttpRequest, form: Any, formset: BaseInlineFormSet, change: bool) -> None:
        if formset.model is not Membership:
            super().save_formset(request, form, formset, change)
            return
        held = {each.pk: each for each in formset.get_queryset().select_related("user", "tenant")}  # as it is before
        before = {pk: (each.tenant, each.user, each.role) for pk, each in held.items()}
        super().save_formset(request, form, formset, change)
        for gone in formset.deleted_objects:
            people.changed_by_staff(gone.tenant, gone.user, gone.role, "")
        for made in formset.new_objects:
            people.changed_by_staff(made.tenant, made.user, "", made.role)
        for changed, _ in formset.changed_objects:
            tell_of_change(before[changed.pk], changed)


def tell_of_change(before: tuple[Tenant, User, str], now: Membership) -> None:
    """Of a membership that may have been moved to another workspace or person."""
    tenant, user, role = before
    if (tenant.pk, user.pk) == (now.tenant_id, now.user_id):
        people.changed_by_staff(tenant, user, role, now.role)
        return
    people.changed_by_staff(tenant, user, role, "")
    people.changed_by_staff(now.tenant, now.user, "", now.role)


class MembershipInline(admin.TabularInline):
    model = Membership
    formset = KeepsAnOwner
    extra = 0
    autocomplete_fields = ("user",)


@admin.register(User)
class PersonAdmin(TellsOwners, UserAdmin):
    form, add_form = PersonForm, NewPersonForm
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

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        held = list(Membership.objects.filter(user=obj).select_related("tenant"))  # they go with the person
        for each in held:
            people.changed_by_staff(each.tenant, obj, each.role, "")
        super().delete_model(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj is not None and _only_owner_of(obj))

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Deleting many at once would ask nobody whether owners stay."""
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}

    def save_model(self, request: HttpRequest, obj: User, form: ModelForm, change: bool) -> None:
        """Staff vouch for the address, as an invitation would; the console has one kind of staff."""
        obj.is_superuser = obj.is_staff
        super().save_model(request, obj, form, change)
        with transaction.atomic():
            EmailAddress.objects.filter(user=obj, primary=True).exclude(email=obj.email).delete()
            EmailAddress.objects.update_or_create(user=obj, email=obj.email, defaults={"primary": True, "verified": True})


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):
    form = MembershipForm
    actions = None  # deleting many at once would ask nobody whether an owner stays
    list_display = ("user", "tenant", "role")
    list_filter = ("role",)
    list_select_related = ("user", "tenant")
    search_fields = ("user__email", "tenant__name", "tenant__slug")
    autocomplete_fields = ("user", "tenant")

    def save_model(self, request: HttpRequest, obj: Membership, form: ModelForm, change: bool) -> None:
        held = Membership.objects.select_related("tenant", "user").filter(pk=obj.pk).first() if change else None
        super().save_model(request, obj, form, change)
        if held is None:
            people.changed_by_staff(obj.tenant, obj.user, "", obj.role)
        else:
            tell_of_change((held.tenant, held.user, held.role), obj)

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        super().delete_model(request, obj)
        people.changed_by_staff(obj.tenant, obj.user, obj.role, "")

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
