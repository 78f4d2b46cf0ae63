"""What is kept outside the database (tenants.witness)."""

import threading
from pathlib import Path
from typing import Any

import pytest

from tenants import witness


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, settings: Any) -> None:
    settings.WITNESS_DIR = tmp_path / "witness"


def test_a_number_only_goes_up() -> None:
    assert witness.number("roster/a") == 0
    witness.raise_number("roster/a", 3)
    witness.raise_number("roster/a", 2)
    assert witness.number("roster/a") == 3


def test_raised_by_many_the_largest_stays() -> None:
    threads = [threading.Thread(target=witness.raise_number, args=("roster/a", value)) for value in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert witness.number("roster/a") == 49


def test_what_a_power_cut_left_empty_is_no_record(settings: Any) -> None:
    witness.keep("heads/one", {"number": 1})
    (Path(settings.WITNESS_DIR) / "heads" / "one").write_text("")
    assert witness.record("heads/one") is None


def test_a_list_is_added_to_and_read_from_anywhere() -> None:
    first = witness.append("erasures/a", {"document": 1})
    second = witness.append("erasures/a", {"document": 2})
    assert list(witness.lines("erasures/a")) == [{"document": 1}, {"document": 2}]
    assert list(witness.lines("erasures/a", first)) == [{"document": 2}]
    assert witness.size("erasures/a") == second
    assert list(witness.lines("erasures/b")) == []


def test_a_line_that_a_crash_cut_off_spoils_no_other(settings: Any) -> None:
    witness.append("erasures/a", {"document": 1})
    with open(settings.WITNESS_DIR / "erasures/a", "ab") as file:
        file.write(b'{"docum')
    witness.append("erasures/a", {"document": 3})
    assert list(witness.lines("erasures/a")) == [{"document": 1}, {"document": 3}]


def test_nobody_else_can_read_it(settings: Any) -> None:
    witness.append("erasures/a", {})
    witness.keep("audit/a", {"number": 1})
    witness.raise_number("roster/a", 1)
    for path in settings.WITNESS_DIR.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_name_leads_nowhere_else() -> None:
    with pytest.raises(ValueError, match="no name"):
        witness.keep("../elsewhere", {})
