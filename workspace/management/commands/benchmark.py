"""`manage.py benchmark NAME`: the product against its floor or a rival, on services of its own."""

from argparse import ArgumentParser
from importlib import import_module
from typing import Any

from search.models import Protection
from workspace.commands import Command as Base

NAMES = ("embedding", "encryption", "ingestion", "search", "provisioning", "scan", "sealed", "hnsw", "upgrade", "mixed")


class Command(Base):
    help = "Measures the product and its floor or rival in the same run. bin/manage gives it empty services of its own."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", choices=NAMES)
        parser.add_argument("--tenants", type=int, default=0, help="provisioning: so many workspaces on top; upgrade: so many")
        parser.add_argument("--passages", type=int, help="search, provisioning, scan, sealed, hnsw: so many to be searched")
        parser.add_argument("--users", type=int, help="search: so many people at a time")
        parser.add_argument("--levels", nargs="+", choices=Protection.values, help="search: of these levels alone")
        parser.add_argument("--pages", type=int, help="ingestion: also a PDF of so many pages")
        parser.add_argument("--files", type=int, help="mixed: so many; ingestion: also so many, and one of another workspace")
        parser.add_argument("--rounds", type=int, help="how often each side is measured")

    def answer(
        self,
        *,
        name: str,
        tenants: int,
        passages: int | None,
        users: int | None,
        levels: list[str] | None,
        pages: int | None,
        files: int | None,
        rounds: int | None,
        **options: Any,
    ) -> dict[str, Any]:
        module = import_module(f"workspace.benchmarks.{name}")
        given: dict[str, Any] = {"rounds": rounds} if rounds else {}
        if name == "provisioning":
            given["tenants"] = tenants
        if name == "upgrade" and tenants:
            given["tenants"] = tenants
        if name in ("sealed", "hnsw") and passages:
            given["vectors"] = passages
        if name in ("search", "provisioning", "scan") and passages:
            given["passages"] = passages
        if name == "ingestion":
            given |= {"pages": pages or 0, "files": files or 0}
        if name == "mixed":
            given = {"count": files} if files else {}
        if name == "search" and users:
            given["users"] = users
        if name == "search" and levels:
            given["levels"] = levels
        found: dict[str, Any] = module.run(self.say, **given).as_dict()
        return found

    def word(self, answer: dict[str, Any]) -> str:
        lines = [f"product: {answer['sides']['product']}", f"reference: {answer['sides']['reference']}"]
        for each in answer["settings"]:
            figures = f"{each['product']:.2f} against {each['reference']:.2f} {answer['unit']}"
            lines.append(f"{each['name']}: {figures}, ratio {each['ratio']:.2f}")
        return "\n".join(lines)
