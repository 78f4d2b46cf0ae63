"""What tenants adds to the pages inside a workspace."""

from django.urls import path

from tenants import views

urlpatterns = [
    path("members/", views.members, name="members"),
    path("members/invite/", views.invite, name="invite"),
    path("members/invitations/<uuid:invitation_id>/withdraw/", views.withdraw, name="invitation-withdraw"),
    path("members/<int:user_id>/remove/", views.remove_member, name="member-remove"),
]
