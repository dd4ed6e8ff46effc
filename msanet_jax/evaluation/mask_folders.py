"""A folder of masks against a folder of true ones: the scores of a model that need no probabilities."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from data_pipeline.annotations.lesion_facts import LesionFacts
from data_pipeline.annotations.pixels import read_pixel_mask
from data_pipeline.errors import RequestError
from data_pipeline.features import ImageRow
from data_pipeline.grid import GridSplit
from msanet_jax.evaluation.protocol import score
from msanet_jax.evaluation.results import Evaluation

_KIND = re.compile(r"\.(png|tiff?|npy|nii(\.gz)?)$", re.IGNORECASE)
_ROLE = re.compile(r"_(masks?|lesions?|truth|gt|seg|segmentation|labels?)$", re.IGNORECASE)


def score_masks(predicted: Path, truth: Path, *, pixel_mm: float, config: ConfigDict) -> Evaluation:
    """Scores masks by the whole protocol, every image as a patient of its own.

    A mask belongs to the true one of the same name; `_mask`, `_lesions`, `_truth`, `_gt`, `_seg` or `_label` at the end
    of a name and the kind of file do not count. Masks without a true one are left out.

    Args:
      predicted: folder; every value above 0 is lesion.
      truth: folder; 0 and 1, 0 and 255, or instance numbers.
      pixel_mm: side of a pixel; mask files do not state it.
      config: the recipe; `evaluate` and `seed` are read.

    Raises:
      RequestError: no folder or mask, two of a name, a true mask without a predicted one, shapes that differ.
    """
    if not pixel_mm > 0:
        raise RequestError(f"--pixel-mm={pixel_mm:g}: must be above 0")
    found, wanted = _by_name(predicted), _by_name(truth)
    if missing := sorted(wanted.keys() - found.keys()):
        raise RequestError(f"{predicted}: no mask for {wanted[missing[0]]} ({len(missing)} of {len(wanted)} missing)")
    marks, ids = [], []
    for name, file in wanted.items():
        ids.append(read_pixel_mask(file, kind="lesions", labels={}).masks["lesions"])
        marks.append((read_pixel_mask(found[name], kind="lesions", labels={}).masks["lesions"] > 0).astype(np.float32))
        if ids[-1].shape != marks[-1].shape:
            raise RequestError(f"{found[name]}: {marks[-1].shape} pixels, the true mask has {ids[-1].shape}")
        if ids[-1].shape != ids[0].shape:
            raise RequestError(f"{file}: {ids[-1].shape} pixels, other masks {ids[0].shape}; score one size at a time")
    size = (pixel_mm, pixel_mm)
    split = GridSplit(
        counts=np.zeros((len(ids), *ids[0].shape), np.int32),
        ids=np.stack(ids),
        rows=[ImageRow(name, name, "", size, _facts(one)) for name, one in zip(wanted, ids, strict=True)],
        pixel_sizes_mm=[size] * len(ids),
    )
    return score(np.stack(marks), split, config=config, threshold=0.5, probabilities=False)


def _facts(ids: np.ndarray) -> list[LesionFacts]:
    return [LesionFacts(int(number)) for number in np.unique(ids) if number]


def _by_name(folder: Path) -> dict[str, Path]:
    """Mask files by the name that pairs them, sorted."""
    if not folder.is_dir():
        raise RequestError(f"{folder}: no such folder")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem = _KIND.sub("", path.name)
        if stem == path.name:
            continue
        name = _ROLE.sub("", stem)
        if name in files:
            raise RequestError(f"{path}: has the name of {files[name].name}; keep one mask of each name")
        files[name] = path
    if not files:
        raise RequestError(f"{folder}: no mask (PNG, TIFF, NPY or NIfTI)")
    return files
