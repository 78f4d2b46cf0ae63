"""What the commands share that build an index beside the live one: they end once it is in use, or say why it is not."""

from abc import abstractmethod
from argparse import ArgumentParser
from typing import Any

from search import building, indexes
from search.models import VectorIndex
from tenants.context import workspace as inside
from workspace.commands import Command, Failed, workspace_at


class IndexCommand(Command):
    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("workspace", metavar="ADDRESS", help="the workspace's address")

    @abstractmethod
    def begin(self, options: dict[str, Any]) -> VectorIndex:
        """Begin the building of what the options ask for. Raises Refused."""

    def answer(self, *, workspace: str, **options: Any) -> dict[str, Any]:
        tenant = workspace_at(workspace)
        with inside(tenant):
            index = self.begin(options)
            building.work(index.id)  # unless a worker was quicker: then it is at it, or done
            building.remove_retired()
            index.refresh_from_db()
            live = indexes.live()
            answer = {
                "workspace": tenant.slug,
                "level": live.protection,
                "model": live.model,
                "index": index.id,
                "state": index.state,
                "recall": index.recall,
            }
        if index.state not in (VectorIndex.State.LIVE, VectorIndex.State.BUILDING):
            raise Failed(f"{tenant.slug} stays as it is, {answer['level']}: {index.detail}", answer)
        return answer

    def word(self, answer: dict[str, Any]) -> str:
        if answer["state"] == VectorIndex.State.BUILDING:
            return f"A worker builds the index; {answer['workspace']} stays as it is, {answer['level']}, until it is complete."
        found = "" if answer["recall"] is None else f" It finds {answer['recall']:.1%} of the ten best passages."
        return f"{answer['workspace']} is {answer['level']}, through index {answer['index']}.{found}"
