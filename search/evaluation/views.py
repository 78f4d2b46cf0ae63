"""The evaluation pages: judgment sets, runs with live progress, figures, and each question's answer."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import OuterRef, Subquery
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HTMX_STOP_POLLING

from search.canaries import peoples_judgment_sets
from search.evaluation import judgments, reports, runs, uploads
from search.forms import JudgmentsForm
from search.models import Answer, JudgmentSet, Run
from search.sources import Source, sources
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.errors import Refused
from tenants.permissions import requires
from tenants.requests import WorkspaceRequest

QUESTIONS_PAGE = 50
RETURNED_SHOWN = 20
ORDERS = {"ordinal": "question__ordinal", "worst": "ndcg", "best": "-ndcg", "slowest": "-latency_ms"}


@never_cache
@require_GET
@requires("read")
def judgment_sets(request: WorkspaceRequest) -> HttpResponse:
    newest = Run.objects.filter(judgment_set=OuterRef("pk")).order_by("-created_at").values("pk")[:1]
    found = list(peoples_judgment_sets().order_by("-created_at").annotate(newest_run=Subquery(newest)))
    latest = Run.objects.in_bulk([made.newest_run for made in found if made.newest_run])
    rows = [(made, latest.get(made.newest_run)) for made in found]
    return render(request, "evaluation/judgment_sets.html", {"rows": rows})


@csrf_exempt  # the check reads the body: it is made inside, once the handler that keeps files off the disk is in place
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@requires("judge")
def upload(request: WorkspaceRequest) -> HttpResponseBase:
    handler = uploads.MemoryUploadHandler(request)
    request.upload_handlers = [handler]
    return _upload(request, handler)


@csrf_protect
def _upload(request: WorkspaceRequest, handler: uploads.MemoryUploadHandler) -> HttpResponse:
    if request.method != "POST":
        return render(request, "evaluation/upload.html", {"form": JudgmentsForm()})
    form = JudgmentsForm(request.POST, request.FILES)
    if not form.is_valid():
        if handler.too_large:
            form.errors.pop("file", None)
            form.add_error("file", f"The file is larger than {uploads.MAX_BYTES // 1024**2} MB. Split it.")
        return render(request, "evaluation/upload.html", {"form": form}, status=422)
    name, file = form.cleaned_data["name"], form.cleaned_data["file"]
    queued = 0
    try:
        parsed = judgments.parse(file.name, file)
        if form.cleaned_data["import_corpus"] and file.name.lower().endswith(".zip"):
            file.seek(0)
            texts = judgments.corpus_of(file)
            queued = sources().import_texts(texts, name, request.membership) if texts else 0
    except judgments.BadJudgments as error:
        for mistake in error.mistakes:
            form.add_error("file", mistake)
    except Refused as error:
        form.add_error("import_corpus", str(error))
    if form.errors:
        return render(request, "evaluation/upload.html", {"form": form}, status=422)
    made = runs.create_judgment_set(name, parsed, request.user.pk)
    said = f"{len(parsed.questions):,} questions with {parsed.judgments:,} judgments added."
    if parsed.unjudged:
        said += f" {parsed.unjudged:,} questions without a relevant document were left out."
    if queued:
        said += f" {queued:,} documents are being imported: wait until they are ready before you run it."
    messages.success(request, said)
    return redirect("judgments", set_id=made.pk)


@never_cache
@require_GET
@requires("read")
def judgment_set(request: WorkspaceRequest, set_id: UUID) -> HttpResponse:
    made = get_object_or_404(JudgmentSet, pk=set_id)
    page, pages = _page(request, made.questions_total)
    first = (page - 1) * QUESTIONS_PAGE
    questions = made.questions.order_by("ordinal").prefetch_related("judgments")[first : first + QUESTIONS_PAGE]
    context = {
        "judgment_set": made,
        "questions": questions,
        "runs": made.runs.order_by("-created_at")[:50],
        "has_unfinished_run": made.runs.exclude(state__in=Run.FINAL).exists(),
        "measured": made.runs.filter(state=Run.State.READY).order_by("-created_at").first(),
        "page": page,
        "pages": pages,
        "first": first + 1,
    }
    if "unresolved" in request.GET:  # reads the names of every document: only when somebody asks
        context["unresolved"] = runs.unresolved_references(made, sources().visible(request.membership))
    return render(request, "evaluation/judgment_set.html", context)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@requires("judge")
def delete(request: WorkspaceRequest, set_id: UUID) -> HttpResponse:
    made = get_object_or_404(JudgmentSet, pk=set_id)
    if request.method != "POST":
        return render(request, "evaluation/delete.html", {"judgment_set": made, "runs": made.runs.count()})
    name = made.name
    runs.delete_judgment_set(made)
    messages.success(request, f"{name} and its runs are deleted.")
    return redirect("evaluation")


@never_cache
@require_POST
@requires("run")
def start(request: WorkspaceRequest, set_id: UUID) -> HttpResponse:
    made = get_object_or_404(JudgmentSet, pk=set_id)
    try:
        begun = runs.start(made, request.membership.user_id)
    except Refused as error:
        messages.error(request, str(error))
        return redirect("judgments", set_id=made.pk)
    return redirect("run", run_id=begun.pk)


@never_cache
@require_GET
@requires("read")
def run(request: WorkspaceRequest, run_id: UUID) -> HttpResponse:
    return render(request, "evaluation/run.html", _run_context(request, _run(run_id)))


@never_cache
@require_GET
@requires("read")
def status(request: WorkspaceRequest, run_id: UUID) -> HttpResponse:
    """What the run's page polls while the run is unfinished."""
    current = _run(run_id)
    context = _run_context(request, current)
    code = HTMX_STOP_POLLING if current.is_final else 200
    return render(request, "evaluation/_run.html", context, status=code)


@never_cache
@require_POST
@requires("run")
def cancel(request: WorkspaceRequest, run_id: UUID) -> HttpResponse:
    runs.cancel(_run(run_id))
    return redirect("run", run_id=run_id)


@never_cache
@require_GET
@requires("read")
def question(request: WorkspaceRequest, run_id: UUID, question_id: UUID) -> HttpResponse:
    current = _run(run_id)
    answer = get_object_or_404(Answer.objects.select_related("question"), run=current, question_id=question_id)
    returned = answer.returned[:RETURNED_SHOWN]
    ids = {UUID(item["document"]) for item in (*returned, *answer.expected) if item["document"]}
    visible = sources().visible(request.membership)
    described, hidden = sources().describe(ids, visible), sources().hidden(ids, visible)
    grades: dict[str, int] = {}
    for item in answer.expected:
        if item["document"]:
            grades[item["document"]] = max(item["grade"], grades.get(item["document"], 0))
    context = {
        "run": current,
        "answer": answer,
        "expected": [(item, *_source(item["document"], described, hidden)) for item in answer.expected],
        "returned": [
            (rank, item, *_source(item["document"], described, hidden), grades.get(item["document"]))
            for rank, item in enumerate(returned, start=1)
        ],
        "returned_total": len(answer.returned),
    }
    return render(request, "evaluation/question.html", context)


@never_cache
@require_GET
@requires("read")
def export(request: WorkspaceRequest, run_id: UUID, kind: str) -> HttpResponseBase:
    current = _run(run_id)
    if kind not in ("json", "csv") or current.state != Run.State.READY:
        raise Http404
    visible = sources().visible(request.membership)
    pieces, media = (
        (reports.as_json(current, visible), "application/json")
        if kind == "json"
        else (reports.as_csv(current, visible), "text/csv; charset=utf-8")
    )
    record(Event.EXPORTED, run=str(current.pk), format=kind)
    response = StreamingHttpResponse(pieces, content_type=media)
    response["Content-Disposition"] = f'attachment; filename="evaluation-{current.pk}.{kind}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _run(run_id: UUID) -> Run:
    return get_object_or_404(Run.objects.select_related("judgment_set"), pk=run_id)


def _run_context(request: WorkspaceRequest, current: Run) -> dict[str, Any]:
    context: dict[str, Any] = {"run": current, "judgment_set": current.judgment_set}
    if current.state == Run.State.READY:
        order = request.GET.get("order", "worst")
        order = order if order in ORDERS else "worst"
        page, pages = _page(request, current.questions_done)
        first = (page - 1) * QUESTIONS_PAGE
        answers = Answer.objects.filter(run=current).select_related("question")
        answers = answers.order_by(ORDERS[order], "question__ordinal")[first : first + QUESTIONS_PAGE]
        context |= {
            "answers": [(answer, _found(answer)) for answer in answers],
            "order": order,
            "page": page,
            "pages": pages,
        }
    return context


def _found(answer: Answer) -> tuple[int, int]:
    """Of how many relevant documents how many are among the ten shown first."""
    relevant = [item for item in answer.expected if item["grade"] > 0]
    return sum(1 for item in relevant if item["rank"] and item["rank"] <= 10), len(relevant)


def _page(request: WorkspaceRequest, total: int) -> tuple[int, int]:
    pages = max(1, -(-total // QUESTIONS_PAGE))
    asked = request.GET.get("page", "1")
    return min(int(asked) if asked.isdecimal() and int(asked) else 1, pages), pages


def _source(document: str | None, described: dict[UUID, Source], hidden: set[UUID]) -> tuple[Source | None, bool]:
    """The document, if it may be shown; and whether there is one that may not."""
    return (described.get(UUID(document)), UUID(document) in hidden) if document else (None, False)
