"""PostgreSQL and Redis as children of one supervisor, for a machine that has neither.

Everything listens on unix sockets in a directory only its account may enter, and nothing is written outside the given
home. Knows nothing of Django or of Cloister's roles: it starts programs, says how to reach them, and stops them.
"""

from workspace.embedded.errors import AlreadyRunning, CannotStart
from workspace.embedded.programs import Program
from workspace.embedded.services import Services, embedded
from workspace.embedded.supervisor import Supervisor

__all__ = ["AlreadyRunning", "CannotStart", "Program", "Services", "Supervisor", "embedded"]
