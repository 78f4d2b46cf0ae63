"""Tests run as the real web login with role switching; only set-up, emptying and tear-down run as the operator."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django_rq
import hypothesis
import psycopg
import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection, connections
from django.test import Client, TransactionTestCase
from django.test.utils import setup_databases, teardown_databases

from search import embeddings
from search.embeddings import MANIFEST
from tenants import roles, stats, sweeping
from tenants.keys import presence
from tenants.keys.keyring import keyring, provider
from tests.emptying import Emptying
from tests.self_test import registries_without

WORKSPACES = ("alpha", "beta")  # made once per run: their DDL cannot be part of a test's transaction
PASSWORD = "correct-horse-battery"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # of a second factor, base32

# A run asks what the run before asked, so that a failure is about the change at hand. New questions, many of them:
# bin/test --hypothesis-profile exploring. No test has a deadline: machines are noisy.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("exploring", max_examples=3_000, deadline=None, print_blob=True)
hypothesis.settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-faults", action="store_true", help="every fault at every stage in every format (test_faults.py)")


def pytest_configure(config: pytest.Config) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # Argon2 costs 100 ms a person
    settings.HOSTS.append("testserver")
    provider().create_installation_key()
    _prepare_cluster()


def _prepare_cluster() -> None:
    user, password = settings.DATABASE_ADMINISTRATOR
    place = {"host": connection.settings_dict["HOST"], "port": connection.settings_dict["PORT"] or None}
    template = settings.DATABASES["default"]["TEST"]["TEMPLATE"]
    login: dict[str, Any] = {**place, "user": user, "password": password, "autocommit": True}
    with psycopg.connect(dbname="postgres", **login) as admin:
        roles.prepare_cluster(admin, settings.DATABASE_PASSWORDS, create_databases=True)
        roles.create_database(admin, template, template=True)
    with psycopg.connect(dbname=template, **login) as admin:
        roles.prepare_database(admin)


def act_as(login: str | None) -> None:
    """Reconnect this thread's connection. The settings are copied, so a live server's threads keep theirs."""
    connection.close()
    base = connections.settings["default"]
    if login is None:
        connection.settings_dict = base
    else:
        connection.settings_dict = {
            **base,
            "USER": roles.login_name(login),
            "PASSWORD": settings.DATABASE_PASSWORDS[login],
            "SWITCH_ROLES": login != "operator",
        }
    connection.set_schema_to_public()


@contextmanager
def operator() -> Iterator[None]:
    """The default connection as the operator. Only with django_db(transaction=True): reconnecting loses a transaction."""
    assert not connection.in_atomic_block
    act_as("operator")
    try:
        yield
    finally:
        act_as(None)


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_blocker: Any, django_db_modify_db_settings: None
) -> Iterator[None]:
    from tenants import seals
    from tenants.models import WorkspaceStats
    from tenants.provisioning import create_workspace

    with django_db_blocker.unblock():
        act_as("operator")
        databases = setup_databases(verbosity=0, interactive=False, serialized_aliases=[])
        act_as("worker")
        seals.begin()  # as `prepare` does, before there is anything
        for slug in WORKSPACES:
            create_workspace(slug.title(), slug)
        WorkspaceStats.objects.all().delete()  # that of their making: the first test begins like every other
        connections["operator"].close()
        act_as("web")
        # the web login from here on, in threads too
        connections.settings["default"].update(USER=roles.login_name("web"), PASSWORD=settings.DATABASE_PASSWORDS["web"])
        act_as(None)
        emptying = Emptying(WORKSPACES)
        put_back_witness.append(emptying.put_back_witness)
    TransactionTestCase._fixture_teardown = lambda test: emptying()  # type: ignore[method-assign]
    yield
    emptying.close()
    with django_db_blocker.unblock():
        connections["operator"].close()
        act_as("operator")
        own = roles.own_roles(connection)
        teardown_databases(databases, verbosity=0)
        with connection._nodb_cursor() as cursor:  # roles outlive their database
            for role in own:
                cursor.execute(f'DROP ROLE IF EXISTS "{role}"')


put_back_witness: list[Callable[[], None]] = []  # once there is a database


@pytest.fixture(autouse=True)
def _start_clean(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of an earlier test in the cache (rate limits), the queues, the keyring or the connection.

    What the isolation self-test begins by itself is not among a test's jobs.
    """
    for name, others in registries_without():
        monkeypatch.setattr(sweeping, name, others)
    cache.clear()
    django_rq.get_queue("default").connection.flushdb()
    keyring.forget()
    presence._in_use.clear()  # of answers that a test did not read; a server closes them
    for put_back in put_back_witness:
        put_back()
    shutil.rmtree(settings.FILES_DIR, ignore_errors=True)  # a file without a row may still be arriving: a new key waits for it
    stats.forget_noted()
    for kept in ("erasures", "erased", "receipts"):  # of a transaction that was rolled back
        shutil.rmtree(Path(settings.WITNESS_DIR) / kept, ignore_errors=True)
    connection.set_schema_to_public()
    yield
    connection.set_schema_to_public()


# ---------------------------------------------------------------- workspaces and people


def _tenant(slug: str) -> Any:
    from tenants.models import Tenant

    return Tenant.objects.get(slug=slug)


@pytest.fixture
def workspace_a(db: None) -> Any:
    return _tenant("alpha")


@pytest.fixture
def workspace_b(db: None) -> Any:
    return _tenant("beta")


@pytest.fixture
def in_workspace_a(workspace_a: Any) -> Iterator[Any]:
    """The test runs inside workspace a: its schema, its role, its keys."""
    from tenants.context import workspace

    with workspace(workspace_a):
        yield workspace_a


@pytest.fixture
def person(db: None) -> Callable[..., Any]:
    """Makes a member: `person("viewer", workspace_a)`, or somebody who belongs nowhere: `person(None)`."""
    from tenants.models import Membership
    from tenants.people import create_person

    def make(role: str | None, tenant: Any = None, email: str = "", *, staff: bool = False) -> Any:
        user = create_person(
            email or f"{role or 'stranger'}@example.org", PASSWORD, name=(role or "stranger").title(), staff=staff
        )
        if role:
            Membership.objects.create(user=user, tenant=tenant, role=role)
        return user

    return make


@pytest.fixture
def owner(person: Callable[..., Any], workspace_a: Any) -> Any:
    return person("owner", workspace_a)


@pytest.fixture
def editor(person: Callable[..., Any], workspace_a: Any) -> Any:
    return person("editor", workspace_a)


@pytest.fixture
def viewer(person: Callable[..., Any], workspace_a: Any) -> Any:
    return person("viewer", workspace_a)


def _signed_in(user: Any, *, second_factor: bool | None = None) -> Client:
    """Staff are signed in with a second factor, which they need; others with a password alone, unless said otherwise."""
    client = Client()
    client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
    if user.is_staff if second_factor is None else second_factor:
        prove_second_factor(client, user)
    return client


def prove_second_factor(client: Client, user: Any) -> None:
    """The session as if a code had been typed: the app is set up (its secret is `SECRET`), and was used."""
    from allauth.mfa.models import Authenticator
    from allauth.mfa.utils import encrypt

    app, _ = Authenticator.objects.get_or_create(user=user, type="totp", defaults={"data": {"secret": encrypt(SECRET)}})
    session = client.session
    session["account_authentication_methods"] = [{"method": "mfa", "type": "totp", "id": app.pk, "at": 0}]
    session["account_authentication_methods_user"] = str(user.pk)
    session.save()


@pytest.fixture
def sign_in() -> Callable[..., Client]:
    return _signed_in


@pytest.fixture
def client_owner(owner: Any) -> Client:
    return _signed_in(owner)


@pytest.fixture
def client_editor(editor: Any) -> Client:
    return _signed_in(editor)


@pytest.fixture
def client_viewer(viewer: Any) -> Client:
    return _signed_in(viewer)


@pytest.fixture
def run_jobs(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Runs what is queued in this process, as the worker would; for tests with django_db(transaction=True).

    Returns how many jobs ran; a job that failed raises with what its log line says.
    """
    from tenants.jobs import queues
    from tenants.worker import HotWorker, new_worker

    def run() -> int:
        performed = 0

        class Counting(HotWorker):
            def perform_job(self, job: Any, queue: Any) -> bool:
                nonlocal performed
                performed += 1
                return super().perform_job(job, queue)

        monkeypatch.setattr("tenants.worker.HotWorker", Counting)
        worker = new_worker()
        before = connection.tenant
        worker.work(burst=True, logging_level="WARNING")
        connection.set_tenant(before)
        for queue in queues():
            for job_id in queue.failed_job_registry.get_job_ids():
                job = queue.fetch_job(job_id)
                raise AssertionError(f"{job_id} failed: {job.latest_result().exc_string if job else 'gone'}")
        return performed

    return run


@pytest.fixture
def mail_server(settings: Any) -> Iterator[Any]:
    """Mail is configured, and its server does as the test says."""
    from tests.mail_server import MailServer

    settings.MAIL_IS_CONFIGURED, settings.EMAIL_BACKEND = True, "tests.mail_server.MailServer"
    yield MailServer
    MailServer.recover()


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The exported model: bin/test makes it once."""
    path = Path(os.environ["MODEL_DIR"])
    assert path.exists(), "the model is not exported: run bin/test"
    return path


FURTHER_MODEL = "all-MiniLM-L6-v2-256"


@pytest.fixture(scope="session")
def further_models(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MODELS_DIR with a second model: the exported one, cut to 256 dimensions, as `export --dimension` describes it."""
    home = tmp_path_factory.mktemp("models")
    made = home / "cut"
    shutil.copytree(model_dir, made)
    manifest = json.loads((made / MANIFEST).read_text())
    (made / MANIFEST).write_text(json.dumps(manifest | {"name": FURTHER_MODEL, "dimension": 256}))
    return home


@pytest.fixture
def two_models(further_models: Path, settings: Any) -> Iterator[str]:
    """A second model is installed; its name."""
    settings.MODELS_DIR = further_models
    yield FURTHER_MODEL
    embeddings._loaded.pop(FURTHER_MODEL, None)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An installation with web server and worker in processes of their own; one for the whole run."""
    from tests.running import Running

    installation = Running(tmp_path_factory.mktemp("running"))
    installation.prepare()
    installation.start_web()
    installation.start_worker()
    yield installation
    installation.stop()
