"""The pool: loaded once, never above its budget, never stale."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from search.pool import Held, Pool


@dataclass(frozen=True)
class Value:
    name: str
    nbytes: int = 10


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def put(pool: Pool, tenant: UUID, name: str = "v", size: int = 10, generation: int = 1, part: str = "terms") -> Value:
    return pool.get(tenant, part, generation, lambda old: Value(name, size))


def fail(old: Value | None) -> Value:
    raise ConnectionError


def test_a_value_is_loaded_once_and_then_hit():
    pool, tenant = Pool(100, 60), uuid4()
    first = put(pool, tenant, "first")
    assert put(pool, tenant, "second") is first
    assert pool.nbytes == 10


def test_parts_and_workspaces_do_not_mix():
    pool, a, b = Pool(100, 60), uuid4(), uuid4()
    put(pool, a, "a")
    assert put(pool, b, "b").name == "b"
    assert put(pool, a, "c", part="cloak").name == "c"
    assert put(pool, a).name == "a"


def test_a_newer_generation_refreshes_from_the_old_value():
    pool, tenant = Pool(100, 60), uuid4()
    put(pool, tenant, "old")
    seen = []

    def refresh(old: Value | None) -> Value:
        seen.append(old)
        return Value("new")

    assert pool.get(tenant, "terms", 2, refresh).name == "new"
    assert seen == [Value("old")]
    assert pool.nbytes == 10
    assert put(pool, tenant, generation=1).name == "new"  # a reader that is late gets the newer one


def test_the_least_recently_used_goes_first():
    pool, a, b, c = Pool(25, 60), uuid4(), uuid4(), uuid4()
    put(pool, a, "a")
    put(pool, b, "b")
    put(pool, a)
    put(pool, c, "c")
    assert put(pool, a, "reloaded").name == "a"
    assert put(pool, b, "reloaded").name == "reloaded"
    assert pool.nbytes == 20


def test_what_exceeds_the_budget_is_served_and_not_kept():
    pool, tenant = Pool(25, 60), uuid4()
    assert put(pool, tenant, "large", 26).name == "large"
    seen = pool.statistics()
    assert (seen.nbytes, seen.loads, seen.too_large, seen.evictions) == (0, 1, 1, 0)


def test_what_nobody_uses_expires():
    clock = Clock()
    pool, tenant = Pool(100, 60, clock), uuid4()
    put(pool, tenant, "old")
    clock.now = 59
    assert put(pool, tenant).name == "old"
    clock.now = 118
    pool.expire()
    assert pool.nbytes == 10
    clock.now = 120
    pool.expire()
    assert pool.nbytes == 0
    assert put(pool, tenant, "new").name == "new"


def test_an_expired_value_is_not_served_even_before_the_timer():
    clock = Clock()
    pool, tenant = Pool(100, 60, clock), uuid4()
    put(pool, tenant, "old")
    clock.now = 61
    assert put(pool, tenant, "new").name == "new"


def test_clear_forgets_everything():
    pool, tenant = Pool(100, 60), uuid4()
    put(pool, tenant, "old")
    pool.clear()
    assert pool.nbytes == 0
    assert put(pool, tenant, "new").name == "new"


def test_a_failing_load_does_not_block_the_next():
    pool, tenant = Pool(100, 60), uuid4()
    for _ in range(2):
        with pytest.raises(ConnectionError):
            pool.get(tenant, "terms", 1, fail)
    assert put(pool, tenant, "loaded").name == "loaded"


@pytest.mark.parametrize("forget", [lambda pool, tenant: pool.forget(tenant), lambda pool, tenant: pool.clear()])
def test_what_is_forgotten_while_it_is_loaded_is_not_kept(forget):
    pool, tenant, other = Pool(100, 60), uuid4(), uuid4()

    def load(old: Value | None) -> Value:
        forget(pool, tenant)
        return Value("of before")

    put(pool, other, "other")
    assert pool.get(tenant, "terms", 1, load).name == "of before"
    assert put(pool, tenant, "of after").name == "of after"
    assert put(pool, tenant, "again").name == "of after"


def test_forgetting_another_workspace_does_not_stop_a_load_from_being_kept():
    pool, tenant = Pool(100, 60), uuid4()

    def load(old: Value | None) -> Value:
        pool.forget(uuid4())
        return Value("loaded")

    pool.get(tenant, "terms", 1, load)
    assert put(pool, tenant, "again").name == "loaded"


def test_an_expired_value_is_not_brought_up_to_date():
    clock = Clock()
    pool, tenant = Pool(100, 60, clock), uuid4()
    put(pool, tenant, "old")
    clock.now = 61
    seen = []
    pool.get(tenant, "terms", 2, lambda old: seen.append(old) or Value("new"))  # type: ignore[func-returns-value]
    assert seen == [None]


def test_nothing_is_left_of_workspaces_that_were_loaded_once():
    pool = Pool(10, 60)
    for _ in range(50):
        put(pool, uuid4())
    assert len(pool.statistics().held) == 1
    assert pool._loading == {}


def test_statistics_say_what_was_asked_and_what_is_held():
    clock = Clock()
    pool, a, b, c = Pool(100, 60, clock), uuid4(), uuid4(), uuid4()
    put(pool, a, size=30)
    put(pool, a, size=30)
    put(pool, a, size=40, generation=2)
    put(pool, b, size=60, part="cloak")
    clock.now = 5
    put(pool, a)
    seen = pool.statistics()
    assert (seen.hits, seen.misses, seen.loads, seen.updates) == (2, 3, 2, 1)
    assert (seen.budget, seen.nbytes, seen.highest_nbytes, seen.evictions) == (100, 100, 100, 0)
    assert seen.held == (Held(b, "cloak", 60, 1, 5.0), Held(a, "terms", 40, 2, 0.0))
    put(pool, c, size=50)
    clock.now = 65
    assert pool.tenants() == {a, c}
    pool.expire()
    seen = pool.statistics()
    assert (seen.evictions, seen.expirations, seen.nbytes, seen.highest_nbytes, seen.held) == (1, 2, 0, 100, ())


def test_what_failed_to_load_is_no_load():
    pool = Pool(100, 60)
    with pytest.raises(ConnectionError):
        pool.get(uuid4(), "terms", 1, fail)
    assert pool.statistics().misses == 0


def test_32_threads_200_workspaces_and_a_tiny_budget():
    """Never above the budget, never a double load, never a foreign or stale value."""
    tenants, parts = [uuid4() for _ in range(200)], ("terms", "cloak")
    generations = dict.fromkeys(tenants, 1)
    pool = Pool(30 * 10, 60)
    loading: set[tuple[UUID, str]] = set()
    guard = threading.Lock()
    wrong: list[str] = []

    def ask(tenant: UUID, part: str, generation: int) -> Value:
        def load(old: Value | None) -> Value:
            with guard:
                if (tenant, part) in loading:
                    wrong.append("double load")
                loading.add((tenant, part))
            if old is not None and not old.name.startswith(f"{tenant}/{part}/"):
                wrong.append("brought up to date from another's")
            current = generations[tenant]
            time.sleep(0.0002)
            with guard:
                loading.discard((tenant, part))
            return Value(f"{tenant}/{part}/{current}", 10 + current % 7)

        return pool.get(tenant, part, generation, load)

    def work(seed: int) -> int:
        rng, asked = random.Random(seed), 0
        for _ in range(300):
            tenant, part = rng.choice(tenants[: rng.choice((5, 200))]), rng.choice(parts)
            if rng.random() < 0.1:
                with guard:
                    generations[tenant] += 1
            if rng.random() < 0.1:
                pool.forget(tenant)
                continue
            asked, generation = asked + 1, generations[tenant]
            owner, named, number = ask(tenant, part, generation).name.split("/")
            if (owner, named) != (str(tenant), part):
                wrong.append("foreign")
            if int(number) < generation:
                wrong.append("stale")
            seen = pool.statistics()
            if sum(each.nbytes for each in seen.held) != seen.nbytes or seen.nbytes > pool.budget:
                wrong.append("above budget")
        return asked

    with ThreadPoolExecutor(32) as threads:
        asked = sum(threads.map(work, range(32)))
    seen = pool.statistics()
    assert wrong == []
    assert 0 < seen.nbytes <= seen.highest_nbytes <= pool.budget
    assert seen.hits + seen.misses == asked
    assert min(seen.hits, seen.loads, seen.updates, seen.evictions) > 0
    assert pool._loading == {}


def test_32_threads_share_one_load():
    pool, tenant = Pool(100, 60), uuid4()
    loads = []
    barrier = threading.Barrier(32)

    def ask(_: int) -> Value:
        barrier.wait()
        return pool.get(tenant, "terms", 1, lambda old: loads.append(1) or Value("v"))  # type: ignore[func-returns-value]

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(ask, range(32)))
    assert len(loads) == 1
    assert all(answer is answers[0] for answer in answers)
