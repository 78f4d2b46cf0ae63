"""`manage.py rotate_keys`: a new key for one workspace, or new wrapping keys, also at another provider."""

from argparse import ArgumentParser
from typing import Any

from tenants.errors import Refused
from tenants.keys import rewrapping, rotation
from tenants.keys.providers import NAMES
from tenants.wording import counted
from workspace.commands import Command as Base
from workspace.commands import Failed, workspace_at


class Command(Base):
    help = (
        "With an address: gives that workspace a new key, used at once; the worker encrypts what is there anew. "
        "With --provider: gives every workspace a new wrapping key at KEY_PROVIDER, wraps its keys anew and destroys the old "
        "wrapping key. Encrypts no content anew. Cut off, run it again: it goes on where it ended."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("workspace", nargs="?", metavar="ADDRESS", help="the workspace whose key is to be changed")
        parser.add_argument("--provider", action="store_true", help="change the wrapping keys of all workspaces")
        parser.add_argument(
            "--from", dest="moved_from", choices=NAMES, help="with --provider: only keys wrapped by this one, to move them away"
        )

    def answer(self, *args: Any, **options: Any) -> dict[str, Any]:
        if options["provider"]:
            return self._rewrap(options["moved_from"])
        if options["workspace"]:
            tenant = workspace_at(options["workspace"])
            begun = rotation.begin(tenant)
            return {"workspace": tenant.slug, "version": begun.to_version, "rotation": str(begun.pk)}
        raise Refused("Say what to change: a workspace's address, or --provider for the wrapping keys of all workspaces.")

    def _rewrap(self, moved_from: str | None) -> dict[str, Any]:
        def tell(done: int, total: int) -> None:
            if done == total or done % 50 == 0:
                self.say(f"{done} of {total} workspaces")

        report = rewrapping.rewrap_all(moved_from, tell)
        if report.failed:
            slug, why = next(iter(report.failed.items()))
            raise Failed(
                f"{len(report.failed)} keep their old wrapping key ({slug}: {why}). Run this again once it is mended.",
                report.as_dict(),
            )
        return report.as_dict()

    def word(self, answer: dict[str, Any]) -> str:
        if "rotation" in answer:
            return (
                f"Version {answer['version']} of the key of {answer['workspace']} is in use. The worker encrypts what is there "
                "anew; its owners see how far it is under Settings, Keys."
            )
        workspaces, keys = counted(answer["workspaces"], "workspace"), counted(answer["keys"], "key")
        return (
            f"New wrapping keys at {answer['provider']}: for {workspaces}, with {keys} wrapped anew. Back up keys and database "
            "now: an older copy of one does not open with a newer one of the other."
        )
