from django.apps import AppConfig
from django.contrib.admin import apps as admin


class WorkspaceConfig(AppConfig):
    name = "workspace"
    default = True

    def ready(self) -> None:
        from workspace import erasure  # noqa: F401 - registers its sweeper
        from workspace.isolation import jobs  # noqa: F401 - registers its tasks, its sweepers and, by routes, its check


class ConsoleConfig(admin.AdminConfig):
    """The Django admin as the staff console (workspace/console.py)."""

    default = False
    default_site = "workspace.console.Console"
