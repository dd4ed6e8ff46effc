"""Writes docs/configs.md: every key of configs/msanet.py with its value, and what `recipe_keys.KEYS` says about it.

python -m docs.configs_page
"""

from __future__ import annotations

from pathlib import Path

from configs.msanet import VARIANTS, get_config
from data_pipeline.files import write_text
from data_pipeline.pages import render
from msanet_jax.runs.recipe import flatten
from msanet_jax.runs.recipe_keys import KEYS

ROOT = Path(__file__).parents[1]


def page() -> str:
    """The text of docs/configs.md."""
    full, cpu = flatten(get_config()), flatten(get_config("cpu"))
    sections: dict[str, list[str]] = {}
    for key in full:
        sections.setdefault(key.partition(".")[0] if "." in key else "", []).append(key)
    return render(
        Path(__file__).with_name("templates") / "configs.md.jinja",
        sections=dict(sorted(sections.items())),
        full=full,
        cpu=cpu,
        table=KEYS,
        variants={name: change.__doc__ for name, change in VARIANTS.items()},
    )


if __name__ == "__main__":
    write_text(ROOT / "docs" / "configs.md", page())
