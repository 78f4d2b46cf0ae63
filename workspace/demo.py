"""The demo workspace: Cloister's own documentation with questions judged for it, for a newcomer to try.

For the embedded services on one machine only, since its logins are printed. What a person deletes or changes in it
stays deleted and changed: once made whole, it is left alone.
"""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from documents.importing import import_folder
from documents.models import Document
from search.evaluation import judgments, runs
from search.models import JudgmentSet
from tenants import people
from tenants.context import workspace
from tenants.errors import Refused
from tenants.models import Membership, Tenant, User
from tenants.permissions import Role
from tenants.provisioning import create_workspace
from workspace import environment as env

NAME, SLUG = "Demo", "demo"
COLLECTION = "Cloister documentation"
JUDGMENTS_NAME = "Questions about Cloister"
JUDGMENTS = Path(__file__).with_name("demo") / "judgments.csv"
OWNER, READER = "admin@localhost", "reader@localhost"
CHANGED = "(changed since; bin/manage create_admin makes a new link)"


@dataclass(frozen=True)
class Login:
    email: str
    password: str
    role: str


@dataclass
class Kept:
    """What VAR_DIR/demo-logins.json holds: passwords by e-mail, and which workspace was made whole."""

    passwords: dict[str, str]
    made: str = ""


def documentation() -> list[Path]:
    return [settings.BASE_DIR / "README.md", *sorted((settings.BASE_DIR / "docs").glob("*.md"))]


def make() -> dict[str, Any]:
    """The demo workspace and its logins, made or completed when it is not whole yet. Raises Refused on real servers."""
    if not env.boolean("CLOISTER_EMBEDDED", False):
        raise Refused("The demo is for bin/up on one machine: elsewhere its printed logins would be a way in.")
    kept = _kept()
    tenant = Tenant.objects.filter(slug=SLUG, status=Tenant.Status.ACTIVE).first()
    if tenant is None or kept.made != str(tenant.id):
        if _belongs_to_others():
            return {"workspace": SLUG, "url": f"/w/{SLUG}/", "logins": []}
        tenant, _ = create_workspace(NAME, SLUG)
        _add_people(tenant, kept)
        with workspace(tenant):
            _add_documents()
            _add_judgments()
        kept.made = str(tenant.id)
        _keep(kept)
    logins = [_login(OWNER, Role.OWNER, kept), _login(READER, Role.VIEWER, kept)]
    return {"workspace": SLUG, "url": tenant.path, "logins": [asdict(login) for login in logins]}


def _belongs_to_others() -> bool:
    """Somebody's own workspace of this address is no demo."""
    return Membership.objects.filter(tenant__slug=SLUG).exclude(user__email__in=[OWNER, READER]).exists()


# ---------------------------------------------------------------- logins


def _file() -> Path:
    return Path(settings.VAR_DIR) / "demo-logins.json"


def _kept() -> Kept:
    """Passwords are on the disk before the accounts exist: a kill in between loses none."""
    try:
        return Kept(**json.loads(_file().read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        made = Kept({email: secrets.token_urlsafe(12) for email in (OWNER, READER)})
        _keep(made)
        return made


def _keep(kept: Kept) -> None:
    path = _file()
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(kept), file)
    new.replace(path)


def _add_people(tenant: Tenant, kept: Kept) -> None:
    people_of_it = ((OWNER, "Demo owner", Role.OWNER, True), (READER, "Demo reader", Role.VIEWER, False))
    for email, name, role, staff in people_of_it:
        user = User.objects.filter(email=email).first()
        user = user or people.create_person(email, kept.passwords[email], name=name, staff=staff)
        Membership.objects.get_or_create(user=user, tenant=tenant, defaults={"role": role})


def _login(email: str, role: str, kept: Kept) -> Login:
    user = User.objects.filter(email=email).first()
    fits = user is not None and user.check_password(kept.passwords[email])
    return Login(email, kept.passwords[email] if fits else CHANGED, role)


# ---------------------------------------------------------------- content


def _add_documents() -> None:
    """Queued for the worker; a file that is there already is not taken again. Titled by its first heading."""
    for path in documentation():
        for document in Document.objects.filter(pk__in=import_folder(path, COLLECTION).documents):
            document.title = _heading(path)
            document.save(update_fields=["title"])


def _heading(path: Path) -> str:
    first = path.read_text().partition("\n")[0]
    return first.removeprefix("# ").strip() or path.stem


def _add_judgments() -> None:
    """They name documents by file name, which a run resolves when it starts: the documents need not be ready now."""
    if not any(kept.name == JUDGMENTS_NAME for kept in JudgmentSet.objects.all()):
        with JUDGMENTS.open("rb") as file:
            runs.create_judgment_set(JUDGMENTS_NAME, judgments.parse(JUDGMENTS.name, file))
