"""The steps of CONTRIBUTING.md, in a copy of the code: everything that is added there works as the page says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LOSSES, ADVERSARIES = "msanet_jax/training/losses.py", "msanet_jax/training/adversaries.py"
KEYS = "msanet_jax/runs/recipe_keys.py"
PIXELS, STATISTICS = "msanet_jax/evaluation/pixels.py", "msanet_jax/evaluation/statistics.py"


def _blocks(heading: str) -> list[str]:
    """Python blocks of a section, without the indent that they have inside a list."""
    section = re.split(r"^#+ ", PAGE.split(f"# {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^( *)```python\n(.*?)^ *```", section, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


def _insert(path: Path, code: str, *, before: str = "", after: str = "") -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(before or after) == 1, (path, before, after)
    path.write_text(text.replace(before or after, f"{code}\n\n{before}" if before else f"{after}{code}"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code with the examples of the page in it."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("msanet_jax", "data_pipeline", "configs"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.msanet"))
    focal, entry, weight, key = _blocks("How to add a loss")
    _insert(root / LOSSES, focal, before="\nSUPERVISED: dict")
    _insert(root / LOSSES, f"    {entry}", after='    "cross_entropy": _cross_entropy_term,\n')
    _insert(root / "configs/msanet.py", f"    {weight}", after="    config.loss = ConfigDict()\n")
    _insert(root / KEYS, f"    {key}", after="KEYS: Mapping[str, Key] = {\n")
    hinge, entry = _blocks("How to add an adversarial objective")
    _insert(root / ADVERSARIES, hinge, before="\nADVERSARIES: dict")
    _insert(root / ADVERSARIES, entry, after="ADVERSARIES: dict[str, Adversary] = {")
    (jaccard,) = _blocks("How to add a score")
    _insert(root / PIXELS, jaccard, before="\n@dataclasses.dataclass(frozen=True)\nclass PixelCounts")
    _insert(root / STATISTICS, ", jaccard", after="POOLED = (dsc, precision, recall")
    _insert(root / STATISTICS, ", jaccard", after="import dsc, precision, recall")
    return root


def _run(copy: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(copy), "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


TRAINING = """
import doctest, functools, jax, jax.numpy as jnp
from configs import peers
from msanet_jax.evaluation import pixels, statistics
from msanet_jax.runs.recipe import check_recipe
from msanet_jax.training import adversaries, losses
from msanet_jax.training.state import create_networks, create_state
from msanet_jax.training.steps import train_iteration

for module in (adversaries, losses, pixels, statistics):
    assert doctest.testmod(module).failed == 0
assert statistics.__file__.startswith("COPY") and pixels.jaccard in statistics.POOLED
config = peers.get_config("patch_gan,smoke")
assert config.loss.focal_weight == 0.0
config.loss.focal_weight, config.adversary.objective = 2.0, "hinge"
check_recipe(config)
config.data.image_size_px = 16
networks = create_networks(config, steps_per_epoch=2)
batch = {name: jnp.zeros((2, 16, 16, 1)) for name in ("image", "mask")}
state = jax.eval_shape(lambda: create_state(networks))
metrics = jax.eval_shape(functools.partial(train_iteration, networks, mapped=False), state, batch)[1]
assert {"focal_loss", "hinge", "discriminator_loss"} <= set(metrics), metrics
logits, masks = [jnp.zeros((1, 2, 2, 1))], jnp.zeros((1, 2, 2, 1))
total, _ = losses.deep_supervision_loss(logits=logits, masks=masks, weights={"focal": 2.0}, decay=0.5)
assert abs(float(total) - 0.5 * jnp.log(2.0)) < 1e-6, total
print("trains")
"""


def test_losses_adversaries_and_scores(copy: Path) -> None:
    assert _run(copy, "-c", TRAINING.replace("COPY", str(copy))) == "trains\n"
