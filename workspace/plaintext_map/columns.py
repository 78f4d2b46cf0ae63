"""What each column of each table holds, and what somebody without any key learns from it.

A column that a migration adds needs its name in one of these entries. One without is reported as unknown, by the command
and to the members, and fails a test. Refuses to know any value.
"""
# ruff: noqa: E501 - a table

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Kind(StrEnum):
    """What a store holds."""

    ENCRYPTED = "encrypted"  # AES-256-GCM; without the key, its length
    DERIVED = "derived"  # a digest, keyed or not: equality can be told, content cannot be read back
    DISGUISED = "disguised"  # cloaked vectors: neither readable nor encrypted
    CLEAR = "clear"
    UNKNOWN = "unknown"  # nobody has said


class Layout(StrEnum):
    """How the values of an encrypted column begin (docs/file-format.md)."""

    WORKSPACE = "workspace"  # under a version of the workspace's key
    INSTALLATION = "installation"  # under the installation's key, version 0
    OTHER = "other"  # without that header


Words = Mapping[str, str]  # what it is in plain words -> columns, parted by spaces


@dataclass(frozen=True)
class Table:
    """`what` it is for, and what its clear and derived columns tell (`learns`)."""

    what: str
    learns: str
    encrypted: Words = field(default_factory=dict)
    derived: Words = field(default_factory=dict)
    disguised: Words = field(default_factory=dict)
    clear: Words = field(default_factory=dict)
    layout: Layout = Layout.WORKSPACE

    def columns(self) -> Iterator[tuple[str, Kind, str]]:
        """Name, kind, and what it is in plain words."""
        kinds = (
            (Kind.ENCRYPTED, self.encrypted),
            (Kind.DERIVED, self.derived),
            (Kind.DISGUISED, self.disguised),
            (Kind.CLEAR, self.clear),
        )
        for kind, words in kinds:
            for what, names in words.items():
                for name in names.split():
                    yield name, kind, what

    def kinds(self) -> Mapping[str, Kind]:
        return {name: kind for name, kind, _ in self.columns()}


SEAL = {"a keyed digest over the row, so that it cannot be written by others": "seal"}
DJANGO_LISTS = "Which parts of the software there are. The same in every installation."

# ---------------------------------------------------------------- in each workspace's schema

WORKSPACE: Mapping[str, Table] = MappingProxyType({
    "documents_collection": Table(
        "Collections", "How many there are, which are restricted, when each was made.",
        encrypted={"the name": "name"},
        derived={"a keyed digest of the name, so that each is used once": "name_digest"},
        clear={"random ids": "id", "when it was made": "created_at", "whether it is restricted or holds canaries": "restricted is_canary"},
    ),
    "documents_collectionmember": Table(
        "Who may see a restricted collection", "Which memberships see which restricted collection.",
        clear={"random ids": "id collection_id", "the number of a membership": "membership_id"},
    ),
    "documents_document": Table(
        "Documents", "How many, how large, in which collection, uploaded and deleted when and by whose number, how far each came.",
        encrypted={"the title": "title", "the file's name and format": "file_name format",
                   "the name another system gave it": "reference", "what went wrong": "detail"},
        clear={"random ids": "id collection_id stored_name", "bytes of the file": "size",
               "how far it came, and a code for why it failed": "state reason attempts retries",
               "numbers of pages and passages": "pages pages_unread pages_read pages_total chunks_total chunks_done",
               "the number of a person": "created_by_id trashed_by_id",
               "times": "created_at started_at finished_at trashed_at retry_at",
               "which version of which document it is, and whether it is in use": "series version is_current",
               "the random id of the archive it came out of": "archive"},
        derived={"a keyed digest of the bytes: which files of the workspace are the same": "content_digest",
                 "a keyed digest of the collection and the name, so that it is known again": "name_digest"},
    ),
    "documents_arrival": Table(
        "Large uploads that are not complete", "How large they are, how far they came, into which collection and by whose number.",
        encrypted={"the file's name, its time and its metadata": "about"},
        clear={"random ids": "id collection_id", "random names of the encrypted pieces": "pieces", "bytes": "size received",
               "the number of a person": "created_by_id", "when it went on last": "touched_at"},
    ),
    "documents_queue": Table(
        "The queue of documents", "Since when there is something in it, and whether it is paused.",
        clear={"a fixed number": "id", "times": "began_at paused_at"},
    ),
    "documents_stage": Table(
        "What happened to each document", "When it was worked on by which process, how many pages could be read, how many passages it has.",
        clear={"random ids": "document_id", "a number": "id", "the stage, how it ended, and a code for why": "name attempt outcome reason",
               "host and number of a process": "worker", "times": "started_at ended_at",
               "numbers of pages and passages": "pages pages_extracted pages_ocr pages_empty pages_failed passages"},
    ),
    "documents_page": Table(
        "The text of each page", "How many pages a document has, about how long each is, and which are pictures.",
        encrypted={"the text": "text", "its label": "label"},
        clear={"random ids": "id document_id", "its place": "number", "how it came to its text": "origin"},
    ),
    "documents_field": Table(
        "Fields of collections: which metadata their documents can have",
        "How many fields a collection has, of which kinds, in which order, and which can be filtered by.",
        encrypted={"the name": "name"},
        derived={"a keyed digest of the collection and the name, so that each is used once": "name_digest"},
        clear={"random ids": "id collection_id", "its kind, its place and whether it can be filtered by": "kind position filterable"},
    ),
    "documents_value": Table(
        "Metadata of documents", "Which documents have something in which field, and about how long it is. Not what, and not which have the same.",
        encrypted={"the value": "value"}, clear={"random ids": "id document_id field_id"},
    ),
    "documents_usage": Table(
        "What counts against the limits", "How many documents and bytes the workspace holds.",
        clear={"a fixed number": "id", "counts": "documents bytes"},
    ),
    "search_vectorindex": Table(
        "The indexes and their settings", "Which model is used, how vectors are protected, when that was changed and by whose number, how often something was.",
        clear={"a number": "id", "the model and its settings": "model dimension metric m ef_construction",
               "the level of protection": "protection", "its state, and how far its building came": "state generation total done recall detail attempts",
               "the number of a person": "created_by_id", "times": "created_at finished_at"},
    ),
    "search_sealedvectors": Table(
        "Vectors of a document, where the level is sealed", "How many passages a document has.",
        encrypted={"the true vectors": "payload"}, clear={"random ids": "document_id", "a number of passages": "passages"},
    ),
    "search_furthervector": Table(
        "Vectors of passages by another model than the first", "Which passages have one, and by which model.",
        encrypted={"the true vector": "embedding"}, clear={"random ids": "id chunk_id document_id", "the name of the model": "model"},
    ),
    "search_cloak": Table(
        "The secret that disguises the vectors", "That there is one.",
        encrypted={"the secret rotation and the key of the noise": "rotation"},
        clear={"random ids": "id", "the number of the index": "index_id"},
    ),
    "search_chunk": Table(
        "Passages", "How many passages a document has, where each stands and how long it is.",
        encrypted={"the text": "text", "the true vector": "embedding"},
        clear={"random ids": "id document_id", "its place in the document, and its length": "sequence page start end tokens"},
    ),
    "search_indexentry": Table(
        "Vectors that the database ranks by",
        "Which passages are alike: clusters, near duplicates. Who knows enough of the documents can tell which is which.",
        disguised={"the vector, rotated by a secret and with noise added": "vector"},
        clear={"random ids": "chunk_id document_id", "the number of the index": "index_id"},
    ),
    "search_terms": Table(
        "The words of each document, for search by word", "About how many different words a document has. No word is searchable.",
        encrypted={"the words and how often each occurs": "payload"},
        clear={"random ids": "document_id collection_id", "a count": "generation"},
    ),
    "search_facts": Table(
        "What documents can be filtered by", "About how long that is for each document. No value can be compared or looked for.",
        encrypted={"values and the fields they are in": "payload"},
        clear={"random ids": "document_id", "a count": "generation"},
    ),
    "search_sharedsearch": Table(
        "Shared searches", "That somebody shared a search, and when.",
        encrypted={"the question and its filters": "query"},
        clear={"the id in its link": "id", "the number of a person": "created_by_id", "when": "created_at"},
    ),
    "search_membersearches": Table(
        "Members' own searches", "That a member has searched or saved a search, and about how much they keep of that.",
        encrypted={"the searches saved under a name": "saved", "the last searches, and whether any are kept": "history"},
        clear={"the number of a membership": "membership_id"},
    ),
    "search_judgmentset": Table(
        "Judgments", "How many questions there are, added by whose number and when.",
        encrypted={"the name": "name"},
        clear={"random ids": "id", "counts": "questions_total judgments_total", "the number of a person": "created_by_id", "when": "created_at"},
    ),
    "search_question": Table(
        "Questions of judgments", "How many, in which order, about how long.",
        encrypted={"the question and what the file called it": "text reference"},
        clear={"random ids": "id judgment_set_id", "its place": "ordinal"},
    ),
    "search_judgment": Table(
        "Which documents answer a question", "How many documents were judged for each question, and the grades.",
        encrypted={"what the file called the document": "reference"},
        clear={"random ids": "id question_id", "the grade": "grade"},
    ),
    "search_run": Table(
        "Evaluations", "When, by whose number, with which settings, and how good the search was.",
        encrypted={"what went wrong": "detail"},
        clear={"random ids": "id judgment_set_id collection_id", "settings and figures": "configuration figures",
               "how far it came": "state questions_total questions_done unresolved attempts",
               "the number of a person": "created_by_id", "times": "created_at started_at finished_at"},
    ),
    "search_answer": Table(
        "What an evaluation found for each question", "How good the search was for each question, and how long it took.",
        encrypted={"the documents expected and returned": "expected returned"},
        clear={"random ids": "id run_id question_id", "figures": "ndcg mrr recall_10 recall_100 exact_ndcg latency_ms"},
    ),
    "audit_entry": Table(
        "The log of what was done", "What kind of thing was done, when, by whose number. Not on what, and not by whose name.",
        encrypted={"who, how, why and on what": "details"},
        derived={"a digest over this entry and the one before, with a random salt": "digest"},
        clear={"its number": "number", "when": "at", "what kind of thing was done": "event", "the number of a person": "person_id",
               "random ids": "source"},
    ),
    "audit_head": Table(
        "The end of the log", "How many entries the log has.",
        derived={"the digest of the last entry": "digest"},
        clear={"a fixed number": "id", "the number of the last entry": "number"},
    ),
    "django_migrations": Table(
        "Which version the tables have", DJANGO_LISTS, clear={"names of migrations and when they ran": "id app name applied"}
    ),
})  # fmt: skip

# ---------------------------------------------------------------- in the public schema, for the whole installation

PUBLIC: Mapping[str, Table] = MappingProxyType({
    "tenants_tenant": Table(
        "Workspaces", "Each workspace's name, address and limits, when it was made, why staff suspended or must keep it.",
        derived=SEAL,
        clear={"the name and address": "name slug", "random ids and names in the database": "id schema_name db_role",
               "its state and version": "status schema_version erasures_seen", "whether a second factor is required": "require_mfa",
               "limits": "quota_documents quota_bytes quota_members",
               "why it is suspended or must be kept, in words of staff": "suspension legal_hold",
               "times": "created_at suspended_at delete_at"},
    ),
    "tenants_domain": Table(
        "Hostnames of workspaces", "Which hostname leads to which workspace.", derived=SEAL,
        clear={"the hostname": "domain", "ids": "id tenant_id", "whether it is the first": "is_primary"},
    ),
    "tenants_user": Table(
        "People", "Everybody's e-mail address and name, who is staff, when they last signed in.",
        derived={"the password's Argon2 hash": "password",
                 "keyed digests over the row and the ways to sign in": "seal ways_seal"},
        clear={"the e-mail address and name": "email name", "a number": "id", "flags": "is_staff is_superuser is_active",
               "times": "date_joined last_login"},
    ),
    "tenants_user_groups": Table("Groups of people; not used", "Nothing: empty.", clear={"numbers": "id user_id group_id"}),
    "tenants_user_user_permissions": Table(
        "Permissions of people; not used", "Nothing: empty.", clear={"numbers": "id user_id permission_id"}
    ),
    "tenants_membership": Table(
        "Who belongs to which workspace", "Who is in which workspace, and as what.", derived=SEAL,
        clear={"numbers and ids": "id user_id tenant_id", "the role": "role"},
    ),
    "tenants_invitation": Table(
        "Invitations", "Which address was invited to which workspace, by whom and when.", derived=SEAL,
        clear={"the e-mail address": "email", "the role": "role", "numbers and ids": "id tenant_id invited_by_id",
               "times": "created_at expires_at accepted_at"},
    ),
    "tenants_session": Table(
        "Browsers that are signed in", "Who is signed in, since when, from which network address, with which browser.",
        layout=Layout.OTHER,
        encrypted={"what the session holds, under a key made of the installation's and the cookie": "session_data"},
        derived={"a hash of the cookie": "session_key"},
        clear={"the number of a person": "user_id", "the browser and network address": "browser address",
               "times": "expire_date started_at seen_at"},
    ),
    "tenants_outgoingmail": Table(
        "Mail that staff hand over where no mail server is set up", "To whom which kind of mail was written, and when.",
        layout=Layout.INSTALLATION,
        encrypted={"the text, with links that let somebody in": "sealed_body"},
        clear={"a random id": "id", "the recipient's address": "recipient", "the subject": "subject", "when": "created_at"},
    ),
    "tenants_staffaccess": Table(
        "When staff asked to view a workspace", "Who of the staff viewed which workspace, when, and the reason they gave.",
        derived=SEAL,
        clear={"the address": "staff_email", "the reason": "reason", "ids": "id tenant_id staff_id consented_by_id refused_by_id",
               "times": "minutes requested_at usable_from lapses_at consented_at refused_at began_at ends_at ended_at"},
    ),
    "tenants_library": Table(
        "Libraries", "Which workspaces are libraries, and what staff say that they hold.",
        derived=SEAL,
        clear={"ids": "id tenant_id", "what it holds": "description", "when": "created_at"},
    ),
    "tenants_subscription": Table(
        "Subscriptions to libraries", "Which workspace reads which library, and since when.",
        derived=SEAL,
        clear={"ids": "id tenant_id library_id", "when": "created_at"},
    ),
    "tenants_tenantkey": Table(
        "Workspace keys, wrapped", "How many versions of its key a workspace has, and when each was made and last used.",
        layout=Layout.OTHER,
        encrypted={"the key, wrapped by a key outside the database": "wrapped", "what digests are made with": "seeds"},
        clear={"ids": "id tenant_id", "version, state and who wraps it": "version state provider", "a count": "messages",
               "times": "created_at used_at retired_at destroy_at"},
    ),
    "tenants_keyrotation": Table(
        "Changes of workspace keys", "When a key was changed, by whose number, and how far it came.",
        clear={"ids": "id tenant_id asked_by_id", "how far it came": "to_version state stage cursor total done detail",
               "times": "started_at seen_at finished_at"},
    ),
    "tenants_process": Table(
        "Processes that run", "On which machines Cloister runs, and which workspaces are searched now.",
        clear={"a random id": "id", "the kind, machine and number of the process": "kind host pid", "times": "started_at seen_at",
               "how much it keeps decrypted in memory, with ids of the largest workspaces": "memory"},
    ),
    "tenants_freeze": Table(
        "Workspaces whose keys were frozen", "Who froze which workspace, when, and the reason they gave.",
        clear={"ids": "id tenant_id", "the reason and who gave it": "reason asked_by", "the processes that ran": "expected",
               "times": "asked_at lifted_at"},
    ),
    "tenants_freezeanswer": Table(
        "Answers of processes to a freeze", "Which process answered when.", clear={"ids": "id freeze_id process_id", "when": "at"}
    ),
    "tenants_receipt": Table(
        "Receipts of erasures", "What was erased when, in ids and counts.",
        clear={"ids": "id tenant_id", "what was erased, signed": "kind document", "when": "issued_at"},
    ),
    "tenants_auditoutbox": Table(
        "Log entries on their way", "That something was done in a workspace, and when.", layout=Layout.INSTALLATION,
        encrypted={"the entry": "sealed"}, clear={"ids": "id tenant_id", "when": "created_at"},
    ),
    "tenants_alarm": Table(
        "Alarms", "What Cloister found wrong, named by table and id, and what staff said about it.",
        clear={"ids": "id tenant_id", "what was found": "kind subject times", "what staff said": "settled_because",
               "times": "first_at last_at settled_at"},
    ),
    "tenants_isolationcheck": Table(
        "Results of isolation checks", "When each workspace was checked, and what leaked, without content.",
        clear={"ids": "id tenant_id part_of_id", "how far it came and the result": "trigger state steps steps_done counts leaks",
               "times": "created_at started_at seen_at finished_at"},
    ),
    "tenants_plaintextcheck": Table(
        "Results of these checks", "When each workspace was looked through, and where something was found, without content.",
        clear={"ids": "id tenant_id", "how far it came and the result": "trigger state stage steps steps_done found unknown report",
               "times": "created_at started_at seen_at finished_at"},
    ),
    "tenants_workspacestats": Table(
        "Figures of workspaces for staff", "How much each workspace holds, how much is used and when it was last active.",
        clear={"the workspace": "tenant_id",
               "counts": "documents ready failed unfinished bytes passages entries unsearchable pages_missing index_generation "
                         "runs_unfinished members jobs_failed",
               "what is wrong with it": "behind trouble trouble_words",
               "times": "oldest_unfinished_at index_counted_at last_activity_at queued_at refreshed_at"},
    ),
    "account_emailaddress": Table(
        "E-mail addresses", "Everybody's address, and whether it was confirmed.",
        clear={"the address": "email", "flags": "verified primary", "numbers": "id user_id"},
    ),
    "account_emailconfirmation": Table(
        "Confirmations of addresses; not used, since links are signed", "Nothing: empty.",
        clear={"numbers": "id email_address_id", "a key": "key", "times": "created sent"},
    ),
    "mfa_authenticator": Table(
        "Second factors", "Which second factors a person has and when they were used; of passkeys the name, public key and hostname.",
        clear={"secrets of apps and recovery codes, each encrypted within it; of passkeys name and public key, readable": "data",
               "the kind": "type", "numbers": "id user_id", "times": "created_at last_used_at"},
    ),
    "socialaccount_socialaccount": Table(
        "Single sign-on", "Who signs in by it, the address the provider last named, and when.",
        derived={"a hash of issuer and subject": "uid"},
        clear={"the provider": "provider", "the address the provider named": "extra_data", "numbers": "id user_id",
               "times": "last_login date_joined"},
    ),
    "socialaccount_socialapp": Table(
        "Providers of single sign-on; not used, since they are settings", "Nothing: empty.",
        clear={"settings": "id provider name client_id secret key provider_id settings"},
    ),
    "socialaccount_socialtoken": Table(
        "Tokens of single sign-on; never stored", "Nothing: empty.",
        clear={"tokens": "id token token_secret expires_at account_id app_id"},
    ),
    "axes_accessattempt": Table(
        "Failed sign-ins", "With which address, from which network address and browser somebody tried to sign in.",
        clear={"the address typed": "username", "the browser and network address": "user_agent ip_address http_accept",
               "the page": "path_info", "what was sent, without the password": "get_data post_data",
               "counts and times": "id failures_since_start attempt_time"},
    ),
    "axes_accessattemptexpiration": Table(
        "When failed sign-ins are forgotten", "Times.", clear={"numbers and times": "access_attempt_id expires_at"}
    ),
    "axes_accessfailurelog": Table(
        "Failed sign-ins, listed; not used", "As above.",
        clear={"the address typed": "username", "the browser and network address": "user_agent ip_address http_accept",
               "the page": "path_info", "times and flags": "id attempt_time locked_out"},
    ),
    "axes_accesslog": Table(
        "Sign-ins", "Who signed in when, from which network address, with which browser.",
        derived={"a hash of the session": "session_hash"},
        clear={"the address typed": "username", "the browser and network address": "user_agent ip_address http_accept",
               "the page": "path_info", "times": "id attempt_time logout_time"},
    ),
    "django_admin_log": Table(
        "What staff changed", "Which record staff changed when; it names people and workspaces.",
        clear={"the record and the change": "object_id object_repr action_flag change_message content_type_id",
               "who and when": "id action_time user_id"},
    ),
    "auth_group": Table("Groups; not used", "Nothing: empty.", clear={"names": "id name"}),
    "auth_group_permissions": Table("Permissions of groups; not used", "Nothing: empty.", clear={"numbers": "id group_id permission_id"}),
    "auth_permission": Table("Kinds of permission", DJANGO_LISTS, clear={"names": "id name codename content_type_id"}),
    "django_content_type": Table("Kinds of record", DJANGO_LISTS, clear={"names": "id app_label model"}),
    "django_migrations": Table(
        "Which version the tables have", DJANGO_LISTS, clear={"names of migrations and when they ran": "id app name applied"}
    ),
})  # fmt: skip


# What differs where vectors are held at another level than cloaked.
ENTRIES: Mapping[str, Table] = MappingProxyType({
    "open": Table(
        "Vectors that the database ranks by", "What each passage is about, often nearly what it says, and which are alike.",
        clear={"the vector, as it is": "vector", "random ids": "chunk_id document_id", "the number of the index": "index_id"},
    ),
    "sealed": Table(
        "Vectors that the database ranks by at other levels", "Nothing: empty.",
        clear={"nothing": "vector chunk_id document_id index_id"},
    ),
})  # fmt: skip


def tables_at(level: str) -> Mapping[str, Table]:
    """Those of a workspace whose vectors are held at that level of protection."""
    return WORKSPACE if level not in ENTRIES else {**WORKSPACE, "search_indexentry": ENTRIES[level]}


def table_of(schema: str, name: str) -> Table | None:
    return (PUBLIC if schema == "public" else WORKSPACE).get(name)


def kind_of(schema: str, table: str, column: str) -> Kind:
    found = table_of(schema, table)
    return Kind.UNKNOWN if found is None else found.kinds().get(column, Kind.UNKNOWN)
