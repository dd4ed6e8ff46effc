"""The data-set card: its hash and its Dice, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from data_pipeline.annotations.lesion_facts import LesionFacts
from data_pipeline.card import histogram_panels, numbers, pooled_dice, set_hash
from data_pipeline.features import BoneScans, ImageRow


def _splits() -> dict[str, BoneScans]:
    def scans(split: str) -> BoneScans:
        kinds = ("lesions", "lesions_all", "lesions_isocontour", "benign")
        masks = {name: np.zeros((2, 4, 4), np.uint8) for name in kinds}
        masks |= {"reader_1": masks["benign"].copy(), "reader_2": masks["benign"].copy()}
        masks["lesions"][0, :2, :2] = 1
        masks["reader_1"][0, :2, :1] = 1
        lesion = LesionFacts(1, bone="skull", size_mm=20.0, contrast=4.0, cnr=5.0, visible=True, area_px=4)
        rows = [ImageRow(f"{split}-{i}", f"{split}-{i}", "anterior", (2.0, 2.0), [lesion] * (i == 0)) for i in (0, 1)]
        return BoneScans(counts=np.arange(32, dtype=np.int32).reshape(2, 4, 4), masks=masks, rows=rows)

    return {split: scans(split) for split in ("train", "validation", "test")}


def test_pooled_dice_by_hand() -> None:
    first, second = np.array([1, 1, 1, 0]), np.array([0, 2, 2, 2])
    assert pooled_dice(first, second) == pytest.approx(2 * 2 / 6)
    assert pooled_dice(first, first) == 1.0


def test_hash_does_not_depend_on_order_but_on_every_pixel() -> None:
    splits = _splits()
    reference = set_hash(splits)
    test = splits["test"]
    turned = dataclasses.replace(
        test, counts=test.counts[::-1], masks={k: m[::-1] for k, m in test.masks.items()}, rows=test.rows[::-1]
    )
    assert set_hash(splits | {"test": turned}) == reference
    test.masks["benign"][1, 3, 3] = 1
    assert set_hash(splits) != reference


def test_numbers_by_hand() -> None:
    lines = numbers(_splits())
    assert "| train | 2 | 2 | 1 | 1 |" in lines
    assert "| size, mm | 20.0 | 20.0 | 20.0 |" in lines
    assert "Lesion pixels: 12.50 % of all" in lines
    assert "| reader 1 against the scored mask | 0.667 |" in lines
    assert "| 15 to 30 mm | 3 | 100 % |" in lines


def test_histograms_show_every_parameter_that_varies() -> None:
    patients = [
        {"sex": "male", "arm_deg": (1.0, 2.0), "spread": 0.2, "head_row": 60},
        {"sex": "female", "arm_deg": (3.0, 4.0), "spread": 0.2, "head_row": 61},
    ]
    assert histogram_panels(patients) == {
        "sex": ["male", "female"],
        "arm_deg": [1.0, 2.0, 3.0, 4.0],
        "head_row": [60, 61],
    }
