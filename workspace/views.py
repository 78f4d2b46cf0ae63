"""Health, and the error pages, which show a reference number and nothing of what went wrong inside."""

import sys

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.http import require_safe

from search.embeddings import EmbeddingModelMissing
from tenants.keys.providers import ProviderUnreachable


@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """200 when the database answers; for a load balancer or a container's health check."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok"})


def _error(request: HttpRequest, status: int, message: str = "") -> HttpResponse:
    return render(
        request, f"{status}.html", {"message": message, "reference": getattr(request, "reference", "")}, status=status
    )


def error_400(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _error(request, 400)


def error_403(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _error(request, 403, str(exception))


def error_404(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _error(request, 404)


def error_500(request: HttpRequest) -> HttpResponse:
    error = sys.exc_info()[1]
    if isinstance(error, EmbeddingModelMissing):
        context = {"name": error.name, "reference": getattr(request, "reference", "")}
        return HttpResponse(render_to_string("503_model.html", context), status=503)
    if isinstance(error, ProviderUnreachable):
        # without the request: whoever signed in cannot be known either while the keys cannot be had
        page = render_to_string("503.html", {"reference": getattr(request, "reference", "")})
        return HttpResponse(page, status=503, headers={"Retry-After": "10"})
    return _error(request, 500)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    if request.path == settings.LOGIN_URL and request.user.is_authenticated:  # signed in meanwhile, in another tab
        return HttpResponseRedirect("/")
    return render(request, "403_csrf.html", {"reference": getattr(request, "reference", "")}, status=403)
