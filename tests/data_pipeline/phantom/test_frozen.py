"""PhantomBone 2.1.0 is frozen: who is in the full set, and every byte of the first patients, on any processor."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_pipeline import phantom
from data_pipeline.phantom.patients import draw_patient
from data_pipeline.phantom.simulate import simulate_patient
from data_pipeline.phantom_bone import PhantomBone, planned_views
from data_pipeline.phantom_examples import SET_MASKS, view_example

FULL = next(config for config in PhantomBone.BUILDER_CONFIGS if config.name == "full")
FULL_SET = "a98ee3c904bb68ddd0208a7824a3b181c1c3ee2b53d9119cd3fa210d4ca50b58"
DRAWN = "bd9f4cdca924a70f70f3864f0817d44fcd284346cbd2ac1016e2f25d51b0cabc"
PATIENTS = {
    10: "82fd66338e4e2642423152232778b94ff8e58402366aa68f92e588eee66bc002",
    2: "45383a83b5f1fc2512f152e3b8d05976d4dfd0ef6d9da2cbd1c42442c8e5213b",
}
"""Of counts and masks of both views of the full set's patients, without and with lesions."""

OLDER_PROCESSOR = {
    "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Nehalem",
}
"""Makes JAX, NumPy and its linear algebra round as on a processor of 2008, without fused multiply-add."""


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


def images_hash(index: int) -> str:
    """SHA-256 over the thorax images of a patient, ordered by view."""
    digest = hashlib.sha256()
    for view, made in sorted(simulate_patient(seed=FULL.seed, index=index).views.items()):
        example = view_example(made, "thorax")
        digest.update(str(view).encode() + example["counts"].astype("<i4").tobytes())
        for name in sorted(SET_MASKS):
            digest.update(example[name].tobytes())
    return digest.hexdigest()


def test_version_is_the_frozen_one_and_on_the_card() -> None:
    assert phantom.VERSION == "2.1.0"
    card = (Path(__file__).parents[3] / "docs" / "phantom" / "card.md").read_text()
    assert f"Version {phantom.VERSION}, SHA-256 of ids, counts and masks `{FULL_SET}`" in card


def test_patients_and_views_of_the_full_set() -> None:
    plan = {
        split: {str(index): [str(view) for view in views] for index, views in patients.items()}
        for split, patients in planned_views(FULL).items()
    }
    people = [_rounded(draw_patient(FULL.seed, index).as_dict()) for index in range(sum(FULL.patients.values()))]
    assert hashlib.sha256(json.dumps([plan, people], sort_keys=True).encode()).hexdigest() == DRAWN


@pytest.mark.parametrize("index", PATIENTS)
def test_images_of_the_first_patients(index: int) -> None:
    assert images_hash(index) == PATIENTS[index]


def test_another_processor_draws_the_same_bytes() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from tests.data_pipeline.phantom.test_frozen import images_hash; print(images_hash(2))",
        ],
        env=os.environ | OLDER_PROCESSOR,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == PATIENTS[2]
