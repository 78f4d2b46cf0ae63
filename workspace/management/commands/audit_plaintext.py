"""`manage.py audit_plaintext`: tests what the plaintext map claims of every store."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from search.models import Protection
from tenants.models import PlaintextCheck
from workspace.commands import Failed, WorkspaceCommand
from workspace.isolation.verifying import open_workspaces
from workspace.plaintext_map import auditing


class Command(WorkspaceCommand):
    help = "Plants words in each workspace and looks for them in every store. Ends with 1 when one is found."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--words", metavar="FILE", help="further words to look for, one a line; - reads them from stdin")

    def answer(self, *, words: str | None = None, **options: Any) -> dict[str, Any]:
        slug = options["workspace"]
        further: list[str] = []
        if words:
            text = sys.stdin.read() if words == "-" else Path(words).read_text()
            further = [line.strip() for line in text.splitlines() if line.strip()]
        checks = []
        for tenant in [self.tenant(slug)] if slug else open_workspaces():
            self.say(f"{tenant.slug}:")
            checks.append(auditing.audit(tenant, words=further, on_progress=self.say))
        return _judged(checks)

    def word(self, answer: dict[str, Any]) -> str:
        seen = sum(1 for store in answer["stores"] if store["checked"] and not store["checked"].startswith("not looked"))
        unseen = [f"  {s['name']}: {s['checked']}" for s in answer["stores"] if s["checked"].startswith("not looked")]
        return "\n".join([f"Nothing found in {seen:,} columns and stores. Not looked at:", *unseen])


def _judged(checks: list[PlaintextCheck]) -> dict[str, Any]:
    stores: dict[str, dict[str, Any]] = {}
    # the least protected first: what is said of vectors holds for all
    shown: list[PlaintextCheck | None] = [*sorted(checks, key=lambda each: Protection(auditing.level_of(each)).rank)] or [None]
    for check in shown:
        for store in auditing.described(check):
            have = stores.setdefault(store["name"], {**store, "found": 0, "where": []})
            have["found"] += store["found"]
            have["where"] += store.get("where", [])
    states, State = {check.state for check in checks}, PlaintextCheck.State  # noqa: N806 - as in the model
    controls = [f"{check.tenant.slug}: {each}" for check in checks for each in check.report.get("controls", [])]
    answer = {
        "found": sum(check.found for check in checks),
        "unknown": max((check.unknown for check in checks), default=0),
        "stores": list(stores.values()),
        "workspaces": len(checks),
        "controls_failed": controls,
        "states": sorted(states),
        "seconds": round(sum(check.report.get("seconds", 0) for check in checks), 1),
    }
    if answer["found"] or answer["unknown"]:
        named = [f"  {s['name']}: {', '.join(s['where']) or s['found'] or s['kind']}" for s in stores.values()
                 if s["found"] or s["kind"] == "unknown"]  # fmt: skip
        raise Failed("Plaintext, or a column nobody has classified:\n" + "\n".join(named), answer)
    if states - {State.CLEAN}:
        raise Failed("Inconclusive:\n" + "\n".join(f"  {each}" for each in controls or sorted(states)), answer)
    return answer
