"""The web process as it is, with one page more (see `urls`). Served to benchmarks alone."""

from django.conf import settings

from workspace.wsgi import application

settings.WORKSPACE_URLCONF = "workspace.benchmarks.urls"

__all__ = ["application"]
