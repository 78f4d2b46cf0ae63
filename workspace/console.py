"""The staff console: Django's admin behind the same sign-in as every other page, second factor included."""

from typing import Any

from allauth.account.decorators import secure_admin_login
from django.contrib.admin import AdminSite
from django.urls import path


class Console(AdminSite):
    site_header = "Cloister administration"
    site_title = "Cloister administration"
    index_title = "Workspaces, people and queues"
    site_url = "/"
    enable_nav_sidebar = False  # the list of workspaces needs the room; the index leads everywhere

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self.login = secure_admin_login(self.login)  # type: ignore[method-assign]

    def get_urls(self) -> list[Any]:
        from workspace.jobs_page import jobs_page  # not before the apps are loaded
        from workspace.memory_page import memory_page

        return [
            path("jobs/", self.admin_view(jobs_page), name="jobs"),
            path("memory/", self.admin_view(memory_page), name="memory"),
            *super().get_urls(),
        ]
