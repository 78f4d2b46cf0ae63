"""The pool: loaded once, never above its budget, never stale."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID, uuid4

from search.pool import Pool


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
    assert pool.nbytes == 0


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

    def fail(old: Value | None) -> Value:
        raise ConnectionError

    for _ in range(2):
        try:
            pool.get(tenant, "terms", 1, fail)
        except ConnectionError:
            pass
        else:
            raise AssertionError
    assert put(pool, tenant, "loaded").name == "loaded"


def test_32_threads_200_workspaces_and_a_tiny_budget():
    """Never above the budget, never a double load, never a foreign or stale value."""
    tenants = [uuid4() for _ in range(200)]
    generations = dict.fromkeys(tenants, 1)
    pool = Pool(30 * 10, 60)
    running: dict[UUID, int] = dict.fromkeys(tenants, 0)
    guard = threading.Lock()
    wrong: list[str] = []

    def load_for(tenant: UUID, generation: int) -> Value:
        def load(old: Value | None) -> Value:
            with guard:
                running[tenant] += 1
                if running[tenant] > 1:
                    wrong.append("double load")
            current = generations[tenant]
            with guard:
                running[tenant] -= 1
            return Value(f"{tenant}/{current}")

        return pool.get(tenant, "terms", generation, load)

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(300):
            tenant = rng.choice(tenants[: rng.choice((5, 200))])
            if rng.random() < 0.1:
                with guard:
                    generations[tenant] += 1
            generation = generations[tenant]
            owner, _, number = load_for(tenant, generation).name.partition("/")
            if owner != str(tenant):
                wrong.append("foreign")
            if int(number) < generation:
                wrong.append("stale")
            if pool.nbytes > pool.budget:
                wrong.append("above budget")

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(work, range(32)))
    assert wrong == []
    assert 0 < pool.nbytes <= pool.budget


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
