"""A search over HTTP, as a browser asks for it, against the least it can cost: an empty page, the model, the index.

Both are asked of the same web server in turn: question by question by one person, in blocks by several at once.
"""

import http.client
import json
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from search.models import Protection
from tenants.context import workspace
from tenants.errors import Refused
from tenants.people import accept, create_person, invite
from tenants.permissions import Role
from tenants.provisioning import create_workspace
from workspace.benchmarks import filling, material
from workspace.benchmarks.ingestion import refuse_beside_a_worker
from workspace.benchmarks.measuring import Comparison, Setting
from workspace.benchmarks.parts import HEADER
from workspace.benchmarks.serving import Browser, web_server
from workspace.benchmarks.urls import FLOOR, READY

SIDES = {
    "product": "a search by HTTP: middleware, embedding, index, keywords, decryption, reranking, passages, page",
    "reference": "a page behind the same middleware that asks the model and the index, bare, and shows nothing",
}
SIZES, USERS = (5_000, 50_000), (1, 16)
WARM_UP = 12  # questions: kernels of every width, connections and caches of every thread
PAUSE = 0.02  # seconds after which the next side is asked: what is done when an answer has been sent is not charged to it
BLOCK = 4  # questions of each user before the others' turn
PATIENCE = 180.0  # seconds in which the inverted lists of a sealed index are trained

Parts = dict[str, float]
Ask = Callable[[Browser, str], Parts]


@dataclass
class Side:
    """Milliseconds of each question, in all and in parts."""

    times: list[float] = field(default_factory=list)
    parts: list[Parts] = field(default_factory=list)

    def medians(self) -> Parts:
        """Of each part, the largest first; those of what only some requests have count as nothing in the others."""
        names = {name for parts in self.parts for name in parts}
        found = {name: float(np.median([parts.get(name, 0.0) for parts in self.parts])) for name in names}
        return {name: round(value, 3) for name, value in sorted(found.items(), key=lambda pair: -pair[1])}


def run(
    say: Callable[[str], None],
    *,
    rounds: int = 200,
    passages: int | None = None,
    users: int | None = None,
    levels: Sequence[str] = Protection.values,
) -> Comparison:
    """`rounds` different questions by so many `users` at a time, each somebody else, at each level, to so many `passages`."""
    refuse_beside_a_worker()
    settings: list[Setting] = []
    crowds = USERS if users is None else (users,)
    with web_server() as port:
        password = secrets.token_urlsafe(16)
        people = [create_person(f"bench-{secrets.token_hex(6)}@benchmark.invalid", password) for _ in range(max(crowds))]
        browsers = [Browser(port, person.email, password) for person in people]
        try:
            for size in SIZES if passages is None else (passages,):
                made = filling.make(size)
                for level in levels:
                    slug = f"bench-{secrets.token_hex(6)}"
                    tenant, _ = create_workspace("Benchmark", slug, people[0])
                    for person in people[1:]:
                        accept(invite(tenant, person.email, Role.VIEWER, people[0]), person)
                    with workspace(tenant):
                        filling.store(made.vectors, made.texts(), level, say)
                    say(f"{level}: {size} passages stored")
                    asking = _Asking(f"/w/{slug}/", browsers, rounds)
                    for crowd in crowds:
                        settings += _settings(f"{level}, {size} passages, {crowd} at a time", *asking.measured(crowd))
        finally:
            for browser in browsers:
                browser.close()
    return Comparison("search", "ms", SIDES, settings)


def _settings(name: str, product: Side, floor: Side) -> list[Setting]:
    detail = {"questions": len(product.times), "parts_p50": product.medians(), "floor_parts_p50": floor.medians()}
    return [
        Setting(
            f"{name}, p{share}",
            float(np.percentile(product.times, share)),
            float(np.percentile(floor.times, share)),
            "lower",
            detail if share == 50 else {"questions": len(product.times)},
        )
        for share in (50, 95)
    ]


class _Asking:
    """Questions to one workspace, each asked once: none is found in a cache."""

    def __init__(self, address: str, browsers: Sequence[Browser], rounds: int) -> None:
        self._address, self._browsers, self._rounds = address, browsers, rounds
        self._questions = iter(material.questions(100_000))
        for browser in browsers:
            browser.close()  # its connection has waited too long; the next request makes one
        for number, question in enumerate(self._next(WARM_UP)):
            for ask in (self._search, self._bare):
                ask(browsers[number % len(browsers)], question)
        deadline = time.monotonic() + PATIENCE
        for browser in browsers:  # each may be answered by another process
            while browser.get(f"{address}{READY}")[0] != http.client.OK and time.monotonic() < deadline:
                time.sleep(0.2)

    def measured(self, users: int) -> tuple[Side, Side]:
        product, floor = Side(), Side()
        browsers, block = self._browsers[:users], BLOCK * users if users > 1 else 1
        for browser in browsers:
            browser.close()
        with ThreadPoolExecutor(users) as pool:
            self._ask_all(pool, browsers, self._search, self._next(users), Side())  # every thread's connection
            for start in range(0, self._rounds, block):
                questions = self._next(min(block, self._rounds - start))
                for ask, side in ((self._search, product), (self._bare, floor)):
                    self._ask_all(pool, browsers, ask, questions, side)
                    time.sleep(PAUSE)
        return product, floor

    def _next(self, number: int) -> list[str]:
        found = [question for question, _ in zip(self._questions, range(number), strict=False)]
        if len(found) < number:
            raise Refused("There are not as many different questions. Ask for fewer rounds.")
        return found

    def _ask_all(
        self, pool: ThreadPoolExecutor, browsers: Sequence[Browser], ask: Ask, questions: Sequence[str], side: Side
    ) -> None:
        """Each browser its share, one after the other."""

        def ask_share(number: int) -> list[tuple[float, Parts]]:
            answers = []
            for question in questions[number :: len(browsers)]:
                began = time.perf_counter()
                parts = ask(browsers[number], question)
                took = 1000 * (time.perf_counter() - began)
                answers.append((took, {"middleware and HTTP": took - sum(parts.values()), **parts}))
            return answers

        for answers in pool.map(ask_share, range(len(browsers))):
            for took, parts in answers:
                side.times.append(took)
                side.parts.append(parts)

    def _search(self, browser: Browser, question: str) -> Parts:
        status, page = browser.post(self._address, {"q": question, "collection": "", "page": ""}, htmx=True)
        if status != http.client.OK or b'class="result-title"' not in page:
            raise Refused(f"The search answered {status}, without a result.")
        parts: Parts = json.loads(browser.headers[HEADER])
        return parts

    def _bare(self, browser: Browser, question: str) -> Parts:
        status, page = browser.post(f"{self._address}{FLOOR}", {"q": question})
        if status != http.client.OK:
            raise Refused(f"The bare page answered {status}.")
        answer: dict[str, Any] = json.loads(page)
        if not answer["found"]:
            raise Refused("The index has no candidates.")
        parts: Parts = answer["milliseconds"]
        return parts
