"""Addresses of documents inside a workspace. Names are flat, since a workspace has one urlconf."""

from django.urls import path

from documents import (
    collection_views,
    export_views,
    field_views,
    resuming_views,
    trash_views,
    unlock_views,
    upload_views,
    views,
)

urlpatterns = [
    path("documents/", views.documents, name="documents"),
    path("documents/rows/", views.documents_rows, name="documents-rows"),
    path("documents/act/", views.documents_act, name="documents-act"),
    path("documents/pause/", views.queue_pause, name="queue-pause"),
    path("documents/resume/", views.queue_resume, name="queue-resume"),
    path("documents/upload/", upload_views.document_upload, name="document-upload"),
    path("documents/arriving/", resuming_views.arrival_begin, name="arrival-begin"),
    path("documents/arriving/<uuid:arrival_id>/", resuming_views.arrival, name="arrival"),
    path("documents/arriving/<uuid:arrival_id>/complete/", resuming_views.arrival_complete, name="arrival-complete"),
    path("documents/<uuid:document_id>/", views.document, name="document"),
    path("documents/<uuid:document_id>/status/", views.document_status, name="document-status"),
    path("documents/<uuid:document_id>/download/", views.document_download, name="document-download"),
    path("documents/<uuid:document_id>/pictures/<int:number>/", views.document_picture, name="document-picture"),
    path("documents/<uuid:document_id>/delete/", views.document_delete, name="document-delete"),
    path("documents/<uuid:document_id>/retry/", views.document_retry, name="document-retry"),
    path("documents/<uuid:document_id>/cancel/", views.document_cancel, name="document-cancel"),
    path("documents/<uuid:document_id>/unlock/", unlock_views.document_unlock, name="document-unlock"),
    path("documents/<uuid:document_id>/describe/", field_views.document_describe, name="document-describe"),
    path("documents/<uuid:document_id>/restore/", trash_views.document_restore, name="document-restore"),
    path("documents/<uuid:document_id>/erase/", trash_views.document_erase, name="document-erase"),
    path("documents/trash/", trash_views.trash_page, name="trash"),
    path("documents/trash/empty/", trash_views.trash_empty, name="trash-empty"),
    path("export/", export_views.export, name="export"),
    path("collections/", collection_views.collections, name="collections"),
    path("collections/create/", collection_views.collection_create, name="collection-create"),
    path("collections/<uuid:collection_id>/rename/", collection_views.collection_rename, name="collection-rename"),
    path("collections/<uuid:collection_id>/access/", collection_views.collection_access, name="collection-access"),
    path("collections/<uuid:collection_id>/delete/", collection_views.collection_delete, name="collection-delete"),
    path("collections/<uuid:collection_id>/fields/", field_views.collection_fields, name="collection-fields"),
    path("collections/<uuid:collection_id>/describe/", field_views.collection_describe, name="collection-describe"),
    path("collections/<uuid:collection_id>/fields/<uuid:field_id>/", field_views.field_change, name="field-change"),
    path("collections/<uuid:collection_id>/fields/<uuid:field_id>/delete/", field_views.field_delete, name="field-delete"),
]
