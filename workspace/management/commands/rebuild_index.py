"""`manage.py rebuild_index <workspace> …`: another model, other settings, or a new disguise; ends once it is in use."""

from argparse import ArgumentParser
from typing import Any

from search import building
from search.models import Metric, VectorIndex
from tenants.errors import Refused
from workspace.index_command import IndexCommand


class Command(IndexCommand):
    help = (
        "Builds a workspace's index by another embedding model, with other settings, or a new disguise, beside the live one, "
        "measures it and cuts over. `doctor` names the models that are installed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--model", metavar="NAME", help="the embedding model, by which every passage is embedded anew")
        parser.add_argument("--metric", choices=Metric.values, help="how the database compares vectors")
        parser.add_argument("--m", type=int, help=f"links of a passage in the graph, {building.LEAST_M} to {building.MOST_M}")
        parser.add_argument(
            "--ef-construction",
            type=int,
            help=f"passages looked at to find them, {building.LEAST_EF} to {building.MOST_EF}, at least twice m",
        )
        parser.add_argument("--new-disguise", action="store_true", help="turn cloaked vectors by a new secret rotation")

    def begin(self, options: dict[str, Any]) -> VectorIndex:
        others = {name: options[name] for name in ("model", "metric", "m", "ef_construction") if options[name] is not None}
        if options["new_disguise"] == bool(others):
            raise Refused("Say what is to be different: --model, --metric, --m or --ef-construction, or --new-disguise alone.")
        return building.draw_new_disguise() if options["new_disguise"] else building.begin(**others)
