"""Pages inside a workspace, below /w/<slug>/ or on its own host. Sign-in and the staff console are not here."""

from django.urls import URLPattern, URLResolver, include, path

from workspace import key_console, log_pages, workspace_settings

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("search.urls")),
    path("", include("documents.urls")),
    path("", include("tenants.urls")),
    path("settings/", workspace_settings.page, name="workspace-settings"),
    path("settings/second-factor/", workspace_settings.second_factor, name="workspace-second-factor"),
    path("settings/delete/", workspace_settings.delete, name="workspace-delete"),
    path("settings/keep/", workspace_settings.keep, name="workspace-keep"),
    path("keys/", key_console.page, name="keys"),
    path("keys/status/", key_console.status, name="keys-status"),
    path("keys/change/", key_console.change, name="keys-change"),
    path("keys/pause/", key_console.pause, name="keys-pause"),
    path("keys/resume/", key_console.resume, name="keys-resume"),
    path("keys/freeze/", key_console.freeze, name="keys-freeze"),
    path("keys/unfreeze/", key_console.unfreeze, name="keys-unfreeze"),
    path("", include("workspace.isolation.urls")),
    path("log/", log_pages.log, name="log"),
    path("log/status/", log_pages.status, name="log-status"),
    path("log/check/", log_pages.check, name="log-check"),
    path("log/export.<str:kind>", log_pages.export, name="log-export"),
    path("", include("workspace.plaintext_map.urls")),
]
handler400, handler403, handler404, handler500 = (f"workspace.views.error_{code}" for code in (400, 403, 404, 500))
