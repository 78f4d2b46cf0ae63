"""The pages, asked for as a browser does: by owners made for the length of the check, in a transaction that is undone."""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import chain
from uuid import uuid4

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from documents.models import Arrival, Collection, Document
from search import own_searches
from tenants import libraries, signing
from tenants.context import public_context, workspace
from tenants.models import Invitation, Membership, Receipt, StaffAccess, Tenant, User
from tenants.permissions import Role
from tenants.proofs import RECEIPT
from workspace.isolation.asking import Answer, Asking, undone, unknown
from workspace.isolation.canaries import Canary
from workspace.isolation.probes.findings import Findings
from workspace.isolation.routes import Entry, Route, asked_with_ids, routes

HARMLESS = {"q": "canary", "name": "canary", "email": "canary@isolation.invalid", "role": "viewer", "confirm": "yes"}
TRIES = 3  # of two requests whose answers differ
HELD_SECONDS = 2.0  # then the sides are undone and made anew: so long, who changes the members of either workspace waits
Asked = tuple[Callable[[], Answer], Iterable[str]]  # and what of the question may come back in the answer


@dataclass(frozen=True)
class Side:
    """A workspace with its canary and an owner made for the length of the check."""

    canary: Canary
    owner: User
    ids: dict[str, str]

    @property
    def tenant(self) -> Tenant:
        return self.canary.tenant


Question = Callable[[Asking, Side, Side, Findings], None]


@contextmanager
def sides(mine: Canary, other: Canary) -> Iterator[tuple[Side, Side]]:
    """Both workspaces as the attempts need them, in a transaction that is undone: owners, an invitation, visible canaries.

    Members never see canaries; here the owners do, as if they were documents: otherwise nothing could ever leak.
    """
    with undone():
        # in one order whoever asks whom: another check of the same two waits, instead of holding what we wait for
        made = {canary.tenant.pk: _side(canary) for canary in sorted((mine, other), key=lambda each: each.tenant.pk)}
        yield made[mine.tenant.pk], made[other.tenant.pk]


def _side(canary: Canary) -> Side:
    with workspace(canary.tenant):
        Collection.objects.filter(pk=canary.ids["collection"]).update(is_canary=False)
        trashed = Document.objects.create(
            collection_id=canary.ids["collection"],
            title=f"Canary {canary.told}",
            size=1,
            stored_name=secrets.token_hex(20),
            state=Document.State.CANCELLED,
            trashed_at=timezone.now(),
        )
    with public_context():
        # what is about the person, or about how full it is, would hide what is about whose it is
        unlimited = {"require_mfa": False, "quota_documents": None, "quota_bytes": None, "quota_members": None}
        Tenant.objects.filter(pk=canary.tenant.pk).update(**unlimited)
        owner, colleague = (User.objects.create_user(f"{secrets.token_hex(8)}@isolation.invalid") for _ in range(2))
        membership = Membership.objects.create(user=owner, tenant=canary.tenant, role=Role.OWNER)
        Membership.objects.create(user=colleague, tenant=canary.tenant, role=Role.VIEWER)
        EmailAddress.objects.create(user=colleague, email=colleague.email, verified=True, primary=True)
        invitation = Invitation.objects.create(tenant=canary.tenant, email=f"{secrets.token_hex(8)}@isolation.invalid")
        access = StaffAccess.objects.create(
            tenant=canary.tenant,
            staff_email=owner.email,
            reason="canary",
            minutes=15,
            lapses_at=timezone.now() + timedelta(days=1),
        )
        receipt = Receipt.objects.create(
            tenant_id=canary.tenant.pk, kind=Receipt.Kind.DOCUMENTS, document=_receipt_of_nothing(canary.tenant)
        )
    with workspace(canary.tenant):
        asked = {"q": canary.asked, "collection": "", "mode": "hybrid"}
        saved = own_searches.save(membership, f"Canary {canary.told}", asked)
        own_searches.remember(membership, asked)
        (past,) = own_searches.of(membership).past
        arrival = Arrival.objects.create(
            collection_id=canary.ids["collection"], created_by_id=owner.pk, about={"name": f"Canary {canary.told}"}, size=1
        )
    own = {"saved search": str(saved.id), "past search": str(past.id), "arrival": str(arrival.pk)}
    made = {"trashed document": str(trashed.pk), "receipt": str(receipt.pk), "staff access": str(access.pk)}
    people = {"member": str(owner.pk), "colleague": str(colleague.pk)}
    return Side(canary, owner, {**canary.ids, **people, **made, **own, "invitation": str(invitation.pk)})


def _receipt_of_nothing(tenant: Tenant) -> dict[str, object]:
    """A genuine one, of an erasure that is undone with the rest: pages show no other."""
    now = timezone.now().isoformat()
    body = {
        "receipt": str(uuid4()), "at": now, "erased_at": now, "installation": settings.PUBLIC_URL, "kind": "documents",
        "workspace": {"id": str(tenant.pk), "name": tenant.name}, "what": [], "counts": {"documents": 0}, "keys": [],
        "verified": {}, "cannot_reach": [],
    }  # fmt: skip
    return signing.signed(RECEIPT, body)


def can_be_undone() -> bool:
    """Not with a login for each workspace: there no transaction reaches into two."""
    return not settings.TENANT_LOGINS


def ask_everything(site: Asking, mine: Canary, other: Canary, found: Findings) -> None:
    ask(chain(of_routes(), of_workspaces(), [ask_search_page]), site, mine, other, found)


def ask(questions: Iterable[Question], site: Asking, mine: Canary, other: Canary, found: Findings) -> None:
    """One after the other. An owner's row locks its workspace's until it is undone, hence not all by the same owners."""
    waiting = iter(questions)
    question = next(waiting, None)
    while question is not None:
        with sides(mine, other) as (ours, theirs):
            until = time.monotonic() + HELD_SECONDS
            while question is not None:
                question(site, ours, theirs, found)
                question = next(waiting, None)
                if time.monotonic() > until:
                    break


def of_routes() -> Iterator[Question]:
    """Foreign ids against unknown ones, asked in our own workspace and outside of all: the same answer to the letter."""
    told: list[str] = []  # to their own owner, by which address
    for urlconf in (settings.WORKSPACE_URLCONF, settings.ROOT_URLCONF):
        for route, entry in asked_with_ids(urlconf):
            yield partial(_ask_route, told, urlconf == settings.WORKSPACE_URLCONF, route, entry)
    yield partial(_told, told)


def _ask_route(
    told: list[str], is_inside: bool, route: Route, entry: Entry, site: Asking, mine: Side, other: Side, found: Findings
) -> None:
    prefix, home = (mine.tenant.path, other.tenant.path) if is_inside else ("/", "/")
    for ids in _mixtures(entry, mine.ids, other.ids):
        nobodys = {kind: value if value == mine.ids.get(kind) else unknown(value) for kind, value in ids.items()}
        for method in ("GET", "POST"):
            asked = partial(_ask, site, mine.owner, method, prefix, route, entry)
            leak, none = _compared(
                method, other.canary, (partial(asked, ids), ids.values()), (partial(asked, nobodys), nobodys.values())
            )
            found.attempt("routes", route.pattern, leak)
            detail = f"{method} of an unknown id answered {none.status}"
            found.control("routes", route.pattern, none.status < 500, detail)
    status, words = _control(site, other, home, route, entry)
    if other.canary.told in words:
        told.append(route.pattern)
    found.control("routes", route.pattern, 200 <= status < 400, f"its own owner is answered {status}")


def _told(told: list[str], site: Asking, mine: Side, other: Side, found: Findings) -> None:
    found.control("routes", "", bool(told), "no page showed the canary to its own owner")


def _mixtures(entry: Entry, mine: dict[str, str], other: dict[str, str]) -> Iterator[dict[str, str]]:
    """Foreign ids throughout; where a path takes several, also each foreign one among our own."""
    kinds = [kind for kind in entry.kinds if not kind.startswith("=")]
    yield {kind: other[kind] for kind in kinds}
    for foreign in entry.ids.values() if len(entry.ids) > 1 else ():
        if foreign in kinds:
            mixed = {kind: other[kind] if kind == foreign else mine[kind] for kind in kinds}
            if mixed != {kind: other[kind] for kind in kinds}:
                yield mixed


def _ask(
    site: Asking, person: User | None, method: str, prefix: str, route: Route, entry: Entry, ids: dict[str, str]
) -> Answer:
    def value(kind: str) -> str:
        return kind[1:] if kind.startswith("=") else ids[kind]

    path = prefix + route.path({name: value(kind) for name, kind in entry.ids.items()})
    form = {**HARMLESS, **{name: value(kind) for name, kind in entry.form.items()}} if method == "POST" else None
    return site.ask(person, method, path, form=form, query={name: value(kind) for name, kind in entry.query.items()})


def _compared(method: str, canary: Canary, foreign: Asked, nobodys: Asked) -> tuple[str, Answer]:
    """What is wrong with the answer for the foreign ids, empty when nothing is, and the answer for those of nobody.

    People at work change pages between two requests; a leak is still there when both are asked again.
    """
    for _ in range(TRIES):
        (ask_theirs, in_theirs), (ask_none, in_none) = foreign, nobodys
        theirs, none = ask_theirs(), ask_none()
        given = [*in_theirs, *in_none]  # taken out of both: an address may be a word of the page, as "members" is
        if canary.told in theirs.text:
            leak = f"{method} answered {theirs.status} with the other workspace's words"
        elif theirs.status != none.status:
            leak = f"{method} answered {theirs.status}, for an unknown id {none.status}"
        elif theirs.without(*given) != none.without(*given):
            leak = f"{method} answered {theirs.status} with another text than for an unknown id"
        else:
            return "", none
    return leak, none


def _control(site: Asking, other: Side, home: str, route: Route, entry: Entry) -> tuple[int, str]:
    """The same asked by the other's own owner at home. Where GET is not allowed, POST is sent; it is undone."""
    answer = _ask(site, other.owner, "GET", home, route, entry, other.ids)
    if answer.status == 405 or entry.form:
        answer = _ask(site, other.owner, "POST", home, route, entry, other.ids)
        # an upload without a file is refused for that, after the collection was accepted
        if answer.status == 422 and "No file arrived" in answer.text:
            return 200, answer.text
        # and one of which nothing has arrived cannot be completed, after it was found
        if answer.status == 409 and "The next piece begins at byte 0" in answer.text:
            return 200, answer.text
    return answer.status, answer.text


def of_workspaces() -> Iterator[Question]:
    """Every address below the other's: as below that of a workspace that nobody ever made."""
    entries = dict(asked_with_ids(settings.WORKSPACE_URLCONF))
    for route in routes(settings.WORKSPACE_URLCONF):
        yield partial(_ask_below, route, entries.get(route, Entry()))
    yield _ask_at_home


def _ask_below(route: Route, entry: Entry, site: Asking, mine: Side, other: Side, found: Findings) -> None:
    """Where ours subscribes to the other as a library, searching and reading there is meant, and nothing else is."""
    with public_context():
        reads = bool(libraries.readable(mine.owner, Q(tenant=other.tenant)))
    nowhere = unknown(other.tenant.slug)
    for person, who in ((mine.owner, "an owner of another workspace"), (None, "nobody")):
        for method in ("GET", "POST"):
            if reads and person is not None and method in libraries.READERS_MAY.get(route.name, ()):
                continue
            below = [f"/w/{other.tenant.slug}/", f"/w/{nowhere}/", *other.ids.values()]
            theirs, none = ((partial(_ask, site, person, method, path, route, entry, other.ids), below) for path in below[:2])
            leak, _ = _compared(method, other.canary, theirs, none)
            found.attempt("workspaces", route.pattern, f"{leak} ({who})" if leak else "")


def _ask_at_home(site: Asking, mine: Side, other: Side, found: Findings) -> None:
    answer = site.ask(other.owner, "GET", other.tenant.path)
    found.control("workspaces", "", answer.status == 200, f"its own owner is answered {answer.status}")


def ask_search_page(site: Asking, mine: Side, other: Side, found: Findings) -> None:
    canary = other.canary
    answer = site.ask(mine.owner, "POST", mine.tenant.path, form={"q": canary.asked})
    leak = "the page showed the other workspace's words" if canary.told in answer.text else ""
    found.attempt("search", "search page", leak)
    found.control("search", "search page", answer.status == 200, f"the page answered {answer.status}")
    answer = site.ask(other.owner, "POST", other.tenant.path, form={"q": canary.asked})
    found.control("search", "search page", canary.told in answer.text, "the page does not show it to its own owner")
