"""Pages inside a workspace, below /w/<slug>/ or on its own host. Sign-in and the staff console are not here."""

from django.urls import include, path

urlpatterns = [
    path("", include("search.urls")),
    path("", include("documents.urls")),
    path("", include("tenants.urls")),
]
handler400, handler403, handler404, handler500 = (f"workspace.views.error_{code}" for code in (400, 403, 404, 500))
