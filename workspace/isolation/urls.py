"""What the self-test adds to the pages inside a workspace."""

from django.urls import path

from workspace.isolation import views

urlpatterns = [
    path("isolation/", views.isolation, name="isolation"),
    path("isolation/status/", views.status, name="isolation-status"),
    path("isolation/start/", views.start, name="isolation-start"),
    path("isolation/cancel/", views.cancel, name="isolation-cancel"),
]
