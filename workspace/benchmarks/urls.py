"""The workspace's pages as they are, and an empty one behind the same middleware: what a request costs that does nothing."""

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, path

from tenants.permissions import requires
from workspace.urls_workspace import *  # noqa: F403  # the error pages too
from workspace.urls_workspace import urlpatterns as pages

EMPTY = "benchmark/empty/"


@requires("search")
def empty(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


urlpatterns: list[URLPattern | URLResolver] = [path(EMPTY, empty), *pages]
