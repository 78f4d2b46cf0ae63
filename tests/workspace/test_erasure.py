"""Erasing a workspace: nothing left, whatever interrupts it, and never against a hold."""

import base64
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from pathlib import Path

import django_rq
import pytest
from django.conf import settings
from django.core import mail
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.utils import timezone

from documents import storage
from documents.models import Arrival, Collection
from tenants import erasures, lifecycle, proofs, provisioning, receipts, witness
from tenants.context import workspace
from tenants.errors import Refused
from tenants.jobs import enqueue
from tenants.keys.keyring import provider
from tenants.keys.providers import named
from tenants.keys.providers.aws_kms import KMSPlace
from tenants.locks import alone_with
from tenants.models import Alarm, Membership, Receipt, Tenant, TenantKey, User
from tests.factories import DocumentFactory
from workspace import erasure

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])


@pytest.fixture
def doomed(person) -> Tenant:
    tenant, _ = provisioning.create_workspace("Doomed", "doomed")
    person("owner", tenant, "doomed@example.org")
    with workspace(tenant):
        DocumentFactory()
        cache.set("here", 1)
        enqueue("documents.jobs.ingest", "0", job_id="ingest-0", queue="ingest")
    return tenant


def traces(tenant: Tenant) -> list[str]:
    """What there still is of it."""
    found = []
    with connections["operator"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", [tenant.schema_name])
        found += ["schema"] if cursor.fetchone()[0] else []
        cursor.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s", [tenant.db_role])
        found += ["role"] if cursor.fetchone()[0] else []
    found += ["key"] if provider().holds(tenant.pk) else []
    found += ["files"] if (Path(settings.FILES_DIR) / tenant.pk.hex).exists() else []
    keys = [key.decode() for key in django_rq.get_queue("default").connection.scan_iter()]
    found += ["job"] if any(tenant.pk.hex in key and "rq:" in key for key in keys) else []
    found += ["cache"] if any(tenant.schema_name in key for key in keys) else []
    found += ["row"] if Tenant.objects.filter(pk=tenant.pk).exists() else []
    found += ["wrapped key"] if TenantKey.objects.filter(tenant_id=tenant.pk).exists() else []
    found += ["membership"] if Membership.objects.filter(tenant_id=tenant.pk).exists() else []
    return found


def test_nothing_is_left(doomed):
    assert traces(doomed) == ["schema", "role", "key", "files", "job", "cache", "row", "wrapped key", "membership"]
    erased = erasure.erase(doomed)
    assert traces(doomed) == []
    assert (erased.files, erased.jobs) == (1, 1)
    assert erased.tables > 12
    again, created = provisioning.create_workspace("Doomed", "doomed")
    assert created
    assert again.pk != doomed.pk


def test_after_a_move_that_was_cut_off_both_providers_lose_the_key(doomed, settings):
    settings.KEYS_ROOT_KEY = bytes(32)
    other = named("sealed-keystore")
    other.create(doomed.pk)
    body = erasure.erase(doomed).receipt["body"]
    assert not other.holds(doomed.pk)
    assert not provider().holds(doomed.pk)
    assert body["verified"]["wrapping keys"] == 0
    assert len([sentence for sentence in body["cannot_reach"] if "Copies of the keystore" in sentence]) == 2


def test_a_day_that_was_set_by_sql_is_not_followed(doomed):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tenants_tenant SET delete_at = now() - interval '1 day' WHERE id = %s", [doomed.pk])
    erasure.erase_due()
    doomed.refresh_from_db()
    assert doomed.status == Tenant.Status.ACTIVE
    assert provider().holds(doomed.pk)
    assert Alarm.objects.filter(subject__startswith="tenants_tenant").exists()


@pytest.mark.parametrize("hold", ["", "Court order 12"])
def test_an_erasure_that_was_begun_by_sql_is_not_gone_on_with(doomed, hold):
    if hold:
        lifecycle.hold(doomed, hold)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tenants_tenant SET status = 'erasing' WHERE id = %s", [doomed.pk])
    erasure.erase_due()
    assert provider().holds(doomed.pk)
    assert Alarm.objects.filter(subject__startswith="tenants_tenant").exists()
    with pytest.raises(Refused, match="past Cloister"):
        erasure.erase(Tenant.objects.get(pk=doomed.pk))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tenants_tenant SET status = 'active' WHERE id = %s", [doomed.pk])


def test_a_key_management_service_names_its_waiting_period(settings):
    settings.AWS_KMS = KMSPlace("eu-central-1", "id", "secret", waiting_days=9)
    assert any("9 days" in sentence for sentence in erasure.cannot_reach())


def test_what_raw_sql_left_of_the_role_does_not_keep_it(doomed):
    with workspace(doomed), connection.cursor() as cursor:
        cursor.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
    erasure.erase(doomed)
    assert traces(doomed) == []


STEPS = [
    "witness.keep", "keyring.forget", "_drop_schema", "_remove_files", "jobs.forget_workspace", "_clear_cache",
    "receipts.issue", "_tell", "witness.forget_everywhere", "_settle",
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_interrupted_anywhere_it_goes_on_by_itself_with_one_receipt(doomed, monkeypatch, mail_server, step):
    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"workspace.erasure.{step}", cut)
    with pytest.raises(KeyboardInterrupt):
        erasure.erase(doomed)
    assert provider().holds(doomed.pk) == (step == "witness.keep")
    assert {each.status for each in Tenant.objects.filter(pk=doomed.pk)} <= {Tenant.Status.ERASING}
    monkeypatch.undo()
    erasure.erase_due()
    assert traces(doomed) == []
    receipt = Receipt.objects.get()
    assert receipt.document["body"]["counts"]["files"] == 1, "counted before anything went"
    assert witness.names("receipts") == [f"receipts/{receipt.pk}"]
    assert len(mail.outbox) == 1


def test_the_receipt_says_what_went_and_is_mailed(doomed, mail_server):
    with workspace(doomed):
        Arrival.objects.create(collection=Collection.objects.get(), created_by_id=1, about={}, size=1)
    erased = erasure.erase(doomed)
    body = proofs.check_receipt(erased.receipt, receipts.signing_key()["public_key"])
    assert body["workspace"] == {"id": str(doomed.pk), "name": "Doomed"}
    counts = body["counts"]
    assert (counts["files"], counts["jobs"], counts["cache entries"] > 0, counts["members"]) == (1, 1, True, 1)
    assert counts["tables"] == erased.tables
    assert counts["unfinished uploads"] == 1
    assert set(body["verified"].values()) == {0}
    assert [key["version"] for key in body["keys"]] == [1]
    assert any("Copies of the keystore" in sentence for sentence in body["cannot_reach"])
    (message,) = mail.outbox
    assert message.to == ["doomed@example.org"]
    (attachment,) = message.attachments
    assert json.loads(attachment.content) == erased.receipt == Receipt.objects.get().document


def test_a_fingerprint_tells_keys_apart_and_nothing_of_them(doomed, workspace_a):
    (mine,), (other,) = receipts.key_fingerprints(doomed.pk), receipts.key_fingerprints(workspace_a.pk)
    assert mine == receipts.key_fingerprints(doomed.pk)[0] != other
    key = base64.b64decode(json.loads((Path(settings.KEYS_DIR) / f"{doomed.pk}.key").read_text())["key"])
    assert mine["fingerprint"] not in {key.hex()[:16], hashlib.sha256(key).hexdigest()[:16]}


def test_where_something_is_left_there_is_no_receipt(doomed, monkeypatch):
    monkeypatch.setattr(erasure, "_remove_files", lambda tenant: 0)
    with pytest.raises(erasure.NotErased, match='"files": 1'):
        erasure.erase(doomed)
    assert not Receipt.objects.exists()
    monkeypatch.undo()
    erasure.erase_due()
    assert Receipt.objects.get().document["body"]["verified"]["files"] == 0


# ---------------------------------------------------------------- an older backup


def restored(tenant: Tenant, user: User) -> None:
    """The row as a backup of the database brings it back."""
    tenant.status = Tenant.Status.ACTIVE
    tenant.save(force_insert=True)
    TenantKey.objects.create(tenant=tenant, version=1, wrapped=b"what opens no more")
    Membership.objects.create(tenant=tenant, user=user, role="owner")


def test_what_a_backup_brings_back_is_not_served_and_is_erased_again(doomed, sign_in, mail_server):
    owner = User.objects.get(memberships__tenant=doomed)
    receipt = erasure.erase(doomed).receipt
    Receipt.objects.all().delete()
    restored(doomed, owner)
    assert sign_in(owner).get("/w/doomed/").status_code == 404
    assert provisioning.missing_keys() == [], "the processes start: the worker erases it again"
    erasure.erase_due()
    assert traces(doomed) == []
    assert Receipt.objects.get().document == receipt, "no other receipt"
    assert len(mail.outbox) == 1


def test_with_its_key_restored_too_it_is_erased_again(doomed):
    owner = User.objects.get(memberships__tenant=doomed)
    path = Path(settings.KEYS_DIR) / f"{doomed.pk}.key"
    key = path.read_bytes()
    erasure.erase(doomed)
    path.write_bytes(key)
    restored(doomed, owner)
    Tenant.objects.update(legal_hold="of the time of the backup")
    out = StringIO()
    call_command("apply_erasures", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {"workspaces_erased": ["doomed"], "documents_erased": {}}
    assert not path.exists()
    assert traces(doomed) == []


def test_what_the_witness_keeps_is_that_it_is_erased_and_no_address(doomed):
    witness.append(erasures.list_of(doomed.pk), {"documents": []})
    witness.raise_number(f"roster/{doomed.pk}", 3)
    erasure.erase(doomed)
    kept = [path for path in Path(settings.WITNESS_DIR).rglob("*") if doomed.pk.hex in path.name.replace("-", "")]
    assert {path.parent.name for path in kept} == {"erased", "roster"}  # a roster of an older backup stays too old
    assert not [path for path in kept if "example.org" in path.read_text()]


def test_the_command_writes_the_receipt(doomed, tmp_path):
    with pytest.raises(CommandError, match="no directory"):
        call_command("erase_workspace", "doomed", "--yes", "--receipt", str(tmp_path / "missing" / "receipt.json"))
    out, file = StringIO(), tmp_path / "receipt.json"
    call_command("erase_workspace", "doomed", "--yes", "--json", "--receipt", str(file), stdout=out)
    assert json.loads(file.read_text()) == json.loads(out.getvalue())["receipt"]
    call_command("verify_receipt", str(file), "--json", stdout=StringIO())
    forged = json.loads(file.read_text())
    forged["body"]["counts"]["files"] = 0
    file.write_text(json.dumps(forged))
    with pytest.raises(CommandError, match="does not fit"):
        call_command("verify_receipt", str(file))
    out = StringIO()
    call_command("installation_key", "--json", stdout=out)
    assert json.loads(out.getvalue()) == receipts.signing_key()


def test_while_it_is_erased_nobody_gets_in(doomed, sign_in):
    lifecycle.begin_erasure(doomed)
    client = sign_in(Membership.objects.get(tenant=doomed).user)
    assert client.get("/w/doomed/").status_code == 404
    with pytest.raises(Refused, match="deleted"):
        lifecycle.resume(doomed)
    with pytest.raises(Refused, match="being erased"):
        provisioning.create_workspace("Doomed", "doomed")


@pytest.fixture
def unswept(monkeypatch) -> None:
    """No sweep goes on with an erasure meanwhile."""
    monkeypatch.setattr("tenants.sweeping._public_sweepers", [])


def was_made(tenant: Tenant) -> bool:
    return not {"schema", "role", "key", "wrapped key"}.isdisjoint(traces(tenant))


@pytest.mark.parametrize("job", ["lost", "waiting"])
def test_one_that_is_still_being_made_is_not_made_any_more(unswept, run_jobs, job):
    tenant = provisioning.open_workspace("Unborn", "unborn", None)
    lifecycle.begin_erasure(tenant)
    with pytest.raises(Refused, match="being erased"):
        provisioning.provision(tenant)
    with pytest.raises(Refused, match="being erased"):
        provisioning.retry(tenant)
    if job == "lost":
        django_rq.get_queue("default").connection.flushdb()
    assert run_jobs() == (job == "waiting")
    provisioning.resume_provisioning()
    assert run_jobs() == 0
    assert not was_made(tenant)
    erasure.erase_due()
    assert not Tenant.objects.filter(pk=tenant.pk).exists()


def test_a_job_to_make_one_that_is_gone_does_nothing(run_jobs):
    tenant = provisioning.open_workspace("Unborn", "unborn", None)
    erasure.erase(tenant)
    assert run_jobs() == 1
    assert not was_made(tenant)


def test_what_is_erased_gets_no_new_key(doomed, monkeypatch):
    monkeypatch.setattr(erasure, "_drop_schema", lambda tenant: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        erasure.erase(doomed)
    with pytest.raises(Refused, match="being erased"):
        provisioning.provision(doomed)
    assert not provider().holds(doomed.pk)


def test_two_workers_do_not_erase_the_same_one(doomed):
    def erase_due() -> None:
        try:
            erasure.erase_due()
        finally:
            connection.close()
            connections["operator"].close()

    lifecycle.schedule_deletion(doomed, 1)
    Tenant.objects.filter(pk=doomed.pk).update(delete_at=timezone.now())
    with alone_with(doomed.pk), ThreadPoolExecutor(1) as other:
        other.submit(erase_due).result()
    assert "key" in traces(doomed)
    with ThreadPoolExecutor(1) as other:
        other.submit(erase_due).result()
    assert traces(doomed) == []


def test_a_hold_forbids_it(doomed):
    lifecycle.hold(doomed, "Court order 12")
    with pytest.raises(Refused, match="Court order 12"):
        erasure.erase(doomed)
    Tenant.objects.filter(pk=doomed.pk).update(delete_at=timezone.now() - timedelta(hours=1))
    erasure.erase_due()
    assert "key" in traces(doomed)


def test_it_happens_when_its_day_has_come_and_not_before(doomed):
    lifecycle.schedule_deletion(doomed, 1)
    erasure.erase_due()
    assert "schema" in traces(doomed)
    Tenant.objects.filter(pk=doomed.pk).update(delete_at=timezone.now() - timedelta(seconds=1))
    erasure.erase_due()
    assert traces(doomed) == []


def test_others_are_untouched(doomed, workspace_a):
    with workspace(workspace_a):
        document = DocumentFactory()
        cache.set("here", 1)
    erasure.erase(doomed)
    with workspace(workspace_a):
        assert cache.get("here") == 1
        assert b"".join(storage.read(document.id, document.stored_name))
    assert provider().holds(workspace_a.pk)


def test_what_is_kept_while_others_are_erased_stays(doomed, monkeypatch):
    """Whose day has come is looked up once; what an owner decides meanwhile counts."""
    other, _ = provisioning.create_workspace("Other", "other")
    Tenant.objects.filter(pk__in=[doomed.pk, other.pk]).update(delete_at=timezone.now() - timedelta(seconds=1))
    drop, kept = erasure._drop_schema, []

    def while_dropping(tenant: Tenant) -> int:
        if not kept:
            kept.append(other if tenant.pk == doomed.pk else doomed)
            lifecycle.keep(Tenant.objects.get(pk=kept[0].pk))
        return drop(tenant)

    monkeypatch.setattr(erasure, "_drop_schema", while_dropping)
    erasure.erase_due()
    assert Tenant.objects.get(pk=kept[0].pk).status == Tenant.Status.ACTIVE
    assert provider().holds(kept[0].pk)
    assert Tenant.objects.filter(slug__in=["doomed", "other"]).count() == 1


def test_without_the_operators_login_nothing_is_begun(doomed, monkeypatch):
    monkeypatch.delitem(connections.settings, "operator")
    with pytest.raises(Refused, match="DB_PASSWORD_OPERATOR"):
        erasure.erase(doomed)
    assert Tenant.objects.get(pk=doomed.pk).status == Tenant.Status.ACTIVE
    assert was_made(doomed)
