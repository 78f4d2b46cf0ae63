"""A worker in a process of its own, on the test's database: what a SIGKILL is tried on.

python -m tests.documents.worker_process DATABASE [STEP COUNT]: kills itself on entering STEP for the COUNT-th time.
"""

import os
import signal
import sys
from typing import Any

from django.conf import settings

os.environ["DJANGO_SETTINGS_MODULE"] = "workspace.settings"
for login in settings.DATABASES.values():
    login["NAME"] = sys.argv[1]

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402

from documents import ingestion, ledger, storage  # noqa: E402
from documents.extraction.sandbox import Sandbox  # noqa: E402
from search import indexing  # noqa: E402
from search.embeddings import Embedder  # noqa: E402
from tenants import sweeping  # noqa: E402
from tests.self_test import registries_without  # noqa: E402

OWNERS: dict[str, Any] = {
    "begin": ledger,
    "read": storage,
    "extract": Sandbox,
    "extracted": ledger,
    "planned": ledger,
    "embed": Embedder,
    "add": indexing,
    "finish": ledger,
    "publish": indexing,
}


def die_at(step: str, count: int) -> None:
    original, calls = getattr(OWNERS[step], step), [0]

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(OWNERS[step], step, dying)


ingestion.BATCH = 4
for name, others in registries_without():  # a canary would be killed in the place of the test's document
    setattr(sweeping, name, others)
if len(sys.argv) > 2:
    die_at(sys.argv[2], int(sys.argv[3]))
call_command("worker", burst=True)
