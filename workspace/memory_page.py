"""The staff console's page of what each process keeps decrypted to search: whether the budget is enough, and for whom."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.http import require_safe

from search import memory


@require_safe
def memory_page(request: HttpRequest) -> HttpResponse:
    context = {**admin.site.each_context(request), "title": "Search memory", "seen": memory.look()}
    return TemplateResponse(request, "admin/memory.html", context)
