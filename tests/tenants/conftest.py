"""What tests of workspaces share: PostgreSQL's view of a schema."""

from collections.abc import Callable

import pytest
from django.db import connections

from workspace.benchmarks import catalogue as catalogues


@pytest.fixture
def catalogue() -> Callable[[str], list[tuple[str, ...]]]:
    """All that makes up a schema, as the operator sees it; of two that should be the same, equal."""
    return lambda schema: catalogues.catalogue(connections["operator"], schema)
