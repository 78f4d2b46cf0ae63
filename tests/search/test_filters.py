"""Filtering by metadata and by when a document was added: what passes, what is counted, who sees which filter."""

import random
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client

from documents import access, describing, trash
from documents.describing import describe, describe_all
from documents.fields import add_field
from documents.models import Collection, Document, Field
from documents.receiving import create_collection
from search import indexes
from search.embeddings import Embedder
from search.facts import Added, Condition, Entry, FactIndex, Is, Value, Within
from search.filters import ADDED, filters_of
from search.loaded import facts_of
from search.models import SharedSearch
from search.pool import pool
from search.ranking import Mode
from search.sources import sources
from tenants.context import public_context
from tenants.models import Membership
from tests.factories import CollectionFactory
from tests.search.conftest import search, store

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
MARKER = "quillfeather"


def titles(results: Any) -> set[str]:
    return {Document.objects.get(pk=hit.document_id).title for hit in results.hits}


# ---------------------------------------------------------------- in memory, against brute force

STATE, NOTE, AMOUNT, DAY = (UUID(int=number) for number in range(1, 5))
WORDS = ["open", "Open", "closed", "waiting", "straße", "STRASSE"]


def made_up(chance: random.Random, generation: int) -> Entry:
    values: dict[UUID, Value] = {}
    if chance.random() < 0.8:
        values[STATE] = chance.choice(WORDS)
    if chance.random() < 0.5:
        values[NOTE] = chance.choice(WORDS)
    if chance.random() < 0.9:
        values[AMOUNT] = chance.randrange(-50, 50) / 2
    if chance.random() < 0.7:
        values[DAY] = float(chance.randrange(700_000, 700_100))
    return Entry(uuid4(), generation, float(chance.randrange(1000)), values)


def passes(entry: Entry, conditions: list[Condition]) -> bool:
    for condition in conditions:
        if isinstance(condition, Added):
            met = (condition.since is None or entry.added >= condition.since) and (
                condition.before is None or entry.added < condition.before
            )
        elif isinstance(condition, Is):
            met = any(str(entry.values.get(f, "")).casefold() == condition.text.casefold() for f in condition.fields)
        else:
            numbers = [float(entry.values[f]) for f in condition.fields if f in entry.values]
            met = any(
                (condition.low is None or n >= condition.low) and (condition.high is None or n <= condition.high)
                for n in numbers
            )
        if not met:
            return False
    return True


def asked_by_chance(chance: random.Random) -> list[Condition]:
    every: list[Condition] = [
        Is(frozenset({STATE}), chance.choice([*WORDS, "nowhere"])),
        Is(frozenset({STATE, NOTE}), chance.choice(WORDS)),
        Within(frozenset({AMOUNT}), chance.choice([None, -10, 0, 3.5]), chance.choice([None, 3.5, 20, -30])),
        Within(frozenset({DAY, AMOUNT}), chance.choice([None, 700_050]), chance.choice([None, 700_060])),
        Added(chance.choice([None, 100, 500]), chance.choice([None, 500, 900])),
    ]
    return chance.sample(every, chance.randrange(1, 4))


def test_ten_thousand_documents_pass_as_by_brute_force() -> None:
    """Also after changes and removals, whether the index was made at once or brought up to date."""
    chance = random.Random(7)
    there = {entry.document_id: entry for entry in (made_up(chance, 1) for _ in range(10_000))}
    index = FactIndex().updated(list(there.values()))
    for generation in range(2, 8):
        changed = [
            Entry(pk, generation, there[pk].added, made_up(chance, generation).values) for pk in chance.sample(list(there), 700)
        ]
        removed = set(chance.sample(list(there), 800)) - {entry.document_id for entry in changed}
        new = [made_up(chance, generation) for _ in range(300)]
        index = index.updated([*changed, *new], removed)
        there = {pk: entry for pk, entry in there.items() if pk not in removed}
        there |= {entry.document_id: entry for entry in (*changed, *new)}
        for _ in range(15):
            conditions = asked_by_chance(chance)
            passing = index.matching(conditions)
            found = {document for document, slot in index.slots.items() if passing[slot]}
            assert found == {pk for pk, entry in there.items() if passes(entry, conditions)}, conditions
            counted = Counter(str(there[pk].values[STATE]).casefold() for pk in found if STATE in there[pk].values)
            assert {value.casefold(): amount for value, amount in index.amounts([STATE], passing)} == counted
    assert index.generation == 7
    assert set(index.slots) == set(there)
    assert len(index.alive) < 2 * len(there)  # dead slots are few


def test_memory_is_counted() -> None:
    chance = random.Random(1)
    small, large = (FactIndex().updated([made_up(chance, 1) for _ in range(n)]) for n in (1000, 10_000))
    assert 8 < large.nbytes / small.nbytes < 12


# ---------------------------------------------------------------- through the search


@pytest.fixture
def described(handbook: dict[str, Document]) -> dict[str, Field]:
    """Fields of the handbook, by name; its documents have states, amounts and days."""
    collection = handbook["Canteen"].collection
    made = {
        name: add_field(collection, name, kind, filterable=True)
        for name, kind in (
            ("State", "keyword"),
            ("Amount", "number"),
            ("Checked", "date"),
            ("Public", "boolean"),
            ("Owner", "text"),
        )
    }
    describe_all(
        collection,
        {
            document.pk: {
                "State": "final" if number % 2 else "draft",
                "Amount": str(number * 10),
                "Checked": f"2026-0{number + 1}-15",
                "Public": "yes" if number < 3 else "no",
                "Owner": "Mara Lind",
            }
            for number, document in enumerate(handbook.values())
        },
    )
    return made


def only(field: Field) -> frozenset[UUID]:
    return frozenset({field.pk})


def test_every_kind_of_filter(handbook: dict[str, Document], described: dict[str, Field]) -> None:
    names = list(handbook)
    asked: list[tuple[Condition, list[str]]] = [
        (Is(only(described["State"]), "FINAL"), names[1::2]),
        (Is(only(described["Public"]), "yes"), names[:3]),
        (Is(only(described["Owner"]), "mara lind"), names),
        (Is(only(described["Owner"]), "mara"), []),
        (Within(only(described["Amount"]), 20, 40), names[2:5]),
        (Within(only(described["Checked"]), date(2026, 7, 15).toordinal(), None), names[6:]),
        (Within(only(described["State"]), None, None), []),  # texts are no numbers
    ]
    for mode in Mode:
        for exact in (False, True):
            for condition, expected in asked:
                found = titles(search("a password for the car park", conditions=[condition], mode=mode, exact=exact))
                assert found <= set(expected)
                if mode is not Mode.WORDS:
                    assert found == set(expected), (mode, exact, condition)


def test_filters_go_together_with_each_other_phrases_and_exclusions(
    handbook: dict[str, Document], described: dict[str, Field]
) -> None:
    final = Is(only(described["State"]), "final")
    assert titles(search("lunch", conditions=[final, Within(only(described["Amount"]), None, 30)])) == {
        "Travel costs",
        "Passwords",
    }
    assert titles(search('"twelve characters"', conditions=[final])) == {"Passwords"}
    assert titles(search('"vegetarian dishes"', conditions=[final])) == set()
    assert "Passwords" not in titles(search("colleague -password", conditions=[final]))


def test_a_date_range_of_when_it_was_added(handbook: dict[str, Document], workspace_a: Any) -> None:
    for days, title in enumerate(handbook):
        Document.objects.filter(title__isnull=False, pk=handbook[title].pk).update(
            created_at=datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(days=days)
        )
    pool().clear()
    since, before = (datetime(2026, 3, day, tzinfo=UTC).timestamp() for day in (3, 5))
    assert titles(search("anything", conditions=[Added(since, before)])) == {"Fire drill", "Passwords"}


def test_a_filter_never_costs_results_that_pass(crowd: Callable[..., list[Document]]) -> None:
    """The index is asked for the nearest 200 of all, among which may be few that pass: then all that pass are compared."""
    collection = CollectionFactory()
    crowd(2500, each=100, collection=collection)
    documents = crowd(300, each=1, collection=collection, seed=1)
    state = add_field(collection, "State", "keyword", filterable=True)
    asked = {"one": documents[7:8], "rare": documents[50:65], "common": documents[100:190]}
    for value, expected in asked.items():
        describe_all(collection, {document.pk: {"State": value} for document in expected})
    for value, expected in asked.items():
        results = search("filler", conditions=[Is(only(state), value)])
        assert {hit.document_id for hit in results.hits} == {document.pk for document in expected}
        exact = search("filler", conditions=[Is(only(state), value)], exact=True)
        assert [hit.document_id for hit in results.hits] == [hit.document_id for hit in exact.hits]
        assert results.way == "exact"


def test_many_that_pass_come_through_the_index(crowd: Callable[..., list[Document]]) -> None:
    collection = CollectionFactory()
    documents = crowd(3000, each=100, collection=collection)
    state = add_field(collection, "State", "keyword", filterable=True)
    describe_all(collection, {document.pk: {"State": "common"} for document in documents[:27]})
    results = search("filler", conditions=[Is(only(state), "common")])
    assert results.way == "index"
    assert {hit.document_id for hit in results.hits} <= {document.pk for document in documents[:27]}


def test_what_is_counted(handbook: dict[str, Document], described: dict[str, Field]) -> None:
    facets = [only(described["State"]), only(described["Public"])]
    assert search("password", facets=facets).facets == ((("draft", 4), ("final", 4)), (("no", 5), ("yes", 3)))
    assert search("password", facets=facets, mode=Mode.WORDS).facets == ((("final", 1),), (("no", 1),))
    narrowed = search("password", facets=facets, conditions=[Is(only(described["Public"]), "yes")])
    assert narrowed.facets == ((("draft", 2), ("final", 1)), (("no", 5), ("yes", 3)))  # what else could be chosen
    both = [Is(only(described["Public"]), "yes"), Is(only(described["State"]), "draft")]
    assert search("password", facets=facets, conditions=both).facets == (
        (("draft", 2), ("final", 1)), (("no", 2), ("yes", 2))
    )  # fmt: skip
    quoted = search('"twelve characters"', facets=facets, conditions=[Is(only(described["State"]), "final")])
    assert quoted.facets == ((("final", 1),), (("no", 1),))
    assert search('"twelve characters"', facets=facets).facets == ((("final", 1),), (("no", 1),))
    trash.trash([handbook["Passwords"].pk], None)
    assert search("password", facets=facets).facets[0] == (("draft", 4), ("final", 3))
    trash.restore([handbook["Passwords"].pk])
    assert search("password", facets=facets).facets[0] == (("draft", 4), ("final", 4))


def test_values_are_decrypted_once_and_then_brought_up_to_date(
    handbook: dict[str, Document], described: dict[str, Field], django_assert_num_queries: Any
) -> None:
    first = facts_of(indexes.live())
    assert facts_of(indexes.live()) is first
    before = pool().statistics()
    describe(handbook["Canteen"], {"State": "withdrawn"})
    live = indexes.live()
    with django_assert_num_queries(3):  # what is published, what changed, when that was added
        second = facts_of(live)
    after = pool().statistics()
    assert (after.loads, after.updates) == (before.loads, before.updates + 1)
    assert len(second.alive) == len(first.alive) + 1  # one document anew
    assert ("withdrawn", 1) in second.amounts(only(described["State"]))
    assert [held.nbytes for held in after.held if held.part == "facts"] == [second.nbytes]


def test_a_field_that_is_no_filter_any_more_leaves_the_search(
    handbook: dict[str, Document], described: dict[str, Field]
) -> None:
    describing.change_field(described["State"], "State", filterable=False)
    assert facts_of(indexes.live()).amounts(only(described["State"])) == []
    describing.change_field(described["State"], "State", filterable=True)
    assert facts_of(indexes.live()).amounts(only(described["State"])) == [("draft", 4), ("final", 4)]
    describing.delete_field(described["State"])
    assert facts_of(indexes.live()).amounts(only(described["State"])) == []


# ---------------------------------------------------------------- the page


@pytest.fixture
def do(workspace_a: Any) -> Callable[..., Any]:
    def ask(client: Client, method: str, path: str, *args: Any, **options: Any) -> Any:
        with public_context():
            return getattr(client, method)(workspace_a.path + path, *args, **options)

    return ask


@pytest.fixture
def ask(do: Callable[..., Any], client_viewer: Client, described: dict[str, Field]) -> Callable[..., str]:
    def post(question: str = "a password", headers: dict[str, str] = HTMX, status: int = 200, **more: str) -> str:
        answer = do(client_viewer, "post", "", {"q": question, **more}, headers=headers)
        assert answer.status_code == status
        return str(answer.content.decode())

    return post


def keys(membership: Membership | None = None) -> dict[str, str]:
    member = membership or Membership.objects.get(role="viewer")
    return {each.name: each.key for each in filters_of(sources().collections(member))}


def found(html: str) -> set[str]:
    return set(re.findall(r'class="result-title"><a [^>]*>([^<]*)</a>', html))


def hidden(html: str) -> list[dict[str, str]]:
    """The hidden fields of each form that is answered."""
    forms = re.findall(r"<form.*?</form>", html, re.S)
    return [dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form)) for form in forms]


def test_filters_are_on_the_page(ask: Callable[..., str], do: Callable[..., Any], client_viewer: Client) -> None:
    html = do(client_viewer, "get", "").content.decode()
    of = keys()
    for name in (of["State"], f"{of['Amount']}-from", f"{of['Checked']}-to", of["Public"], of["Owner"], "added-from"):
        assert f'name="{name}"' in html
    assert '<option value="draft">draft</option>' in html
    assert re.search(rf'type="date" name="{of["Checked"]}-to"', html)


def test_ranges_equality_and_dates_by_post(ask: Callable[..., str], handbook: dict[str, Document]) -> None:
    of, names = keys(), list(handbook)
    assert found(ask(**{of["State"]: "final"})) == set(names[1::2])
    assert found(ask(**{f"{of['Amount']}-from": "20", f"{of['Amount']}-to": "40"})) == set(names[2:5])
    assert found(ask(**{f"{of['Checked']}-from": "2026-07-15"})) == set(names[6:])
    assert found(ask(**{of["Owner"]: " MARA  lind "})) == set(names)
    today = date.today()
    assert found(ask(**{"added-from": str(today - timedelta(days=1)), "added-to": str(today + timedelta(days=1))})) == set(
        names
    )
    assert found(ask(**{"added-to": str(today - timedelta(days=2))})) == set()
    assert found(ask(**{"added-from": "0001-01-01", "added-to": "9999-12-31"})) == set(names)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("Amount-from", "much", "Write a number"), ("Amount-from", "nan", "Write a number"),
        ("Amount-to", "1e999", "Write a number"),
        ("Checked-from", "soon", "Write year, month and day"), ("Checked-to", "2026-02-30", "Write year, month and day"),
        ("added-from", "<b>", "Write year, month and day"), ("Public", "perhaps", "Choose yes, no, or any"),
        ("Owner", "x" * 1001, "at most 1000"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_and_stays(ask: Callable[..., str], name: str, value: str, said: str) -> None:
    label, dash, end = name.partition("-")
    key = name if label == "added" else keys()[label] + dash + end
    html = ask(headers={}, status=422, **{key: value})
    assert said in html
    assert "<article" not in html
    if label != "Public":
        assert f'value="{value.replace("<", "&lt;").replace(">", "&gt;")}"' in html


def test_an_empty_range_is_said(ask: Callable[..., str]) -> None:
    amount = keys()["Amount"]
    assert "ends before it begins" in ask(status=422, **{f"{amount}-from": "5", f"{amount}-to": "4"})


def test_filters_without_a_question_say_that_one_is_needed(ask: Callable[..., str]) -> None:
    assert "Filters narrow down what a question finds." in ask(question=" ", status=422, **{keys()["State"]: "final"})


def test_facets_count_and_are_picked_and_taken_off_with_one_click(ask: Callable[..., str]) -> None:
    state, public = keys()["State"], keys()["Public"]
    html = ask()
    assert re.search(rf'name="pick" value="{state}=final">final <span class="meta">4</span>', html)
    assert re.search(rf'name="pick" value="{public}=no">No <span class="meta">5</span>', html)
    assert 'name="off"' not in html
    html = ask(pick=f"{state}=final")
    assert "State: final" in html
    assert len(found(html)) == 4
    assert f'name="off" value="{state}"' in html
    assert re.search(rf'name="pick" value="{state}=draft">draft <span class="meta">4</span>', html)
    assert 'hx-swap-oob="true"' in html  # the form beside it learns of it
    assert '<option value="final" selected>final</option>' in html
    html = ask(off=state, **{state: "final", public: "no"})
    assert "State: final" not in html
    assert "Public: No" in html
    assert len(found(html)) == 5
    amount = keys()["Amount"]
    assert len(found(ask(off=amount, **{f"{amount}-from": "20", f"{amount}-to": "40"}))) == 8


def test_a_button_sets_nothing_but_filters(ask: Callable[..., str]) -> None:
    html = ask(pick="q=zebra", off="q", headers={})
    assert 'value="a password"' in html


def test_the_next_page_keeps_the_filters(
    do: Callable[..., Any], client_viewer: Client, crowd: Callable[..., list[Document]]
) -> None:
    collection = CollectionFactory()
    documents = crowd(30, each=1, collection=collection)
    add_field(collection, "State", "keyword", filterable=True)
    describe_all(collection, {document.pk: {"State": "a & b"} for document in documents[:15]})
    state = keys()["State"]
    html = do(client_viewer, "post", "", {"q": "filler", state: "A & B"}, headers=HTMX).content.decode()
    assert "of 15 results" in html
    pager = next(form for form in hidden(html) if form.get(state) and "page" not in form)
    assert pager[state] == "A &amp; B"
    assert sum(form.get(state) == "A &amp; B" for form in hidden(html)) >= 3  # facets, share, pager
    html = do(client_viewer, "post", "", {"q": "filler", state: "A & B", "page": "2"}, headers=HTMX).content.decode()
    assert "11 to 15" in html


def test_a_shared_search_has_its_filters(do: Callable[..., Any], client_viewer: Client, described: dict[str, Field]) -> None:
    of = keys()
    sent = {"q": "a password", of["State"]: "final", f"{of['Amount']}-to": "30"}
    link = do(client_viewer, "post", "s/", sent)["Location"]
    assert MARKER not in link
    assert SharedSearch.objects.get().query[of["State"]] == "final"
    with public_context():
        html = client_viewer.get(link).content.decode()
    assert found(html) == {"Travel costs", "Passwords"}
    assert "State: final" in html
    describing.delete_field(described["State"])
    with public_context():
        assert client_viewer.get(link).status_code == 404  # what it was limited to is gone: more would be found


def test_another_collection_has_other_filters(ask: Callable[..., str], handbook: dict[str, Document]) -> None:
    letters = create_collection("Letters")
    add_field(letters, "Sender", "text", filterable=True)
    add_field(letters, "state", "keyword", filterable=True)
    add_field(letters, "Amount", "integer", filterable=True)  # another kind: another filter
    describe(store(["A letter about a password."], title="Letter", collection=letters), {"state": "Final", "Amount": "7"})
    state = keys()["State"]
    assert "Letter" in found(ask(**{state: "final"}))
    handbook_id = str(handbook["Canteen"].collection_id)
    html = ask(collection=handbook_id, **{"filters-of": ""})
    assert 'hx-swap-oob="true"' in html
    assert "Sender" not in html
    assert "Letter" not in found(ask(collection=handbook_id, **{state: "final"}))
    assert 'hx-swap-oob="true"' not in ask(collection=handbook_id, **{"filters-of": handbook_id})
    html = ask(collection=str(letters.pk), **{keys()["Checked"] + "-from": "2026-01-01"})
    assert "A filter that does not exist here was left out." in html


def test_fields_and_values_of_a_restricted_collection_are_nowhere(
    client_owner: Client, client_viewer: Client, do: Callable[..., Any], ask: Callable[..., str]
) -> None:
    board = create_collection("Board", restricted=True)
    merger = store(["The merger and its password."], title="Merger", collection=board)
    for name in (MARKER, "State"):
        add_field(board, name, "keyword", filterable=True)
    describe(merger, {MARKER: "larkspur", "State": "wrenmarrow"})
    viewer, owner = (Membership.objects.get(role=role) for role in ("viewer", "owner"))
    key = keys(owner)[MARKER]
    assert "wrenmarrow" in do(client_owner, "post", "", {"q": "merger"}, headers=HTMX).content.decode()
    assert MARKER not in keys(viewer)
    pages = [
        do(client_viewer, "get", "").content.decode(),
        ask(headers={}),
        ask(),
        ask(pick=f"{key}=larkspur", headers={}),
        ask(headers={}, **{key: "larkspur"}),
        ask(headers={}, **{keys(viewer)["State"]: "final"}),
    ]
    for html in pages:
        for word in (MARKER, "wrenmarrow", "Merger"):
            assert word not in html
    html = ask(**{keys(viewer)["State"]: "wrenmarrow"})
    assert found(html) == set()
    shared = do(client_owner, "post", "s/", {"q": "merger", key: "larkspur"})["Location"]
    with public_context():
        assert client_owner.get(shared).status_code == 200
        assert client_viewer.get(shared).status_code == 404
    access.set_access(board, owner, restricted=True, chosen=[viewer.pk])
    assert MARKER in ask(headers={})


def test_canaries_have_no_filter(client_owner: Client, in_workspace_a: Any, model: Embedder) -> None:
    hidden_one = Collection.objects.create(name="Canary", name_digest=b"x" * 32, is_canary=True)
    add_field(hidden_one, MARKER, "keyword", filterable=True)
    assert filters_of(sources().collections(Membership.objects.get(role="owner"))) == [ADDED]


def test_filters_take_no_query_of_their_own(
    do: Callable[..., Any], client_viewer: Client, described: dict[str, Field], django_assert_num_queries: Any
) -> None:
    state = keys()["State"]
    do(client_viewer, "post", "", {"q": "password", state: "final"}, headers=HTMX)
    with public_context(), django_assert_num_queries(11):  # as many as without, see test_search_page
        client_viewer.post("/w/alpha/", {"q": "password", state: "final"}, headers=HTMX)


def test_the_page_takes_one_query_for_all_keywords(
    do: Callable[..., Any], client_viewer: Client, described: dict[str, Field], django_assert_num_queries: Any
) -> None:
    for number in range(3):
        add_field(described["State"].collection, f"Keyword {number}", "keyword", filterable=True)
    do(client_viewer, "get", "")
    with public_context(), django_assert_num_queries(8):  # as many as without, see test_search_page, and one
        client_viewer.get("/w/alpha/")


def test_values_with_markup_are_text(ask: Callable[..., str], handbook: dict[str, Document]) -> None:
    describe(handbook["Canteen"], {"State": '"><script>x</script>=&'})
    html = ask(headers={})
    assert "<script>x" not in html
    state = keys()["State"]
    assert found(ask(pick=f'{state}="><script>x</script>=&')) == {"Canteen"}
