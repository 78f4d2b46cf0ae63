"""Forms about workspaces and people."""

from collections.abc import Callable, Sequence
from typing import Any

from allauth.mfa.webauthn.forms import (
    AddWebAuthnForm,
    AuthenticateWebAuthnForm,
    LoginWebAuthnForm,
    ReauthenticateWebAuthnForm,
)
from django import forms
from django.contrib.auth.password_validation import validate_password

from tenants import names
from tenants.models import SLUG, Membership, Tenant
from tenants.permissions import Role
from tenants.provisioning import suggest_slug


class LineField(forms.CharField):
    """One line that a person types: a name, a reason. Cleaned by one of the checks of tenants.names."""

    def __init__(self, check: Callable[[str], str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.check = check

    def clean(self, value: Any) -> str:
        return names.validated(self.check, super().clean(value))


class WorkspaceForm(forms.Form):
    name = LineField(
        names.of_workspace,
        max_length=names.WORKSPACE_CHARACTERS,
        help_text="What members see, for example “Research library”.",
    )
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


MALFORMED = (AttributeError, KeyError, TypeError, ValueError)  # what fido2 stumbles over in JSON of another shape


NO_PASSKEY = "This passkey belongs to no account here, or was not confirmed. Try again, or use another way."
MOST_BRACKETS = 100  # a browser's answer has about ten; Python's JSON gives up at a thousand, with an error nobody expects


class _SentByAnybody:
    """A form of allauth's, in which JSON that is all brackets is no JSON."""

    def __init__(self, *args: Any, data: Any = None, **kwargs: Any) -> None:
        sent = data.get("credential", "") if data else ""
        if sent.count("[") + sent.count("{") > MOST_BRACKETS:
            data = data.copy()
            data["credential"] = "{}"
        super().__init__(*args, data=data, **kwargs)  # type: ignore[call-arg]  # of the form it is mixed into


class _Passkey(_SentByAnybody):
    """The same for an answer that no browser gives."""

    def clean_credential(self) -> Any:
        try:
            return super().clean_credential()  # type: ignore[misc]
        except (forms.ValidationError, *MALFORMED):
            raise forms.ValidationError(NO_PASSKEY) from None


class SignInPasskeyForm(_Passkey, LoginWebAuthnForm):
    pass


class SecondFactorPasskeyForm(_Passkey, AuthenticateWebAuthnForm):
    pass


class ConfirmPasskeyForm(_Passkey, ReauthenticateWebAuthnForm):
    pass


class AddPasskeyForm(_SentByAnybody, AddWebAuthnForm):
    """allauth's, in our words; what it makes signs in alone unless the person wants it beside the password only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].help_text = "To tell your passkeys apart."
        self.fields["name"].max_length = 100
        alone = self.fields["passwordless"]
        alone.label, alone.initial = "Sign in with it alone, without a password", True
        alone.help_text = "The device then asks for your fingerprint, face or PIN each time."

    def clean(self) -> dict[str, Any]:
        try:
            return super().clean()
        except MALFORMED:
            raise forms.ValidationError(NO_PASSKEY) from None


class InviteForm(forms.Form):
    email = forms.EmailField(
        label="E-mail", required=False, help_text="Leave it empty for a link that whoever has it can use, once."
    )
    role = forms.ChoiceField(choices=Role.choices, initial=Role.VIEWER)


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices)


class HandOverForm(forms.Form):
    """Whom an owner hands the workspace over to."""

    member = forms.ChoiceField(
        label="New owner",
        widget=forms.RadioSelect,
        error_messages={
            "required": "Choose who is to be the owner.",
            "invalid_choice": "This person is no member any more. Choose another.",
        },
    )

    def __init__(self, *args: Any, members: Sequence[Membership], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        chosen = self.fields["member"]
        assert isinstance(chosen, forms.ChoiceField)
        chosen.choices = [
            (str(member.user_id), f"{member.user} ({member.user.email}, {member.get_role_display().lower()})")
            for member in members
        ]


class JoinForm(forms.Form):
    """A new person accepting an invitation; of a link without an address, who gives their own."""

    email = forms.EmailField(label="E-mail", widget=forms.EmailInput(attrs={"autocomplete": "email"}))
    name = LineField(names.of_person, max_length=names.PERSON_CHARACTERS, help_text="Shown to other members.")
    password = forms.CharField(
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}), help_text="At least 10 characters."
    )

    def __init__(self, *args: Any, email: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if email:
            del self.fields["email"]  # the invitation's own

    def clean_password(self) -> str:
        validate_password(self.cleaned_data["password"])
        return str(self.cleaned_data["password"])
