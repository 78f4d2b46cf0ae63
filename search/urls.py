"""Addresses of the search and of the evaluation. No address carries a question: searches travel in POST bodies."""

from django.urls import path

from search import views
from search.evaluation import views as evaluation

urlpatterns = [
    path("", views.search_page, name="search"),
    path("s/", views.share, name="search-share"),
    path("s/<str:shared_id>/", views.shared, name="search-shared"),
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
