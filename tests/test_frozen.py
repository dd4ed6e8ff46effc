"""PhantomBone 1.0.0 is frozen: who is in the full set, and what the first patients' images hold.

The card states the hash of every pixel. Another processor may round a pixel otherwise, so the tests hold exactly what
is drawn, and the images within a margin far below what any change of the simulator would cause.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from data_pipeline import phantom
from data_pipeline.bone_scans import PhantomBone, planned_views, thorax_example
from data_pipeline.phantom.patients import draw_patient
from data_pipeline.phantom.simulate import simulate_patient
from data_pipeline.scan import View

FULL = next(config for config in PhantomBone.BUILDER_CONFIGS if config.name == "full")
DRAWN = "b9ee006f85c4ae14acaa977483323506364762102bfc1411b5b48e8bfeb08d86"
# patient, view, counts in the thorax, pixels of lesions, reader 1 and benign spots, lesions in the thorax
IMAGES = [
    (0, View.ANTERIOR, 1_192_920, 0, 0, 125, 0),
    (0, View.POSTERIOR, 1_228_159, 0, 0, 125, 0),
    (2, View.ANTERIOR, 1_505_648, 397, 540, 42, 9),
    (2, View.POSTERIOR, 1_568_955, 399, 418, 42, 9),
    (3, View.ANTERIOR, 1_421_898, 0, 0, 14, 0),
    (3, View.POSTERIOR, 1_507_767, 0, 0, 14, 0),
]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


def test_version_is_the_frozen_one_and_on_the_card() -> None:
    assert phantom.VERSION == "1.0.0"
    card = (Path(__file__).parents[1] / "docs" / "phantom" / "card.md").read_text()
    assert f"Version {phantom.VERSION}, SHA-256" in card


def test_patients_and_views_of_the_full_set() -> None:
    plan = {
        split: {str(index): [str(view) for view in views] for index, views in patients.items()}
        for split, patients in planned_views(FULL).items()
    }
    people = [_rounded(draw_patient(FULL.seed, index).as_dict()) for index in range(sum(FULL.patients.values()))]
    assert hashlib.sha256(json.dumps([plan, people], sort_keys=True).encode()).hexdigest() == DRAWN


@pytest.mark.parametrize("index", sorted({row[0] for row in IMAGES}))
def test_images_of_the_first_patients(index: int) -> None:
    patient = simulate_patient(seed=FULL.seed, index=index)
    for _, view, counts, lesion_px, reader_px, benign_px, lesions in (row for row in IMAGES if row[0] == index):
        example = thorax_example(patient.views[view])
        assert example["counts"].sum() == pytest.approx(counts, rel=1e-3)
        assert (example["lesions"] > 0).sum() == pytest.approx(lesion_px, abs=3)
        assert (example["reader_1"] > 0).sum() == pytest.approx(reader_px, abs=3)
        assert (example["benign"] > 0).sum() == pytest.approx(benign_px, abs=3)
        assert len(json.loads(example["lesion_rows"])) == lesions
