"""Masks stored as pixels (PNG, TIFF, NPY, NIfTI) -> instance ids."""

from __future__ import annotations

import warnings as python_warnings
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipeline.annotations.kinds import IGNORED, MAX_LESIONS, Annotation, Labels, check_number, connected_instances
from data_pipeline.readers.damage import read_or_refuse
from data_pipeline.readers.nifti import read_planar_nifti
from data_pipeline.readers.values import check_size
from data_pipeline.scan import ScanError

_SHOWN_VALUES = 6


def read_pixel_mask(path: Path, *, kind: str, labels: Labels, numbered: bool = False) -> Annotation:
    """Reads one mask file.

    Values {0, 1} or {0, 255}: lesion or not; instances are the connected regions. Other small whole numbers are
    instance ids, unless `labels` gives a number a meaning: then numbers are classes.

    Args:
      path: PNG, TIFF, NPY or NIfTI of one slice.
      kind: of what the mask shows.
      labels: class number as text -> kind.
      numbered: values are known to be instance ids, even if there is only the value 1.

    Raises:
      ScanError: damaged, JPEG, colour, grey values.
    """
    values = read_or_refuse(path, _read)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.dtype.kind == "f":
        whole = np.isfinite(values).all() and np.array_equal(values, np.rint(values))
        if not whole or np.abs(values).max(initial=0) > np.iinfo(np.int32).max:
            raise ScanError(f"{path}: a mask with fractions or NaN; save 0 and 1, or whole instance numbers")
        values = values.astype(np.int64)
    if values.dtype.kind not in "iu":
        raise ScanError(f"{path}: values of type {values.dtype} are no mask; save 0 and 1, or whole instance numbers")
    present = np.unique(values)
    present = present[present != 0]
    if present.size and present[0] < 0:
        raise ScanError(f"{path}: negative values in a mask; save 0 and 1, or whole instance numbers")
    if any(str(value) in labels for value in present.tolist()):
        return _classes(values, present, labels, kind, path)
    if numbered and present.max(initial=0) <= MAX_LESIONS:
        return Annotation({kind: values.astype(np.uint8)})
    return Annotation({kind: instance_ids(values, str(path))})


def instance_ids(values: np.ndarray, source: str) -> np.ndarray:
    """Instance ids uint8 of a mask of whole numbers >= 0.

    Raises:
      ScanError: values that are grey levels, or too many instances.
    """
    present = np.unique(values)
    present = present[present != 0]
    if present.size == 0:
        return np.zeros(values.shape, np.uint8)
    if present.size == 1 and present[0] in (1, 255, 65535):
        return connected_instances(values > 0, source)
    full = int(present[-1]) in (255, 65535)
    if full or present.size > 255:
        shown = ", ".join(str(value) for value in present[:_SHOWN_VALUES].tolist())
        raise ScanError(
            f"{source}: grey values in a mask ({shown}, ... {present[-1]}): it was resized or smoothed; "
            "save it without interpolation, or as 0 and 255"
        )
    check_number(int(present.size), source)
    if present[-1] > 255:
        values = np.searchsorted(np.concatenate([[0], present]), values)
    return values.astype(np.uint8)


def _classes(values: np.ndarray, present: np.ndarray, labels: Labels, kind: str, path: Path) -> Annotation:
    unknown = [str(value) for value in present.tolist() if str(value) not in labels]
    if unknown:
        raise ScanError(f"{path}: value {unknown[0]} has no meaning; add --labels {unknown[0]}=lesions or =ignored")
    regions: dict[str, np.ndarray] = {kind: np.zeros(values.shape, bool)}
    for value in present.tolist():
        if (meant := labels[str(value)]) != IGNORED:
            regions[meant] = regions.get(meant, np.zeros(values.shape, bool)) | (values == value)
    return Annotation({name: connected_instances(region, str(path)) for name, region in regions.items()})


def _read(path: Path) -> np.ndarray:
    lower = path.name.lower()
    if lower.endswith((".nii", ".nii.gz")):
        return read_planar_nifti(path)[0]
    if lower.endswith(".npy"):
        return _read_numpy(path)
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                check_size(picture.size[::-1], str(path))
                if picture.format == "JPEG":
                    raise ScanError(f"{path}: JPEG changes the values of a mask; save it as PNG")
                values = np.asarray(picture)
    except ScanError:
        raise
    except Exception as error:  # every decoder has its own errors
        raise ScanError(f"{path}: the mask cannot be decoded ({type(error).__name__}); save it again as PNG") from None
    if values.ndim == 3:
        colours = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
        if (colours != colours[..., :1]).any():
            raise ScanError(f"{path}: a coloured mask; save one number per pixel (0 and 255, or instance numbers)")
        values = colours[..., 0]
    return values


def _read_numpy(path: Path) -> np.ndarray:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # the header is parsed as Python text
        pickled = any(word in str(error) for word in ("pickle", "objects"))
        reason = "holds pickled objects, which are never read" if pickled else "cannot be read"
        raise ScanError(f"{path}: {reason}; save a plain numeric array") from None
    if values.ndim != 2:
        raise ScanError(f"{path}: an array of shape {values.shape} is no mask; save [rows, columns]")
    check_size(values.shape, str(path))
    return np.asarray(values)
