"""Pages inside a workspace, below /w/<slug>/ or on its own host. Sign-in and the staff console are not here."""

from django.urls import URLPattern, URLResolver, include, path

from workspace import workspace_settings

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("search.urls")),
    path("", include("documents.urls")),
    path("", include("tenants.urls")),
    path("settings/", workspace_settings.page, name="workspace-settings"),
    path("settings/second-factor/", workspace_settings.second_factor, name="workspace-second-factor"),
    path("settings/delete/", workspace_settings.delete, name="workspace-delete"),
    path("settings/keep/", workspace_settings.keep, name="workspace-keep"),
    path("", include("workspace.isolation.urls")),
]
handler400, handler403, handler404, handler500 = (f"workspace.views.error_{code}" for code in (400, 403, 404, 500))
