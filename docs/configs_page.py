"""Writes docs/configs.md from configs/msanet.py: every key, its value, and the comment behind it.

python -m docs.configs_page
"""

from __future__ import annotations

import re
from pathlib import Path

from configs.msanet import VARIANTS, get_config
from data_pipeline.files import write_text
from data_pipeline.pages import render
from msanet_jax.runs.recipe import flatten

ROOT = Path(__file__).parents[1]
# Variables of configs/msanet.py -> sections of the recipe that they fill.
SECTIONS = {
    "config": ("",),
    "augment": ("augment.",),
    "generator": ("generator.",),
    "discriminator": ("discriminator.",),
    "optimizer": ("generator_optimizer.", "discriminator_optimizer."),
}


def meanings(source: str) -> dict[str, str]:
    """Key -> comment, of the lines of the recipe's file that set a value."""
    found = {}
    for variable, path, comment in re.findall(r"^    (\w+)\.([\w.]+) = .*?  # (.+)$", source, flags=re.MULTILINE):
        for section in SECTIONS.get(variable, ()):
            found.setdefault(section + path, comment)
    return found


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
        meanings=meanings((ROOT / "configs" / "msanet.py").read_text(encoding="utf-8")),
        variants={name: change.__doc__ for name, change in VARIANTS.items()},
    )


if __name__ == "__main__":
    write_text(ROOT / "docs" / "configs.md", page())
