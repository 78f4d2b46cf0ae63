"""Looks an installation over and says of each part whether it works, and what to do where it does not. Repairs nothing.

Each check stands on its own: one that finds its part away says so, and the others still run. Of a workspace it reads by
which models its indexes are, and nothing else.
"""

import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from smtplib import SMTPException
from typing import Literal

import redis
from django.conf import settings
from django.core.mail import get_connection
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from documents.extraction.sandbox import Sandbox, SandboxUnavailable
from documents.storage import FULL_BYTES
from search import indexes
from search.embeddings import EmbeddingModelMissing, embedder, models
from tenants import logins, roles, schemas, seals
from tenants.context import workspace
from tenants.jobs import queues, worker_is_listening
from tenants.keys.drill import last_drill
from tenants.keys.keyring import provider, wrap_binding
from tenants.keys.messages import CHANGE_AT
from tenants.keys.providers import KeyUnavailable, named
from tenants.models import Alarm, Tenant, TenantKey
from tenants.provisioning import missing_keys
from tenants.stalls import stands_still_for
from tenants.wording import counted

OLDEST_POSTGRESQL = 160000  # GRANT … WITH INHERIT FALSE, SET TRUE
OLDEST_PGVECTOR = (0, 8)  # iterative scans
TIGHT_BYTES = 10 * 1024**3
DEPTH = {
    "namespaces": "no empty network and mount namespaces",
    "landlock": "no Landlock",
    "account": "the reader runs as root",
}
PREPARE = "Run `manage.py prepare` with an administrator's DATABASE_URL (docs/configuration.md)."

State = Literal["ok", "warning", "repair"]


@dataclass(frozen=True)
class Finding:
    """What one check found. `repair`: something does not work or does not protect until `action` is taken."""

    name: str
    state: State
    detail: str
    action: str = ""


def examine() -> list[Finding]:
    return [check() for check in CHECKS]


# ---------------------------------------------------------------- database


def database() -> Finding:
    name = "database"
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version_num')::int, current_setting('server_version')")
            number, version = cursor.fetchone()
            cursor.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
            extension = cursor.fetchone()
    except DatabaseError as error:
        action = "Start the server, or correct DATABASE_URL and the logins' passwords."
        return Finding(name, "repair", f"PostgreSQL does not answer: {_first_line(error)}", action)
    if number < OLDEST_POSTGRESQL:
        return Finding(name, "repair", f"PostgreSQL {version} is too old.", "Use PostgreSQL 16 or newer.")
    if extension is None:
        return Finding(name, "repair", f"PostgreSQL {version} has no extension vector in this database.", PREPARE)
    if tuple(int(part) for part in extension[0].split(".")[:2]) < OLDEST_PGVECTOR:
        action = "Install pgvector 0.8 or newer and run ALTER EXTENSION vector UPDATE."
        return Finding(name, "repair", f"pgvector {extension[0]} is too old.", action)
    migrations = MigrationExecutor(connection)
    if migrations.migration_plan(migrations.loader.graph.leaf_nodes()):
        return Finding(name, "repair", "The database is of an earlier version of Cloister.", "Run `manage.py prepare`.")
    return Finding(name, "ok", f"PostgreSQL {version}, pgvector {extension[0]}")


def isolation() -> Finding:
    """What keeps workspaces apart in the database: roles that own nothing, row-level security, what is revoked."""
    own = connection.settings_dict["NAME"]
    wanted = {roles.login_name(kind) for kind in ("web", "worker", "operator")}
    wanted |= {f"{own}_{suffix}" for suffix in ("rest", "public", "tenants")}
    try:
        with connection.cursor() as cursor:
            mighty = "SELECT rolname, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = ANY(%s)"
            cursor.execute(mighty, [list(wanted)])
            found = dict(cursor.fetchall())
            cursor.execute(
                "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE n.nspname = 'public' AND relrowsecurity AND relname = ANY(%s)",
                [list(roles.TENANT_READS)],
            )
            protected = {table for (table,) in cursor.fetchall()}
            cursor.execute(
                "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace "
                "AND proname = ANY(%s) AND has_function_privilege('public', oid, 'EXECUTE') UNION ALL "
                "SELECT lanname FROM pg_language WHERE lanname = 'plpgsql' AND has_language_privilege('public', oid, 'USAGE')",
                [list(roles.WITHHELD)],
            )
            granted = sorted(name for (name,) in cursor.fetchall())
            otherwise = logins.unlike_setting(connection)
    except DatabaseError as error:
        return Finding("isolation", "repair", f"Cannot be read: {_first_line(error)}", "Repair the database first.")
    problems = [f"role {role} is missing" for role in sorted(wanted - found.keys())]
    problems += [f"role {role} bypasses row-level security" for role, bypasses in sorted(found.items()) if bypasses]
    problems += [f"row-level security is off on {table}" for table in sorted(set(roles.TENANT_READS) - protected)]
    if granted:
        problems.append(f"{', '.join(granted)} granted to everybody")
    if otherwise:
        problems.append(f"{len(otherwise)} workspaces are not as TENANT_LOGINS={int(settings.TENANT_LOGINS)} wants them")
    if problems:
        return Finding("isolation", "repair", _sentence(problems), PREPARE)
    return Finding("isolation", "ok", f"{len(found)} roles, row-level security on {len(protected)} tables")


def workspaces() -> Finding:
    """Whether every workspace has the tables this version needs, and none is stuck half-way."""
    try:
        made = Tenant.objects.filter(status__in=Tenant.MADE)
        behind = [t.slug for t in made.exclude(schema_version=schemas.head()) if schemas.is_behind(t.schema_version)]
        unmade = list(Tenant.objects.filter(status=Tenant.Status.FAILED).values_list("slug", flat=True))
    except DatabaseError:
        return Finding("workspaces", "repair", "Unknown while the database does not answer.", "Repair the database first.")
    if behind:
        detail = f"{len(behind)} of {made.count()} workspaces wait for their upgrade ({behind[0]} is one)."
        return Finding("workspaces", "repair", detail, "Run `manage.py upgrade_workspaces`.")
    if unmade:
        detail = f"{len(unmade)} workspaces could not be created ({unmade[0]} is one)."
        return Finding("workspaces", "warning", detail, "Try again on the administration pages, or delete them there.")
    return Finding("workspaces", "ok", f"{made.count()} workspaces, all of this version")


# ---------------------------------------------------------------- queues


def queue() -> Finding:
    client = queues()[0].connection
    try:
        client.ping()
        version = client.info("server")["redis_version"]
    except redis.RedisError as error:
        detail = f"Redis does not answer: {_first_line(error)}"
        return Finding("redis", "repair", detail, "Start it, or correct REDIS_URL.")
    waiting = sum(len(each) for each in queues())
    if still := stands_still_for():
        detail = f"{counted(waiting, 'job')} waiting, and none was taken for {still // timedelta(minutes=1)} minutes."
        return Finding("redis", "repair", detail, "Look into the worker's log, then start it again; nothing is lost.")
    return Finding("redis", "ok", f"Redis {version}, {counted(waiting, 'job')} waiting")


def worker() -> Finding:
    try:
        listening = worker_is_listening()
    except redis.RedisError:
        return Finding("worker", "repair", "Unknown while Redis does not answer.", "Repair Redis first.")
    if not listening:
        action = "Run bin/up, or `manage.py worker` where you run the processes yourself."
        return Finding("worker", "repair", "No worker is running: uploads and evaluations wait.", action)
    return Finding("worker", "ok", "A worker is running")


# ---------------------------------------------------------------- keys, model, sandbox


def keystore() -> Finding:
    """Whether it is private, whole, and the one that this database was made with."""
    name, directory = "keystore", Path(settings.KEYS_DIR)
    restore = "Restore the keystore from its backup (docs/keys.md)."
    if not directory.is_dir():
        action = f"{restore} For a new installation run `manage.py prepare`."
        return Finding(name, "repair", f"There is no {directory}.", action)
    files = [path for ending in ("key", "sealed", "vault", "aws-kms") for path in directory.glob(f"*.{ending}")]
    exposed = [path for path in (directory, *files) if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if exposed:
        action = f"chmod 700 {directory} && chmod 600 {directory}/*.*"
        return Finding(name, "repair", f"{exposed[0]} can be read by other accounts.", action)
    keys = provider()
    try:
        keys.installation_key()
        if missing := missing_keys():
            detail = f"It lacks the keys of {counted(len(missing), 'workspace')} ({missing[0].slug} is one)."
            return Finding(name, "repair", detail, restore)
        rows = TenantKey.objects.filter(tenant__status__in=Tenant.MADE).exclude(state=TenantKey.State.DESTROYED)
        opened = set()
        for tenant, version, wrapped, holder in rows.values_list("tenant_id", "version", "wrapped", "provider"):
            named(holder).unwrap(tenant, bytes(wrapped), wrap_binding(tenant, version))
            opened.add(tenant)
    except KeyUnavailable as error:
        return Finding(name, "repair", str(error), "docs/keys.md tells how to restore it.")
    except DatabaseError:
        detail = "Not compared with the database, which does not answer."
        return Finding(name, "repair", detail, "Repair the database first.")
    if worn := rows.filter(state=TenantKey.State.ACTIVE, messages__gte=CHANGE_AT).count():
        detail = f"{counted(worn, 'key')} encrypted half of what is safe."
        return Finding(name, "warning", detail, "Their owners, or `manage.py rotate_keys`, change them (docs/keys.md).")
    where = str(directory) if keys.name == "keystore" else f"{keys.name}, {directory}"
    return Finding(name, "ok", f"{where}: opens the keys of {counted(len(opened), 'workspace')}")


def keys_backup() -> Finding:
    """Whether a backup of the keystore was ever proven to open what is here, and still would."""
    name, action = "keys backup", "Back the keystore up, then run `manage.py keystore_drill --backup PATH` (docs/keys.md)."
    try:
        last = last_drill()
    except DatabaseError:
        return Finding(name, "repair", "Unknown while the database does not answer.", "Repair the database first.")
    if last is None:
        return Finding(
            name, "warning", "No backup of the keystore was ever tried: its loss would be the loss of all data.", action
        )
    if not last.covers_all:
        return Finding(name, "warning", f"Keys were made or changed since the last drill on {last.at:%Y-%m-%d}.", action)
    return Finding(name, "ok", f"A backup opened every key on {last.at:%Y-%m-%d}")


def access() -> Finding:
    """Whether the rows that grant access are sealed, and not older than what is kept outside the database."""
    name = "access"
    try:
        old = seals.is_old()
        opened = list(Alarm.objects.filter(settled_at=None).exclude(kind=Alarm.Kind.QUEUE))  # which `queue` tells of
    except DatabaseError:
        return Finding(name, "repair", "Unknown while the database does not answer.", "Repair the database first.")
    except KeyUnavailable as error:
        return Finding(name, "repair", str(error), "docs/keys.md tells how to restore it.")
    if old:
        detail = "The database is older than its witness: what changed since its backup lets nobody in."
        action = "After a restore run `manage.py accept_restore`; otherwise find out who brought rows back."
        return Finding(name, "repair", detail, action)
    if opened:
        detail = f"{counted(len(opened), 'open alarm')}; the last is about {opened[0].subject}."
        return Finding(name, "repair", detail, "Look at them on the administration pages, under Alarms, and settle them there.")
    return Finding(name, "ok", "Every row that grants access is sealed, no alarm is open")


def model() -> Finding:
    try:
        embedder().embed_query("doctor")
    except EmbeddingModelMissing:
        action = f"python -m search.embeddings {settings.MODEL_DIR}"
        return Finding("model", "repair", f"There is no exported model in {settings.MODEL_DIR}.", action)
    except Exception as error:
        action = f"Remove {settings.MODEL_DIR}, then run python -m search.embeddings {settings.MODEL_DIR}"
        return Finding("model", "repair", f"The exported model does not load ({type(error).__name__}).", action)
    installed = models()
    if missing := _models_in_use() - installed.keys():
        action = f"Put it below {settings.MODELS_DIR} again: what is searched by it is not found, nor is more uploaded there."
        return Finding(
            "model", "repair", f"Workspaces use a model that is not installed: {', '.join(sorted(missing))}.", action
        )
    return Finding("model", "ok", "; ".join(f"{each.name}, {each.dimension} dimensions" for each in installed.values()))


def _models_in_use() -> set[str]:
    """By every index that is written, of workspaces that can be entered. None while the database does not answer."""
    found: set[str] = set()
    with suppress(DatabaseError):
        for tenant in Tenant.objects.filter(status=Tenant.Status.ACTIVE):
            with workspace(tenant):
                found |= set(indexes.models())
    return found


def sandbox() -> Finding:
    box = Sandbox()
    try:
        layers = box.layers()
    except SandboxUnavailable as error:
        action = "Documents need Linux with seccomp on x86-64 or aarch64; in a container, a profile that allows it."
        return Finding("sandbox", "repair", f"{error}.", action)
    finally:
        box.close()
    missing = [words for layer, words in DEPTH.items() if not layers.get(layer)]
    if missing:
        action = "Seccomp and limits hold; for more depth allow user namespaces and use kernel 5.13 or newer."
        return Finding("sandbox", "warning", _sentence(missing), action)
    return Finding("sandbox", "ok", "seccomp, limits, namespaces, Landlock")


def recognition() -> Finding:
    """Whether words are read from pictures and scanned pages."""
    name, wanted = "text recognition", settings.OCR_LANGUAGES
    if wanted == "none":
        return Finding(name, "ok", "Switched off (OCR_LANGUAGES): pictures and scanned pages are not read")
    box = Sandbox(languages=wanted)
    try:
        found = box.layers()["languages"]
    except SandboxUnavailable:
        return Finding(name, "warning", "Unknown while the sandbox does not start.", "Repair the sandbox first.")
    finally:
        box.close()
    missing = [one for one in wanted.split("+") if one not in found.split("+")]
    packages = " ".join(f"tesseract-ocr-{one.replace('_', '-')}" for one in missing)
    if not found:
        action = f"apt-get install tesseract-ocr {packages}, then restart; without it, set OCR_LANGUAGES=none."
        return Finding(name, "warning", "Pictures and scanned pages are not read: tesseract is missing.", action)
    if missing:
        action = f"apt-get install {packages}, then restart; or set OCR_LANGUAGES={found}."
        return Finding(name, "warning", f"Text is recognised as {found}, not as {', '.join(missing)}.", action)
    return Finding(name, "ok", f"Pictures and scanned pages are read: {found}")


# ---------------------------------------------------------------- the machine


def disk() -> Finding:
    places = {_existing(Path(path)) for path in (settings.VAR_DIR, settings.FILES_DIR, settings.KEYS_DIR)}
    free, place = min((shutil.disk_usage(place).free, str(place)) for place in places)
    detail = f"{free / 1e9:.1f} GB free at {place}"
    if free < FULL_BYTES:
        return Finding("disk", "repair", detail, "Make room: uploads fail when the disk is full.")
    if free < TIGHT_BYTES:
        return Finding("disk", "warning", detail, "Make room before it runs out.")
    return Finding("disk", "ok", detail)


def mail() -> Finding:
    if not settings.MAIL_IS_CONFIGURED:
        action = "Set EMAIL_HOST, or hand links over from the administration pages (docs/administration.md)."
        return Finding("mail", "warning", "No mail server is set: nothing is sent.", action)
    server = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    try:
        with get_connection():
            return Finding("mail", "ok", f"{server} answers")
    except (OSError, SMTPException) as error:
        action = "Correct EMAIL_HOST, EMAIL_PORT, EMAIL_USER, EMAIL_PASSWORD or EMAIL_TLS."
        return Finding("mail", "repair", f"{server} does not take mail ({type(error).__name__}).", action)


CHECKS: tuple[Callable[[], Finding], ...] = (
    database, isolation, workspaces, queue, worker, keystore, keys_backup, access, model, sandbox, recognition,
    disk, mail,
)  # fmt: skip


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if os.path.exists(place))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _sentence(parts: list[str]) -> str:
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."
