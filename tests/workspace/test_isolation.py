"""The isolation self-test: finds nothing where nothing leaks, and names the route of every leak that is planted."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import LazySettings
from django.core.cache import caches
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.forms import ChoiceField
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.test import Client

from documents import storage
from documents.models import Collection, Document, Page
from search.models import Chunk, IndexEntry, JudgmentSet, Run, SharedSearch
from search.pool import pool
from search.querying import Results, search
from tenants import middleware, people, stats
from tenants.context import workspace
from tenants.mail import withheld
from tenants.models import Invitation, IsolationCheck, Membership, Session, Tenant, User
from tenants.roles import role_for
from workspace.isolation import asking, canaries
from workspace.isolation.canaries import Canary
from workspace.isolation.probes import ATTEMPTS, Findings, content, database, pages
from workspace.isolation.verifying import verify_isolation

pytestmark = pytest.mark.django_db

State = IsolationCheck.State
Both = tuple[Tenant, Tenant]


@pytest.fixture(autouse=True)
def _clean(settings: LazySettings, tmp_path: Path, model_dir: Path) -> Iterator[None]:
    settings.FILES_DIR = tmp_path / "files"
    pool().clear()
    asking.site.cache_clear()
    yield
    asking.site.cache_clear()
    pool().clear()


@pytest.fixture
def both(workspace_a: Tenant, workspace_b: Tenant) -> Both:
    return workspace_a, workspace_b


@pytest.fixture
def kept(both: Both) -> tuple[Canary, Canary]:
    """The canaries of both."""
    return canaries.ensure(both[0]), canaries.ensure(both[1])


@pytest.fixture
def found(kept: tuple[Canary, Canary]) -> Callable[..., Findings]:
    """Runs one kind of attempt, of the first workspace at the second."""

    def run(probe: Callable[..., None]) -> Findings:
        findings = Findings()
        if probe in (pages.of_routes, pages.of_workspaces):
            pages.ask(probe(), asking.site(), *kept, findings)
        elif probe is pages.ask_search_page:
            pages.ask([probe], asking.site(), *kept, findings)
        else:
            probe(*kept, findings)
        return findings

    return run


def named(findings: Findings) -> set[str]:
    return {leak["route"] for leak in findings.leaks}


# ---------------------------------------------------------------- without a leak


def left_behind(both: Both) -> list[Any]:
    public = [model.objects.count() for model in (User, Membership, Invitation, Session)]
    inside = []
    for tenant in both:
        with workspace(tenant):
            inside += [list(model.objects.order_by("pk").values()) for model in (Document, JudgmentSet, Run, SharedSearch)]
    return [*public, *inside]


def test_nothing_leaks_and_nothing_is_left_behind(both: Both, kept: tuple[Canary, Canary], tmp_path: Path) -> None:
    before, files = left_behind(both), sorted(tmp_path.rglob("*"))
    out = StringIO()
    call_command("verify_isolation", "--workspace", "alpha", stdout=out, stderr=StringIO())
    assert out.getvalue().startswith("No leak found in ")
    check = IsolationCheck.objects.get()
    assert (check.state, check.leaks, check.controls) == (State.PASSED, [], [])
    assert check.counts["by_kind"].keys() == ATTEMPTS.keys()
    assert check.attempts > 300
    assert check.counts["workspaces"] == 1
    assert check.counts["routes"] >= 35
    assert left_behind(both) == before
    assert sorted(tmp_path.rglob("*")) == files


@pytest.mark.parametrize("slug", ["members", "workspaces", "documents"])
def test_an_address_that_is_a_word_of_the_page_is_no_leak(both: Both, slug: str) -> None:
    before = both[1].slug
    Tenant.objects.filter(pk=both[1].pk).update(slug=slug)
    try:
        check = verify_isolation([both[0]])
    finally:
        Tenant.objects.filter(pk=both[1].pk).update(slug=before)
    assert (check.state, check.leaks) == (State.PASSED, [])


def test_a_workspace_that_is_full_is_checked_like_any_other(both: Both) -> None:
    Tenant.objects.filter(pk=both[1].pk).update(quota_documents=0, quota_bytes=0, quota_members=0)
    check = verify_isolation([both[0]])
    assert (check.state, check.controls) == (State.PASSED, [])


def test_a_leak_is_told_to_owners_and_the_first_of_staffs_troubles(
    monkeypatch: pytest.MonkeyPatch, both: Both, owner: Any, settings: Any, mailoutbox: list[Any]
) -> None:
    settings.MAIL_IS_CONFIGURED = True
    monkeypatch.setattr("workspace.isolation.probes.content._opens", lambda *_: True)
    assert verify_isolation([both[0]]).state == State.LEAKS
    assert [(mail.to, "found a leak" in mail.subject) for mail in mailoutbox] == [([owner.email], True)]
    found = stats.refresh(both[0])
    assert (found.trouble, found.trouble_words) == (stats.Trouble.LEAK, "Its newest isolation check found a leak.")


def test_mail_of_what_is_undone_does_not_leave(both: Both, settings: Any) -> None:
    settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT = "tenants.mail.ServerBackend", "127.0.0.1", 9
    with withheld():
        assert send_mail("Subject", "Words", None, ["somebody@example.org"]) == 0
    with pytest.raises(OSError, match="refused"):
        send_mail("Subject", "Words", None, ["somebody@example.org"])


def test_the_command_says_what_was_tried(both: Both) -> None:
    out, err = StringIO(), StringIO()
    call_command("verify_isolation", "--json", stdout=out, stderr=err)
    answer = json.loads(out.getvalue())
    assert (answer["leaks"], answer["found"], answer["controls_failed"], answer["workspaces"]) == (0, [], [], 2)
    assert answer["attempts"] == sum(answer["by_kind"].values()) > 600
    assert "2 of 2 workspaces" in err.getvalue()
    whole = IsolationCheck.objects.get(tenant=None)
    assert (whole.state, whole.parts.count(), whole.attempts) == (State.PASSED, 2, answer["attempts"])


# ---------------------------------------------------------------- planted leaks


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch, both: Both) -> None:
    """A mistake in the views of documents: what is not here is looked for in the other workspace."""

    def get(source: Any, **wanted: Any) -> Any:
        try:
            return get_object_or_404(source, **wanted)
        except Http404:
            with workspace(both[1]):
                row = get_object_or_404(source, **wanted)
                for column in row._meta.get_fields():
                    getattr(row, column.name, None)  # opens what is encrypted
                return row

    for module in ("views", "trash_views", "collection_views"):
        monkeypatch.setattr(f"documents.{module}.get_object_or_404", get)


def test_a_view_that_looks_elsewhere_is_named(anywhere: None, both: Both) -> None:
    check = verify_isolation([both[0]])
    assert check.state == State.LEAKS
    leaks = {(leak["kind"], leak["route"], leak["detail"]) for leak in check.leaks}
    assert ("routes", "documents/<uuid:document_id>/status/", "GET answered 286, for an unknown id 404") in leaks
    assert ("routes", "documents/<uuid:document_id>/erase/", "GET answered 200 with the other workspace's words") in leaks
    with workspace(both[1]):
        assert canaries.find() is not None, "what leaked was harmed"


def test_the_command_fails_and_names_the_route(anywhere: None, both: Both) -> None:
    out = StringIO()
    with pytest.raises(CommandError, match=r"documents/<uuid:document_id>/status/"):
        call_command("verify_isolation", "--workspace", "alpha", "--json", stdout=out)
    answer = json.loads(out.getvalue())
    assert answer["leaks"] == len(answer["found"]) > 0


def test_a_page_that_only_differs_is_named(
    monkeypatch: pytest.MonkeyPatch, found: Callable[..., Findings], kept: tuple[Canary, Canary]
) -> None:
    """The same status, and a word more for an id that somebody has."""
    real, theirs = asking.Asking.ask, kept[1].ids["document"]

    def ask(self: Any, person: Any, method: str, path: str, **more: Any) -> Any:
        answer = real(self, person, method, path, **more)
        told = "more" if "/cancel/" in path and "documents" in path and theirs in path else ""
        return asking.Answer(answer.status, answer.text + told)

    monkeypatch.setattr(asking.Asking, "ask", ask)
    assert named(found(pages.of_routes)) == {"documents/<uuid:document_id>/cancel/"}


def test_a_collection_taken_from_elsewhere_in_a_form_is_named(
    monkeypatch: pytest.MonkeyPatch, found: Callable[..., Findings], both: Both
) -> None:
    def lax(field: ChoiceField, value: str) -> None:
        with workspace(both[1]):
            if not Collection.objects.filter(pk=value).exists():
                raise ValidationError("This collection does not exist any more.")

    monkeypatch.setattr(ChoiceField, "validate", lax)
    assert {"", "s/"} <= named(found(pages.of_routes))


def test_a_workspace_that_shows_that_it_exists_is_found(
    monkeypatch: pytest.MonkeyPatch, found: Callable[..., Findings]
) -> None:
    real = middleware.ActivateTenant.process_view

    def process_view(self: Any, request: HttpRequest, *more: Any) -> Any:
        address: Any = request.workspace_address  # type: ignore[attr-defined]
        slug = (address or {}).get("tenant__slug")
        if slug and not request.user.is_authenticated and Tenant.objects.filter(slug=slug).exists():
            return HttpResponse(status=403)
        return real(self, request, *more)

    monkeypatch.setattr(middleware.ActivateTenant, "process_view", process_view)
    findings = found(pages.of_workspaces)
    assert "members/" in named(findings)
    assert findings.leaks[0]["detail"] == "GET answered 403, for an unknown id 302 (nobody)"


def test_a_role_that_may_read_the_other_schema_is_found(
    monkeypatch: pytest.MonkeyPatch, found: Callable[..., Findings], both: Both
) -> None:
    def astray(connection: Any, schema: str) -> str | None:
        return role_for(connection, schema if schema == "public" else both[1].schema_name)

    monkeypatch.setattr("tenants.database.base.role_for", astray)
    leaks = named(found(database.run_sql))
    assert {"SELECT documents_page", "DELETE search_chunk", "SELECT public.tenants_tenant"} <= leaks
    assert "RESET ROLE" not in leaks  # it still lands in the role without grants


def test_a_search_in_the_wrong_workspace_is_found(
    monkeypatch: pytest.MonkeyPatch, found: Callable[..., Findings], both: Both
) -> None:
    def astray(text: str, **more: Any) -> Results:
        with workspace(both[1]):
            return search(text, **more)

    monkeypatch.setattr(content, "search", astray)
    assert named(found(content.ask_search)) == {"search"}


def test_a_page_of_results_from_the_wrong_workspace_is_found(
    monkeypatch: pytest.MonkeyPatch, found: Callable[..., Findings], kept: tuple[Canary, Canary]
) -> None:
    monkeypatch.setattr("search.views.render", lambda *given, **more: HttpResponse(f"Found: {kept[1].told}"))
    assert named(found(pages.ask_search_page)) == {"search page"}


@pytest.mark.parametrize(
    ("probe", "route"),
    [
        (content.ask_rows, "search.Chunk"),
        (content.open_ciphertexts, "documents.Page.text"),
        (content.open_files, "name"),
        (content.ask_cache, "key"),
        (content.ask_jobs, "id"),
    ],
)
def test_a_connection_left_in_the_other_workspace_is_found(
    monkeypatch: pytest.MonkeyPatch, found: Callable[..., Findings], both: Both, probe: Callable[..., None], route: str
) -> None:
    monkeypatch.setattr(content, "workspace", lambda tenant: workspace(both[1]))
    assert route in named(found(probe))


def test_keys_of_the_other_workspace_are_found(
    monkeypatch: pytest.MonkeyPatch, found: Callable[..., Findings], both: Both
) -> None:
    for module in ("tenants.ciphers", "tenants.streams"):
        monkeypatch.setattr(f"{module}.current_tenant", lambda: both[1])
    assert {"documents.Document.title", "search.Answer.expected"} <= named(found(content.open_ciphertexts))
    assert named(found(content.open_files)) == {"keys"}


def test_a_path_that_climbs_is_found(monkeypatch: pytest.MonkeyPatch, found: Callable[..., Findings], both: Both) -> None:
    """The file is found; for its words to be read the keys have to be wrong too."""
    monkeypatch.setattr("tenants.streams.current_tenant", lambda: both[1])
    monkeypatch.setattr(storage, "_path", lambda name: storage._directory() / name[:2] / name)
    assert named(found(content.open_files)) == {"path", "keys"}


def test_a_cache_key_without_the_workspace_is_found(monkeypatch: pytest.MonkeyPatch, found: Callable[..., Findings]) -> None:
    monkeypatch.setattr(caches["default"], "key_func", lambda key, prefix, version: f"{prefix}:{version}:{key}")
    assert named(found(content.ask_cache)) == {"key"}


def test_a_job_id_without_the_workspace_is_found(monkeypatch: pytest.MonkeyPatch, found: Callable[..., Findings]) -> None:
    monkeypatch.setattr(content, "job_key", lambda name, tenant: f"everybody-{name}")
    assert named(found(content.ask_jobs)) == {"id"}


# ---------------------------------------------------------------- controls


def test_what_is_not_tried_is_said(both: Both, monkeypatch: pytest.MonkeyPatch, client_owner: Client) -> None:
    """With a login for each workspace a transaction cannot reach into two, and no page is asked."""
    monkeypatch.setattr(pages, "can_be_undone", lambda: False)
    check = verify_isolation([both[0]])
    assert check.state == State.PASSED
    assert ATTEMPTS.keys() - check.counts["by_kind"].keys() == {"routes", "workspaces"}
    assert "Not tried" in client_owner.get(f"{both[0].path}isolation/").content.decode()


def test_a_test_that_cannot_fail_is_inconclusive(monkeypatch: pytest.MonkeyPatch, both: Both) -> None:
    monkeypatch.setattr(content, "search", lambda text, **more: Results([], 0, "exact"))
    check = verify_isolation([both[0]])
    assert check.state == State.INCONCLUSIVE
    assert check.controls == [{"kind": "search", "route": "search", "detail": "its own workspace does not find it"}]
    with pytest.raises(CommandError, match="its own workspace does not find it"):
        call_command("verify_isolation", "--workspace", "alpha")


@pytest.mark.django_db(transaction=True)
def test_who_changes_the_members_waits_for_some_questions_and_not_for_all(
    monkeypatch: pytest.MonkeyPatch, both: Both, kept: tuple[Canary, Canary], owner: User
) -> None:
    monkeypatch.setattr(pages, "HELD_SECONDS", 0.1)
    began, invited = threading.Event(), threading.Event()
    asked_by: list[int] = []

    def question(site: Any, mine: pages.Side, other: pages.Side, found: Findings) -> None:
        began.set()
        asked_by.append(mine.owner.pk)
        time.sleep(0.2)

    def questions() -> Iterator[pages.Question]:
        while not invited.is_set() and len(asked_by) < 100:
            yield question

    def check() -> None:
        try:
            pages.ask(questions(), asking.site(), *kept, Findings())
        finally:
            connection.close()

    thread = threading.Thread(target=check)
    thread.start()
    try:
        assert began.wait(60)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '10s'")  # as a web process waits
            assert people.invite(both[0], "new@a.example", "viewer", owner)
    finally:
        invited.set()
        thread.join()
    assert len(asked_by) < 100, "it went on meanwhile"
    assert not Membership.objects.filter(user__email__endswith="@isolation.invalid").exists()


@pytest.mark.django_db(transaction=True)
def test_two_checks_of_the_same_two_workspaces_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch, kept: tuple[Canary, Canary]
) -> None:
    monkeypatch.setattr(pages, "HELD_SECONDS", 0.0)  # every question has sides of its own
    done: list[int] = []

    def check(*canaries_: Canary) -> None:
        try:
            asked: list[pages.Question] = [lambda *about: time.sleep(0.05)] * 15
            pages.ask(asked, asking.site(), *canaries_, Findings())
            done.append(1)
        finally:
            connection.close()

    threads = [threading.Thread(target=check, args=pair) for pair in (kept, kept[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2


def test_views_that_show_the_canary_to_nobody_are_inconclusive(
    monkeypatch: pytest.MonkeyPatch, found: Callable[..., Findings]
) -> None:
    def gone(*args: Any, **kwargs: Any) -> None:
        raise Http404

    monkeypatch.setattr("documents.views.get_object_or_404", gone)
    findings = found(pages.of_routes)
    assert not findings.leaks
    failed = {"kind": "routes", "route": "documents/<uuid:document_id>/", "detail": "its own owner is answered 404"}
    assert failed in findings.controls


# ---------------------------------------------------------------- canaries


@pytest.mark.parametrize("damage", ["document", "passage", "judgments", "shared search", "file", "moved ciphertext"])
def test_damaged_canaries_are_made_anew(damage: str, both: Both, settings: LazySettings) -> None:
    made = canaries.ensure(both[0])
    assert canaries.ensure(both[0]) == made, "made once"
    with workspace(both[0]):
        if damage == "document":
            Document.objects.update(state=Document.State.CANCELLED)
        elif damage == "passage":
            Chunk.objects.update(page=7)
            IndexEntry.objects.all().delete()
        elif damage == "judgments":
            JudgmentSet.objects.all().delete()
        elif damage == "shared search":
            SharedSearch.objects.all().delete()
        elif damage == "file":
            for file in settings.FILES_DIR.rglob(made.stored_name):
                file.unlink()
        else:
            Page.objects.update(text=Document.objects.get().__dict__["title"])
        assert canaries.find() is None
    again = canaries.ensure(both[0])
    assert again.told != made.told
    with workspace(both[0]):
        assert canaries.find() == again
        assert (Document.objects.count(), JudgmentSet.objects.count(), SharedSearch.objects.count()) == (1, 1, 1)


def test_the_words_lie_nowhere_in_the_clear(both: Both, kept: tuple[Canary, Canary], settings: LazySettings) -> None:
    canary = kept[0]
    with workspace(both[0]):
        for name in ("documents", "search"):
            for model in apps.get_app_config(name).get_models():
                assert canary.told not in str(list(model._base_manager.values_list()))
                assert canary.asked not in str(list(model._base_manager.values_list()))
    for file in settings.FILES_DIR.rglob("*"):
        assert not file.is_file() or canary.told.encode() not in file.read_bytes()


def test_members_do_not_see_the_judgments_of_the_canary(kept: tuple[Canary, Canary], client_owner: Client, both: Both) -> None:
    page = client_owner.get(f"{both[0].path}evaluation/")
    assert page.status_code == 200
    assert kept[0].told not in page.content.decode()
    assert "Upload questions together" in page.content.decode()
