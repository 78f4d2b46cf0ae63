from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "tenants.audit"
    label = "audit"
    verbose_name = "Audit log"

    def ready(self) -> None:
        from tenants.audit import (
            exporting,  # noqa: F401 - registers its sweeper
            recording,  # noqa: F401 - registers its sweeper
            sign_ins,  # noqa: F401 - hears of sign-ins
            verifying,  # noqa: F401 - registers its task and its sweeper
        )
        from tenants.keys import freezing, rotation  # noqa: F401 - register tasks and sweepers, and write into the log
