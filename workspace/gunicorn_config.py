"""How gunicorn serves Cloister, in a container and under bin/up alike. Knows nothing of Django."""

import os
from contextlib import suppress
from threading import Thread
from typing import Any

from gunicorn.glogging import Logger

from tenants.privacy import without_secrets

# One process: the pool of decrypted search terms lives in it, and each further process would fill its own.
workers = 1
worker_class = "gthread"
threads = 32  # an upload or download of a slow client holds one
bind = f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8000')}"
timeout = 120  # seconds without a sign of life from the process, not the longest upload
graceful_timeout = 10
keepalive = 15
control_socket_disable = True


class AccessLogger(Logger):
    """Leaves out of the log what works like a password: the secret part of links that let somebody in."""

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> dict[str, Any]:
        atoms: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        atoms["U"] = without_secrets(atoms["U"])
        return atoms


logger_class = AccessLogger
accesslog = "-"
# The path without its query string, no referrer, no user agent: what people ask for stays out of the logs.
access_log_format = '%(t)s %(h)s "%(m)s %(U)s %(H)s" %(s)s %(B)s bytes %(M)s ms'


def post_worker_init(worker: Any) -> None:
    """Load the model beside the first requests, instead of with the first search."""
    from search.embeddings import EmbeddingModelMissing, embedder

    def load() -> None:
        with suppress(EmbeddingModelMissing):  # the search page says so
            embedder()

    Thread(target=load, daemon=True).start()
