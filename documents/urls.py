"""Addresses of documents inside a workspace. Names are flat, since a workspace has one urlconf."""

from django.urls import path

from documents import views

urlpatterns = [
    path("documents/", views.documents, name="documents"),
    path("documents/rows/", views.documents_rows, name="documents-rows"),
    path("documents/upload/", views.document_upload, name="document-upload"),
    path("documents/<uuid:document_id>/", views.document, name="document"),
    path("documents/<uuid:document_id>/status/", views.document_status, name="document-status"),
    path("documents/<uuid:document_id>/download/", views.document_download, name="document-download"),
    path("documents/<uuid:document_id>/delete/", views.document_delete, name="document-delete"),
    path("documents/<uuid:document_id>/retry/", views.document_retry, name="document-retry"),
    path("documents/<uuid:document_id>/cancel/", views.document_cancel, name="document-cancel"),
    path("collections/", views.collections, name="collections"),
    path("collections/create/", views.collection_create, name="collection-create"),
    path("collections/<uuid:collection_id>/rename/", views.collection_rename, name="collection-rename"),
    path("collections/<uuid:collection_id>/access/", views.collection_access, name="collection-access"),
    path("collections/<uuid:collection_id>/delete/", views.collection_delete, name="collection-delete"),
]
