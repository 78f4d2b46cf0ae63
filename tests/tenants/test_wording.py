"""Numbers in words."""

import pytest

from tenants import wording


@pytest.mark.parametrize(("number", "words"), [(0, "0 entries"), (1, "1 entry"), (2, "2 entries"), (1204, "1,204 entries")])
def test_counted(number, words):
    assert wording.counted(number, "entry", "entries") == words


def test_an_s_makes_most_plurals():
    assert (wording.counted(1, "page"), wording.counted(2, "page")) == ("1 page", "2 pages")


@pytest.mark.parametrize(
    ("size", "words"), [(1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (3 * 10**15, "3000.0 TB")]
)
def test_sizes(size, words):
    assert wording.size(size).replace("\N{NO-BREAK SPACE}", " ") == words
