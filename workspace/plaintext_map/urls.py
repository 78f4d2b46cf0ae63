"""What the plaintext map adds to the pages inside a workspace."""

from django.urls import path

from workspace.plaintext_map import views

urlpatterns = [
    path("plaintext/", views.plaintext, name="plaintext"),
    path("plaintext/status/", views.status, name="plaintext-status"),
    path("plaintext/start/", views.start, name="plaintext-start"),
    path("plaintext/cancel/", views.cancel, name="plaintext-cancel"),
]
