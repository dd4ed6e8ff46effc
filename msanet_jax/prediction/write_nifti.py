"""Scan, mask and probability of one view as NIfTI, placed alike, so that viewers lay them over each other."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from data_pipeline.scan import View
from msanet_jax.prediction.segmentation import CONNECTIVITY, Segmentation


def save_nifti(result: Segmentation, scan: Path, mask: Path, probability: Path) -> None:
    """Writes counts (int32), lesion numbers (uint16) and probability (float32), each `[columns, rows, 1]`, gzipped.

    Axes are RAS+: columns run along x, rows along -z, and the projection is one slice in y. In an anterior view columns
    run to the patient's left (-x), in a posterior one to the right (+x); an unknown view is placed as anterior.
    Without a pixel size a pixel is 1 mm and the unit is left unknown.
    """
    labels, _ = ndimage.label(result.mask, CONNECTIVITY)
    images = {
        scan: result.scan.counts.astype(np.int32),
        mask: labels.astype(np.uint16),
        probability: result.probability.astype(np.float32),
    }
    for path, image in images.items():
        volume = nib.Nifti1Image(image.T[:, :, None], affine(result))
        volume.header.set_xyzt_units("unknown" if result.scan.pixel_size_mm is None else "mm")
        volume.header["descrip"] = b"msanet-jax, research, not for diagnosis"
        path.write_bytes(_gzipped(volume))


def affine(result: Segmentation) -> np.ndarray:
    """[4, 4]: (column, row, 0) -> millimetres, right, anterior and superior positive, the image's centre at 0."""
    row_mm, column_mm = result.scan.pixel_size_mm or (1.0, 1.0)
    rows, columns = result.scan.counts.shape
    x = column_mm if result.scan.view == View.POSTERIOR else -column_mm
    matrix = np.diag([x, 1.0, 1.0, 1.0])
    matrix[:3, :3] = [[x, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -row_mm, 0.0]]
    matrix[:3, 3] = [-x * (columns - 1) / 2.0, 0.0, row_mm * (rows - 1) / 2.0]
    return matrix


def _gzipped(volume: nib.Nifti1Image) -> bytes:
    """Without the time of writing, so that the same result gives the same bytes."""
    return gzip.compress(volume.to_bytes(), mtime=0)
