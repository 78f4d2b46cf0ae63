"""`manage.py verify_isolation`: tries to get at the other workspaces' canaries from inside each workspace."""

from argparse import ArgumentParser
from typing import Any

from tenants.models import IsolationCheck
from workspace.commands import Failed, WorkspaceCommand
from workspace.isolation.probes import ATTEMPTS
from workspace.isolation.verifying import PER_WORKSPACE, verify_isolation


class Command(WorkspaceCommand):
    help = "Asks in each workspace for what only the others have. Ends with 1 when something leaks or a control fails."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--per-workspace", type=int, default=PER_WORKSPACE, metavar="N",
            help=f"others to compare each workspace with, a different {PER_WORKSPACE} every day unless told otherwise",
        )  # fmt: skip

    def answer(self, *, per_workspace: int, **options: Any) -> dict[str, Any]:
        slug = options["workspace"]
        check = verify_isolation(
            [self.tenant(slug)] if slug else None,
            per_workspace=max(1, per_workspace),
            on_progress=lambda done, of: self.say(f"{done} of {of} workspaces"),
        )
        counts = check.counts
        answer = {
            "attempts": check.attempts,
            "by_kind": counts.get("by_kind", {}),
            "leaks": len(check.leaks),
            "found": check.leaks,
            "routes": counts.get("routes", 0),
            "workspaces": counts.get("workspaces", 0),
            "controls_failed": check.controls,
            "state": check.state,
            "seconds": counts.get("seconds", 0),
        }
        match check.state:
            case IsolationCheck.State.PASSED | IsolationCheck.State.ALONE:
                return answer
            case IsolationCheck.State.LEAKS:
                raise Failed("Something leaks between workspaces:\n" + _lines(check.leaks), answer)
            case IsolationCheck.State.INCONCLUSIVE:
                raise Failed("Inconclusive, since what had to be found was not:\n" + _lines(check.controls), answer)
        raise Failed(f"The check did not finish: it was {check.state}.", answer)

    def word(self, answer: dict[str, Any]) -> str:
        if not answer["attempts"]:
            return "There is nothing to compare with: the check needs two workspaces."
        kinds = [f"  {ATTEMPTS[kind][0]:<12}{number:>7,}" for kind, number in answer["by_kind"].items()]
        head = f"No leak found in {answer['attempts']:,} attempts ({answer['seconds']} s). It tries known routes: no proof."
        return "\n".join([head, *kinds])


def _lines(found: list[dict[str, str]]) -> str:
    return "\n".join(f"  {each['kind']} {each['route'] or '(all)'}: {each['detail']}" for each in found)
