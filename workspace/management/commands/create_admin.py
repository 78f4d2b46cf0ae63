"""`manage.py create_admin E-MAIL`: the first administrator, or one more; prints the link that sets the password."""

from argparse import ArgumentParser
from typing import Any

from tenants import people
from tenants.models import User
from workspace.commands import Command as Base


class Command(Base):
    help = "Makes an administrator of the installation and prints a link that sets the password. Repeating it makes a new link."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("email")

    def answer(self, *, email: str, **options: Any) -> dict[str, Any]:
        user = User.objects.filter(email=User.objects.normalize_email(email)).first()
        created = user is None
        if user is None:
            user = people.create_person(email, None, staff=True)
        elif not (user.is_staff and user.is_superuser):
            user.is_staff = user.is_superuser = True
            user.save(update_fields=["is_staff", "is_superuser"])
        return {"email": user.email, "created": created, "password_link": people.password_link(user)}

    def word(self, answer: dict[str, Any]) -> str:
        return f"{answer['email']} is an administrator. Set the password here, once: {answer['password_link']}"
