"""`manage.py protect_workspace <workspace> <level>`: changes how a workspace's vectors are held; ends once it is."""

from argparse import ArgumentParser
from typing import Any

from search import building
from search.models import Protection, VectorIndex
from workspace.index_command import IndexCommand


class Command(IndexCommand):
    help = "Builds an index of another level of protection beside the live one, measures it and cuts over."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("level", choices=Protection.values, help="how its vectors are to be held")

    def begin(self, options: dict[str, Any]) -> VectorIndex:
        return building.begin(options["level"])
