"""The pages of docs/: configs.md holds every key, the index every page, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from configs.msanet import get_config
from docs.configs_page import page
from msanet_jax.runs.recipe import flatten
from msanet_jax.runs.recipe_keys import KEYS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "colab" / "README.md", *sorted(DOCS.rglob("*.md"))]


def test_every_key_has_its_row() -> None:
    rows = re.findall(
        r"^\| `([\w.]+)` \| `.*` \| .* \| (?:a |one of|True).+ \| .* \| \S.+ \|$",
        (DOCS / "configs.md").read_text(),
        flags=re.MULTILINE,
    )
    assert sorted(rows) == sorted(flatten(get_config())) == sorted(KEYS)
    assert page() == (DOCS / "configs.md").read_text(), "python -m docs.configs_page"


def test_index_names_every_page() -> None:
    index = (DOCS / "README.md").read_text()
    linked = set(re.findall(r"\]\(([\w./]+\.md)\)", index))
    assert {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if path.name != "README.md"} == linked - {
        "../colab/README.md"
    }


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert target.startswith(("https://", "http://")) or (path.parent / target).exists(), target
