"""The gallery's data: every image of the runs' cases.npz with the facts to sort and filter by, as one JSON-able tree.

Arrays travel as zlib streams in base64 (browsers open them with DecompressionStream, without reading pixels back from a
canvas, which some falsify against fingerprinting). Arrays that several runs share, scans and truth, travel once.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from msanet_jax.evaluation.bins import bone_kind
from msanet_jax.report.data import Run
from msanet_jax.runs.cases import LEVELS


def gallery(runs: Sequence[Run]) -> dict[str, Any] | None:
    """What the page's script reads; None where no run keeps its cases.

    Returns:
      `levels`, `sizes` (names and limits in mm), `bones` (kinds, sorted), `sized` (whether any lesion has a size),
      `blobs` (base64 of zlib streams) and `runs`: `name`, `threshold` in thousandths, `overlap_min` and `images`, whose
      `uptake`, `instances` and `level` count blobs from 0. `level` holds all low bytes, then all high bytes.
    """
    blobs: dict[bytes, int] = {}
    kept = [_run(run, blobs) for run in runs if run.cases is not None]
    if not kept:
        return None
    rules = next(run.metrics.rules for run in runs if run.cases is not None)
    bones = {lesion["bone"] for run in kept for image in run["images"] for lesion in image["lesions"]}
    small, large = rules.small_below_mm, rules.large_above_mm
    return {
        "levels": LEVELS,
        "sizes": [
            {"name": "small", "label": f"small, below {small:g} mm", "from": 0.0, "below": small},
            {"name": "medium", "label": f"medium, {small:g} to {large:g} mm", "from": small, "to": large},
            {"name": "large", "label": f"large, above {large:g} mm", "above": large},
        ],
        "bones": sorted(bones - {""}),
        "sized": any(
            entry["size_mm"] is not None for run in kept for image in run["images"] for entry in image["lesions"]
        ),
        "blobs": [base64.b64encode(blob).decode() for blob in blobs],
        "runs": kept,
    }


def _run(run: Run, blobs: dict[bytes, int]) -> dict[str, Any]:
    cases = run.cases
    assert cases is not None
    lesions: dict[str, list[dict[str, Any]]] = {}
    for row in run.lesions:
        bone = row.bone or ""
        lesions.setdefault(row.image_id, []).append(
            {"id": row.lesion, "bone": bone_kind(bone), "place": bone.replace("_", " "), "size_mm": row.size_mm}
        )
    images = []
    for number, image in enumerate(run.metrics.images[: len(cases.level)]):
        level = cases.level[number]
        planes = np.stack([level & 255, level >> 8]).astype(np.uint8)
        images.append(
            {
                "id": image.image_id,
                "view": image.view,
                "rows": level.shape[0],
                "columns": level.shape[1],
                "uptake": _blob(cases.uptake[number], blobs),
                "instances": _blob(cases.instances[number], blobs),
                "level": _blob(planes, blobs),
                "lesions": lesions.get(image.image_id, []),
            }
        )
    return {
        "name": run.name,
        "threshold": round(LEVELS * run.metrics.threshold.value),
        "overlap_min": run.metrics.rules.lesion_overlap_min,
        "images": images,
    }


def _blob(array: np.ndarray, blobs: dict[bytes, int]) -> int:
    return blobs.setdefault(zlib.compress(np.ascontiguousarray(array).tobytes(), 9), len(blobs))
