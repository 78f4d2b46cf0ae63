from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "tenants"
    verbose_name = "Workspaces and people"

    def ready(self) -> None:
        from tenants import roles

        roles.connect(self)
