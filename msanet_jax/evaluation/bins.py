"""Recall and DSC of lesions by size in mm and by bone, with intervals over patients."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msanet_jax.evaluation.bootstrap import interval, ratio

SIZE_EDGES_MM = (0.0, 10.0, 15.0, 20.0, 30.0, 45.0, float("inf"))
"""A bin holds its lower edge; 15 and 30 mm are also the limits of small and large."""

Rows = Sequence[Mapping[str, Any]]


def size_rows(images: Rows, lesions: Rows, weights: np.ndarray) -> list[dict[str, Any]]:
    """One row per size bin; lesions of unknown size are in none.

    Args:
      images: rows of images.csv.
      lesions: rows of lesions.csv.
      weights: `[samples, images]` of the bootstrap.
    """
    known = [row for row in lesions if row["size_mm"] is not None]
    table = []
    for low, high in itertools.pairwise(SIZE_EDGES_MM):
        chosen = [row for row in known if low <= float(row["size_mm"]) < high]
        limits = {"from_mm": low, "to_mm": None if high == float("inf") else high}
        table.append(limits | _scores(images, chosen, weights))
    return table


def bone_rows(images: Rows, lesions: Rows, weights: np.ndarray) -> list[dict[str, Any]]:
    """One row per kind of bone (rib_5_left is a rib), the most frequent first; lesions of no named bone are in none."""
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for row in lesions:
        if row["bone"]:
            by_kind.setdefault(bone_kind(row["bone"]), []).append(row)
    ordered = sorted(by_kind.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return [{"bone": name, **_scores(images, chosen, weights)} for name, chosen in ordered]


def bone_kind(bone: str) -> str:
    """`thoracic_7` -> `thoracic`, `rib_5_left` -> `rib`: the name without number and side."""
    return "_".join(part for part in bone.split("_") if not part.isdigit() and part not in ("left", "right"))


def _scores(images: Rows, lesions: Rows, weights: np.ndarray) -> dict[str, Any]:
    place = {row["image_id"]: number for number, row in enumerate(images)}
    total, detected, dsc = np.zeros((3, len(images)))
    for row in lesions:
        number = place[row["image_id"]]
        total[number] += 1
        detected[number] += row["detected"]
        dsc[number] += row["dsc"]
    ones = np.ones((1, len(images)))
    return {
        "lesions": len(lesions),
        "recall": float(ratio(ones, detected, total)[0]),
        "recall_interval": interval(ratio(weights, detected, total)),
        "dsc_mean": float(ratio(ones, dsc, total)[0]),
        "dsc_mean_interval": interval(ratio(weights, dsc, total)),
    }
