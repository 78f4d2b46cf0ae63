"""Rows that grant access, planted, changed and brought back by SQL: nobody gets in by them, and an alarm is raised."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.core import mail
from django.core.management import call_command
from django.db import connection, models, transaction
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tenants import alarms, people, seals, staff_access, witness
from tenants.audit.events import Event
from tenants.audit.models import Entry
from tenants.context import workspace
from tenants.models import Alarm, Domain, Invitation, Library, Membership, Session, StaffAccess, Subscription, Tenant, User
from tenants.permissions import Role
from tests.conftest import PASSWORD
from workspace import doctor

pytestmark = pytest.mark.django_db(transaction=True)


def sql(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """What somebody does who can write to the database."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def copied(row: Any) -> str:
    """The row as somebody may keep it who reads the database."""
    table = row._meta.db_table
    ((text,),) = sql(f"SELECT to_jsonb(row)::text FROM {table} row WHERE {row._meta.pk.column} = %s", row.pk)
    return str(text)


def bring_back(row: Any, copy: str, **but: Any) -> None:
    """The row as it was, seal and all, `but` for some columns."""
    table, pk = row._meta.db_table, row._meta.pk.column
    record = json.loads(copy) | but
    columns = ", ".join(f'"{name}"' for name in record)
    if sql(f"SELECT 1 FROM {table} WHERE {pk} = %s", record[pk]):
        changes = ", ".join(f'"{name}" = new."{name}"' for name in record if name != pk)
        sql(
            f"UPDATE {table} old SET {changes} FROM jsonb_populate_record(NULL::{table}, %s::jsonb) new "
            f"WHERE old.{pk} = new.{pk}",
            json.dumps(record),
        )
    else:
        sql(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM jsonb_populate_record(NULL::{table}, %s::jsonb)",
            json.dumps(record),
        )


def alarmed(row: Any, more: str = "") -> bool:
    return Alarm.objects.filter(kind=Alarm.Kind.ROW, subject=seals.subject(type(row), row.pk, more), settled_at=None).exists()


def enters(client: Client, tenant: Tenant) -> int:
    return client.get(tenant.path).status_code


def sign_in_by_password(email: str, password: str = PASSWORD) -> Client | None:
    """The client when the person is in, or asked for a second factor."""
    client = Client()
    answer = client.post("/accounts/login/", {"login": email, "password": password})
    return client if answer.status_code == 302 else None


# ---------------------------------------------------------------- memberships and roles


def test_a_planted_membership_admits_nobody(owner: User, person: Any, workspace_a: Tenant, sign_in: Any) -> None:
    stranger = person(None, email="stranger@example.org")
    client = sign_in(stranger)
    theirs = Membership.objects.get(user=owner)
    sql(
        "INSERT INTO tenants_membership (user_id, tenant_id, role, seal) SELECT %s, tenant_id, role, seal "
        "FROM tenants_membership WHERE id = %s",
        stranger.pk,
        theirs.pk,
    )
    planted = Membership.objects.get(user=stranger)
    assert enters(client, workspace_a) == 404
    assert workspace_a.name not in client.get("/?all").content.decode()
    assert alarmed(planted)
    assert enters(sign_in(owner), workspace_a) == 200


def test_a_role_changed_by_sql_is_worth_nothing(viewer: User, owner: User, workspace_a: Tenant, sign_in: Any) -> None:
    own = Membership.objects.get(user=viewer)
    sql("UPDATE tenants_membership SET role = 'owner' WHERE id = %s", own.pk)
    assert enters(sign_in(viewer), workspace_a) == 404
    assert alarmed(own)


def test_a_membership_of_another_workspace_is_not_one_of_this(
    viewer: User, owner: User, workspace_a: Tenant, workspace_b: Tenant, sign_in: Any
) -> None:
    own = Membership.objects.get(user=viewer)
    sql("UPDATE tenants_membership SET tenant_id = %s WHERE id = %s", workspace_b.pk, own.pk)
    assert enters(sign_in(viewer), workspace_b) == 404
    assert alarmed(own)


def test_a_removed_member_is_not_brought_back(viewer: User, owner: User, workspace_a: Tenant, sign_in: Any) -> None:
    own = Membership.objects.get(user=viewer)
    copy, tenant = copied(own), copied(workspace_a)
    people.remove(workspace_a, viewer.pk, by=owner.pk)
    bring_back(own, copy)
    assert enters(sign_in(viewer), workspace_a) == 404
    assert alarmed(own)
    bring_back(workspace_a, tenant)  # the whole roster as it was is no better
    assert enters(sign_in(viewer), workspace_a) == 404


def test_a_former_role_is_not_brought_back(owner: User, person: Any, workspace_a: Tenant, sign_in: Any) -> None:
    admin = person("admin", workspace_a)
    own = Membership.objects.get(user=admin)
    copy = copied(own)
    people.change_role(workspace_a, admin.pk, Role.VIEWER, by=owner.pk)
    assert enters(sign_in(admin), workspace_a) == 200
    bring_back(own, copy)
    assert enters(sign_in(admin), workspace_a) == 404
    assert alarmed(own)


def test_what_was_planted_is_not_sealed_by_the_next_change(owner: User, person: Any, workspace_a: Tenant, sign_in: Any) -> None:
    stranger = person(None, email="stranger@example.org")
    sql("INSERT INTO tenants_membership (user_id, tenant_id, role) VALUES (%s, %s, 'owner')", stranger.pk, workspace_a.pk)
    person("editor", workspace_a)
    person("viewer", workspace_a)
    planted = Membership.objects.get(user=stranger)
    planted.save()
    Membership.objects.filter(pk=planted.pk).update(role=Role.ADMIN)
    assert enters(sign_in(stranger), workspace_a) == 404
    assert alarmed(planted)


def test_the_members_page_says_what_is_not_valid_and_it_can_be_removed(
    client_owner: Client, person: Any, workspace_a: Tenant
) -> None:
    stranger = person(None, email="stranger@example.org")
    sql("INSERT INTO tenants_membership (user_id, tenant_id, role) VALUES (%s, %s, 'owner')", stranger.pk, workspace_a.pk)
    page = client_owner.get(f"{workspace_a.path}members/").content.decode()
    assert "Not valid" in page
    assert "not by Cloister" in page
    assert people.owners_besides(workspace_a.pk, None)[0].user.email == "owner@example.org"
    client_owner.post(f"{workspace_a.path}members/{stranger.pk}/remove/")
    assert not Membership.objects.filter(user=stranger).exists()


def test_somebody_planted_can_still_be_invited(owner: User, person: Any, workspace_a: Tenant, sign_in: Any) -> None:
    stranger = person(None, email="stranger@example.org")
    sql("INSERT INTO tenants_membership (user_id, tenant_id, role) VALUES (%s, %s, 'owner')", stranger.pk, workspace_a.pk)
    offer = people.invite(workspace_a, stranger.email, Role.VIEWER, owner)
    assert people.accept(offer, stranger).role == Role.VIEWER
    assert enters(sign_in(stranger), workspace_a) == 200


# ---------------------------------------------------------------- the workspace's own row, hostnames


def test_a_second_factor_is_not_switched_off_by_sql(owner: User, workspace_a: Tenant, sign_in: Any) -> None:
    workspace_a.require_mfa = True
    workspace_a.save()
    client = sign_in(owner)
    assert enters(client, workspace_a) == 302
    sql("UPDATE tenants_tenant SET require_mfa = false WHERE id = %s", workspace_a.pk)
    assert enters(client, workspace_a) == 404
    assert alarmed(workspace_a)


def test_a_workspace_is_not_resumed_or_moved_by_sql(
    owner: User, workspace_a: Tenant, workspace_b: Tenant, sign_in: Any
) -> None:
    client = sign_in(owner)
    for change in ("status = 'suspended'", "slug = 'gamma'", "schema_name = 'tenant_other'", "db_role = 'other'"):
        copy = copied(workspace_a)
        sql(f"UPDATE tenants_tenant SET {change} WHERE id = %s", workspace_a.pk)
        assert enters(client, Tenant.objects.get(pk=workspace_a.pk)) == 404
        bring_back(workspace_a, copy)
        assert enters(client, workspace_a) == 200


def test_a_planted_hostname_leads_nowhere(owner: User, workspace_a: Tenant, workspace_b: Tenant) -> None:
    domain = Domain.objects.create(domain="alpha.example.org", tenant=workspace_a)
    assert Client(HTTP_HOST="alpha.example.org").get("/").status_code == 302
    copy = copied(domain)
    sql("UPDATE tenants_domain SET tenant_id = %s WHERE id = %s", workspace_b.pk, domain.pk)
    assert Client(HTTP_HOST="alpha.example.org").get("/").status_code == 404
    assert alarmed(domain)
    bring_back(domain, copy)
    Domain.objects.get(pk=domain.pk).delete()
    bring_back(domain, copy)
    assert Client(HTTP_HOST="alpha.example.org").get("/").status_code == 404
    sql("INSERT INTO tenants_domain (domain, is_primary, tenant_id) VALUES ('x.example.org', false, %s)", workspace_a.pk)
    assert Client(HTTP_HOST="x.example.org").get("/").status_code == 404


# ---------------------------------------------------------------- invitations


def invitation_page(offer: Invitation) -> str:
    return f"/invitation/{people.token_of(offer)}/"


@pytest.mark.parametrize("change", ["role = 'owner'", "email = 'other@example.org'", "expires_at = now() + interval '9 years'"])
def test_a_changed_invitation_is_none(change: str, owner: User, workspace_a: Tenant) -> None:
    offer = people.invite(workspace_a, "new@example.org", Role.VIEWER, owner)
    assert Client().get(invitation_page(offer)).status_code == 200
    sql(f"UPDATE tenants_invitation SET {change} WHERE id = %s", offer.pk)
    assert Client().get(invitation_page(offer)).status_code == 410
    assert alarmed(offer)
    assert not people.is_invited("other@example.org")


def test_an_accepted_or_withdrawn_invitation_is_not_brought_back(
    owner: User, person: Any, workspace_a: Tenant, sign_in: Any
) -> None:
    guest = person(None, email="guest@example.org")
    offer = people.invite(workspace_a, guest.email, Role.ADMIN, owner)
    copy = copied(offer)
    people.accept(offer, guest)
    people.remove(workspace_a, guest.pk, by=owner.pk)
    bring_back(offer, copy)
    assert sign_in(guest).post(invitation_page(offer)).status_code == 410
    assert alarmed(offer)
    Invitation.objects.get(pk=offer.pk).delete()
    bring_back(offer, copy)
    assert sign_in(guest).post(invitation_page(offer)).status_code == 410
    sql("UPDATE tenants_invitation SET accepted_at = NULL WHERE id = %s", offer.pk)
    assert not people.is_invited(guest.email)


# ---------------------------------------------------------------- staff


def test_nobody_becomes_staff_by_sql(person: Any, sign_in: Any) -> None:
    somebody = person(None)
    client = sign_in(somebody, second_factor=True)
    sql("UPDATE tenants_user SET is_staff = true, is_superuser = true WHERE id = %s", somebody.pk)
    assert client.get("/admin/").status_code == 302
    assert "login" in client.get("/admin/", follow=True).redirect_chain[-1][0]
    assert alarmed(somebody)


def test_staff_who_were_dismissed_are_not_brought_back(person: Any, sign_in: Any) -> None:
    staff = person(None, staff=True)
    copy = copied(staff)
    client = sign_in(staff)
    assert client.get("/admin/").status_code == 200
    staff.refresh_from_db()
    staff.is_staff = staff.is_superuser = False
    staff.save()
    bring_back(staff, copy)
    assert client.get("/admin/").status_code == 302
    assert alarmed(staff)


def test_single_permissions_by_sql_open_nothing(person: Any) -> None:
    somebody = person(None)
    sql(
        "INSERT INTO tenants_user_user_permissions (user_id, permission_id) "
        "SELECT %s, id FROM auth_permission WHERE codename = 'view_user'",
        somebody.pk,
    )
    assert not User.objects.get(pk=somebody.pk).has_perm("tenants.view_user")


def test_an_access_of_staff_is_not_made_or_reopened_by_sql(owner: User, person: Any, workspace_a: Tenant, sign_in: Any) -> None:
    staff = person(None, staff=True)
    client = sign_in(staff)
    access = staff_access.request(workspace_a, staff, "A ticket", 30)
    sql("UPDATE tenants_staffaccess SET consented_at = now() WHERE id = %s", access.pk)
    assert enters(client, workspace_a) == 404
    assert alarmed(access)
    sql("UPDATE tenants_staffaccess SET consented_at = NULL WHERE id = %s", access.pk)
    staff_access.consent(StaffAccess.objects.get(pk=access.pk), owner)
    assert enters(client, workspace_a) == 200
    running = StaffAccess.objects.get(pk=access.pk)
    copy = copied(running)
    assert staff_access.end(running)
    assert enters(client, workspace_a) == 404
    bring_back(access, copy)
    assert enters(client, workspace_a) == 404
    sql("UPDATE tenants_staffaccess SET ended_at = NULL, ends_at = now() + interval '1 day' WHERE id = %s", access.pk)
    assert enters(client, workspace_a) == 404


# ---------------------------------------------------------------- people: passwords, addresses, second factors, identities


def test_another_persons_password_is_not_ones_own(person: Any, viewer: User, owner: User) -> None:
    theirs = "(SELECT password FROM tenants_user WHERE id = %s)"
    sql(f"UPDATE tenants_user SET password = {theirs} WHERE id = %s", viewer.pk, owner.pk)
    assert sign_in_by_password(owner.email) is None
    assert alarmed(owner)
    assert sign_in_by_password(viewer.email) is not None


def test_a_former_password_is_not_brought_back(viewer: User, workspace_a: Tenant) -> None:
    copy = copied(viewer)
    viewer.refresh_from_db()
    viewer.set_password("another-long-one-0")
    viewer.save()
    assert sign_in_by_password(viewer.email, "another-long-one-0") is not None
    bring_back(viewer, copy)
    assert sign_in_by_password(viewer.email) is None
    assert alarmed(viewer)


def test_a_deactivated_person_is_not_activated_by_sql(viewer: User, workspace_a: Tenant, sign_in: Any) -> None:
    viewer.is_active = False
    viewer.save()
    client = sign_in(viewer)
    sql("UPDATE tenants_user SET is_active = true WHERE id = %s", viewer.pk)
    assert enters(client, workspace_a) == 302
    assert sign_in_by_password(viewer.email) is None
    assert alarmed(viewer)


def test_an_address_is_not_verified_by_sql(person: Any) -> None:
    somebody = people.create_person("claimed@example.org", PASSWORD, verified=False)
    sql("UPDATE account_emailaddress SET verified = true WHERE user_id = %s", somebody.pk)
    assert sign_in_by_password(somebody.email) is None
    assert alarmed(somebody, "ways to sign in")


def test_no_link_for_a_new_password_goes_to_a_planted_address(owner: User, mail_server: Any) -> None:
    sql(
        'INSERT INTO account_emailaddress (user_id, email, verified, "primary") VALUES (%s, %s, true, false)',
        owner.pk,
        "thief@example.org",
    )
    Client().post("/accounts/password/reset/", {"email": "thief@example.org"})
    assert not [message for message in mail.outbox if "password/reset/key" in message.body]
    assert alarmed(owner, "ways to sign in")


def test_a_removed_second_factor_is_not_brought_back(owner: User, workspace_a: Tenant, sign_in: Any) -> None:
    client = sign_in(owner, second_factor=True)
    workspace_a.require_mfa = True
    workspace_a.save()
    assert enters(client, workspace_a) == 200
    app = Authenticator.objects.get(user=owner)
    copy = copied(app)
    app.delete()
    assert enters(client, workspace_a) == 302
    sql("INSERT INTO mfa_authenticator SELECT * FROM jsonb_populate_record(NULL::mfa_authenticator, %s::jsonb)", copy)
    assert enters(client, workspace_a) == 302
    assert alarmed(owner, "ways to sign in")
    assert client.get("/accounts/2fa/").status_code == 404


def test_a_second_factor_deleted_by_sql_does_not_let_the_password_in_alone(owner: User, sign_in: Any) -> None:
    sign_in(owner, second_factor=True)
    assert sign_in_by_password(owner.email) is not None
    sql("DELETE FROM mfa_authenticator WHERE user_id = %s", owner.pk)
    assert sign_in_by_password(owner.email) is None
    assert alarmed(owner, "ways to sign in")


def test_a_planted_identity_signs_nobody_in(owner: User, viewer: User, rf: Any) -> None:
    SocialAccount.objects.create(user=viewer, provider="oidc", uid="1")
    assert seals.ways_stand(viewer)
    sql("UPDATE socialaccount_socialaccount SET user_id = %s WHERE uid = '1'", owner.pk)
    assert not seals.ways_stand(owner)
    assert not seals.ways_stand(viewer)


def test_a_session_row_is_no_cookie(owner: User, workspace_a: Tenant, sign_in: Any) -> None:
    sign_in(owner)
    row = Session.objects.get(user=owner)
    client = Client()
    client.cookies["sessionid"] = row.session_key
    assert enters(client, workspace_a) == 302


# ---------------------------------------------------------------- alarms


def test_an_alarm_is_open_once_and_counted(viewer: User, workspace_a: Tenant, sign_in: Any, caplog: Any) -> None:
    own = Membership.objects.get(user=viewer)
    sql("UPDATE tenants_membership SET role = 'admin' WHERE id = %s", own.pk)
    client = sign_in(viewer)
    for _ in range(3):
        enters(client, workspace_a)
    alarm = Alarm.objects.get()
    assert alarm.times >= 3
    assert alarm.tenant == workspace_a
    assert len([record for record in caplog.records if record.getMessage().startswith("alarm:")]) == 1
    assert alarms.settle(alarm, "Looked into it")
    enters(client, workspace_a)
    assert Alarm.objects.filter(settled_at=None).count() == 1
    assert Alarm.objects.count() == 2


def test_an_alarm_outlives_the_transaction_it_was_raised_in(viewer: User, workspace_a: Tenant) -> None:
    own = Membership.objects.get(user=viewer)
    sql("UPDATE tenants_membership SET role = 'admin' WHERE id = %s", own.pk)
    with suppress(ZeroDivisionError), transaction.atomic():
        assert not seals.stands(Membership.objects.get(pk=own.pk))
        1 / 0  # noqa: B018
    alarms.flush()  # as at the end of a request
    assert alarmed(own)


# ---------------------------------------------------------------- crashes, and several at once


def test_killed_between_the_commit_and_the_witness(
    viewer: User, owner: User, workspace_a: Tenant, sign_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Membership.objects.get(user=viewer)
    copy, name = copied(own), f"roster/{workspace_a.pk}"
    with monkeypatch.context() as patch:
        patch.setattr(witness, "raise_number", lambda *args: None)
        people.change_role(workspace_a, viewer.pk, Role.EDITOR, by=owner.pk)
        before = witness.number(name)
    assert enters(sign_in(owner), workspace_a) == 200  # what was committed stands, and is made up for by whoever reads it
    assert witness.number(name) == before + 1
    bring_back(own, copy)
    assert enters(sign_in(viewer), workspace_a) == 404


def test_killed_before_the_commit(viewer: User, owner: User, workspace_a: Tenant, sign_in: Any) -> None:
    with suppress(ZeroDivisionError), transaction.atomic():
        people.change_role(workspace_a, viewer.pk, Role.ADMIN, by=owner.pk)
        1 / 0  # noqa: B018
    assert enters(sign_in(viewer), workspace_a) == 200
    assert Membership.objects.get(user=viewer).role == Role.VIEWER
    assert not Alarm.objects.exists()


def test_changes_of_a_roster_at_once_lose_no_seal(owner: User, person: Any, workspace_a: Tenant) -> None:
    members = [person("viewer", workspace_a, email=f"m{number}@example.org") for number in range(8)]
    problems: list[BaseException] = []

    def change(user: User, number: int) -> None:
        try:
            for role in (Role.EDITOR, Role.ADMIN, Role.VIEWER):
                people.change_role(workspace_a, user.pk, role, by=owner.pk)
            user.set_password(f"{PASSWORD}-{number}")
            user.save()
            people.invite(workspace_a, f"i{number}@example.org", Role.VIEWER, owner)
        except BaseException as error:
            problems.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=change, args=(user, number)) for number, user in enumerate(members)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not problems
    assert len(seals.standing(Membership.objects.filter(tenant=workspace_a).select_related("tenant"))) == 9
    assert all(map(seals.stands, Invitation.objects.all()))
    assert all(seals.person_stands(user) for user in User.objects.all())
    assert not seals.differing()
    assert not Alarm.objects.exists()


def test_a_reader_beside_changes_raises_no_alarm(owner: User, viewer: User, workspace_a: Tenant, sign_in: Any) -> None:
    """A row read just before a change is older than the witness just after it."""
    stale = Membership.objects.select_related("tenant").get(user=viewer)
    people.change_role(workspace_a, viewer.pk, Role.EDITOR, by=owner.pk)
    assert seals.standing([stale])
    assert stale.role == Role.EDITOR
    assert not Alarm.objects.exists()


# ---------------------------------------------------------------- deletions


def test_who_is_deleted_takes_nobody_with_them(owner: User, person: Any, workspace_a: Tenant, sign_in: Any) -> None:
    admin = person("admin", workspace_a)
    offer = people.invite(workspace_a, "new@example.org", Role.VIEWER, admin)
    gone = User.objects.get(pk=admin.pk)
    copy = copied(gone)
    gone.delete()
    offer.refresh_from_db()
    assert seals.stands(offer)
    assert enters(sign_in(owner), workspace_a) == 200
    assert not Alarm.objects.exists()
    sql("INSERT INTO tenants_user SELECT * FROM jsonb_populate_record(NULL::tenants_user, %s::jsonb)", copy)
    assert not seals.stands(User.objects.get(pk=admin.pk))


def test_many_at_once(owner: User, person: Any, workspace_a: Tenant) -> None:
    users = [person(None, email=f"m{number}@example.org") for number in range(3)]
    made = Membership.objects.bulk_create([Membership(user=user, tenant=workspace_a, role=Role.VIEWER) for user in users])
    assert all(map(seals.stands, made[:1] + list(Membership.objects.filter(tenant=workspace_a))))
    Membership.objects.filter(user__in=users).update(role=Role.EDITOR)
    assert all(map(seals.stands, Membership.objects.filter(tenant=workspace_a)))
    kept = Membership.objects.get(user=users[0])
    copy = copied(kept)
    assert Membership.objects.filter(user__in=users).delete()[0] == 3
    bring_back(kept, copy)
    assert not seals.stands(Membership.objects.get(pk=kept.pk))


def test_what_is_not_sealed_is_changed_without_a_new_seal(workspace_a: Tenant, owner: User) -> None:
    name = f"roster/{workspace_a.pk}"
    before = witness.number(name)
    workspace_a.refresh_from_db()
    workspace_a.quota_members = 7
    workspace_a.save()
    owner.name = "Somebody Else"
    owner.save()
    assert witness.number(name) == before
    assert seals.stands(Tenant.objects.get(pk=workspace_a.pk))
    assert seals.stands(User.objects.get(pk=owner.pk))


# ---------------------------------------------------------------- the first seal, and a restored database


def forget_seals() -> None:
    for table in ("tenants_tenant", "tenants_membership", "tenants_domain", "tenants_invitation", "tenants_staffaccess"):
        sql(f"UPDATE {table} SET seal = ''")
    sql("UPDATE tenants_user SET seal = '', ways_seal = ''")
    for directory in ("roster", "person"):
        for name in witness.names(directory):
            witness.forget(name)
    witness.forget(seals.MARK)


def test_an_installation_from_before_is_sealed_once(owner: User, person: Any, workspace_a: Tenant, sign_in: Any) -> None:
    forget_seals()
    assert enters(sign_in(owner), workspace_a) == 302
    assert seals.begin()
    assert enters(sign_in(owner), workspace_a) == 200
    assert not seals.differing()
    assert not seals.is_old()
    stranger = person(None, email="stranger@example.org")
    sql("INSERT INTO tenants_membership (user_id, tenant_id, role) VALUES (%s, %s, 'owner')", stranger.pk, workspace_a.pk)
    assert not seals.begin()  # never again
    assert enters(sign_in(stranger), workspace_a) == 404
    witness.forget(seals.MARK)  # a witness that is lost is no reason to seal what is there
    assert not seals.begin()
    assert enters(sign_in(stranger), workspace_a) == 404
    assert Alarm.objects.filter(kind=Alarm.Kind.OLD_DATABASE, settled_at=None).exists()


def test_a_lost_witness_takes_no_older_database_for_ours(owner: User, viewer: User, workspace_a: Tenant) -> None:
    """Every row of it is sealed and fits: without the witness nothing says that it is older."""
    witness.forget(seals.MARK)
    assert seals.begin(), "killed after the sealing, it goes on"
    for name in (seals.MARK, seals.BEGUN):
        witness.forget(name)
    assert not seals.differing()
    assert not seals.begin()
    assert seals.is_old()
    assert Alarm.objects.filter(kind=Alarm.Kind.OLD_DATABASE, settled_at=None).exists()
    witness.keep(seals.BEGUN, {})
    assert seals.begin()


def test_a_restored_database_lets_in_once_staff_accept_it(
    owner: User, viewer: User, workspace_a: Tenant, sign_in: Any, capsys: Any
) -> None:
    everything = [(row, copied(row)) for model in seals.SHEETS for row in model.objects.all()]
    people.change_role(workspace_a, viewer.pk, Role.EDITOR, by=owner.pk)
    for user in (owner, viewer):
        user.refresh_from_db()
        user.set_password("another-long-one-0")
        user.save()
    for row, copy in everything:
        bring_back(row, copy)
    assert seals.is_old()
    assert doctor.access().state == "repair"
    assert sign_in_by_password(owner.email) is None
    call_command("accept_restore", reason="Disk failed", yes=True, json=True)
    answer = json.loads(capsys.readouterr().out)
    assert answer["differing"]["tenants_membership"] == 2
    assert not seals.is_old()
    assert not seals.differing()
    client = sign_in_by_password(owner.email)
    assert client is not None
    assert enters(client, workspace_a) == 200
    assert doctor.access().state == "ok"
    with workspace(workspace_a):
        entry = Entry.objects.filter(event=Event.RESTORE_ACCEPTED).get()
        assert entry.details["reason"] == "Disk failed"


# ---------------------------------------------------------------- every column, every swap

VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.uuids() | st.datetimes(timezones=st.just(UTC))


@given(st.data())
@hypothesis_settings(max_examples=300, deadline=None)
def test_any_other_value_place_or_seal_is_refused(data: st.DataObject) -> None:
    """Whatever is changed in what was sealed: a value or its type, the table, the scope, the version, a bit of the seal."""
    model = data.draw(st.sampled_from(sorted(seals.SHEETS, key=str)))
    columns = seals.SHEETS[model]
    values = tuple(data.draw(VALUES) for _ in columns)
    name = (data.draw(st.sampled_from(["roster", "person"])), data.draw(st.integers(1, 9)))
    version = data.draw(st.integers(1, 2**40))
    seal = seals._seal(model._meta.db_table, name, version, columns, values)
    assert seals._fits(model, name, values, seal)
    place = data.draw(st.integers(0, len(columns) - 1))
    other = data.draw(VALUES.filter(lambda value: (type(value), value) != (type(values[place]), values[place])))
    assert not seals._fits(model, name, (*values[:place], other, *values[place + 1 :]), seal)
    assert not seals._fits(model, (name[0], name[1] + 1), values, seal)
    assert not seals._fits(model, ("roster" if name[0] == "person" else "person", name[1]), values, seal)
    bit = data.draw(st.integers(0, len(seal) * 8 - 1))
    flipped = bytearray(seal)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not seals._fits(model, name, values, bytes(flipped))
    assert not seals._fits(model, name, values, seal[: data.draw(st.integers(0, len(seal) - 1))])
    first, second = sorted({place, data.draw(st.integers(0, len(columns) - 1))} | {0, len(columns) - 1})[:2]
    swapped = list(values)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    if (type(values[first]), values[first]) != (type(values[second]), values[second]):
        assert not seals._fits(model, name, swapped, seal)
    for another in seals.SHEETS:
        if another is not model and len(seals.SHEETS[another]) == len(columns):
            assert not seals._fits(another, name, values, seal)


def test_no_seal_of_one_row_fits_another(
    owner: User, viewer: User, person: Any, workspace_a: Tenant, workspace_b: Tenant
) -> None:
    person("editor", workspace_b)
    Domain.objects.create(domain="alpha.example.org", tenant=workspace_a)
    people.invite(workspace_a, "new@example.org", Role.VIEWER, owner)
    people.invite(workspace_a, "", Role.EDITOR, owner)
    rows = [row for model in seals.SHEETS for row in model.objects.all()]
    for row in rows:
        for other in rows:
            seal = bytes(other.seal)
            assert seals._fits(type(row), seals._name_of(row), seals._values(row), seal) is (row is other)


@pytest.mark.parametrize("model", sorted(seals.SHEETS, key=str), ids=lambda model: model.__name__)
def test_every_sealed_column_of_a_real_row_counts(
    model: Any, owner: User, person: Any, workspace_a: Tenant, mail_server: Any
) -> None:
    Domain.objects.create(domain="alpha.example.org", tenant=workspace_a)
    people.invite(workspace_a, "new@example.org", Role.VIEWER, owner)
    staff_access.request(workspace_a, person(None, staff=True), "A ticket", 30)
    Subscription.objects.create(tenant=workspace_a, library=Library.objects.create(tenant=workspace_a, description="Rules"))
    row = model.objects.first()
    assert seals.stands(row)
    for column in seals.SHEETS[model]:
        value = getattr(row, column)
        other: Any = {
            bool: lambda v: not v,
            int: lambda v: v + 1,
            str: lambda v: v + "x",
            UUID: lambda v: UUID(int=v.int ^ 1),
            datetime: lambda v: v + timedelta(microseconds=1),
            type(None): lambda v: timezone.now(),
        }[type(value)](value)
        setattr(row, column, other)
        name = seals._name_of(workspace_a if model in seals.ROSTER else row)
        assert not seals._fits(model, name, seals._values(row), bytes(row.seal))
        setattr(row, column, value)


def test_a_deleted_persons_place_is_no_good_to_whoever_gets_their_number(
    owner: User, workspace_a: Tenant, person: Callable[..., User]
) -> None:
    gone = person("admin", workspace_a)
    kept = Membership.objects.get(user=gone)
    number, seal = gone.pk, bytes(kept.seal)
    gone.delete()
    heir = User.objects.create_user("heir@example.org", "a-long-password")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tenants_user SET id = %s WHERE id = %s", [number, heir.pk])
        cursor.execute(
            "INSERT INTO tenants_membership (user_id, tenant_id, role, seal) VALUES (%s, %s, 'admin', %s)",
            [number, workspace_a.pk, seal],
        )
    assert not seals.stands(Membership.objects.get(user_id=number))


def test_a_thousand_members_are_sealed_by_a_few_statements(
    owner: User, workspace_a: Tenant, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    users = []
    for number in range(1000):
        users.append(User(email=f"m{number}@example.org", password="!"))
    models.QuerySet(User).bulk_create(users)
    Membership.objects.bulk_create([Membership(user=user, tenant=workspace_a, role=Role.VIEWER) for user in users])
    with django_assert_max_num_queries(40):
        people.change_role(workspace_a, users[5].pk, Role.EDITOR, by=owner.pk)
    member = Membership.objects.get(user=users[999])
    assert seals.stands(member)
