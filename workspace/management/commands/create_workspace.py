"""`manage.py create_workspace NAME`: the same verb as the form, done here and now."""

from argparse import ArgumentParser
from typing import Any

from tenants import names, people
from tenants.errors import Refused
from tenants.models import Membership, User
from tenants.permissions import Role
from tenants.provisioning import create_workspace, slug_of_key, suggest_slug
from workspace.commands import Command as Base


class Command(Base):
    help = "Creates a workspace. Repeating it with the same address or key changes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", help="what members see")
        address = parser.add_mutually_exclusive_group()
        address.add_argument("--slug", help="its address; made of the name when not given")
        address.add_argument(
            "--key", help="what another system knows it by: the same key always gives the same workspace, at its own address"
        )
        parser.add_argument(
            "--owner", metavar="E-MAIL", help="who owns it, where it has no owner yet; an account is made when there is none"
        )

    def answer(self, *, name: str, slug: str | None, key: str | None, owner: str | None, **options: Any) -> dict[str, Any]:
        name = names.of_workspace(name)
        email = people.address(owner) if owner else ""  # refused before anything is made
        if key is not None and not key.strip():
            raise Refused("--key is empty.")
        address = slug_of_key(key) if key is not None else slug or suggest_slug(name)
        tenant, created = create_workspace(name, address)
        made = {"id": str(tenant.id), "slug": tenant.slug, "schema": tenant.schema_name, "created": created}
        if email and not Membership.objects.filter(tenant=tenant, role=Role.OWNER).exists():  # else repeating would add one
            user = User.objects.filter(email=email).first()
            if user is None:
                user = people.create_person(email, None)
                made["owner_link"] = people.password_link(user)
            Membership.objects.update_or_create(user=user, tenant=tenant, defaults={"role": Role.OWNER})
        self._name = tenant.name
        return made

    def word(self, answer: dict[str, Any]) -> str:
        verb = "Created" if answer["created"] else "There is already"
        lines = [f"{verb} the workspace {self._name} at /w/{answer['slug']}/ ({answer['id']})."]
        if link := answer.get("owner_link"):
            lines.append(f"Its owner sets a password here: {link}")
        return "\n".join(lines)
