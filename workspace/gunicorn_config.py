"""How gunicorn serves Cloister, in a container and under bin/up alike. Knows nothing of Django."""

import os
import re
import socket
import struct
from contextlib import suppress
from threading import Thread
from typing import Any

from gunicorn.glogging import Logger

from tenants.privacy import without_secrets
from workspace import environment as env

# One process unless more are asked for: each fills a pool of decrypted search terms of its own.
workers = env.whole_number("WEB_PROCESSES", 1, 1)
worker_class = "gthread"
threads = max(8, -(-32 // workers))  # 32 of all together; an upload or download of a slow client holds one
bind = f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8000')}"
timeout = 120  # seconds without a sign of life from the process, not the longest upload
graceful_timeout = 10
keepalive = 15
control_socket_disable = True
forwarder_headers = ""  # none of the client's headers names our paths

# Seconds a connection may stand still while a thread reads from it or writes to it. Who sends a byte now and then is for
# the reverse proxy to end (docs/configuration.md).
STALLED_READ, STALLED_WRITE = 20, 60
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class AccessLogger(Logger):
    """Leaves out of the log what works like a password: the secret part of links that let somebody in.

    What would begin a line of its own, or speak to a terminal, is escaped.
    """

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> dict[str, Any]:
        atoms: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        atoms["U"] = CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", without_secrets(atoms["U"]))
        return atoms


logger_class = AccessLogger
accesslog = "-"
# The path without its query string, no referrer, no user agent: what people ask for stays out of the logs.
access_log_format = '%(t)s %(h)s "%(m)s %(U)s %(H)s" %(s)s %(B)s bytes %(M)s ms'


def post_worker_init(worker: Any) -> None:
    """Stalled connections end by themselves; the model is loaded beside the first requests, not with the first search."""
    for listener in worker.sockets:  # what is accepted inherits it; Python's own time-out gunicorn sets aside
        for option, seconds in ((socket.SO_RCVTIMEO, STALLED_READ), (socket.SO_SNDTIMEO, STALLED_WRITE)):
            listener.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, 0))
    from search.embeddings import EmbeddingModelMissing, embedder
    from tenants.audit.recording import start_notary
    from tenants.keys import presence

    presence.start("web")
    start_notary()

    def load() -> None:
        with suppress(EmbeddingModelMissing):  # the search page says so
            embedder()

    Thread(target=load, daemon=True).start()
