"""Viewing as staff: asked for with a reason, known to the owners, for a time, reading only; and every way out of that."""

from datetime import UTC, datetime, timedelta
from itertools import product
from types import SimpleNamespace

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.utils import timezone

from documents.models import Collection, CollectionMember
from documents.receiving import create_collection
from search.models import SharedSearch
from tenants import staff_access
from tenants.context import public_context, workspace
from tenants.errors import Refused
from tenants.models import Domain, Membership, StaffAccess, Tenant
from tests.conftest import PASSWORD, SECRET
from tests.factories import DocumentFactory
from tests.one_time_code import one_time_code

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "operator"])
State = StaffAccess.State
REASON = "Ticket 7: a search finds nothing."


@pytest.fixture(autouse=True)
def _mail(settings):
    settings.MAIL_IS_CONFIGURED = True


@pytest.fixture
def staff(person):
    return person(None, email="staff@example.org", staff=True)


@pytest.fixture
def client_staff(staff, sign_in) -> Client:
    return sign_in(staff)


@pytest.fixture
def access(staff, owner, workspace_a) -> StaffAccess:
    return staff_access.request(workspace_a, staff, REASON, 30)


@pytest.fixture
def consented(access, owner) -> StaffAccess:
    staff_access.consent(access, owner)
    mail.outbox.clear()
    return access


def now_is(monkeypatch, **later) -> None:
    moment = datetime.now(UTC) + timedelta(**later)
    monkeypatch.setattr("django.utils.timezone.now", lambda: moment)


def decide(client, access, decision, slug="alpha"):
    return client.post(f"/w/{slug}/staff-access/{access.pk}/decide/", {"decision": decision})


# ---------------------------------------------------------------- asking


def test_staff_ask_in_the_console_and_every_owner_is_told(client_staff, owner, person, workspace_a):
    person("owner", workspace_a, email="second@example.org")
    person("admin", workspace_a, email="admin@example.org")
    page = f"/admin/tenants/tenant/{workspace_a.pk}/view-as-member/"
    response = client_staff.post(page, {"reason": REASON, "minutes": "30"}, follow=True)
    assert "The owners have been mailed" in response.content.decode()
    made = StaffAccess.objects.get()
    assert (made.state, made.reason, made.minutes) == (State.WAITING, REASON, 30)
    assert made.usable_from == made.requested_at + timedelta(hours=24)
    assert {message.to[0] for message in mail.outbox} == {"owner@example.org", "second@example.org"}
    assert "/w/alpha/staff-access/" in mail.outbox[0].body
    assert REASON in mail.outbox[0].body
    assert client_staff.get("/w/alpha/").status_code == 404


@pytest.mark.parametrize(("reason", "minutes"), [("", "30"), ("  ", "30"), (REASON, "1000"), (REASON, "")])
def test_without_a_reason_or_a_time_there_is_no_request(client_staff, owner, workspace_a, reason, minutes):
    page = f"/admin/tenants/tenant/{workspace_a.pk}/view-as-member/"
    assert client_staff.post(page, {"reason": reason, "minutes": minutes}).status_code == 422
    assert not StaffAccess.objects.exists()


@pytest.mark.parametrize("minutes", [14, 241])
def test_the_time_has_bounds(staff, owner, workspace_a, minutes):
    with pytest.raises(Refused):
        staff_access.request(workspace_a, staff, REASON, minutes)


def test_who_cannot_ask(staff, owner, viewer, access, workspace_a, workspace_b):
    with pytest.raises(Refused, match="already"):
        staff_access.request(workspace_a, staff, REASON, 30)
    with pytest.raises(Refused, match="Only staff"):
        staff_access.request(workspace_a, viewer, REASON, 30)
    with pytest.raises(Refused, match="no owner"):
        staff_access.request(workspace_b, staff, REASON, 30)
    Tenant.objects.filter(pk=workspace_a.pk).update(status="suspended")
    workspace_a.refresh_from_db()
    with pytest.raises(Refused, match="not active"):
        staff_access.request(workspace_a, staff, REASON, 30)


def test_when_no_owner_can_be_told_nothing_was_asked(staff, owner, workspace_a, mail_server):
    mail_server.is_away()
    with pytest.raises(Refused, match="could not be told"):
        staff_access.request(workspace_a, staff, REASON, 30)
    assert not StaffAccess.objects.exists()


def test_an_owner_who_was_told_keeps_the_request_whatever_happens_to_the_next(staff, owner, person, workspace_a, mail_server):
    person("owner", workspace_a, email="second@example.org")
    mail_server.refuses("second@example.org")
    made = staff_access.request(workspace_a, staff, REASON, 30)
    assert [message.to for message in mail.outbox] == [["owner@example.org"]]
    assert made.usable_from == made.requested_at + timedelta(hours=24)


def test_nothing_is_locked_while_the_mail_server_takes_its_time(staff, owner, workspace_a, monkeypatch):
    """And nobody waits out the delay of a request that no owner has been mailed yet."""

    def slow(tenant, subject, words):
        assert not connection.in_atomic_block
        assert StaffAccess.objects.get().usable_from is None
        return True

    monkeypatch.setattr("tenants.notices.tell_owners", slow)
    assert staff_access.request(workspace_a, staff, REASON, 30).usable_from is not None


def test_who_consents_before_the_mail_fails_has_consented(staff, owner, workspace_a, monkeypatch):
    def consented_meanwhile(tenant, subject, words):
        staff_access.consent(StaffAccess.objects.get(), owner)
        return False

    monkeypatch.setattr("tenants.notices.tell_owners", consented_meanwhile)
    staff_access.request(workspace_a, staff, REASON, 30)
    assert StaffAccess.objects.get().state == State.USABLE


def test_without_a_mail_server_only_consent_counts(settings, monkeypatch, staff, owner, workspace_a, client_staff):
    settings.MAIL_IS_CONFIGURED = False
    made = staff_access.request(workspace_a, staff, REASON, 30)
    assert made.usable_from is None
    now_is(monkeypatch, days=2)
    assert client_staff.get("/w/alpha/").status_code == 404
    staff_access.consent(made, owner)
    assert client_staff.get("/w/alpha/").status_code == 200


# ---------------------------------------------------------------- deciding


def test_an_owner_consents_and_staff_are_in_at_once(access, client_owner, client_staff):
    assert "asks to view" in client_owner.get("/w/alpha/").content.decode()
    mail.outbox.clear()
    assert decide(client_owner, access, "consent").status_code == 302
    page = client_staff.get("/w/alpha/")
    assert page.status_code == 200
    assert "You are viewing Alpha as staff until" in page.content.decode()
    assert REASON in page.content.decode()
    access.refresh_from_db()
    assert access.state == State.RUNNING
    assert access.ends_at == access.began_at + timedelta(minutes=30)
    assert [message.subject for message in mail.outbox] == ["staff@example.org (staff) is viewing Alpha"]
    client_staff.get("/w/alpha/documents/")
    assert len(mail.outbox) == 1
    assert "is viewing this workspace until" in client_owner.get("/w/alpha/").content.decode()


def test_an_owner_refuses(access, client_owner, client_staff, monkeypatch):
    decide(client_owner, access, "refuse")
    now_is(monkeypatch, hours=25)
    assert client_staff.get("/w/alpha/").status_code == 404
    assert decide(client_owner, access, "consent").status_code == 422
    assert StaffAccess.objects.get().state == State.REFUSED


def test_nobody_refuses_within_the_delay(access, client_staff, monkeypatch):
    now_is(monkeypatch, hours=23, minutes=59)
    assert client_staff.get("/w/alpha/").status_code == 404
    now_is(monkeypatch, hours=24, minutes=1)
    assert client_staff.get("/w/alpha/").status_code == 200


def test_a_consent_can_be_taken_back_before_it_is_used(consented, client_owner, client_staff):
    decide(client_owner, consented, "refuse")
    assert client_staff.get("/w/alpha/").status_code == 404


def test_nobody_admits_themselves(access, staff, workspace_a, sign_in):
    Membership.objects.create(user=staff, tenant=workspace_a, role="owner")
    assert decide(sign_in(staff), access, "consent").status_code == 422
    access.refresh_from_db()
    assert access.consented_at is None


@pytest.mark.parametrize("role", ["viewer", "editor", "admin"])
def test_only_owners_see_and_decide(access, person, sign_in, workspace_a, role):
    client = sign_in(person(role, workspace_a, email="other@example.org"))
    assert client.get("/w/alpha/staff-access/").status_code == 403
    assert decide(client, access, "consent").status_code == 403
    assert "asks to view" not in client.get("/w/alpha/").content.decode()


def test_another_workspaces_id_is_an_unknown_one(access, person, sign_in, workspace_b):
    from uuid import uuid4

    client = sign_in(person("owner", workspace_b, email="b@example.org"))
    foreign = decide(client, access, "consent", slug="beta")
    unknown = decide(client, SimpleNamespace(pk=uuid4()), "consent", slug="beta")
    assert foreign.status_code == unknown.status_code == 404
    access.refresh_from_db()
    assert access.consented_at is None


def test_nonsense_is_refused(access, client_owner):
    assert decide(client_owner, access, "dance").status_code == 422


def test_the_state_of_one_is_what_the_database_finds_of_many(staff, workspace_a):
    now = timezone.now()
    past, future = now - timedelta(minutes=5), now + timedelta(minutes=5)
    times = {
        "refused_at": (None, past),
        "ended_at": (None, past),
        "began_at": (None, past),
        "ends_at": (None, past, future),
        "lapses_at": (past, future),
        "consented_at": (None, past),
        "usable_from": (None, past, future),
    }
    same = {"tenant": workspace_a, "staff": staff, "staff_email": staff.email, "reason": REASON, "minutes": 30}
    StaffAccess.objects.bulk_create(
        StaffAccess(**same, **dict(zip(times, row, strict=True))) for row in product(*times.values())
    )
    made = StaffAccess.objects.all()
    for found, states in (
        (made.open(), (State.WAITING, State.USABLE, State.RUNNING)),
        (made.admitting(), (State.USABLE, State.RUNNING)),
        (made.running(), (State.RUNNING,)),
    ):
        assert {each.pk for each in found} == {each.pk for each in made if each.state in states} != set()
    assert {each.pk for each in made if each.is_open} == {each.pk for each in made.open()}


# ---------------------------------------------------------------- the end of it


def test_it_ends_when_its_time_is_over_and_the_owners_are_told(consented, client_staff, monkeypatch):
    assert client_staff.get("/w/alpha/").status_code == 200
    mail.outbox.clear()
    now_is(monkeypatch, minutes=31)
    assert client_staff.get("/w/alpha/").status_code == 404
    staff_access.close_expired()
    staff_access.close_expired()
    assert [message.subject for message in mail.outbox] == ["staff@example.org (staff) no longer views Alpha"]
    ended = StaffAccess.objects.get()
    assert ended.state == State.ENDED
    assert ended.ended_at == ended.ends_at


def test_an_owner_ends_it_at_once(consented, client_owner, client_staff):
    client_staff.get("/w/alpha/")
    assert decide(client_owner, consented, "refuse").status_code == 422
    assert decide(client_owner, consented, "end").status_code == 302
    assert client_staff.get("/w/alpha/").status_code == 404
    assert client_staff.post("/w/alpha/", {"q": "words"}).status_code == 404
    assert "no longer views" in mail.outbox[-1].subject


def test_what_is_not_running_cannot_be_ended_and_the_page_says_so(access, client_owner):
    response = decide(client_owner, access, "end")
    assert response.status_code == 422
    assert "is not viewing this workspace" in response.content.decode()
    assert "can no longer view" not in response.content.decode()
    access.refresh_from_db()
    assert access.state == State.WAITING


def test_staff_end_it_themselves(consented, client_staff, client_owner):
    client_staff.get("/w/alpha/")
    assert client_staff.post("/w/alpha/staff-access/leave/")["Location"] == "/admin/"
    assert client_staff.get("/w/alpha/").status_code == 404
    assert client_owner.post("/w/alpha/staff-access/leave/").status_code == 404


def test_what_is_not_used_lapses(consented, client_staff, monkeypatch):
    now_is(monkeypatch, days=9)
    assert client_staff.get("/w/alpha/").status_code == 404
    assert StaffAccess.objects.get().state == State.LAPSED


@pytest.mark.parametrize("lost", [{"is_staff": False}, {"is_active": False}])
@pytest.mark.parametrize("begun", [False, True])
def test_who_is_staff_no_more_is_out(consented, client_staff, staff, lost, begun):
    if begun:
        client_staff.get("/w/alpha/")
    type(staff).objects.filter(pk=staff.pk).update(**lost)
    assert client_staff.get("/w/alpha/").status_code in (302, 404)


def test_another_person_of_the_staff_is_not_let_in(consented, person, sign_in):
    assert sign_in(person(None, email="other-staff@example.org", staff=True)).get("/w/alpha/").status_code == 404


def test_another_workspace_is_not_opened(consented, client_staff, workspace_b):
    assert client_staff.get("/w/alpha/").status_code == 200
    foreign, unknown = client_staff.get("/w/beta/"), client_staff.get("/w/no-such/")
    assert foreign.status_code == unknown.status_code == 404


def test_a_suspended_workspace_is_closed_to_them_too_and_the_clock_does_not_start(consented, client_staff, workspace_a):
    Tenant.objects.filter(pk=workspace_a.pk).update(status="suspended")
    assert client_staff.get("/w/alpha/").status_code == 403
    consented.refresh_from_db()
    assert consented.began_at is None


def test_on_a_hostname_of_its_own(consented, staff, client_staff, workspace_a):
    """Signed in there too: a session belongs to the hostname it was begun on."""
    Domain.objects.create(domain="alpha.example.org", tenant=workspace_a)
    assert client_staff.get("/", headers={"host": "alpha.example.org"}).status_code == 302
    client = Client(headers={"host": "alpha.example.org"})
    client.post("/accounts/login/", {"login": staff.email, "password": PASSWORD})
    client.post("/accounts/2fa/authenticate/", {"code": one_time_code(SECRET)})
    assert client.get("/").status_code == 200


# ---------------------------------------------------------------- what they can do


def test_they_search_and_read_and_change_nothing(consented, client_staff, workspace_a):
    with workspace(workspace_a):
        collection = create_collection("Papers")
    assert client_staff.post("/w/alpha/", {"q": "words"}).status_code == 200
    for path, fields in (
        ("s/", {"q": "words"}),
        ("documents/upload/", {}),
        ("collections/create/", {"name": "New"}),
        (f"collections/{collection.pk}/delete/", {}),
        ("evaluation/upload/", {}),
        ("members/invite/", {"email": "x@example.org", "role": "viewer"}),
    ):
        assert client_staff.post(f"/w/alpha/{path}", fields).status_code == 403, path
    assert client_staff.put("/w/alpha/").status_code in (403, 405)
    assert client_staff.get("/w/alpha/staff-access/").status_code == 403
    with workspace(workspace_a):
        assert Collection.objects.count() == 1
        assert not SharedSearch.objects.exists()
    assert not Membership.objects.filter(user__email="staff@example.org").exists()


def test_without_a_second_factor_they_are_led_to_it_whatever_they_ask_for(consented, staff, sign_in):
    client = sign_in(staff, second_factor=False)
    for answer in (client.get("/w/alpha/"), client.post("/w/alpha/collections/create/", {"name": "New"})):
        assert answer.status_code == 302
        assert answer["Location"].startswith("/accounts/second-factor/")
    consented.refresh_from_db()
    assert consented.began_at is None


def test_restricted_collections_stay_hidden_even_if_they_once_were_named(consented, staff, client_staff, workspace_a):
    former = Membership.objects.create(user=staff, tenant=workspace_a, role="viewer")
    with workspace(workspace_a):
        hidden, shown = create_collection("Board minutes"), create_collection("Papers")
        Collection.objects.filter(pk=hidden.pk).update(restricted=True)
        CollectionMember.objects.create(collection=hidden, membership_id=former.pk)
    assert "Board minutes" in client_staff.get("/w/alpha/collections/").content.decode(), "as a member"
    former.delete()
    page = client_staff.get("/w/alpha/collections/").content.decode()
    assert "You are viewing Alpha as staff" in page
    assert (shown.name in page, "Board minutes" in page) == (True, False)


def test_owners_read_every_access_there_ever_was(consented, client_owner, client_staff, owner):
    client_staff.get("/w/alpha/")
    staff_access.end(StaffAccess.objects.get())
    page = client_owner.get("/w/alpha/staff-access/").content.decode()
    for words in ("staff@example.org", REASON, "Consented: owner@example.org"):
        assert words in page
    owner_gone = StaffAccess.objects.get()
    owner_gone.staff = None
    owner_gone.save()
    assert "staff@example.org" in client_owner.get("/w/alpha/staff-access/").content.decode()


def test_a_page_of_the_workspace_tells_owners_who_asks(access, client_owner):
    page = client_owner.get("/w/alpha/documents/").content.decode()
    assert "staff@example.org (staff) asks to view this workspace for 30 minutes." in page
    assert "/w/alpha/staff-access/" in page


def test_a_download_begun_before_the_end_stops(consented, client_staff, workspace_a, tmp_path, settings, monkeypatch):
    settings.FILES_DIR = tmp_path
    monkeypatch.setattr("tenants.middleware.ASK_SECONDS", -1)
    with workspace(workspace_a):
        document = DocumentFactory(content=b"x" * 2_000_000)
    pieces = client_staff.get(f"/w/alpha/documents/{document.pk}/download/").streaming_content
    begun = len(next(pieces))
    assert 0 < begun < 2_000_000
    with public_context():  # the stream has its workspace open, in this thread
        StaffAccess.objects.update(ended_at=timezone.now())
    assert list(pieces) == []


def test_a_members_download_is_whole(client_viewer, workspace_a, tmp_path, settings, monkeypatch):
    settings.FILES_DIR = tmp_path
    monkeypatch.setattr("tenants.middleware.ASK_SECONDS", -1)
    with workspace(workspace_a):
        document = DocumentFactory(content=b"x" * 2_000_000)
    response = client_viewer.get(f"/w/alpha/documents/{document.pk}/download/")
    assert len(b"".join(response.streaming_content)) == 2_000_000
