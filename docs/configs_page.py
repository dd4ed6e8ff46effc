"""Writes docs/configs.md from configs/msanet.py: every key, its value, and the comment behind it.

python -m docs.configs_page
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from configs.msanet import VARIANTS, get_config
from data_pipeline.files import write_text
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
HEAD = """\
# Every key of the recipe

Made by `python -m docs.configs_page` from the comments in `configs/msanet.py`. A key is set on the command line of
`main.py`: `--config.train.batch_size=8`, `--config.generator.cascade_dilations="(1, 2)"`; a key that does not exist is
refused, and so is a value of another type. `config.json` in the folder of a run holds what was used. A run can only be
resumed with the config it began with. `cpu` shows what `--config=configs/msanet.py:cpu` changes. Every value is our
choice ([fidelity.md](fidelity.md)).
"""


def meanings(source: str) -> dict[str, str]:
    """Key -> comment, of the lines of the recipe's file that set a value."""
    found = {}
    for variable, path, comment in re.findall(r"^    (\w+)\.([\w.]+) = .*?  # (.+)$", source, flags=re.MULTILINE):
        for section in SECTIONS.get(variable, ()):
            found.setdefault(section + path, comment)
    return found


def page() -> str:
    """The text of docs/configs.md."""
    told = meanings((ROOT / "configs" / "msanet.py").read_text(encoding="utf-8"))
    full, cpu = flatten(get_config()), flatten(get_config("cpu"))
    lines = [HEAD]
    section = None
    for key, value in sorted(full.items(), key=lambda item: ("." in item[0], item[0].partition(".")[0])):
        if (first := key.partition(".")[0] if "." in key else "") != section:
            section = first
            lines.append(f"\n## {section or 'The run'}\n\n| key | full | `cpu` | meaning |\n|---|---|---|---|\n")
        changed = "" if cpu[key] == value or key == "variants" else _shown(cpu[key])
        lines.append(f"| `{key}` | {_shown(value)} | {changed} | {told[key].replace('|', chr(92) + '|')} |\n")
    lines.append("\n## Variants\n\nCombinable, applied from left to right: `configs/msanet.py:cpu,no_cdc`.\n\n")
    lines += [f"- `{name}`: {change.__doc__}\n" for name, change in VARIANTS.items()]
    lines.append("\nThe peers' recipes are in `configs/peers.py` ([peers.md](peers.md)).\n")
    return "".join(lines)


def _shown(value: Any) -> str:
    return f"`{value!r}`"


if __name__ == "__main__":
    write_text(ROOT / "docs" / "configs.md", page())
