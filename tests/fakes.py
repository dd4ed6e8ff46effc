"""Small scans whose lesions are known by construction."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from msgspec import UNSET

from data_pipeline.annotations.lesion_facts import LesionFacts
from data_pipeline.features import BoneScans, ImageRow, StoredScans, image_features
from data_pipeline.files import nan_to_null, write_json, write_text
from data_pipeline.grid import GridSplit, on_field, on_network
from data_pipeline.phantom.simulate import SimulatedPatient, SimulatedView
from data_pipeline.phantom.truth import MASKS, SeenLesion
from data_pipeline.scan import Scan, View
from data_pipeline.windows import ThoraxBox
from msanet_jax.evaluation import statistics
from msanet_jax.evaluation.bootstrap import value
from msanet_jax.evaluation.results import PROBABILITY_SCORES, ImageScores, LesionScores
from msanet_jax.prediction.records import LesionRecord, ScanRecord
from msanet_jax.runs.cases import Cases, write_cases
from msanet_jax.runs.history import History, HistoryRow
from msanet_jax.runs.metrics_file import csv_text
from msanet_jax.runs.notices import scores_notice
from msanet_jax.trained.model import Model

HOT_MODEL = Model(
    lambda fields: np.where(fields > 20, 0.9, 0.1).astype(np.float32),
    "thorax",
    256,
    0.5,
    4,
    {"checkpoint": "fake", "step": 7, "dataset": "phantom_bone/tiny", "config_sha256": "0"},
)
"""Marks fields where counts exceed 20."""


def fake_scans(images: int, *, side: int = 16, seed: int = 0, per_patient: int = 2) -> BoneScans:
    """Poisson images of a bright square on a body, the square being lesion 1; every fourth image has none."""
    random = np.random.default_rng(seed)
    expected = np.full((images, side, side), 20.0)
    ids = np.zeros((images, side, side), np.uint8)
    for number in range(images):
        if number % 4 == 3:
            continue
        r, c = random.integers(2, side - 6, size=2)
        ids[number, r : r + 4, c : c + 4] = 1
        expected[number, r : r + 4, c : c + 4] = 120.0
    rows = [
        ImageRow(
            image_id=f"image-{number}",
            patient=f"patient-{number // per_patient}",
            view="anterior",
            pixel_size_mm=(2.0, 2.0),
            lesion_rows=[LesionFacts(1, size_mm=8.0, bone="rib_5_left", visible=True)],
        )
        for number in range(images)
    ]
    return BoneScans(
        counts=random.poisson(expected).astype(np.int32), masks={name: ids.copy() for name in MASKS}, rows=rows
    )


def stored_scans(scans: BoneScans) -> StoredScans:
    """The same scans as records of a built set."""
    features = image_features(scans.counts.shape[1:], scans.masks)
    records = [
        features.serialize_example(
            {
                "counts": scans.counts[number],
                "image_id": row.image_id,
                "patient": row.patient,
                "view": row.view,
                "pixel_size_mm": np.array(row.pixel_size_mm, np.float32),
                "crop_origin_px": np.zeros(2, np.int32),
                "lesion_rows": json.dumps([dataclasses.asdict(facts) for facts in row.lesion_rows]),
                **{name: ids[number] for name, ids in scans.masks.items()},
            }
        )
        for number, row in enumerate(scans.rows)
    ]
    return StoredScans(records, np.arange(len(records)), features, tuple(scans.masks), "set", scans.version)


def lesion_split(scans: BoneScans, size_px: int = 16) -> GridSplit:
    """Scans and their mask `lesions` binned to a grid of `size_px` columns."""
    return on_network(on_field(scans, ConfigDict({"scored_mask": "lesions", "image_size_px": size_px})), size_px)


def fake_split(images: int, *, size_px: int = 16, **options: Any) -> GridSplit:
    """`fake_scans` binned to a grid of `size_px` columns."""
    return lesion_split(fake_scans(images, **options), size_px)


def seen_lesion(number: int, **changes: Any) -> SeenLesion:
    """A visible metastasis of a rib."""
    return SeenLesion(
        **{"id": number, "kind": "metastasis", "bone": "rib_5_left", "size_mm": 13.0, "contrast": 4.0}
        | {"cold_centre": False, "cluster": None, "centre_mm": (0.0, 0.0, 0.0)}
        | {"area_px": 36, "counts": 900.0, "cnr": 6.0, "visible": True, **changes}
    )


def quick_patient(*, seed: int, index: int, views: tuple[View, ...]) -> SimulatedPatient:
    """A body-shaped image that depends on its arguments only."""
    made = {}
    for view in views:
        random = np.random.default_rng([seed, index, len(view)])
        expected = np.full((1024, 256), 0.1, np.float32)
        expected[90:185, 95:160] = 30.0
        expected[185:450, 40:215] = 30.0
        expected[450:850, 60:195] = 20.0
        ids = np.zeros((1024, 256), np.uint8)
        ids[250:256, 100:106] = 7
        scan = Scan(random.poisson(expected).astype(np.int32), (2.2, 2.2), view, f"phantom-{seed}-{index:05d}", "fake")
        rows = [seen_lesion(7, size_mm=13.0), seen_lesion(8, size_mm=9.0)]
        masks = dict.fromkeys((*MASKS, "organs"), ids)
        made[view] = SimulatedView(scan=scan, expected=expected, lesion_rows=rows, **masks)
    return SimulatedPatient(f"phantom-{seed}-{index:05d}", {}, made)


def level_split(*, lesion: float, other: float, place: int = 2, images: int = 4, side: int = 16) -> GridSplit:
    """Scans without noise, body at uptake 1: a lesion and another hot square of 4 x 4 pixels at the given uptakes.

    Uptake is the root of counts over that of the body, whose 16 counts make it exact. Squares at 3 or more do not count
    as body. The lesion begins at row and column `place`, the other square at 11 - `place`: 2 and 9, or 9 and 2.
    """
    counts = np.full((images, side, side), 16, np.int32)
    ids = np.zeros(counts.shape, np.uint8)
    for first, uptake in ((place, lesion), (11 - place, other)):
        counts[:, first : first + 4, first : first + 4] = round(16 * uptake**2)
    ids[:, place : place + 4, place : place + 4] = 1
    rows = [
        ImageRow(f"image-{n}", f"patient-{n}", "anterior", (2.0, 2.0), [LesionFacts(1, size_mm=8.0)])
        for n in range(images)
    ]
    return lesion_split(BoneScans(counts=counts, masks={"lesions": ids}, rows=rows), side)


def image_scores(**cells: Any) -> ImageScores:
    """A row of images.csv, 0 where nothing is said."""
    zeros = {field.name: 0 for field in dataclasses.fields(ImageScores)}
    names = {"image_id": "i0", "patient": "p0", "view": "anterior", "replicate": UNSET}
    return ImageScores(**{**zeros, **names, **cells})


def write_scores(folder: Path, rows: Sequence[ImageScores], *, split: str = "test", **provenance: Any) -> Path:
    """A metrics.json with the scores of these rows, no intervals and the simplest curves."""
    table = statistics.columns(rows)
    scores = {name: value(score, len(rows)) for name, score in statistics.statistics(table).items()}
    more = dict.fromkeys(PROBABILITY_SCORES, 0.5)
    counts = {**statistics.counts(table), "threshold": 0.5}
    bins = {"lesions": 0, "recall": None, "recall_interval": [None, None]}
    bins |= {"dsc_mean": None, "dsc_mean_interval": [None, None]}
    point = {"false_positives_per_image": 1.0, "sensitivity": 0.5, "interval": [0.25, 0.75]}
    rules = ("lesion_overlap_min", "small_below_mm", "large_above_mm", "low_contrast_below", "high_contrast_above")
    rules += ("clustered_within_mm", "surface_tolerance_mm", "calibration_bins", "froc_probability_min")
    rules += ("froc_peak_distance_mm", "froc_hit_distance_mm", "bootstrap_samples")
    facts = {"checkpoint_step": 7, "wall_seconds": 1.0, "devices": "1 x cpu", "host": "x86_64", "python": "3.11"}
    facts |= {"versions": {"jax": "0.10"}, "seed": 0, "model": "msanet", "dataset": "phantom_bone/tiny"}
    content = {
        "schema_version": 3,
        "note": scores_notice(simulated=True),
        "split": split,
        "threshold": {"value": 0.5, "rule": "fixed", "validation_dsc_pooled": 0.5},
        "rules": {
            "scored_mask": "lesions",
            "scored_pixels": "field",
            "froc_false_positives_per_scan": [1.0],
            **dict.fromkeys(rules, 1),
        },
        split: scores | more | counts | {"intervals": {key: [None, None] for key in [*scores, *more]}},
        "sizes": [{"from_mm": 0.0, "to_mm": None, **bins}],
        "bones": [],
        "calibration": [],
        "precision_recall": {"threshold": [0.5], "precision": [0.5], "recall": [0.5]},
        "froc": {
            "threshold": [None],
            "false_positives_per_image": [0.0],
            "sensitivity": [0.0],
            "operating_points": [point],
        },
        "threshold_baseline": scores | counts | {"intervals": {key: [None, None] for key in scores}},
        "zero_input_dsc_pooled": 0.0,
        "provenance": {**facts, "variants": "", "commit": None, **provenance},
        "images": rows,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", content)
    return folder


def lesion_scores(image_id: str) -> LesionScores:
    """A row of lesions.csv: half of a lesion found."""
    return LesionScores(
        image_id=image_id,
        patient="p0",
        lesion=1,
        bone="rib_5_left",
        size_mm=8.0,
        contrast=2.0,
        cnr=3.0,
        visible=True,
        clustered=False,
        pixels=4,
        found=2,
        detected=True,
        dsc=0.5,
        peak_probability=None,
    )


def scored_run(folder: Path) -> Path:
    """Files of a scored run of two images with a lesion each."""
    rows = [image_scores(image_id=f"i{n}", patient=f"p{n}", tp=2, fn=2, dsc=0.5, lesions=1) for n in range(2)]
    write_scores(folder, rows)
    write_text(folder / "lesions.csv", csv_text([nan_to_null(lesion_scores(row.image_id)) for row in rows]))
    history = History(folder / "history.jsonl", resumed_step=0)
    for step in (1, 2):
        history.append(HistoryRow(step, step / 2, "train", {"supervised_loss": 1 / step, "learning_rate": 1e-3}))
    history.append(HistoryRow(2, 1.0, "validation", {"dsc_pooled": 0.5, "images": 2, "nsd_mean": float("nan")}))
    levels = np.full((2, 4, 4), 7, np.uint16)
    write_cases(folder, Cases(np.array(["i0", "i1"]), levels.astype(np.uint8), levels.astype(np.uint8), levels))
    return folder


def scan_record(**changes: Any) -> ScanRecord:
    """What STEM.json holds of a scan with one lesion."""
    lesion = LesionRecord(1, 30.5, 40.0, 20, 102.2, 11.4, 15.3, 55.5, 90, 0.7, 0.9, 2.5, 4.1)
    facts: dict[str, Any] = {
        "notice": "Not for diagnosis.",
        "source": "may.dcm",
        "view": "anterior",
        "patient_pseudonym": "p1",
        "shape_px": (1024, 256),
        "pixel_size_mm": (2.26, 2.26),
        "counts_total": 10**6,
        "counts_sha256": "ab" * 32,
        "warnings": ("smoothed",),
        "field": "thorax",
        "thorax_box_px": ThoraxBox(10, 0, 256),
        "body_midline_column_px": 128.0,
        "body_level_counts": 12.5,
        "threshold": 0.345,
        "lesion_count": 1,
        "lesion_area_px": 20,
        "body_area_px": 4000,
        "lesion_area_fraction": 0.005,
        "lesions": (lesion,),
        "provenance": {"checkpoint": "run", "step": 7, "versions": {"jax": "0.10"}},
        "files": ("may_mask.png", "may.json"),
        "not_written": {},
    }
    return ScanRecord(**{**facts, **changes})
