"""What the management commands share: one JSON object on stdout, words on stderr, one sentence and exit 1 on failure."""

import getpass
import json
import os
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from search.embeddings import EmbeddingModelMissing
from tenants import erasures
from tenants.acting import Actor, acting
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.database import connection
from tenants.errors import Refused
from tenants.keys.keyring import is_frozen
from tenants.keys.providers import KeyUnavailable
from tenants.models import Tenant
from tenants.schemas import is_behind


class Failed(Refused):
    """A command that found or met something wrong: its answer is printed all the same, and the exit code is 1."""

    def __init__(self, message: str, answer: dict[str, Any]) -> None:
        super().__init__(message)
        self.answer = answer


class Command(BaseCommand):
    """A command that returns its answer as a dict; `--json` prints it, otherwise `say` words it."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")

    def answer(self, *args: Any, **options: Any) -> dict[str, Any]:
        raise NotImplementedError

    def word(self, answer: dict[str, Any]) -> str:
        """The answer for a person."""
        return "\n".join(f"{key}: {value}" for key, value in answer.items())

    def say(self, text: str) -> None:
        self.stderr.write(text)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with acting(Actor(f"command line ({_account()})", "command", reason=options.get("reason") or "")):
                answer = self.answer(**options)
        except (Refused, KeyUnavailable, EmbeddingModelMissing) as refusal:
            if isinstance(refusal, Failed) and options["json"]:
                self.stdout.write(json.dumps(refusal.answer, ensure_ascii=False, default=str))
            raise CommandError(str(refusal)) from None
        self.stdout.write(json.dumps(answer, ensure_ascii=False, default=str) if options["json"] else self.word(answer))


def _account() -> str:
    """Of the operating system."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's account without a name
        return str(os.getuid())


def workspace_at(slug: str) -> Tenant:
    """The workspace at an address, in whatever state. Raises Refused."""
    if found := Tenant.objects.filter(slug=slug).first():
        return found
    raise Refused(f"There is no workspace {slug}. `list_workspaces` names them.")


def open_workspace_at(slug: str) -> Tenant:
    """The workspace at an address, if work in it may go on. Raises Refused."""
    found = workspace_at(slug)
    if found.status != Tenant.Status.ACTIVE:
        raise Refused(f"The workspace {slug} is {found.get_status_display()}.")
    if is_frozen(found.pk):
        raise Refused(f"The keys of the workspace {slug} are frozen: owners have to unfreeze them first.")
    if is_behind(found.schema_version):
        raise Refused(f"The workspace {slug} waits for its upgrade: run `upgrade_workspaces` first.")
    if erasures.is_behind(found):
        raise Refused(f"The workspace {slug} holds what was erased, from an older backup: run `apply_erasures` first.")
    return found


class WorkspaceCommand(Command):
    """A command about one workspace, named by `--workspace`; without it, the only one there is."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--workspace", metavar="ADDRESS", help="the workspace's address; not needed when there is one only")
        parser.add_argument("--reason", default="", help="why: the workspace's owners read it in their log")

    def tenant(self, slug: str | None) -> Tenant:
        """The workspace that is meant; that the command was used on it is written into its log. Raises Refused."""
        found = self._tenant(slug)
        record(Event.COMMAND, found, command=type(self).__module__.rpartition(".")[2])
        return found

    def _tenant(self, slug: str | None) -> Tenant:
        connection.set_schema_to_public()
        active = Tenant.objects.filter(status=Tenant.Status.ACTIVE)
        if slug:
            return open_workspace_at(slug)
        match list(active[:2]):
            case [only]:
                return only
            case []:
                raise Refused("There is no workspace yet: make one with `create_workspace`.")
            case _:
                raise Refused("There are several workspaces: name one with --workspace. `list_workspaces` names them.")
