"""How the self-test asks each address: which ids of another workspace fill it, or why it takes none.

Every URL pattern of both URL confs needs an entry. A pattern without one, and an entry without its pattern, are errors of
Django's system check, so that nothing can be deployed that nobody has thought about.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core import checks
from django.urls import URLPattern, URLResolver, get_resolver

NOBODY = str(UUID(int=0))
ARGUMENT = re.compile(r"<(?:\w+:)?(\w+)>")
# Kinds of id, as in Canary.ids; the last nine are made for the length of a check. A kind that begins with "=" is the value.
ID_KINDS = frozenset({
    "document", "collection", "field", "passage", "judgments", "run", "question", "shared search", "workspace",
    "member", "colleague", "invitation", "staff access", "trashed document", "receipt",
    "saved search", "past search", "arrival",
})  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """`ids` fill the arguments of the pattern, `form` a POST, `query` the query string; without any of them, `why` not."""

    ids: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    why: str = ""

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset({*self.ids.values(), *self.form.values(), *self.query.values()})

    @property
    def takes_ids(self) -> bool:
        return bool(self.kinds)


def takes(*, form: Mapping[str, str] | None = None, query: Mapping[str, str] | None = None, **ids: str) -> Entry:
    return Entry(ids, form or {}, query or {})


def takes_none(why: str) -> Entry:
    return Entry(why=why)


OWN_ONLY = "shows or changes what belongs to the workspace of the address, and takes no id"
ANY_LIBRARY = "the id is a library's, which every workspace is shown alike; the subscription is the own workspace's"
OWN_PERSON = "acts on the person who is signed in, and takes no id"

# ---------------------------------------------------------------- inside a workspace (workspace.urls_workspace)

WORKSPACE: dict[str, Entry] = {
    "": takes(form={"collection": "collection"}),
    "s/": takes(form={"collection": "collection"}),
    "s/<str:shared_id>/": takes(shared_id="shared search"),
    "instant/": takes(form={"collection": "collection"}),
    "settled/": takes(form={"collection": "collection"}),
    "saved/": takes(form={"collection": "collection"}),
    "saved/<uuid:saved_id>/": takes(saved_id="saved search"),
    "saved/<uuid:saved_id>/rename/": takes(saved_id="saved search"),
    "saved/<uuid:saved_id>/delete/": takes(saved_id="saved search"),
    "history/": takes_none("switches the history of the person who is signed in"),
    "history/clear/": takes_none("clears the history of the person who is signed in"),
    "history/<uuid:entry_id>/": takes(entry_id="past search"),
    "like/<uuid:passage_id>/": takes(passage_id="passage"),
    "evaluation/": takes_none(OWN_ONLY),
    "evaluation/upload/": takes_none(OWN_ONLY),
    "evaluation/<uuid:set_id>/": takes(set_id="judgments"),
    "evaluation/<uuid:set_id>/delete/": takes(set_id="judgments"),
    "evaluation/<uuid:set_id>/run/": takes(set_id="judgments"),
    "evaluation/runs/<uuid:run_id>/": takes(run_id="run"),
    "evaluation/runs/<uuid:run_id>/status/": takes(run_id="run"),
    "evaluation/runs/<uuid:run_id>/cancel/": takes(run_id="run"),
    "evaluation/runs/<uuid:run_id>/<uuid:question_id>/": takes(run_id="run", question_id="question"),
    "evaluation/runs/<uuid:run_id>/export.<str:kind>": takes(run_id="run", kind="=json"),
    "documents/": takes(query={"collection": "collection"}),
    "documents/rows/": takes(query={"collection": "collection"}),
    "documents/act/": takes(form={"document": "document", "do": "=retry"}),
    "documents/pause/": takes_none(OWN_ONLY),
    "documents/resume/": takes_none(OWN_ONLY),
    "documents/upload/": takes(form={"collection": "collection"}, query={"collection": "collection"}),
    "documents/arriving/": takes(form={"collection": "collection", "name": "=canary.txt", "size": "=1"}),
    "documents/arriving/<uuid:arrival_id>/": takes(arrival_id="arrival"),
    "documents/arriving/<uuid:arrival_id>/complete/": takes(arrival_id="arrival"),
    "documents/<uuid:document_id>/": takes(document_id="document", query={"passage": "passage"}),
    "documents/<uuid:document_id>/status/": takes(document_id="document"),
    "documents/<uuid:document_id>/download/": takes(document_id="document"),
    "documents/<uuid:document_id>/pictures/<int:number>/": takes(document_id="document", number="=1"),
    "documents/<uuid:document_id>/delete/": takes(document_id="document"),
    "documents/<uuid:document_id>/retry/": takes(document_id="document"),
    "documents/<uuid:document_id>/unlock/": takes(document_id="document"),
    "documents/<uuid:document_id>/cancel/": takes(document_id="document"),
    "documents/<uuid:document_id>/describe/": takes(document_id="document"),
    "documents/<uuid:document_id>/use/": takes(document_id="document"),
    "documents/<uuid:document_id>/compare/": takes(document_id="document", query={"to": "document"}),
    "documents/<uuid:document_id>/restore/": takes(document_id="trashed document"),
    "documents/<uuid:document_id>/erase/": takes(document_id="trashed document"),
    "documents/trash/": takes_none(OWN_ONLY),
    "documents/trash/empty/": takes_none(OWN_ONLY),
    "receipts/": takes_none(OWN_ONLY),
    "receipts/<uuid:receipt_id>/": takes(receipt_id="receipt"),
    "receipts/<uuid:receipt_id>/download/": takes(receipt_id="receipt"),
    "export/": takes_none(OWN_ONLY),
    "collections/": takes_none(OWN_ONLY),
    "collections/create/": takes_none(OWN_ONLY),
    "collections/<uuid:collection_id>/rename/": takes(collection_id="collection"),
    "collections/<uuid:collection_id>/delete/": takes(collection_id="collection"),
    "collections/<uuid:collection_id>/access/": takes(collection_id="collection"),
    "collections/<uuid:collection_id>/fields/": takes(collection_id="collection"),
    "collections/<uuid:collection_id>/fields/<uuid:field_id>/": takes(collection_id="collection", field_id="field"),
    "collections/<uuid:collection_id>/fields/<uuid:field_id>/delete/": takes(collection_id="collection", field_id="field"),
    "collections/<uuid:collection_id>/describe/": takes(collection_id="collection"),
    "members/": takes_none(OWN_ONLY),
    "members/invite/": takes_none(OWN_ONLY),
    "members/invitations/<uuid:invitation_id>/withdraw/": takes(invitation_id="invitation"),
    "members/<int:user_id>/role/": takes(user_id="member"),
    "members/<int:user_id>/remove/": takes(user_id="member"),
    "members/leave/": takes_none("ends the membership of the person who is signed in"),
    "members/hand-over/": takes(form={"member": "colleague"}),
    "staff-access/": takes_none(OWN_ONLY),
    "staff-access/leave/": takes_none("ends the view of the person of the staff who is signed in"),
    "staff-access/<uuid:access_id>/decide/": takes(access_id="staff access", form={"decision": "=refuse"}),
    "libraries/": takes_none(OWN_ONLY),
    "libraries/<uuid:library_id>/subscribe/": takes_none(ANY_LIBRARY),
    "libraries/<uuid:library_id>/withdraw/": takes_none(ANY_LIBRARY),
    "presence/": takes_none(OWN_ONLY),
    "settings/": takes_none(OWN_ONLY),
    "settings/second-factor/": takes_none(OWN_ONLY),
    "settings/delete/": takes_none(OWN_ONLY),
    "settings/keep/": takes_none(OWN_ONLY),
    "log/": takes_none(OWN_ONLY),
    "log/status/": takes_none(OWN_ONLY),
    "log/check/": takes_none(OWN_ONLY),
    "log/export.<str:kind>": takes_none(OWN_ONLY),
    "keys/": takes_none(OWN_ONLY),
    "keys/status/": takes_none(OWN_ONLY),
    "keys/change/": takes_none(OWN_ONLY),
    "keys/pause/": takes_none(OWN_ONLY),
    "keys/resume/": takes_none(OWN_ONLY),
    "keys/freeze/": takes_none(OWN_ONLY),
    "keys/unfreeze/": takes_none(OWN_ONLY),
    "protection/": takes_none(OWN_ONLY),
    "protection/status/": takes_none(OWN_ONLY),
    "protection/change/": takes_none(OWN_ONLY),
    "protection/model/": takes_none(OWN_ONLY),
    "protection/settings/": takes_none(OWN_ONLY),
    "protection/disguise/": takes_none(OWN_ONLY),
    "protection/cancel/": takes_none(OWN_ONLY),
    "protection/back/": takes_none(OWN_ONLY),
    "protection/remove/": takes_none(OWN_ONLY),
    "isolation/": takes_none(OWN_ONLY),
    "isolation/status/": takes_none(OWN_ONLY),
    "isolation/start/": takes_none(OWN_ONLY),
    "isolation/cancel/": takes_none(OWN_ONLY),
    "plaintext/": takes_none(OWN_ONLY),
    "plaintext/status/": takes_none(OWN_ONLY),
    "plaintext/start/": takes_none(OWN_ONLY),
    "plaintext/cancel/": takes_none(OWN_ONLY),
}

# ---------------------------------------------------------------- outside of all (workspace.urls)

PUBLIC: dict[str, Entry] = {
    "": takes_none("lists the memberships of the person who is signed in"),
    "search/": takes_none(
        "asks workspaces of the person who is signed in: each id is looked up among their memberships and libraries"
    ),
    "health/": takes_none("says whether the database answers"),
    "workspaces/new/": takes_none("makes a workspace; takes no id"),
    "workspaces/<str:slug>/opening/": takes(slug="workspace"),
    "accounts/second-factor/": takes_none(OWN_PERSON),
    "accounts/sessions/": takes_none(OWN_PERSON),
    "accounts/sessions/end/": takes_none("ends a browser's session, looked up among those of the person who is signed in"),
    "accounts/sessions/end-others/": takes_none(OWN_PERSON),
    "invitation/<str:token>/": takes_none("the signed link is the permission: whoever holds it may take the place"),
}

# Patterns that other packages bring: below a path, as long as the package's own views answer there.
CHECKED_BY_ADMIN = {"admin_site", "model_admin"}  # attributes of views that AdminSite.admin_view lets staff reach alone
BROUGHT: dict[str, tuple[tuple[str, ...], str]] = {
    "accounts/": (("allauth",), OWN_PERSON),
    "accounts/social/": (("django.views.generic",), OWN_PERSON),  # allauth's, which hide where they come from
    "admin/": (
        ("django.", "django_rq", "tenants.admin", "workspace.console", "workspace.jobs_page", "workspace.memory_page"),
        "staff only; reads no workspace's schema",
    ),
}


# ---------------------------------------------------------------- the table against the URL confs


@dataclass(frozen=True)
class Route:
    """A URL pattern: its path as Django writes it, and the module of its view."""

    pattern: str
    module: str
    arguments: frozenset[str]
    name: str = ""

    def path(self, ids: Mapping[str, str]) -> str:
        """Relative to the start of the URL conf. What `ids` does not fill becomes an id of nobody."""
        return ARGUMENT.sub(lambda found: ids.get(found[1], NOBODY if found[0].startswith("<uuid:") else "0"), self.pattern)


@lru_cache
def routes(urlconf: str) -> tuple[Route, ...]:
    """Every pattern of a URL conf."""
    return tuple(_walk(get_resolver(urlconf).url_patterns, ""))


def _walk(patterns: Any, before: str) -> Iterator[Route]:
    for pattern in patterns:
        here = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, here)
        elif isinstance(pattern, URLPattern):
            view = getattr(pattern.callback, "view_class", pattern.callback)
            module = "django.contrib.admin" if CHECKED_BY_ADMIN & vars(view).keys() else view.__module__
            yield Route(here, module, frozenset(pattern.pattern.converters), pattern.name or "")


def entry_for(route: Route, table: Mapping[str, Entry]) -> Entry | None:
    if route.pattern in table:
        return table[route.pattern]
    for path, (packages, why) in BROUGHT.items() if table is PUBLIC else ():
        if route.pattern.startswith(path) and route.module.startswith(packages):
            return takes_none(why)
    return None


def tables() -> dict[str, dict[str, Entry]]:
    """The table of each URL conf."""
    return {settings.WORKSPACE_URLCONF: WORKSPACE, settings.ROOT_URLCONF: PUBLIC}


def asked_with_ids(urlconf: str) -> list[tuple[Route, Entry]]:
    """The patterns that take ids."""
    table = tables()[urlconf]
    found = [(route, entry_for(route, table)) for route in routes(urlconf)]
    return [(route, entry) for route, entry in found if entry is not None and entry.takes_ids]


@checks.register("isolation")
def every_route_has_an_entry(**kwargs: Any) -> list[checks.CheckMessage]:
    found: list[checks.CheckMessage] = []
    for urlconf, table in tables().items():
        there = routes(urlconf)
        for route in there:
            entry = entry_for(route, table)
            if entry is None:
                hint = "Add a line to workspace/isolation/routes.py: takes(…) with the kinds of its ids, or takes_none(why)."
                said = f"{urlconf}: {route.pattern!r} has no isolation entry"
                found.append(checks.Error(said, hint=hint, id="isolation.E001"))
            elif wrong := _mistake(route, entry):
                found.append(checks.Error(f"{urlconf}: {route.pattern!r} {wrong}", id="isolation.E003"))
        for pattern in table.keys() - {route.pattern for route in there}:
            hint = "Remove its line from workspace/isolation/routes.py."
            said = f"{urlconf}: the isolation entry {pattern!r} has no route"
            found.append(checks.Error(said, hint=hint, id="isolation.E002"))
    return found


def _mistake(route: Route, entry: Entry) -> str:
    if not entry.takes_ids:
        return "" if entry.why else "takes no id and does not say why"
    if entry.ids.keys() != route.arguments:
        return f"takes {sorted(route.arguments)}, and its isolation entry fills {sorted(entry.ids)}"
    unknown = {kind for kind in entry.kinds if not kind.startswith("=")} - ID_KINDS
    return f"is to be filled with unknown kinds: {sorted(unknown)}" if unknown else ""
