"""Every store that is no table: what it holds, who could learn what from it, and what leaves the installation.

The tables are in `columns`. Refuses to look: that is `looking`'s.
"""

import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from workspace.plaintext_map.columns import Kind

GROUPS = {
    "database": "Database",
    "index": "Index",
    "files": "Files and keys",
    "queues": "Queues",
    "logs": "Logs and temporary files",
    "copies": "Copies of the database",
    "memory": "Memory",
    "leaves": "What leaves",
}


@dataclass(frozen=True)
class Store:
    """`unseen` says why nothing can look there; empty for stores that a check looks through."""

    name: str
    group: str
    title: str
    kind: Kind
    holds: str
    learns: str
    unseen: str = ""


OURS_TO_SAY = "it lies outside this software"


def stores(level: str) -> Iterator[Store]:
    """As this installation is set up, for a workspace whose vectors are held at that level of protection."""
    yield HNSW[level]
    yield from IN_PLACE
    yield from memory()
    yield from leaving()


HNSW = {
    "open": Store(
        "index.hnsw", "index", "The vector index (HNSW)", Kind.CLEAR,
        "The vectors once more, as they are, and which are neighbours.",
        "Whoever reads the database sees what each passage is about, as in the table of vectors.",
    ),
    "cloaked": Store(
        "index.hnsw", "index", "The vector index (HNSW)", Kind.DISGUISED,
        "The disguised vectors once more, and which are neighbours.",
        "Whoever reads the database sees which passages are alike, as in the table of vectors.",
    ),
    "sealed": Store(
        "index.hnsw", "index", "The vector index (HNSW)", Kind.CLEAR, "Nothing: there is none.", "Nothing.",
    ),
}  # fmt: skip
IN_PLACE = (
    Store(
        "index.others", "index", "The other indexes", Kind.CLEAR,
        "Ids, times, states and keyed digests of the tables they belong to; never a name or a text.",
        "Nothing that the tables do not show.",
    ),
    Store(
        "files", "files", "Uploaded files", Kind.ENCRYPTED,
        "Every file, encrypted while it was received. Its name on the disk is random.",
        "Whoever copies the disk sees how many files there are, how large each is to the byte, and when it came.",
    ),
    Store(
        "var", "files", "The installation's own directory", Kind.CLEAR,
        "Settings, generated passwords of the services, style sheets, the search model. Nothing that people put in.",
        "Whoever reads it can sign in to the database and Redis, and sees there what this page lists.",
    ),
    Store(
        "keystore", "files", "The keystore", Kind.CLEAR,
        "The keys that wrap the workspaces' keys. Nothing that people put in.",
        "Whoever has it together with the database or the files reads everything. Alone it opens nothing.",
    ),
    Store(
        "witness", "files", "The witness", Kind.CLEAR,
        "Numbers and digests, so that a database that was turned back is noticed.",
        "How often something happened, by ids.",
    ),
    Store(
        "redis", "queues", "Redis: queues, registries of jobs, cache and limits", Kind.CLEAR,
        "Ids of workspaces, documents and runs in the names of jobs; counters of how much somebody asked, by network address.",
        "Whoever reads it sees what is being worked on and who is active. No question, no name, no text.",
    ),
    Store(
        "logs", "logs", "Logs of web server, worker, PostgreSQL and Redis", Kind.CLEAR,
        "Times, pages with ids, answers, network addresses, places in the code. No query, no text, no message of an error.",
        "Whoever reads them sees who opened which page when. A reverse proxy's own log is its own business.",
    ),
    Store(
        "temporary", "logs", "Temporary files", Kind.CLEAR,
        "Sockets and short-lived files of programs. Uploads never lie there: they are encrypted while they are received.",
        "Nothing of what people put in.",
    ),
    Store(
        "dump", "copies", "A dump of the database (pg_dump)", Kind.DISGUISED,
        "What the tables hold, in the same state: encrypted stays encrypted, clear stays clear.",
        "Whoever has a backup learns what a reader of the database learns, of that day and of what was deleted since.",
    ),
    Store(
        "data", "copies", "The database's files and its write-ahead log", Kind.DISGUISED,
        "What the tables hold and held: deleted rows stay until their place is used again.",
        "As a reader of the database, and something of what was deleted lately.",
    ),
    Store(
        "backups", "copies", "Backups made earlier", Kind.DISGUISED,
        "What the database and the files held that day.",
        "As of a dump. Deleting here changes no backup; a key that was destroyed closes them.",
        unseen="they lie wherever those who run this installation keep them",
    ),
    Store(
        "freed", "copies", "Freed blocks of the disks", Kind.DISGUISED,
        "Pieces of removed files and rows, until the disk uses the place again.",
        "As of a dump, in pieces. Deleted keys of the keystore may be among them: put it on an encrypted disk.",
        unseen="that needs the raw disk",
    ),
)  # fmt: skip


def memory() -> Iterator[Store]:
    swaps = _swap_areas()
    limit, _ = resource.getrlimit(resource.RLIMIT_CORE)
    yield Store(
        "memory", "memory", "Memory of the web server and the worker", Kind.CLEAR,
        "Keys, decrypted words and vectors for up to 15 minutes after use; texts and questions while they are worked on.",
        "Whoever controls these processes, or is root there, reads every workspace.",
        unseen="a program cannot prove what is not in its memory",
    )  # fmt: skip
    yield Store(
        "swap", "memory", "Swap", Kind.CLEAR,
        f"This machine has {swaps} swap area{'s' if swaps != 1 else ''}: parts of the memory may be written there."
        if swaps
        else "This machine has no swap.",
        "What lay in memory, for as long as the disk keeps it." if swaps else "Nothing, on this machine.",
        unseen="that needs the raw disk" if swaps else "there is none on this machine",
    )  # fmt: skip
    yield Store(
        "core", "memory", "Core dumps", Kind.CLEAR,
        "The memory of a process that crashed, where the system writes it down. "
        + ("This process may write none." if limit == 0 else "This process may write one: set `ulimit -c 0`."),
        "What lay in memory.",
        unseen="where they go is the system's to say",
    )  # fmt: skip


def leaving() -> Iterator[Store]:
    mail = (
        "Mail goes to the mail server that is set up: invitations, links, notices with the workspace's name."
        if settings.MAIL_IS_CONFIGURED
        else "No mail server is set up, so no mail leaves: staff hand links over."
    )
    yield Store(
        "mail", "leaves", "Mail", Kind.CLEAR, f"{mail} Never a title, a question or a text.",
        "Mail servers on the way see who is invited where.", unseen="a message that has left cannot be looked at",
    )  # fmt: skip
    yield Store(
        "embedder", "leaves", "An embedder elsewhere", Kind.CLEAR,
        "Nothing leaves: passages and questions are embedded on this machine, by the model in the installation's directory.",
        "Nobody.", unseen="there is none",
    )  # fmt: skip
    yield Store(
        "downloads", "leaves", "Downloads", Kind.CLEAR, "Files as they were uploaded.",
        "Whoever has the downloaded file.", unseen="what has left is where you put it",
    )  # fmt: skip
    yield Store(
        "archives", "leaves", "Exports of a whole workspace", Kind.CLEAR,
        "Files as they were uploaded, their metadata, and judgments.",
        "Whoever has the archive.", unseen="what has left is where you put it",
    )  # fmt: skip
    yield Store(
        "exports", "leaves", "Exported evaluations, logs and receipts", Kind.CLEAR,
        "Evaluations: questions and titles. Logs: who did what. Receipts: ids and counts.",
        "Whoever has the exported file.", unseen="what has left is where you put it",
    )  # fmt: skip
    yield Store(
        "commands", "leaves", "Output of commands on the server", Kind.CLEAR,
        "What was asked for, titles and passages of a search too.",
        "Whoever sees that terminal or keeps its output.", unseen=OURS_TO_SAY,
    )  # fmt: skip
    yield Store(
        "browser", "leaves", "Your browser", Kind.CLEAR,
        "Pages of a workspace are sent with the order not to store them, and no question stands in an address. The list of "
        "pages you visited names documents by id.",
        "Whoever uses your account on that machine.", unseen="it is not this machine's",
    )  # fmt: skip


def _swap_areas() -> int:
    try:
        return max(0, len(Path("/proc/swaps").read_text().splitlines()) - 1)
    except OSError:
        return 0
