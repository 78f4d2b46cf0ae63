from django.apps import AppConfig
from django.contrib.admin import apps as admin


class WorkspaceConfig(AppConfig):
    name = "workspace"
    default = True


class ConsoleConfig(admin.AdminConfig):
    """The Django admin as the staff console (workspace/console.py)."""

    default = False
    default_site = "workspace.console.Console"
