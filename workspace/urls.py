"""Pages outside any workspace: sign-in, the list of workspaces, the search over all of them, the staff console."""

from django.contrib import admin
from django.urls import include, path

from search.federated_page import federated_page
from tenants import views as tenants
from workspace import views

urlpatterns = [
    path("", tenants.home, name="home"),
    path("search/", federated_page, name="federated-search"),
    path("health/", views.health, name="health"),
    path("workspaces/new/", tenants.new_workspace, name="workspace-new"),
    path("workspaces/<str:slug>/opening/", tenants.opening, name="workspace-opening"),
    path("invitation/<str:token>/", tenants.invitation, name="invitation"),
    path("accounts/second-factor/", tenants.second_factor_required, name="second-factor"),
    path("accounts/sessions/", tenants.sessions, name="sessions"),
    path("accounts/sessions/end/", tenants.session_end, name="session-end"),
    path("accounts/sessions/end-others/", tenants.sessions_end_others, name="sessions-end-others"),
    path("accounts/", include("allauth.urls")),
    path("admin/queues/", include("django_rq.urls")),
    path("admin/", admin.site.urls),
]
handler400, handler403, handler404, handler500 = (f"workspace.views.error_{code}" for code in (400, 403, 404, 500))
handler429 = "tenants.limits.too_many_for_allauth"  # read by allauth, not by Django
