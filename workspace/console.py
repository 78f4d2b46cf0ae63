"""The staff console: Django's admin behind the same sign-in as every other page, second factor included."""

from allauth.account.decorators import secure_admin_login
from django.contrib.admin import AdminSite


class Console(AdminSite):
    site_header = "Cloister administration"
    site_title = "Cloister administration"
    index_title = "Workspaces, people and queues"
    site_url = "/"

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self.login = secure_admin_login(self.login)  # type: ignore[method-assign]
