"""What tenants adds to the pages inside a workspace."""

from django.urls import path

from tenants import library_pages, receipt_pages, staff_pages, views

urlpatterns = [
    path("presence/", views.presence, name="presence"),
    path("members/", views.members, name="members"),
    path("members/invite/", views.invite, name="invite"),
    path("members/invitations/<uuid:invitation_id>/withdraw/", views.withdraw, name="invitation-withdraw"),
    path("members/<int:user_id>/role/", views.member_role, name="member-role"),
    path("members/<int:user_id>/remove/", views.member_remove, name="member-remove"),
    path("members/leave/", views.leave, name="leave"),
    path("members/hand-over/", views.hand_over, name="hand-over"),
    path("libraries/", library_pages.libraries_page, name="libraries"),
    path("libraries/<uuid:library_id>/subscribe/", library_pages.subscribe, name="library-subscribe"),
    path("libraries/<uuid:library_id>/withdraw/", library_pages.withdraw, name="library-withdraw"),
    path("receipts/", receipt_pages.receipts_page, name="receipts"),
    path("receipts/<uuid:receipt_id>/", receipt_pages.receipt, name="receipt"),
    path("receipts/<uuid:receipt_id>/download/", receipt_pages.download, name="receipt-download"),
    path("staff-access/", staff_pages.staff_access_page, name="staff-access"),
    path("staff-access/leave/", staff_pages.leave, name="staff-access-leave"),
    path("staff-access/<uuid:access_id>/decide/", staff_pages.decide, name="staff-access-decide"),
]
