"""Addresses of the search and of the evaluation. No address carries a question: searches travel in POST bodies."""

from django.urls import path

from search import own_views, protection_views, views
from search.evaluation import views as evaluation

urlpatterns = [
    path("", views.search_page, name="search"),
    path("s/", views.share, name="search-share"),
    path("s/<str:shared_id>/", views.shared, name="search-shared"),
    path("instant/", views.instant, name="search-instant"),
    path("settled/", views.settled, name="search-settled"),
    path("saved/", own_views.saved_searches, name="saved-searches"),
    path("saved/<uuid:saved_id>/", own_views.run_saved, name="saved-search"),
    path("saved/<uuid:saved_id>/rename/", own_views.rename, name="saved-search-rename"),
    path("saved/<uuid:saved_id>/delete/", own_views.delete, name="saved-search-delete"),
    path("history/", own_views.history, name="search-history"),
    path("history/clear/", own_views.clear_history, name="search-history-clear"),
    path("history/<uuid:entry_id>/", own_views.run_past, name="past-search"),
    path("protection/", protection_views.page, name="protection"),
    path("protection/status/", protection_views.status, name="protection-status"),
    path("protection/change/", protection_views.change, name="protection-change"),
    path("protection/model/", protection_views.change_model, name="protection-model"),
    path("protection/settings/", protection_views.index_settings, name="protection-settings"),
    path("protection/disguise/", protection_views.new_disguise, name="protection-disguise"),
    path("protection/cancel/", protection_views.cancel, name="protection-cancel"),
    path("protection/back/", protection_views.go_back, name="protection-back"),
    path("protection/remove/", protection_views.remove, name="protection-remove"),
    path("like/<uuid:passage_id>/", views.alike, name="search-like"),
    path("evaluation/", evaluation.judgment_sets, name="evaluation"),
    path("evaluation/upload/", evaluation.upload, name="judgments-upload"),
    path("evaluation/<uuid:set_id>/", evaluation.judgment_set, name="judgments"),
    path("evaluation/<uuid:set_id>/delete/", evaluation.delete, name="judgments-delete"),
    path("evaluation/<uuid:set_id>/run/", evaluation.start, name="run-start"),
    path("evaluation/runs/<uuid:run_id>/", evaluation.run, name="run"),
    path("evaluation/runs/<uuid:run_id>/status/", evaluation.status, name="run-status"),
    path("evaluation/runs/<uuid:run_id>/cancel/", evaluation.cancel, name="run-cancel"),
    path("evaluation/runs/<uuid:run_id>/<uuid:question_id>/", evaluation.question, name="run-question"),
    path("evaluation/runs/<uuid:run_id>/export.<str:kind>", evaluation.export, name="run-export"),
]
