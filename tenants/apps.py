from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "tenants"
    verbose_name = "Workspaces and people"

    def ready(self) -> None:
        from tenants import (
            accounts,  # noqa: F401 - hears of new passwords
            housekeeping,  # noqa: F401 - registers its sweeper
            provisioning,  # noqa: F401 - registers its task and its sweeper
            roles,
            seals,
            second_factor,  # noqa: F401 - hears of second factors that are set up
            stalls,  # noqa: F401 - has every process look at the queues
        )

        roles.connect(self)
        seals.watch()
