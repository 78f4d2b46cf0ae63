"""What is tried from inside one workspace to get at another's canaries, one function for each kind.

Each attempt has a control: the same asked from where the canary belongs, where it must succeed. A test that cannot fail
proves nothing, so a control that fails makes the check inconclusive. Raw SQL that says SET ROLE as the web login is not
tried: that it works is documented as the limit of a shared login (docs/security.md).
"""

from workspace.isolation.asking import Asking
from workspace.isolation.canaries import Canary
from workspace.isolation.probes import content, database, pages
from workspace.isolation.probes.findings import ATTEMPTS, Findings

__all__ = ["ATTEMPTS", "Findings", "try_everything"]


def try_everything(site: Asking, mine: Canary, other: Canary, found: Findings) -> None:
    if pages.can_be_undone():
        pages.ask_everything(site, mine, other, found)
    database.run_sql(mine, other, found)
    content.ask_everything(mine, other, found)
