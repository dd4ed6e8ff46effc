"""Scores are those of what users get: `predict` on the files of test patients gives the masks that were scored."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs.msanet import get_config
from data_pipeline.features import StoredScans, image_features
from data_pipeline.grid import GridSplit, on_field
from data_pipeline.phantom.dicom import to_dicom
from data_pipeline.phantom.simulate import SimulatedPatient
from data_pipeline.phantom_examples import SET_MASKS, view_example
from data_pipeline.scan import View
from data_pipeline.windows import Window, cut
from msanet_jax.evaluation.evaluate import decide, evaluate
from msanet_jax.evaluation.field_maps import marks
from msanet_jax.evaluation.results import Calibration
from msanet_jax.prediction.predict import Request, predict_with
from msanet_jax.trained.model import Model, from_network
from tests.fakes import quick_patient, seen_lesion


def _patient(number: int) -> SimulatedPatient:
    """Two views with a hot and a warm lesion, and a hot spot that is none, at other places in every patient."""
    patient = quick_patient(seed=3, index=number, views=tuple(View)[:2])
    views = {}
    for view, made in patient.views.items():
        counts, ids = made.scan.counts.copy(), np.zeros_like(made.lesions)
        for lesion, times, rows in ((1, 9, 7), (2, 4, 3), (0, 5, 4)):
            row, column = 205 + 50 * lesion + 3 * number, 70 + 41 * lesion + 5 * number
            counts[row : row + rows, column : column + 5] *= times
            ids[row : row + rows, column : column + 5] = lesion
        rows = [seen_lesion(1, size_mm=15.0), seen_lesion(2, size_mm=11.0)]
        scan = dataclasses.replace(made.scan, counts=counts)
        views[view] = dataclasses.replace(
            made, scan=scan, **{name: ids for name in ("lesions", *SET_MASKS)}, lesion_rows=rows
        )
    return dataclasses.replace(patient, views=views)


def _split(patients: list[SimulatedPatient], config: ConfigDict) -> GridSplit:
    examples = [view_example(view, "thorax") for patient in patients for view in patient.views.values()]
    features = image_features((256, 256), SET_MASKS)
    records = [features.serialize_example(example) for example in examples]
    return on_field(StoredScans(records, np.arange(len(records)), features, SET_MASKS), config.data)


def _model(config: ConfigDict, threshold: float | None = None, calibration: Calibration | None = None) -> Model:
    """A smooth function of uptake at a quarter of the field's pixels."""

    def network(images: np.ndarray) -> np.ndarray:
        return (1 / (1 + np.exp(4.0 - 2.5 * images[..., 0]))).astype(np.float32)

    return from_network(network, config, {}, threshold=threshold, calibration=calibration)


@pytest.mark.parametrize(("rule", "calibration"), [("fixed", "none"), ("validation", "validation")])
def test_predict_gives_the_masks_that_were_scored(rule: str, calibration: str, tmp_path: Path) -> None:
    config = get_config("smoke")
    config.data.scored_mask = "lesions"
    config.evaluate.threshold_rule, config.evaluate.calibration = rule, calibration
    config.evaluate.bootstrap_samples = 10
    model, patients = _model(config), [_patient(number) for number in range(5)]
    decided = decide(model.probability, _split(patients[3:], config), config=config)
    chosen, tested = decided.threshold, _split(patients[:3], config)
    assert (decided.calibration is None) == (calibration == "none")
    scored = evaluate(decided.probability, tested, config=config, threshold=chosen.value)
    assert 0.2 < scored.summary["dsc_pooled"] < 0.95  # neither all nor nothing, so that another grid would show

    (tmp_path / "files").mkdir()
    stems = [f"{number}_{view}" for number in range(3) for view in patients[number].views]
    for stem in stems:
        number, view = stem.split("_")
        scan = patients[int(number)].views[View(view)].scan
        file = to_dicom(scan, identity=stem, sex="female", height_mm=1650.0, camera="ge")
        file.save_as(tmp_path / "files" / f"{stem}.dcm", enforce_file_format=True)
    model = _model(config, chosen.value, decided.calibration)
    predict_with(model, [tmp_path / "files"], out=tmp_path / "out", request=Request(formats=("png",), progress=False))

    tp = fp = fn = 0
    for place, stem in enumerate(stems):
        mask = np.asarray(Image.open(tmp_path / "out" / f"{stem}_mask.png")) > 0
        box = json.loads((tmp_path / "out" / f"{stem}.json").read_text())["thorax_box_px"]
        found = cut(mask, Window(box["row"], box["column"], 256, 256))
        assert (box["size_px"], found.sum()) == (256, mask.sum())  # nothing beyond the field
        np.testing.assert_array_equal(found, marks(scored.probabilities[place], chosen.value))
        number, view = stem.split("_")
        truth = patients[int(number)].views[View(view)].lesions > 0
        tp, fp, fn = tp + (mask & truth).sum(), fp + (mask & ~truth).sum(), fn + (truth & ~mask).sum()
    assert scored.summary["dsc_pooled"] == 2 * tp / (2 * tp + fp + fn)
    assert scored.summary["precision_pooled"] == tp / (tp + fp)
    assert scored.summary["recall_pooled"] == tp / (tp + fn)
