"""Too many requests: 429, with when to try again, in the form whoever asked can read."""

import re
from threading import Thread

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from redis.exceptions import ConnectionError as RedisIsAway

from tenants import limits
from tenants.models import Membership
from tests.conftest import PASSWORD

pytestmark = pytest.mark.django_db

LONG = 10**9  # seconds: no window ends while a test runs


def test_it_counts_to_the_rate_and_says_how_long(monkeypatch):
    monkeypatch.setattr(limits.time, "time", lambda: 1000.5)
    assert [limits.take("search", 1, (2, 60)) for _ in range(3)] == [0, 0, 20]  # the window of 960 to 1020 s
    assert limits.take("search", 2, (2, 60)) == limits.take("upload", 1, (2, 60)) == 0
    monkeypatch.setattr(limits.time, "time", lambda: 1020.0)
    assert limits.take("search", 1, (2, 60)) == 0


def test_nothing_is_counted_twice_or_not_at_all_by_many_at_once():
    allowed = []

    def ask() -> None:
        allowed.extend(limits.take("search", 1, (50, LONG)) == 0 for _ in range(20))
        connection.close()

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(allowed) == 50


def test_what_it_counts_with_is_forgotten():
    limits.take("search", 1, (2, 60))
    (key,) = cache._cache.get_client().keys("*limit:search*")
    assert 0 < cache._cache.get_client().ttl(key) <= 60


def test_at_least_once_is_once_when_it_succeeds_and_each_time_while_redis_is_away(monkeypatch):
    done: list[int] = []

    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        limits.at_least_once("note", 1, LONG, fails)
    for subject in (1, 1, 2):
        limits.at_least_once("note", subject, LONG, lambda subject=subject: done.append(subject))
    assert done == [1, 2]

    def away(*args: object, **options: object) -> None:
        raise RedisIsAway

    monkeypatch.setattr(limits.cache._cache, "get_client", away)
    limits.at_least_once("note", 1, LONG, lambda: done.append(3))
    assert done == [1, 2, 3]


def test_it_is_open_while_redis_is_away(monkeypatch):
    def away(*args: object, **options: object) -> None:
        raise RedisIsAway

    monkeypatch.setattr(limits.cache._cache, "get_client", away)
    assert limits.take("search", 1, (0, 60)) == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 second"), (59, "59 seconds"), (60, "1 minute"), (61, "2 minutes"), (3599, "60 minutes"), (3600, "1 hour")],
)
def test_durations_in_words(seconds, words):
    assert limits.duration(seconds) == words


# ---------------------------------------------------------------- search and upload


def test_a_search_too_many_says_so_where_the_results_would_be(client_viewer, settings):
    settings.RATE_SEARCH = (1, LONG)
    asked = {"q": "bees"}
    assert client_viewer.post("/w/alpha/", asked, headers={"hx-request": "true"}).status_code == 200
    refused = client_viewer.post("/w/alpha/", asked, headers={"hx-request": "true"})
    assert refused.status_code == 429
    assert int(refused["Retry-After"]) > 0
    page = refused.content.decode()
    assert re.search(r"Try again in [\d,]+ hours\.", page)
    assert "<html" not in page
    assert '{"code":"429","swap":true}' in client_viewer.get("/w/alpha/").content.decode()
    whole = client_viewer.post("/w/alpha/", asked)
    assert whole.status_code == 429
    assert "Try again in" in whole.content.decode()
    assert "<html" in whole.content.decode()


def test_a_shared_search_counts_as_a_search(client_viewer, settings):
    shared = client_viewer.post("/w/alpha/s/", {"q": "bees"})["Location"]
    settings.RATE_SEARCH = (1, LONG)
    assert [client_viewer.get(shared).status_code for _ in range(2)] == [200, 429]


def test_each_person_and_each_workspace_has_a_count_of_its_own(client_viewer, client_owner, viewer, workspace_b, settings):
    Membership.objects.create(user=viewer, tenant=workspace_b, role="viewer")
    settings.RATE_SEARCH = (1, LONG)
    for client, path in ((client_viewer, "/w/alpha/"), (client_viewer, "/w/beta/"), (client_owner, "/w/alpha/")):
        assert [client.post(path, {"q": "bees"}).status_code for _ in range(2)] == [200, 429]


def test_looking_is_not_limited(client_viewer, settings):
    settings.RATE_SEARCH = settings.RATE_UPLOAD = (0, LONG)
    assert client_viewer.get("/w/alpha/").status_code == client_viewer.get("/w/alpha/documents/").status_code == 200


def test_an_upload_too_many_is_said_to_the_script_as_json(client_editor, settings):
    settings.RATE_UPLOAD = (0, LONG)
    refused = client_editor.post("/w/alpha/documents/upload/", {}, headers={"accept": "application/json"})
    assert refused.status_code == 429
    assert "Try again in" in refused.json()["errors"][0]["message"]
    assert int(refused["Retry-After"]) > 0
    assert "Try again in" in client_editor.post("/w/alpha/documents/upload/", {}).content.decode()


# ---------------------------------------------------------------- sign-in and sign-up


def failing(email: str, **address: str) -> Client:
    client = Client(**address)
    for _ in range(5):
        client.last = client.post("/accounts/login/", {"login": email, "password": "wrong"})
    return client


def test_a_locked_account_says_until_when(owner, monkeypatch):
    client = failing(owner.email)
    assert client.last.status_code == 429
    assert 3500 < int(client.last["Retry-After"]) <= 3600
    assert "Try again in" in client.last.content.decode()
    refused = client.post("/accounts/login/", {"login": owner.email, "password": PASSWORD})
    assert refused.status_code == 429
    assert 3500 < int(refused["Retry-After"]) <= 3600  # the longer of the two limits that hold by now


def test_trying_on_does_not_make_the_lock_longer(owner, settings):
    from datetime import timedelta

    from axes.models import AccessAttempt
    from django.utils import timezone

    client = failing(owner.email)
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=50))
    cache.clear()  # allauth's limit, which is shorter
    refused = client.post("/accounts/login/", {"login": owner.email, "password": "wrong"})
    assert refused.status_code == 429
    assert 540 < int(refused["Retry-After"]) <= 600
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=61))
    assert client.post("/accounts/login/", {"login": owner.email, "password": PASSWORD}).status_code == 302


def test_an_account_tried_from_many_places_is_closed_for_five_minutes(owner):
    for number in range(5):
        Client(REMOTE_ADDR=f"192.0.2.{number}").post("/accounts/login/", {"login": owner.email, "password": "wrong"})
    refused = Client(REMOTE_ADDR="192.0.2.99").post("/accounts/login/", {"login": owner.email, "password": "wrong"})
    assert refused.status_code == 429
    assert refused["Retry-After"] == "300"
    assert "Try again in 5 minutes" in refused.content.decode()


def test_sign_up_from_one_address_is_limited(settings):
    settings.SIGN_UP_OPEN = True
    client = Client()
    for number in range(21):
        answer = client.post("/accounts/signup/", {"email": f"p{number}@example.org", "password1": "short"})
    assert answer.status_code == 429
    assert answer["Retry-After"] == "60"
    assert "Try again in 1 minute" in answer.content.decode()
