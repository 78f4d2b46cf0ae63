"""What workspaces and people may be called, wherever a name comes in."""

import pytest
from django.core import mail
from django.test import Client

from tenants import names, people, provisioning
from tenants.errors import Refused
from tenants.models import Tenant, User
from tenants.oidc.adapter import SocialAccountAdapter

FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}"
UNSHOWN = ["a\ab", "\N{RIGHT-TO-LEFT OVERRIDE}txt", "a\0b", "\N{ZERO WIDTH JOINER}"]


@pytest.mark.parametrize(
    "typed", ["Two\nlines", " Two \r\n\t lines ", "Two\N{LINE SEPARATOR}lines", "Two\N{NO-BREAK SPACE}lines"]
)
def test_a_name_is_one_line(typed):
    assert names.of_workspace(typed) == names.of_person(typed) == names.checked_reason(typed) == "Two lines"


@pytest.mark.parametrize("typed", [*UNSHOWN, "x" * 301])
@pytest.mark.parametrize("check", [names.of_workspace, names.of_person, names.checked_reason])
def test_what_cannot_be_shown_or_is_too_long_is_refused(check, typed):
    with pytest.raises(Refused, match="can be shown"):
        check(typed)


def test_only_a_person_may_be_without_a_name():
    assert names.of_person(" ") == ""
    for check in (names.of_workspace, names.checked_reason):
        with pytest.raises(Refused):
            check(" \n")


def test_invisible_letters_that_words_need_are_kept():
    for word in (FAMILY, "می\N{ZERO WIDTH NON-JOINER}روم"):
        assert names.of_person(word) == names.told_of_person(word) == word


@pytest.mark.parametrize(
    ("told", "kept"), [("Ann\nMiller", "Ann Miller"), ("An\an", "Ann"), ("x" * 300, "x" * 200), (UNSHOWN[-1] * 300, "")]
)
def test_of_a_name_that_a_provider_gives_what_can_be_shown_is_kept(told, kept):
    assert names.told_of_person(told) == kept


@pytest.mark.django_db
class TestWhereItComesIn:
    def test_a_new_workspace(self, settings, client_owner, workspace_a):
        settings.SIGN_UP_OPEN = True
        client_owner.post("/workspaces/new/", {"name": "Two\nlines", "slug": "two"})
        assert Tenant.objects.get(slug="two").name == "Two lines"
        refused = client_owner.post("/workspaces/new/", {"name": "Bell\a", "slug": "three"})
        assert refused.status_code == 422
        assert "characters that can be shown" in refused.content.decode()

    def test_a_verb(self):
        assert provisioning.request_workspace("Two\nlines", "two", None).name == "Two lines"
        with pytest.raises(Refused, match="can be shown"):
            provisioning.request_workspace("\a", "three", None)
        assert not Tenant.objects.filter(slug="three").exists()
        assert people.create_person("a@example.org", None, name="Ann\nMiller").name == "Ann Miller"

    def test_the_console(self, person, sign_in, workspace_a):
        staff = sign_in(person(None, email="staff@example.org", staff=True))
        page = f"/admin/tenants/tenant/{workspace_a.pk}/change/"
        inlines = {f"{of}-{field}": "0" for of in ("domains", "memberships") for field in ("TOTAL_FORMS", "INITIAL_FORMS")}
        assert "characters that can be shown" in staff.post(page, inlines | {"name": "Bell\a"}).content.decode()
        assert staff.post(page, inlines | {"name": "Alpha\nand more"}).status_code == 302
        workspace_a.refresh_from_db()
        assert workspace_a.name == "Alpha and more"
        staff.post("/admin/tenants/tenant/add/", {"name": "Two\nlines", "slug": "two"})
        assert Tenant.objects.get(slug="two").name == "Two lines"
        new = inlines | {"email": "new@example.org", "name": "New\nperson", "usable_password": "false"}
        assert staff.post("/admin/tenants/user/add/", new).status_code == 302
        assert User.objects.get(email="new@example.org").name == "New person"

    def test_a_new_member(self, owner, workspace_a):
        link = f"/invitation/{people.token_of(people.invite(workspace_a, 'new@example.org', 'viewer', owner))}/"
        joining = {"name": "Bell\a", "password": "a-long-passphrase"}
        assert Client().post(link, joining).status_code == 422
        Client().post(link, joining | {"name": "New\nperson"})
        assert User.objects.get(email="new@example.org").name == "New person"

    def test_single_sign_on(self, rf):
        class Login:
            user = User()

        told = {"email": "a@example.org", "name": "Ann\nMiller"}
        assert SocialAccountAdapter().populate_user(rf.get("/"), Login, told).name == "Ann Miller"


@pytest.mark.django_db
def test_a_line_break_of_earlier_reaches_no_subject(settings, client_owner, owner, workspace_a):
    settings.MAIL_IS_CONFIGURED = True
    Tenant.objects.filter(pk=workspace_a.pk).update(name="Two\nlines")
    User.objects.filter(pk=owner.pk).update(name="Ann\nMiller")
    assert client_owner.post("/w/alpha/members/invite/", {"email": "x@example.org", "role": "viewer"}).status_code == 302
    assert client_owner.post("/w/alpha/settings/delete/", {"address": "alpha"}).status_code == 302
    assert [message.subject.partition(" will")[0] for message in mail.outbox] == [
        "Ann Miller invites you to Two lines",
        "Two lines",
    ]
