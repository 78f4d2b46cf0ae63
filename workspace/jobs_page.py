"""The staff console's page of workers, queues and failed jobs."""

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_http_methods
from redis.exceptions import RedisError

from tenants import failed_jobs
from tenants.errors import Refused


@require_http_methods(["GET", "POST"])
def jobs_page(request: HttpRequest) -> HttpResponse:
    """POST: `retry` or `remove` with a job's id, or with `all`."""
    try:
        if request.method == "POST":
            _act(request)
            return redirect("admin:jobs")
        seen = failed_jobs.look()
    except RedisError:
        seen = None
    context = {**admin.site.each_context(request), "title": "Jobs and workers", "seen": seen}
    return TemplateResponse(request, "admin/jobs.html", context, status=503 if seen is None else 200)


def _act(request: HttpRequest) -> None:
    try:
        match request.POST.dict():
            case {"retry": "all"}:
                again, refused = failed_jobs.retry_all()
                messages.success(request, f"Queued {again} again." + (f" {refused} cannot be: remove them." if refused else ""))
            case {"remove": "all"}:
                messages.success(request, f"Removed {failed_jobs.remove_all()}.")
            case {"retry": key}:
                failed_jobs.retry(key)
                messages.success(request, "Queued again.")
            case {"remove": key}:
                failed_jobs.remove(key)
                messages.success(request, "Removed.")
    except Refused as refusal:
        messages.error(request, str(refusal))
