"""What staff do to a workspace on pages of its own, in words and as a call of tenants.lifecycle; and their forms."""

from collections.abc import Callable
from dataclasses import dataclass

from django import forms

from tenants import lifecycle, names
from tenants.forms import LineField
from tenants.limits import duration
from tenants.models import MINUTES, Tenant


@dataclass(frozen=True)
class Verb:
    """Something staff do to a workspace on a page of its own; with `asks`, giving a reason."""

    label: str
    consequence: str
    done: str
    apply: Callable[..., None]
    possible: Callable[[Tenant], bool]
    asks: str = ""
    dangerous: bool = False


VERBS = {
    "suspend": Verb(
        "Suspend workspace",
        "Nobody can open, search or add anything, and no job works in it, until you resume it. Nothing is deleted.",
        "Suspended {}.",
        lifecycle.suspend,
        lambda tenant: tenant.status == Tenant.Status.ACTIVE,
        asks="Members read it.",
        dangerous=True,
    ),
    "resume": Verb(
        "Resume workspace",
        "Members can work in it again at once.",
        "Resumed {}.",
        lifecycle.resume,
        lambda tenant: tenant.status == Tenant.Status.SUSPENDED,
    ),
    "hold": Verb(
        "Put under legal hold",
        "It cannot be deleted, by its owners or by staff, until you release it. Members go on working in it.",
        "{} is under legal hold.",
        lifecycle.hold,
        lambda tenant: tenant.status in Tenant.MADE and not tenant.legal_hold,
        asks="Staff read it, and owners who want to delete the workspace.",
    ),
    "release": Verb(
        "Release from legal hold",
        "It can be deleted again.",
        "{} is under no legal hold any more.",
        lifecycle.release,
        lambda tenant: bool(tenant.legal_hold),
    ),
}


class ReasonForm(forms.Form):
    reason = LineField(
        names.checked_reason,
        max_length=names.REASON_CHARACTERS,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )


class ViewForm(ReasonForm):
    minutes = forms.TypedChoiceField(
        choices=[(minutes, duration(minutes * 60)) for minutes in MINUTES],
        coerce=int,
        initial=30,
        help_text="The time runs from the first page you open.",
    )


def possible(tenant: Tenant) -> list[tuple[str, Verb]]:
    return [(name, verb) for name, verb in VERBS.items() if verb.possible(tenant)]
