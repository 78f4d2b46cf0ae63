"""The commands that staff run, through call_command: one JSON object, or one sentence and a failure."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings, settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from documents.models import Collection, Document
from tenants.context import workspace
from tenants.models import Membership, Tenant, User
from tests.factories import DocumentFactory
from workspace import doctor


def run(*arguments: str) -> dict[str, Any]:
    out = StringIO()
    call_command(*arguments, "--json", stdout=out)
    answer = json.loads(out.getvalue())
    assert isinstance(answer, dict)
    return answer


def words(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


@pytest.mark.django_db(transaction=True, databases=["default", "operator"])
class TestTheEndOfAWorkspace:
    def test_suspend_and_resume(self) -> None:
        run("create_workspace", "Lab")
        assert run("suspend_workspace", "lab", "--reason", "Unpaid") == {"slug": "lab", "status": "suspended"}
        with pytest.raises(CommandError, match="is suspended"):
            run("search", "anything", "--workspace", "lab")
        assert run("suspend_workspace", "lab", "--resume") == {"slug": "lab", "status": "active"}

    def test_erase(self) -> None:
        run("create_workspace", "Lab")
        with pytest.raises(CommandError, match="Add --yes"):
            run("erase_workspace", "lab")
        assert Tenant.objects.filter(slug="lab").exists()
        answer = run("erase_workspace", "lab", "--yes")
        assert (answer["erased"], answer["slug"]) == (True, "lab")
        with pytest.raises(CommandError, match="no workspace lab"):
            run("erase_workspace", "lab", "--yes")

    def test_later_not_at_all_or_forbidden(self) -> None:
        run("create_workspace", "Lab")
        assert run("erase_workspace", "lab", "--in-days", "3")["delete_at"]
        assert run("erase_workspace", "lab", "--keep")["delete_at"] is None
        run("erase_workspace", "lab", "--in-days", "3")
        assert run("hold_workspace", "lab", "--reason", "Court order") == {"slug": "lab", "legal_hold": "Court order"}
        assert Tenant.objects.get(slug="lab").delete_at is None
        with pytest.raises(CommandError, match="Court order"):
            run("erase_workspace", "lab", "--yes")
        assert "no legal hold any more" in words("hold_workspace", "lab", "--release")
        assert "Erased lab: its key" in words("erase_workspace", "lab", "--yes")


@pytest.mark.django_db(transaction=True, databases=["default", "operator"])
class TestCreateWorkspace:
    def test_it_works(self) -> None:
        answer = run("create_workspace", "Research library")
        tenant = Tenant.objects.get(slug="research-library")
        assert answer == {
            "id": str(tenant.id),
            "slug": "research-library",
            "schema": f"tenant_{tenant.id.hex}",
            "created": True,
        }
        assert tenant.status == Tenant.Status.ACTIVE

    def test_repeating_changes_nothing(self) -> None:
        first = run("create_workspace", "Research library", "--slug", "lab")
        assert run("create_workspace", "Another name", "--slug", "lab") == {**first, "created": False}

    def test_repeating_with_another_owner_adds_none(self) -> None:
        run("create_workspace", "Customer", "--key", "customer-4711", "--owner", "zoe@example.org")
        again = run("create_workspace", "Customer", "--key", "customer-4711", "--owner", "new@example.org")
        assert "owner_link" not in again
        assert list(Membership.objects.filter(tenant=again["id"]).values_list("user__email")) == [("zoe@example.org",)]

    def test_a_key_leads_to_the_same_workspace_again(self) -> None:
        first = run("create_workspace", "Customer", "--key", "customer-4711")
        assert run("create_workspace", "Customer", "--key", "customer-4711") == {**first, "created": False}
        assert run("create_workspace", "Customer", "--key", "customer-4712")["id"] != first["id"]
        with pytest.raises(CommandError, match="--key is empty"):
            run("create_workspace", "Customer", "--key", " ")

    def test_a_new_owner_gets_a_link_that_sets_a_password(self) -> None:
        answer = run("create_workspace", "Lab", "--owner", "Owner@Example.org")
        membership = Membership.objects.select_related("user").get(tenant__slug="lab")
        assert (membership.user.email, membership.role) == ("owner@example.org", "owner")
        assert set_password(answer["owner_link"]) == 200

    def test_an_owner_with_an_account_gets_no_link(self, person: Callable[..., Any]) -> None:
        user = person(None, email="known@example.org")
        assert "owner_link" not in run("create_workspace", "Lab", "--owner", "known@example.org")
        assert Membership.objects.get(tenant__slug="lab").user == user

    @pytest.mark.parametrize(("name", "slug"), [("", "lab"), ("n" * 101, "lab"), ("Lab", "No slug"), ("Lab", "-lab")])
    def test_it_refuses_what_cannot_be(self, name: str, slug: str) -> None:
        with pytest.raises(CommandError) as refused:
            run("create_workspace", name, f"--slug={slug}")
        assert str(refused.value).endswith(".")
        assert not Tenant.objects.filter(slug=slug).exists()


@pytest.mark.django_db
class TestListWorkspaces:
    def test_it_works(self, workspace_a: Tenant, workspace_b: Tenant, viewer: User) -> None:
        listed = run("list_workspaces")["workspaces"]
        assert [(each["slug"], each["members"], each["status"]) for each in listed] == [
            ("alpha", 1, "active"),
            ("beta", 0, "active"),
        ]
        assert listed[0]["id"] == str(workspace_a.id)

    def test_for_a_person(self, workspace_a: Tenant) -> None:
        assert re.search(r"^alpha +active +0 members +Alpha$", words("list_workspaces"), re.M)


@pytest.mark.django_db
class TestCreateAdmin:
    def test_it_works(self) -> None:
        answer = run("create_admin", "First@Example.org")
        user = User.objects.get(email="first@example.org")
        assert (answer["email"], answer["created"]) == ("first@example.org", True)
        assert (user.is_staff, user.is_superuser, user.has_usable_password()) == (True, True, False)
        assert answer["password_link"].startswith(settings.PUBLIC_URL)
        assert set_password(answer["password_link"]) == 200

    def test_repeating_makes_a_new_link(self) -> None:
        run("create_admin", "first@example.org")
        assert run("create_admin", "first@example.org")["created"] is False
        assert User.objects.count() == 1

    def test_it_promotes_a_person(self, person: Callable[..., Any]) -> None:
        user = person(None, email="known@example.org")
        run("create_admin", "known@example.org")
        user.refresh_from_db()
        assert user.is_staff
        assert user.is_superuser
        assert user.has_usable_password()


def set_password(link: str) -> int:
    """Follows a link as a browser would and gives the form it leads to; the status of the last page."""
    client = Client()
    page = client.get(link.removeprefix(settings.PUBLIC_URL), follow=True)
    form = page.redirect_chain[-1][0]
    chosen = "a-long-enough-one"
    return client.post(form, {"password1": chosen, "password2": chosen}, follow=True).status_code


@pytest.mark.django_db
class TestDoctor:
    @pytest.fixture(autouse=True)
    def _alive(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "worker_is_listening", lambda: True)
        provider_directory = Path(settings.KEYS_DIR)
        provider_directory.chmod(0o700)

    def findings(self) -> dict[str, dict[str, str]]:
        """Of a run that may fail."""
        out = StringIO()
        with suppress(CommandError):
            call_command("doctor", "--json", stdout=out)
        return {check["name"]: check for check in json.loads(out.getvalue())["checks"]}

    def test_it_works(self, workspace_a: Tenant, model_dir: Path) -> None:
        answer = run("doctor")
        states = {check["name"]: check["state"] for check in answer["checks"]}
        assert answer["ok"] is True
        assert states.keys() == {
            "database", "isolation", "workspaces", "redis", "worker", "keystore", "keys backup", "access", "model", "sandbox",
            "text recognition", "disk", "mail",
        }  # fmt: skip
        assert [states[name] for name in ("database", "isolation", "workspaces", "redis", "keystore", "access", "model")] == [
            "ok"
        ] * 7
        assert states["mail"] == "warning"

    def test_a_missing_worker_is_to_be_repaired(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "worker_is_listening", lambda: False)
        with pytest.raises(CommandError, match="worker"):
            run("doctor")
        assert "bin/up" in self.findings()["worker"]["action"]

    def test_a_keystore_that_others_can_read(self) -> None:
        Path(settings.KEYS_DIR).chmod(0o755)
        found = self.findings()["keystore"]
        assert (found["state"], found["action"].startswith("chmod 700")) == ("repair", True)

    def test_a_key_that_is_missing_or_foreign(self, workspace_a: Tenant, workspace_b: Tenant) -> None:
        key = Path(settings.KEYS_DIR) / f"{workspace_a.id}.key"
        other = Path(settings.KEYS_DIR) / f"{workspace_b.id}.key"
        kept = key.read_bytes()
        try:
            key.unlink()
            assert "alpha" in self.findings()["keystore"]["detail"]
            key.touch(mode=0o600)
            key.write_bytes(other.read_bytes())
            assert self.findings()["keystore"]["state"] == "repair"
        finally:
            key.unlink()
            with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(kept)

    def test_a_missing_model(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        from search.embeddings import Embedder

        monkeypatch.setattr(doctor, "embedder", lambda: Embedder(tmp_path))
        assert "search.embeddings" in self.findings()["model"]["action"]

    def test_languages_of_text_recognition(self, settings: Any) -> None:
        for wanted, state, says in (
            ("eng+deu", "ok", "eng+deu"),
            ("eng+xyz_abc", "warning", "apt-get install tesseract-ocr-xyz-abc"),
            ("xyz", "warning", "apt-get install tesseract-ocr tesseract-ocr-xyz"),
            ("none", "ok", "OCR_LANGUAGES"),
        ):
            settings.OCR_LANGUAGES = wanted
            found = self.findings()["text recognition"]
            assert (found["state"], says in found["action"] + found["detail"]) == (state, True)

    def test_mail_that_does_not_go_out(self, settings: Any) -> None:
        settings.MAIL_IS_CONFIGURED = True
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", 1, 2
        found = self.findings()["mail"]
        assert (found["state"], "EMAIL_HOST" in found["action"]) == ("repair", True)

    def test_a_full_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "FULL_BYTES", 1 << 62)
        assert self.findings()["disk"]["state"] == "repair"

    def test_for_a_person(self, workspace_a: Tenant, model_dir: Path) -> None:
        said = words("doctor")
        assert re.search(r"^ok +database +PostgreSQL", said, re.M)
        assert "Traceback" not in said


@pytest.mark.django_db(transaction=True, databases=["default", "operator"])
@pytest.mark.parametrize("command", [("create_admin", "nonsense"), ("create_workspace", "Lab", "--owner", "nonsense")])
def test_an_owner_or_administrator_without_an_address_is_refused(command: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="no e-mail address"):
        run(*command)
    assert not User.objects.exists()
    assert not Tenant.objects.filter(slug="lab").exists()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABASE_URL", "postgresql://127.0.0.1:1/cloister", "PostgreSQL does not answer"),
        ("REDIS_URL", "redis://127.0.0.1:1/0", "Redis does not answer"),
    ],
)
def test_a_server_that_does_not_answer_is_said_in_words(name: str, value: str, said: str) -> None:
    command = (
        ["list_workspaces"]
        if name == "DATABASE_URL"
        else ["shell", "-c", "from django.core.cache import cache; cache.get('x')"]
    )
    done = subprocess.run(
        [sys.executable, "manage.py", *command], env=os.environ | {name: value}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert name in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.django_db(transaction=True)
def test_a_dry_run_takes_nothing(workspace_a: Tenant, tmp_path: Path, settings: LazySettings) -> None:
    settings.MAX_UPLOAD_BYTES = 20
    (tmp_path / "good.txt").write_text("Some words.")
    (tmp_path / "large.txt").write_text("Words of a file that is too large.")
    (tmp_path / "other.md").write_text("Left out.")
    asked = (
        "import_documents",
        str(tmp_path),
        "--workspace",
        "alpha",
        "--collection",
        "Planned",
        "--glob",
        "*.txt",
        "--dry-run",
    )
    answer = run(*asked)
    assert (answer["would_take"], answer["already"]) == (["good.txt"], 0)
    assert [each["name"] for each in answer["refused"]] == ["large.txt"]
    assert "would take 1, there already 0. Nothing was taken." in words(*asked)
    with workspace(workspace_a):
        assert not Document.objects.exists()
        assert not Collection.objects.exists()
    missing = tmp_path / "none.csv"
    with pytest.raises(CommandError, match=r"none\.csv could not be read: No such file or directory"):
        call_command(*asked, "--metadata", str(missing))


@pytest.mark.django_db(transaction=True)
def test_an_import_names_what_failed(workspace_a: Tenant, tmp_path: Path, model_dir: Path) -> None:
    (tmp_path / "good.txt").write_text("Words that can be found.")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    answer = run("import_documents", str(tmp_path), "--workspace", "alpha", "--collection", "Mixed")
    assert answer["states"] == {"failed": 1, "ready": 1}
    assert [(each["name"], each["reason"]) for each in answer["failed"]] == [("broken.pdf", "damaged")]
    assert "failed: broken.pdf: " in words("import_documents", str(tmp_path), "--workspace", "alpha", "--collection", "Mixed")


@pytest.mark.django_db(transaction=True)
def test_read_again_queues_what_has_pages_missing(workspace_a: Tenant) -> None:
    with workspace(workspace_a):
        unread, whole = (DocumentFactory(state=Document.State.READY, pages=2, pages_unread=number) for number in (1, 0))
    assert run("read_again", "--workspace", "alpha") == {"workspace": "alpha", "queued": 1}
    with workspace(workspace_a):
        assert dict(Document.objects.values_list("pk", "state")) == {unread.pk: "queued", whole.pk: "ready"}
