"""The web process as it is, with pages more (see `urls`). Served to benchmarks alone."""

from importlib import import_module

from django.conf import settings

from workspace.wsgi import application

import_module("workspace.benchmarks.parts").watch()  # only now are there any models
settings.WORKSPACE_URLCONF = "workspace.benchmarks.urls"

__all__ = ["application"]
