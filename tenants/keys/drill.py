"""Proves that a backup of the keystore opens what is in the database, without changing the keystore in use.

The backup is a directory or a tar archive. What an archive holds is unpacked inside KEYS_DIR, for as long as the drill
takes. Keys that a key service holds are not in the backup, and said to be there.
"""

import hashlib
import hmac
import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from tenants import witness
from tenants.errors import Refused
from tenants.keys.keyring import provider, wrap_binding
from tenants.keys.providers import KeyProvider, Keystore, KeyUnavailable, SealedKeystore
from tenants.models import Tenant, TenantKey

PASSED = "keystore-drill"  # in the witness: {"at", "keys": fingerprint of what was proven, "workspaces"}
FILE = re.compile(r"[0-9a-f-]{36}(\.[0-9]+)?\.(key|sealed)|installation\.(key|sealed|vault|aws-kms)")
SCRATCH = ".drill-"  # directories in the keystore, each for one drill
LEFT_AFTER = 3600  # seconds
LARGEST_FILE = 64 * 1024


@dataclass
class Report:
    """`missing`: what the backup does not open, by address of the workspace or "installation", and why."""

    workspaces: int = 0
    elsewhere: int = 0  # workspaces whose wrapping key a key service holds
    missing: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"passed": not self.missing, **asdict(self)}


@dataclass(frozen=True)
class LastDrill:
    at: datetime
    covers_all: bool  # whether every key there is now is one that was proven


def drill(backup: Path) -> Report:
    """Open every workspace key in the database with the backup. Raises Refused for what is no backup. Notes a pass."""
    if backup.resolve() == Path(settings.KEYS_DIR).resolve():
        raise Refused(f"{backup} is the keystore in use, not a backup of it.")
    report, proven = Report(), _fingerprint()
    with _unpacked(backup) as directory:
        holders = _holders(directory)
        _prove_installation_key(holders, report)
        opened, rows = set(), _rows().select_related("tenant")
        for row in rows:
            holder = holders.get(row.provider)
            if holder is None:
                report.elsewhere += 1
                continue
            try:
                holder.unwrap(row.tenant_id, bytes(row.wrapped), wrap_binding(row.tenant_id, row.version))
                opened.add(row.tenant_id)
            except KeyUnavailable:
                why = "does not open with the backup" if holder.holds(row.tenant_id) else "is not in the backup"
                report.missing[row.tenant.slug] = f"its key of version {row.version} {why}"
        report.workspaces = len(opened)
    if not report.missing:
        witness.keep(PASSED, {"at": timezone.now().isoformat(), "keys": proven, "workspaces": report.workspaces})
    return report


def last_drill() -> LastDrill | None:
    """The last one that passed."""
    kept = witness.record(PASSED)
    if kept is None:
        return None
    return LastDrill(datetime.fromisoformat(kept["at"]), hmac.compare_digest(str(kept["keys"]), _fingerprint()))


def _rows() -> Any:
    return TenantKey.objects.filter(tenant__status__in=Tenant.MADE).exclude(state=TenantKey.State.DESTROYED)


def _fingerprint() -> str:
    """Of the wrapped keys there are: another one after every new workspace and every change of a key."""
    rows = _rows().order_by("tenant_id", "version").values_list("tenant_id", "version", "wrapped")
    digest = hashlib.sha256()
    for tenant_id, version, wrapped in rows:
        digest.update(f"{tenant_id}/{version}/".encode() + hashlib.sha256(bytes(wrapped)).digest())
    return digest.hexdigest()


def _holders(directory: Path) -> dict[str, KeyProvider]:
    found: dict[str, KeyProvider] = {Keystore.name: Keystore(directory)}
    if settings.KEYS_ROOT_KEY:
        found[SealedKeystore.name] = SealedKeystore(directory, settings.KEYS_ROOT_KEY)
    return found


def _prove_installation_key(holders: dict[str, KeyProvider], report: Report) -> None:
    live = provider()
    holder = holders.get(live.name)
    if holder is None:  # wrapped by the key service: the file alone has to be the same
        name = f"installation.{live.name}"
        directory = next(iter(holders.values())).directory  # type: ignore[attr-defined]
        ours, theirs = Path(settings.KEYS_DIR) / name, directory / name
        if not theirs.exists() or theirs.read_bytes() != ours.read_bytes():
            report.missing["installation"] = f"{name} is not in the backup, or is another"
        return
    try:
        if not hmac.compare_digest(holder.installation_key(), live.installation_key()):
            report.missing["installation"] = "the backup holds another installation key"
    except KeyUnavailable:
        report.missing["installation"] = "the installation key is not in the backup, or damaged"


@contextmanager
def _unpacked(backup: Path) -> Iterator[Path]:
    """The backup's key files, whatever directory of it they lie in, as a keystore of their own."""
    try:
        found = _files(backup)
    except FileNotFoundError:
        raise Refused(f"There is no {backup}.") from None
    except (OSError, tarfile.TarError, EOFError):
        problem = "cannot be read as a directory or a tar archive. Decrypt it first where it is encrypted."
        raise Refused(f"{backup} {problem}") from None
    if not found:
        raise Refused(f"{backup} holds no file of a keystore.")
    keys = Path(settings.KEYS_DIR)
    for left in keys.glob(f"{SCRATCH}*"):  # a killed drill's: keys that no erasure would reach
        if time.time() - left.stat().st_mtime > LEFT_AFTER:
            shutil.rmtree(left, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=keys))  # mode 0700
    try:
        for name, content in found.items():
            (directory / name).touch(mode=0o600)
            (directory / name).write_bytes(content)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _files(backup: Path) -> dict[str, bytes]:
    if backup.is_dir():
        files = [path for path in backup.rglob("*") if FILE.fullmatch(path.name) and path.is_file()]
        paths = [path for path in files if not path.parent.name.startswith(SCRATCH)]
        if len({path.parent for path in paths}) > 1:
            raise Refused(f"{backup} holds files of a keystore in several directories: name the one that is the backup.")
        return {path.name: path.read_bytes()[:LARGEST_FILE] for path in paths}
    found = {}
    with tarfile.open(backup) as archive:
        for member in archive:
            name = Path(member.name).name
            if (
                member.isfile()
                and member.size <= LARGEST_FILE
                and FILE.fullmatch(name)
                and (file := archive.extractfile(member))
            ):
                found[name] = file.read()
    return found
