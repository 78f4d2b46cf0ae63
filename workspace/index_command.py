"""What the commands share that build an index beside the live one: they end once it is in use, or say why it is not."""

import time
from abc import abstractmethod
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.db import OperationalError

from search import building, indexes
from search.models import VectorIndex
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.context import workspace as inside
from tenants.schemas import is_still_open
from workspace.commands import Command, Failed, open_workspace_at

State = VectorIndex.State

LOOKS_EVERY = 2  # seconds, while a worker is at it


class IndexCommand(Command):
    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("workspace", metavar="ADDRESS", help="the workspace's address")
        parser.add_argument("--reason", default="", help="why: the workspace's owners read it in their log")

    @abstractmethod
    def begin(self, options: dict[str, Any]) -> VectorIndex:
        """Begin the building of what the options ask for. Raises Refused."""

    def answer(self, *, workspace: str, **options: Any) -> dict[str, Any]:
        tenant = open_workspace_at(workspace)
        record(Event.COMMAND, tenant, command=type(self).__module__.rpartition(".")[2])
        with inside(tenant):
            index = self.begin(options)
            self._end(index)
            with suppress(OperationalError):  # somebody reads the tables, as a backup does: a worker takes it out later
                building.remove_retired()
            live = indexes.live()
            answer = {
                "workspace": tenant.slug,
                "level": live.protection,
                "model": live.model,
                "index": index.id,
                "state": index.state,
                "recall": index.recall,
                "removing": VectorIndex.objects.filter(state=State.RETIRING).exists(),
            }
        if index.state not in (State.LIVE, State.BUILDING):
            why = index.detail or "somebody cancelled it."
            raise Failed(f"{tenant.slug} stays as it is, {answer['level']}: {why}", answer)
        return answer

    def _end(self, index: VectorIndex) -> None:
        """Build it, or wait for the worker that was quicker; one that dies is taken over from."""
        while True:
            building.work(index.id)
            index.refresh_from_db()
            if index.state != State.BUILDING or not is_still_open():
                return
            time.sleep(LOOKS_EVERY)

    def word(self, answer: dict[str, Any]) -> str:
        if answer["state"] == State.BUILDING:
            return (
                f"The workspace was closed meanwhile. Once it is open a worker goes on; until then it stays {answer['level']}."
            )
        found = "" if answer["recall"] is None else f" It finds {answer['recall']:.1%} of the ten best passages."
        removing = " What an earlier index held is still to be taken out: a worker does it." if answer["removing"] else ""
        return f"{answer['workspace']} is {answer['level']}, through index {answer['index']}.{found}{removing}"
