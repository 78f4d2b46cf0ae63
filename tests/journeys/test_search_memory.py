"""What a web process and a worker keep of a workspace in memory is told, and dropped when it is suspended or erased."""

import pytest

from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place
from tests.running import Running

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("all_alive")]

HELD = """
    SELECT kind, held ->> 'part' FROM public.tenants_process, jsonb_array_elements(memory -> 'pool' -> 'held') AS held
    WHERE held ->> 'tenant_id' = %s
"""


def held(place: Place) -> set[tuple[str, str]]:
    """Kinds of process and parts, of what is told of the workspace."""
    return set(place.query(HELD, str(place.id)))


@pytest.mark.parametrize(
    "close", [("suspend_workspace", "--reason", "A drill"), ("erase_workspace", "--yes")], ids=["suspended", "erased"]
)
def test_the_processes_tell_what_they_hold_and_drop_it(running: Running, make_place: MakePlace, close: tuple[str, ...]) -> None:
    place = make_place("Buttery" if close[0] == "suspend_workspace" else "Larder")
    place.wait_until_ready(place.upload(("jars.txt", b"The jar of quinces stands behind the door.\n\n" * 20)))
    assert "quinces" in place.search("where are the quinces").text
    running.wait(lambda: {("web", "terms"), ("worker", "cloak 1")} <= held(place), "what is held to be told", 30)
    told = running.manage("search_memory")["largest"]
    assert (place.slug, "terms") in {(each["workspace"], each["part"]) for each in told}
    command, *options = close
    running.manage(command, place.slug, *options)  # in a process of its own
    running.wait(lambda: not held(place), "what was held to be dropped", 30)
