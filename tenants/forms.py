"""Forms about workspaces and people."""

from typing import Any

from django import forms
from django.contrib.auth.password_validation import validate_password

from tenants.models import SLUG, Tenant
from tenants.permissions import Role
from tenants.provisioning import suggest_slug


class WorkspaceForm(forms.Form):
    name = forms.CharField(max_length=100, help_text="What members see, for example “Research library”.")
    slug = forms.CharField(
        label="Address",
        max_length=50,
        required=False,
        validators=[SLUG],
        help_text="Part of the link: /w/address/. Lower-case letters, digits and hyphens; made of the name when empty.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("name") and not cleaned.get("slug") and "slug" not in self.errors:
            cleaned["slug"] = suggest_slug(cleaned["name"])
        if cleaned.get("slug") and Tenant.objects.filter(slug=cleaned["slug"]).exists():
            self.add_error("slug", f"The address {cleaned['slug']} is taken: choose another.")
        return cleaned


class InviteForm(forms.Form):
    email = forms.EmailField(label="E-mail")
    role = forms.ChoiceField(choices=Role.choices, initial=Role.VIEWER)


class JoinForm(forms.Form):
    """A new person accepting an invitation."""

    name = forms.CharField(max_length=200, help_text="Shown to other members.")
    password = forms.CharField(
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}), help_text="At least 10 characters."
    )

    def clean_password(self) -> str:
        validate_password(self.cleaned_data["password"])
        return str(self.cleaned_data["password"])
