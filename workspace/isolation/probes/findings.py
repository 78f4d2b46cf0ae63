"""What can be tried, by kind, and what came of it. Knows no way of trying."""

from collections import Counter
from dataclasses import dataclass, field

# Kinds of attempts: what the page calls them, and what was tried.
ATTEMPTS: dict[str, tuple[str, str]] = {
    "routes": ("Pages", "Every address that takes an id, with another workspace's ids in paths, forms and query strings"),
    "workspaces": ("Addresses", "Every address below another workspace's, asked by an owner of this workspace and by nobody"),
    "sql": ("Database", "Another workspace's tables and its rows in shared tables, and ways out of this workspace's role"),
    "search": ("Search", "Another workspace's words, asked through the search and its page"),
    "rows": ("Rows", "Another workspace's documents, passages, judgments and runs, asked for by their ids"),
    "ciphertexts": ("Encryption", "Another workspace's encrypted values, opened with this workspace's keys"),
    "files": ("Files", "Another workspace's stored files by name, by path, and opened with this workspace's keys"),
    "cache": ("Cache", "What another workspace keeps in the cache, asked for under its name"),
    "jobs": ("Jobs", "Another workspace's background jobs, asked for by their ids"),
}


@dataclass
class Findings:
    """What was tried, what was found that should not be, and what was not found that should be."""

    attempts: Counter[str] = field(default_factory=Counter)
    leaks: list[dict[str, str]] = field(default_factory=list)
    controls: list[dict[str, str]] = field(default_factory=list)

    def attempt(self, kind: str, route: str, leak: str) -> None:
        """`leak` says what was wrong, without content; empty when nothing was."""
        self.attempts[kind] += 1
        if leak:
            self._once(self.leaks, kind, route, leak)

    def control(self, kind: str, route: str, succeeded: bool, detail: str) -> None:
        if not succeeded:
            self._once(self.controls, kind, route, detail)

    @staticmethod
    def _once(found: list[dict[str, str]], kind: str, route: str, detail: str) -> None:
        entry = {"kind": kind, "route": route, "detail": detail}
        if entry not in found:
            found.append(entry)
