#!/usr/bin/env python
"""Runs a management command with the login it needs: migrations as the operator, everything else as the worker."""

import os
import sys

OPERATOR_COMMANDS = {"migrate", "migrate_schemas", "dbshell", "prepare"}

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in OPERATOR_COMMANDS:
        os.environ["CLOISTER_LOGIN"] = "operator"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "workspace.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError
    from redis.exceptions import ConnectionError as RedisUnreachable

    from tenants.memory import keep_private

    keep_private()
    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        sys.exit(f"PostgreSQL does not answer: {error}".strip() + "\nStart the server, or correct DATABASE_URL.")
    except RedisUnreachable as error:
        sys.exit(f"Redis does not answer: {error}".strip() + "\nStart the server, or correct REDIS_URL.")
