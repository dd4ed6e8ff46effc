"""Annotations with keys and values lost, renamed or exchanged: never an empty mask in silence, never a traceback."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.intake.annotate import annotate
from data_pipeline.intake.pairing import pair_files
from data_pipeline.readers.sources import open_source
from data_pipeline.scan import Scan, View
from tests.foreign import CORNERS, TRUTH, shapes
from tests.fuzz.mutators import mutated
from tests.user_files import COLUMNS, ROWS, body_scan

MUTANTS = 300
_COCO = {
    "images": [{"id": 1, "file_name": "scan1.npy", "height": ROWS, "width": COLUMNS}],
    "categories": [{"id": 1, "name": "lesion"}],
    "annotations": [
        {"id": n, "image_id": 1, "category_id": 1, "segmentation": [np.ravel(corners).tolist()]}
        for n, corners in enumerate(CORNERS)
    ],
}


@pytest.mark.parametrize("form", ["labelme", "coco"])
def test_no_mutant_loses_all_lesions_in_silence(tmp_path: Path, form: str) -> None:
    sound = shapes("polygon") | {"flags": {}} if form == "labelme" else _COCO
    scan = Scan(body_scan(), None, View.UNKNOWN, "p", "scan1.npy")
    np.save(tmp_path / "scan1.npy", scan.counts)
    source, found = random.Random(5), Counter[str]()
    for _ in range(MUTANTS):
        content = mutated(sound, source)
        (tmp_path / "scan1.json").write_text(json.dumps(content))
        with open_source(tmp_path) as opened:
            pairing = pair_files(opened)
            (file,) = pairing.scans
            annotated = annotate(scan, file, frame=0, views=[scan.view], segments={}, labels={})
        lines = [line for _, line in (*pairing.problems, *annotated.problems)]
        assert not any("\n" in line or "Traceback" in line for line in lines)
        lesions = annotated.usable().masks.get("lesions")
        if lesions is None:
            # Nothing is known of the scan: said, but for a COCO file that has no annotations for it.
            assert lines or not content.get("annotations"), content
        elif not lesions.any():
            assert content["shapes"] == [], content
        found["refused" if lesions is None else "same" if np.array_equal(lesions > 0, TRUTH) else "drawn"] += 1
    assert min(found["refused"], found["same"]) > MUTANTS // 10, found
