"""The workspace's pages as they are, and an empty one behind the same middleware: what a request costs that does nothing."""

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, path

from tenants.permissions import requires
from workspace import urls_workspace

EMPTY = "benchmark/empty/"


@requires("search")
def empty(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


urlpatterns: list[URLPattern | URLResolver] = [path(EMPTY, empty), *urls_workspace.urlpatterns]
handler400, handler403 = urls_workspace.handler400, urls_workspace.handler403
handler404, handler500 = urls_workspace.handler404, urls_workspace.handler500
