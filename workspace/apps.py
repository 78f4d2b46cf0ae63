from django.apps import AppConfig
from django.contrib.admin import apps as admin


class WorkspaceConfig(AppConfig):
    name = "workspace"
    default = True

    def ready(self) -> None:
        from workspace import erasure  # noqa: F401 - registers its sweeper
        from workspace.isolation import jobs  # noqa: F401 - registers its tasks, its sweepers and, by routes, its check
        from workspace.plaintext_map import jobs as looks  # noqa: F401 - registers its task and sweepers


class ConsoleConfig(admin.AdminConfig):
    """The Django admin as the staff console (workspace/console.py)."""

    default = False
    default_site = "workspace.console.Console"
