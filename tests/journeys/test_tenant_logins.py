"""A whole installation switched to a login for each workspace, used, and switched back: TENANT_LOGINS=1 and `prepare`."""

import re
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from tests.journeys.conftest import MakePlace
from tests.journeys.place import Place
from tests.journeys.visitor import Visitor
from tests.running import Running

pytestmark = pytest.mark.slow

MARKER = "quillfeather"


@pytest.fixture
def switch(running: Running, all_alive: None) -> Iterator[Callable[[str], None]]:
    """Switch the mode as an administrator does: stop, `prepare` with the new setting, start."""

    def to(value: str) -> None:
        running.stop()
        running.settings = {"TENANT_LOGINS": value}
        running.prepare()
        running.start_web()
        running.start_worker()

    yield to
    to("0")
    running.settings = {}


def use(place: Place, marker: str, role: str = "viewer") -> None:
    """The main job: upload, find, read, download, judge, run, invite."""
    body = f"The {marker} nests in the chapel tower.\n".encode() * 2000
    documents = place.upload((f"{marker} notes.txt", body))
    place.wait_until_ready(documents)
    assert marker in place.search(f"Where does the {marker} nest?").text
    assert place.download(documents[0]).body == body
    assert marker in place.owner.get(f"{place.path}documents/{documents[0]}/").text
    rows = f"question,document,grade\nWhere does the {marker} nest?,{marker} notes.txt,1\n"
    judged = place.owner.post(f"{place.path}evaluation/upload/", {"name": marker}, [("file", ("judged.csv", rows.encode()))])
    run = place.owner.post(f"{judged.path}run/")
    place.running.wait(lambda: place.owner.get(f"{run.path}status/").status == 286, "the run")
    guest = place.member(role)
    assert marker in place.search(f"Where does the {marker} nest?", guest).text
    assert f"{role}@{place.slug}.example" in place.owner.get(f"{place.path}members/").text


def make_with_the_form(running: Running) -> None:
    """By somebody who may, in the browser: the web process asks, the worker makes."""
    staff = Visitor(running.url)
    staff.choose_password(running.manage("create_admin", "staff@formed.example")["password_link"])
    staff.sign_in("staff@formed.example")
    opening = staff.post("/workspaces/new/", {"name": "Formed", "slug": "formed"})
    running.wait(lambda: staff.get(opening.path).path == "/w/formed/", "the workspace to open")
    assert "Nothing can be found yet" in staff.get("/w/formed/").text
    page = staff.post("/w/formed/collections/create/", {"name": "Larks"})
    assert "Larks" in page.text


def test_switched_on_used_and_switched_off(running: Running, make_place: MakePlace, switch: Callable[[str], None]) -> None:
    said_before = {name: len(running.log(name)) for name in ("web", "worker")}  # in other journeys
    old = make_place("Before")
    use(old, MARKER)

    switch("1")
    assert MARKER in old.search(f"Where does the {MARKER} nest?").text
    use(old, f"{MARKER}second", "editor")
    checks = {check["name"]: check for check in running.manage("doctor", may_fail=True)["checks"]}  # other journeys left alarms
    assert checks["isolation"]["state"] == "ok", checks["isolation"]
    new = make_place("After")
    use(new, "wrenmarrow")
    make_with_the_form(running)
    assert MARKER not in new.search(MARKER).text.replace(f'value="{MARKER}"', "")
    roles = {role for (role,) in old.database.execute("SELECT db_role FROM tenants_tenant WHERE status = 'active'").fetchall()}
    used = {
        name
        for (name,) in old.database.execute(
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE usename = ANY(%s)", [list(roles)]
        ).fetchall()
    }
    assert used, "nobody signed in as a workspace"
    info, password = old.database.info, running.environment("web")["DB_PASSWORD_WEB"]
    with psycopg.connect(
        host=info.host, port=info.port, dbname=info.dbname, user=f"{info.dbname}_web", password=password
    ) as web:
        for role in roles:
            with pytest.raises(psycopg.errors.InsufficientPrivilege), web.transaction():
                web.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    for name, length in said_before.items():
        assert not re.search(r"Traceback|ERROR", running.log(name)[length:])

    switch("0")
    assert MARKER in old.search(f"Where does the {MARKER} nest?").text
    use(new, "wrenmarrowsecond", "editor")
    can_login = old.database.execute(
        "SELECT count(*) FROM pg_roles WHERE rolname = ANY(%s) AND rolcanlogin", [list(roles)]
    ).fetchone()
    assert can_login == (0,)
