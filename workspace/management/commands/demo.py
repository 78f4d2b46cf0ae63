"""`manage.py demo`: the demo workspace of bin/up; prints its logins."""

from typing import Any

from workspace import demo
from workspace.commands import Command as Base


class Command(Base):
    help = "Makes the demo workspace of Cloister's own documentation, once, and prints its logins; for bin/up."

    def answer(self, **options: Any) -> dict[str, Any]:
        return demo.make()

    def word(self, answer: dict[str, Any]) -> str:
        if not answer["logins"]:
            return f"{answer['url']} is a workspace of your own: no demo is made."
        lines = [f"  {login['role']:<14} {login['email']:<20} {login['password']}" for login in answer["logins"]]
        return "\n".join([f"The demo workspace is {answer['url']}", *lines])
