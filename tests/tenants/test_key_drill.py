"""A backup of the keystore is proven by opening what is in the database, and only a whole one passes."""

import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tenants import witness
from tenants.errors import Refused
from tenants.keys.drill import PASSED, drill, last_drill
from tenants.models import Tenant, TenantKey
from workspace import doctor

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def backup(tmp_path: Path, workspace_a: Tenant) -> Path:
    witness.forget(PASSED)
    copy = tmp_path / "keys"
    shutil.copytree(settings.KEYS_DIR, copy)
    return copy


def live() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(settings.KEYS_DIR).iterdir() if path.is_file()}


@pytest.mark.parametrize("packed", [False, True])
def test_a_whole_backup_passes_and_is_remembered(backup: Path, packed: bool, workspace_b: Tenant) -> None:
    before = live()
    assert doctor.keys_backup().state == "warning"
    assert "ever tried" in doctor.keys_backup().detail
    if packed:
        with tarfile.open(backup.parent / "keys.tar.gz", "w:gz") as archive:
            archive.add(backup, "keys")
        backup = backup.parent / "keys.tar.gz"
    report = drill(backup)
    assert report.missing == {}
    assert report.workspaces == Tenant.objects.count()
    assert live() == before
    assert list(Path(settings.KEYS_DIR).glob(".drill-*")) == []
    assert doctor.keys_backup().state == "ok"
    TenantKey.objects.create(tenant=workspace_b, version=2, wrapped=b"new")
    assert "since the last drill" in doctor.keys_backup().detail


def test_what_a_killed_drill_left_goes_with_the_next(backup: Path) -> None:
    left = Path(settings.KEYS_DIR) / ".drill-killed"
    left.mkdir()
    (left / "installation.key").write_text("{}")
    os.utime(left, (0, 0))
    drill(backup)
    assert not left.exists()


@pytest.mark.parametrize("lacking", ["alpha", "installation"])
@pytest.mark.parametrize("how", ["gone", "another's", "damaged"])
def test_what_is_missing_is_named(backup: Path, workspace_a: Tenant, workspace_b: Tenant, lacking: str, how: str) -> None:
    path = backup / ("installation.key" if lacking == "installation" else f"{workspace_a.id}.key")
    if how == "gone":
        path.unlink()
    elif how == "damaged":
        path.write_text("{")
    else:
        path.write_bytes((backup / f"{workspace_b.id}.key").read_bytes())
    assert list(drill(backup).missing) == [lacking]
    assert last_drill() is None


def test_what_is_no_backup(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "encrypted.gpg").write_bytes(b"\x8c\x0d not a tar")
    for path, words in [("empty", "holds no file"), ("encrypted.gpg", "Decrypt it first"), ("nowhere", "There is no")]:
        with pytest.raises(Refused, match=words):
            drill(tmp_path / path)
    for day in ("monday", "tuesday"):
        shutil.copytree(backup, tmp_path / "both" / day)
    with pytest.raises(Refused, match="several directories"):
        drill(tmp_path / "both")
    with pytest.raises(Refused, match="in use"):
        drill(Path(settings.KEYS_DIR))
    assert last_drill() is None


def test_an_archive_cannot_write_beside_the_drill(backup: Path, tmp_path: Path) -> None:
    before: Any = live()
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.add(backup / "installation.key", "../../installation.key")
        archive.add(backup / "installation.key", "/tmp/pwned.key")
    drill(tmp_path / "evil.tar")
    assert live() == before
    assert not Path("/tmp/pwned.key").exists()
