"""The demo workspace of bin/up: made whole once, then left alone."""

import json
import stat
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from documents.models import Document
from search.evaluation.judgments import parse
from search.models import JudgmentSet
from tenants.context import workspace
from tenants.models import Membership, Tenant, User
from workspace import demo

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])

LOGINS = Path(settings.VAR_DIR) / "demo-logins.json"


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CLOISTER_EMBEDDED", "1")
    yield
    LOGINS.unlink(missing_ok=True)


def made() -> dict[str, Any]:
    out = StringIO()
    call_command("demo", "--json", stdout=out)
    return json.loads(out.getvalue())


def the_demo() -> Tenant:
    return Tenant.objects.get(slug="demo")


def test_it_makes_a_workspace_with_two_people(embedded: None) -> None:
    answer = made()
    assert (answer["workspace"], answer["url"]) == ("demo", "/w/demo/")
    assert [(login["email"], login["role"]) for login in answer["logins"]] == [
        ("admin@localhost", "owner"),
        ("reader@localhost", "viewer"),
    ]
    roles = dict(Membership.objects.filter(tenant=the_demo()).values_list("user__email", "role"))
    assert roles == {"admin@localhost": "owner", "reader@localhost": "viewer"}
    admin, reader = User.objects.get(email="admin@localhost"), User.objects.get(email="reader@localhost")
    assert (admin.is_staff, admin.is_superuser, reader.is_staff) == (True, True, False)


def test_the_printed_passwords_sign_in(embedded: None) -> None:
    for login in made()["logins"]:
        client = Client()
        answer = client.post("/accounts/login/", {"login": login["email"], "password": login["password"]})
        assert (answer.status_code, client.get("/").headers["Location"]) == (302, "/w/demo/")


def test_a_second_time_changes_nothing_and_prints_the_same(embedded: None) -> None:
    first, before = made(), the_demo().id
    with workspace(the_demo()):
        counts = Document.objects.count(), JudgmentSet.objects.count()
    assert made() == first
    assert the_demo().id == before
    with workspace(the_demo()):
        assert (Document.objects.count(), JudgmentSet.objects.count()) == counts


def test_passwords_are_random_and_private(embedded: None) -> None:
    passwords = {login["password"] for login in made()["logins"]}
    assert len(passwords) == 2
    assert min(map(len, passwords)) >= 16
    assert stat.S_IMODE(LOGINS.stat().st_mode) == 0o600


def test_a_changed_password_is_not_printed(embedded: None) -> None:
    made()
    admin = User.objects.get(email="admin@localhost")
    admin.set_password("something-of-my-own")
    admin.save()
    assert made()["logins"][0]["password"] == demo.CHANGED


def test_it_queues_the_documentation(embedded: None) -> None:
    made()
    with workspace(the_demo()):
        named = {document.file_name: document for document in Document.objects.select_related("collection")}
        assert named.keys() == {path.name for path in demo.documentation()}
        assert named["keys.md"].title == "Keys"
        assert {document.collection.name for document in named.values()} == {"Cloister documentation"}


def test_killed_half_way_it_is_completed(embedded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(demo, "_add_judgments", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            demo.make()
    made()
    with workspace(the_demo()):
        assert Document.objects.count() == len(demo.documentation())
        assert [kept.name for kept in JudgmentSet.objects.all()] == [demo.JUDGMENTS_NAME]


def test_what_a_person_deleted_stays_deleted(embedded: None) -> None:
    made()
    with workspace(the_demo()):
        JudgmentSet.objects.all().delete()
    made()
    with workspace(the_demo()):
        assert not JudgmentSet.objects.exists()


def test_somebody_elses_workspace_of_that_address_is_left_alone(embedded: None, person: Any) -> None:
    from tenants.provisioning import create_workspace

    tenant, _ = create_workspace("Our demo", "demo", person(None))
    assert made()["logins"] == []
    with workspace(tenant):
        assert not Document.objects.exists()
    assert not User.objects.filter(email="admin@localhost").exists()


@pytest.mark.parametrize("value", ["", "0"])
def test_it_is_refused_on_real_servers(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CLOISTER_EMBEDDED", value)
    with pytest.raises(CommandError, match="one machine"):
        call_command("demo", "--json", stdout=StringIO())
    assert not Tenant.objects.filter(slug="demo").exists()
    assert not LOGINS.exists()


def test_the_judgments_ask_what_the_documentation_answers() -> None:
    with demo.JUDGMENTS.open("rb") as file:
        parsed = parse(demo.JUDGMENTS.name, file)
    assert len(parsed.questions) >= 30
    assert parsed.unjudged == 0
    named = {name for question in parsed.questions for name in question.judgments}
    assert named == {path.name for path in demo.documentation()}  # each document answers something
    assert {grade for question in parsed.questions for grade in question.judgments.values()} <= {1, 2, 3}
    assert all(max(question.judgments.values()) == 3 for question in parsed.questions)


@pytest.mark.slow
def test_its_judgments_find_its_documents(embedded: None, run_jobs: Any, model_dir: Path) -> None:
    from search.evaluation import runs

    made()
    run_jobs()
    with workspace(the_demo()):
        assert set(Document.objects.values_list("state", flat=True)) == {"ready"}
        run = runs.evaluate(JudgmentSet.objects.get())
        assert (run.state, run.unresolved) == ("ready", 0)
        assert run.figures["recall@10"] > 0.9
        assert run.figures["ndcg@10"] > 0.6
