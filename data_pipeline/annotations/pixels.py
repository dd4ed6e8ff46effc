"""Masks stored as pixels (PNG, TIFF, NPY, NIfTI) -> instance ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from data_pipeline.annotations.kinds import IGNORED, MAX_LESIONS, Annotation, Labels, check_number, connected_instances
from data_pipeline.annotations.nifti_mask import read_nifti_mask, slices_of
from data_pipeline.annotations.target import Target
from data_pipeline.readers.damage import read_or_refuse
from data_pipeline.readers.formats.images import is_lossy, open_picture
from data_pipeline.readers.values import check_size
from data_pipeline.scan import ScanError

_SHOWN_VALUES = 6
_ORIENTATION, _UPRIGHT = 274, 1
_ALONE = Target()
_GREY = {"1", "L", "P", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}


def pages_of(path: Path) -> int:
    """Pages, slices or `[pages, rows, columns]` of a mask file; 1 where it cannot be read, which its reader tells."""
    try:
        return read_or_refuse(path, _count_pages)
    except ScanError:
        return 1


def read_pixel_mask(
    path: Path, *, kind: str, labels: Labels, numbered: bool = False, target: Target = _ALONE
) -> Annotation:
    """Reads one mask file.

    Values {0, 1} or {0, 255}: lesion or not; instances are the connected regions. Other small whole numbers are
    instance ids, unless `labels` gives a number a meaning: then numbers are classes.

    Args:
      path: PNG, TIFF, BMP, NPY or NIfTI of one slice, or with a page for each view of the scan's file.
      kind: of what the mask shows.
      labels: class number as text -> kind.
      numbered: values are known to be instance ids, even if there is only the value 1.
      target: the scan that it belongs to.

    Raises:
      ScanError: damaged, JPEG, colour, transparency, stored turned, pages that are not understood, grey values.
    """
    values, notes = read_or_refuse(path, lambda file: _read(file, target))
    masks = _masks(values, kind, labels, path, numbered=numbered)
    return Annotation(masks, warnings=notes, used=int(np.unique(values).size))


def _masks(values: np.ndarray, kind: str, labels: Labels, path: Path, *, numbered: bool) -> dict[str, np.ndarray]:
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
    if any(label.isdigit() for label in labels):
        return _classes(values, present, labels, kind, path)
    if numbered and present.max(initial=0) <= MAX_LESIONS:
        return {kind: values.astype(np.uint8)}
    return {kind: instance_ids(values, str(path))}


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


def _classes(values: np.ndarray, present: np.ndarray, labels: Labels, kind: str, path: Path) -> dict[str, np.ndarray]:
    unknown = [str(value) for value in present.tolist() if str(value) not in labels]
    if unknown:
        raise ScanError(f"{path}: value {unknown[0]} has no meaning; add --labels {unknown[0]}=lesions or =ignored")
    regions: dict[str, np.ndarray] = {kind: np.zeros(values.shape, bool)}
    for value in present.tolist():
        if (meant := labels[str(value)]) != IGNORED:
            regions[meant] = regions.get(meant, np.zeros(values.shape, bool)) | (values == value)
    return {name: connected_instances(region, str(path)) for name, region in regions.items()}


def _count_pages(path: Path) -> int:
    lower = path.name.lower()
    if lower.endswith((".nii", ".nii.gz")):
        return slices_of(path)
    if lower.endswith(".npy"):
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        return int(values.shape[0]) if values.ndim == 3 else 1
    with open_picture(path) as picture:
        return int(getattr(picture, "n_frames", 1))


def _read(path: Path, target: Target) -> tuple[np.ndarray, tuple[str, ...]]:
    """Values `[rows, columns]` and what was assumed."""
    lower = path.name.lower()
    if lower.endswith((".nii", ".nii.gz")):
        return read_nifti_mask(path, target)
    if lower.endswith(".npy"):
        return _read_numpy(path, target), ()
    try:
        with open_picture(path) as picture:
            return _read_picture(picture, path, target), ()
    except ScanError:
        raise
    except Exception as error:  # every decoder has its own errors
        raise ScanError(f"{path}: the mask cannot be decoded ({type(error).__name__}); save it again as PNG") from None


def _read_picture(picture: Image.Image, path: Path, target: Target) -> np.ndarray:
    check_size(picture.size[::-1], str(path))
    _check_lossless(picture, path)
    _check_pages(int(getattr(picture, "n_frames", 1)), path, target)
    for page, frame in enumerate(ImageSequence.Iterator(picture)):
        if page == target.page or not target.paged:
            picture = frame
            break
    _check_lossless(picture, path)  # pages of a TIFF may be packed in different ways
    if (turned := picture.getexif().get(_ORIENTATION, _UPRIGHT)) != _UPRIGHT:
        raise ScanError(
            f"{path}: a mask stored turned (orientation {turned}); save it as it is shown, without that tag"
        )
    mode, values = picture.mode, np.asarray(picture)
    if mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        if (values[..., -1] != values[0, 0, -1]).any():
            raise ScanError(f"{path}: the mask is in its transparency; save it without, as grey of 0 and 255")
        values = values[..., :-1]
    elif mode not in _GREY and mode != "RGB":
        raise ScanError(f"{path}: a picture of mode {mode}; save one number per pixel (0 and 255, or instance numbers)")
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise ScanError(f"{path}: a coloured mask; save one number per pixel (0 and 255, or instance numbers)")
        values = values[..., 0]
    return values


def _check_lossless(picture: Image.Image, path: Path) -> None:
    if is_lossy(picture):
        raise ScanError(f"{path}: JPEG changes the values of a mask; save it as PNG")


def _check_pages(pages: int, path: Path, target: Target) -> None:
    if pages != target.pages_wanted:
        raise ScanError(f"{path}: {pages} pages for a scan of {target.pages} view(s); save one page for each view")


def _read_numpy(path: Path, target: Target) -> np.ndarray:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # the header is parsed as Python text
        pickled = any(word in str(error) for word in ("pickle", "objects"))
        reason = "holds pickled objects, which are never read" if pickled else "cannot be read"
        raise ScanError(f"{path}: {reason}; save a plain numeric array") from None
    if values.ndim == 3 and target.paged:
        values = values[target.page]
    if values.ndim != 2:
        raise ScanError(f"{path}: an array of shape {values.shape} is not a mask; save [rows, columns]")
    check_size(values.shape, str(path))
    return np.asarray(values)
