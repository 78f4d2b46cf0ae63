"""One question to several workspaces at once, and one order of what they found.

Each workspace is asked as its own search page would ask it: by a connection that is in that workspace alone, after a look
at the membership, its seal and whether the workspace is open, all at that moment; and its log says that somebody searched.
What leaves a workspace are results, never keys or an index. Of one the person is no member of nothing is said, not even
that it exists. A library is asked in the same way, after a look at what lets the person read it (tenants.libraries).
Refuses to know pages and sessions.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from queue import Empty, SimpleQueue
from threading import BoundedSemaphore, Lock, Thread
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import OperationalError
from django.db.models import Q
from django.urls import set_script_prefix

from search import indexes, questions
from search.embeddings import Vectors, embedder
from search.loaded import term_index
from search.presentation import Shown, described, folded
from search.querying import Hit, search
from search.sources import sources
from tenants import alarms, erasures, libraries, limits, schemas, seals, stats
from tenants.acting import Actor, acting, actor
from tenants.audit.events import Event
from tenants.audit.recording import record
from tenants.context import public_context, workspace
from tenants.database import connection
from tenants.keys import presence
from tenants.keys.keyring import KeysFrozen
from tenants.models import Membership, Subscription, Tenant, User
from tenants.privacy import describe_exception

logger = logging.getLogger(__name__)

# Threads of one search, and of all searches of this process, each with a connection of its own (two with TENANT_LOGINS). They
# are there so that some can wait while others go on: 20 workspaces take 0.27 s with one thread or eight, on two cores.
AT_ONCE = 6
IN_ALL = 10
DEPTH = 100  # documents of each workspace that take part in the common order

# Weight of meaning against words in `score`. Cranfield in 1, 10 and 30 workspaces by topic: nDCG@10 of 0.408, 0.399 and
# 0.395 with 0.7, best or within 0.005 of the best of 0.4 … 0.9 in each.
MEANING = 0.7

_places = BoundedSemaphore(IN_ALL)


class State(Enum):
    """What became of asking a workspace, as a sentence goes on after its name."""

    ANSWERED = "answered"
    LATE = "did not answer in time"
    FAILED = "could not be searched"
    CLOSED = "is closed at the moment"
    SECOND_FACTOR = "needs a second factor"
    TOO_OFTEN = "was searched too often in a short time"


@dataclass(frozen=True)
class Found:
    """A document of one workspace. `url` in `shown` leads into that workspace; `words` is what `score` makes of BM25."""

    workspace: Tenant
    shown: Shown
    words: float
    score: float
    is_library: bool = False


@dataclass(frozen=True)
class Asked:
    """A workspace or library that was asked, and how many of its passages could have been found."""

    workspace: Tenant
    state: State
    searched: int = 0
    found: list[Found] = field(default_factory=list)


@dataclass(frozen=True)
class Federated:
    """Documents of all workspaces, best first, and every workspace by name with what became of it."""

    results: list[Found]
    sources: list[Asked]


@dataclass(frozen=True)
class _Question:
    """What is asked of each workspace. `ends_at` is a time of the monotonic clock."""

    person: User
    by: Actor
    text: str
    limit: int
    has_second_factor: bool
    seconds: float
    ends_at: float
    _vectors: dict[str, Vectors] = field(default_factory=dict)
    _embedding: Lock = field(default_factory=Lock)

    def vector(self, model: str) -> Vectors:
        """Once for all workspaces that share the model. Raises EmbeddingModelMissing."""
        with self._embedding:
            if model not in self._vectors:
                self._vectors[model] = embedder(model).embed([questions.parse(self.text).text])[0]
            return self._vectors[model]

    def seconds_left(self) -> float:
        return max(0.0, self.ends_at - time.monotonic())


def score(hit: Hit, ample: float) -> tuple[float, float]:
    """How good a hit is, comparable between workspaces, and the part that its words have in it:

        score = 0.7 · cosine + 0.3 · words,    words = BM25 / Σ idf(t) over the terms t of the question

    A workspace's own order adds z-scores, which say how a hit stands out among the candidates *there*: the best of a
    workspace that knows nothing of the question stands out as far as the best of one that answers it. Here both parts
    mean the same everywhere. The cosine does, as it is, where one model made the vectors; those of two models differ in what
    is much, and the order between their workspaces is as good as they agree. `words` says how much of the question
    a passage has: 1 is each of its terms once, in a passage of average length (`TermIndex.ample`), and it ends at K1 + 1.
    A term a workspace has nowhere weighs most there, so that one common word of the question, in a workspace without
    the others, is little, whereas standardising BM25 within each workspace would put it on top.

    Cranfield's 1,400 documents, nDCG@10 in one workspace, in 10 at random, and in 10 and 30 by topic: this 0.408, 0.407,
    0.399, 0.395; z-scores 0.407, 0.386, 0.211, 0.126; raw cosine and standardised BM25 (0.6 to 0.4) 0.378, 0.355, 0.174,
    0.114; cosine alone 0.367 throughout. (A theoretical instead of an observed bound: Bruch, Gai and Ingber, "An Analysis
    of Fusion Functions for Hybrid Retrieval", 2023.)
    """
    words = hit.keyword / ample if ample else 0.0
    return MEANING * hit.dense + (1 - MEANING) * words, words


def ask(
    person: User,
    text: str,
    workspaces: Iterable[UUID],
    *,
    deadline_seconds: float,
    limit: int,
    has_second_factor: bool = False,
) -> Federated:
    """The best `limit` documents of these workspaces, of which those the person is no member of and may not read as libraries
    are passed over.

    Returns when all have answered, or at the deadline without what has not: it is named as late. What is still under way
    then gives up at its next statement, the statement it waits for ends after as long as the deadline was, and its answer
    reaches nobody. `has_second_factor`: this session was proved with one.
    """
    ends_at = time.monotonic() + deadline_seconds
    among = list(workspaces)
    asked = {membership.tenant_id: membership.tenant for membership in searchable(person, among)}
    asked |= {each.library.tenant_id: each.library.tenant for each in libraries.readable(person, Q(tenant__in=among))}
    answers: SimpleQueue[tuple[UUID, Asked | None]] = SimpleQueue()
    answered: dict[UUID, Asked | None] = {}
    if asked:
        question = _Question(person, actor(), text, limit, has_second_factor, deadline_seconds, ends_at)
        waiting = deque(asked.values())
        _begin(question, waiting, answers)
        with suppress(Empty):
            while len(answered) < len(asked):
                tenant_id, answer = answers.get(timeout=question.seconds_left())
                answered[tenant_id] = answer
        waiting.clear()
    told = [answered.get(tenant_id, Asked(tenant, State.LATE)) for tenant_id, tenant in asked.items()]
    named = [answer for answer in told if answer is not None]
    found = sorted((each for answer in named for each in answer.found), key=lambda each: -each.score)
    return Federated(found[:limit], named)


def searchable(person: User, among: Iterable[UUID] | None = None) -> list[Membership]:
    """The person's memberships that stand and let them search, by the workspace's name; all, or of these workspaces."""
    with public_context():
        found = Membership.objects.filter(user_id=person.pk, tenant__status__in=Tenant.MADE)
        if among is not None:
            found = found.filter(tenant_id__in=list(among))
        standing: list[Membership] = seals.standing(found.select_related("tenant").order_by("tenant__name", "tenant_id"))
    return [each for each in standing if each.may("search") and not erasures.is_erased(each.tenant_id)]


# ---------------------------------------------------------------- in threads


def _begin(question: _Question, waiting: deque[Tenant], answers: SimpleQueue[tuple[UUID, Asked | None]]) -> None:
    """As many threads as there are places, and one at least, for which it waits until the deadline."""
    for number in range(min(AT_ONCE, len(waiting))):
        if not _places.acquire(timeout=0 if number else question.seconds_left()):
            return
        try:
            Thread(target=_work, args=(question, waiting, answers), name="federated search", daemon=True).start()
        except RuntimeError:  # the system has no thread left
            _places.release()
            raise


def _work(question: _Question, waiting: deque[Tenant], answers: SimpleQueue[tuple[UUID, Asked | None]]) -> None:
    """Ask one workspace after the other until none waits."""
    connection.settings_dict = _ending(connection.settings_dict, question.seconds)
    try:
        with acting(question.by), connection.execute_wrapper(_in_time(question)), suppress(IndexError):
            while True:
                tenant = waiting.popleft()
                answers.put((tenant.pk, _answer(question, tenant)))
    finally:
        alarms.flush()
        connection.close()
        _places.release()


def _ending(server: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Settings of a connection whose statements end after so long. Given while connecting, they outlast DISCARD ALL."""
    options = server["OPTIONS"]
    milliseconds = max(1, round(1000 * seconds))
    limited = f"{options['options']} -c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
    return {**server, "OPTIONS": {**options, "options": limited}}


def _in_time(question: _Question) -> Callable[..., Any]:
    """An execute wrapper: past the deadline no statement begins."""

    def execute(run: Callable[..., Any], *args: Any) -> Any:
        if not question.seconds_left():
            raise OperationalError("the deadline of a federated search has passed")
        return run(*args)

    return execute


def _answer(question: _Question, tenant: Tenant) -> Asked | None:
    """None where the person is no member or reader any more. What is wrong in one workspace is not the others' trouble."""
    try:
        with presence.using(tenant.pk):  # before it is asked whether it is open: a freeze waits for the end
            return _asked(question, tenant.pk)
    except KeysFrozen:  # while it was under way
        return Asked(tenant, State.CLOSED)
    except Exception as error:
        connection.close()  # in whatever state it is
        logger.warning("a federated search of %s ended: %s", tenant.pk, describe_exception(error))
        return Asked(tenant, State.FAILED)


def _asked(question: _Question, tenant_id: UUID) -> Asked | None:
    subscription = None
    membership = next(iter(searchable(question.person, [tenant_id])), None)
    if membership is None:
        subscription = next(iter(libraries.readable(question.person, Q(tenant=tenant_id))), None)
        if subscription is None:
            return None
        membership = libraries.viewer(subscription)
    tenant = membership.tenant
    needs_factor = tenant.require_mfa if subscription is None else libraries.needs_second_factor(subscription)
    if needs_factor and not question.has_second_factor:
        return Asked(tenant, State.SECOND_FACTOR)
    if not schemas.is_open(tenant):
        return Asked(tenant, State.CLOSED)
    stats.note_activity(tenant)
    set_script_prefix(tenant.path)  # the thread's own: where its results are
    with workspace(tenant):
        if limits.take("search", question.person.pk, settings.RATE_SEARCH):  # the same count as on the workspace's page
            return Asked(tenant, State.TOO_OFTEN)
        return _searched(question, membership, subscription)


def _searched(question: _Question, membership: Membership, subscription: Subscription | None) -> Asked:
    """In the workspace: its best, as far as the member may see it, or whoever reads it as a library."""
    tenant, collections = membership.tenant, sources().visible(membership)
    parsed = questions.parse(question.text)
    model = indexes.live().model
    embedder(model).remember_query(parsed.text, question.vector(model), tenant.pk.bytes)
    results = search(question.text, collections=collections, limit=DEPTH)
    by = question.by if subscription is None else libraries.reader(question.person, subscription)
    record(Event.SEARCHED, by=by, results=len(results.hits), collection=None)
    index = term_index()
    ample = index.ample(index.asked(parsed.text))
    scores = {hit.document_id: score(hit, ample) for hit in results.hits}
    best = sorted(results.hits, key=lambda hit: scores[hit.document_id], reverse=True)[: question.limit]
    found = []
    for shown in described(folded(best, collections).passages, parsed.text, parsed.phrases):
        together, words = scores[shown.hit.document_id]
        found.append(Found(tenant, shown, words, together, is_library=subscription is not None))
    return Asked(tenant, State.ANSWERED, results.searched, found)
