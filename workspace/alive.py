"""Tells a container platform whether its process still does its work: `python -m workspace.alive web|worker`.

A web process must answer on its port, one where there are several; the worker must have sent Redis a sign of life within the
last minutes.
"""

import http.client
import os
import socket
import sys
from datetime import UTC, datetime, timedelta

from workspace import environment as env

LONGEST_SILENCE = timedelta(minutes=3)


def web_is_alive() -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("PORT", "8000")), timeout=5)
    connection.request("GET", "/health/", headers={"Host": env.words("HOSTS", "localhost")[0]})
    return connection.getresponse().status == http.client.OK


def worker_is_alive() -> bool:
    from redis import Redis
    from rq import Worker

    mine = [w for w in Worker.all(connection=Redis.from_url(env.redis_url())) if w.hostname == socket.gethostname()]
    beats = [w.last_heartbeat for w in mine if w.last_heartbeat]
    return any(datetime.now(UTC) - beat.replace(tzinfo=UTC) < LONGEST_SILENCE for beat in beats)


def main() -> int:
    what = sys.argv[1:]
    if what not in (["web"], ["worker"]):
        print("Say which process: web or worker.", file=sys.stderr)
        return 2
    try:
        alive = web_is_alive() if what == ["web"] else worker_is_alive()
    except OSError as error:
        print(f"No answer: {error}", file=sys.stderr)
        alive = False
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main())
