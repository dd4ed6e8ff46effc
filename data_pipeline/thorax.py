"""Finds the thorax in a planar bone scan.

Lin et al. 2020 (doi 10.1371/journal.pone.0243253) crop 256 x 256 thorax images out of 256 x 1024 whole-body scans, at
a place found from the derivatives of a fitted profile. The same principle here, on the width of the body in every row:
head, then the narrow neck, then the steep rise to the shoulders. The width, unlike the counts, knows nothing of a hot
bladder, of lesions or of an injection site. Every threshold below is our choice.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from data_pipeline.scan import REFERENCE_PIXEL_MM, THORAX_SIZE_PX, Scan
from data_pipeline.windows import ThoraxBox

FIELD_MM = THORAX_SIZE_PX * REFERENCE_PIXEL_MM
"""Side of the thorax field, 579 mm: what 256 pixels of a whole-body camera see."""

NATIVE_PIXEL_MM = (1.8, 2.8)
"""Pixel sizes in this range are used as they are; others make the box cover `FIELD_MM`."""

MARGIN_ABOVE_SHOULDERS_MM = 90.0
"""Shows the cervical spine above the shoulders and, in most adults, ends the field above the bladder."""

_SMOOTHING_MM = 7.0  # of the counts, before the body is told from air
_PROFILE_SMOOTHING_MM = 9.0  # of the width along the body's axis
_BODY_SHARE = 0.2  # of the median body level: air is below, the thinnest limb above
_TRUNK_SHARE = 0.75  # of the trunk's width: a row this wide is below the shoulders
_TRUNK_SPAN_MM = 700.0  # head, trunk and hands: where the trunk's width is read
_HEAD_MM = 110.0  # a trunk that begins higher than this below the top has no head above it


def find_thorax(scan: Scan) -> ThoraxBox:
    """Places the thorax field on a scan: a little above the shoulders, 579 mm square.

    A scan no longer than the field is itself the thorax image and is padded evenly. Without a head in the picture the
    field begins at the body's first row.

    Args:
      scan: any planar scan, head up.

    Returns:
      The box; `size_px` is 256 for pixels of 1.8-2.8 mm.
    """
    rows, columns = scan.counts.shape
    size = field_size_px(scan)
    body = body_mask(scan.counts, pixel_mm=FIELD_MM / size)
    if rows <= size:
        row = -((size - rows) // 2)
    else:
        margin = round(MARGIN_ABOVE_SHOULDERS_MM * size / FIELD_MM)
        row = min(max(_shoulder_row(body, pixel_mm=FIELD_MM / size) - margin, 0), rows - size)
    if columns <= size:
        return ThoraxBox(row=row, column=-((size - columns) // 2), size_px=size)
    occupied = np.flatnonzero(body[max(row, 0) : row + size].any(axis=0))
    middle = (int(occupied[0]) + int(occupied[-1]) + 1) // 2 if occupied.size else columns // 2
    return ThoraxBox(row=row, column=min(max(middle - size // 2, 0), columns - size), size_px=size)


def field_size_px(scan: Scan) -> int:
    """Side of the thorax field in this scan's pixels.

    Without a pixel size, an image whose width is a camera matrix (128, 256, 512, ...) is taken to span the camera's
    field; any other is taken to have the reference pixel of 2.26 mm.
    """
    if scan.pixel_size_mm is None:
        columns = scan.counts.shape[1]
        is_camera_matrix = columns >= 128 and columns & (columns - 1) == 0
        return columns if is_camera_matrix else THORAX_SIZE_PX
    pixel = float(np.sqrt(scan.pixel_size_mm[0] * scan.pixel_size_mm[1]))
    if NATIVE_PIXEL_MM[0] <= pixel <= NATIVE_PIXEL_MM[1]:
        return THORAX_SIZE_PX
    return max(1, round(FIELD_MM / pixel))


def body_mask(counts: np.ndarray, *, pixel_mm: float) -> np.ndarray:
    """True inside the patient's outline: the largest connected region clearly above air."""
    # Square roots keep the bladder and hot lesions from spreading over their neighbourhood.
    level = ndimage.gaussian_filter(np.sqrt(counts.astype(np.float64)), _SMOOTHING_MM / pixel_mm) ** 2
    occupied = level[level > level.mean() / 2]
    if occupied.size == 0:
        return np.zeros(counts.shape, bool)
    regions, number = ndimage.label(level > _BODY_SHARE * np.median(occupied))
    if number == 0:
        return np.zeros(counts.shape, bool)
    return regions == 1 + int(np.argmax(np.bincount(regions.ravel())[1:]))


def _shoulder_row(body: np.ndarray, *, pixel_mm: float) -> int:
    """Row where the width passes half way from the neck's to the trunk's; the body's first row without a head."""
    width = ndimage.gaussian_filter1d(body.sum(axis=1).astype(np.float64), _PROFILE_SMOOTHING_MM / pixel_mm)
    occupied = np.flatnonzero(body.any(axis=1))
    if occupied.size == 0:
        return 0
    top, span = int(occupied[0]), round(_TRUNK_SPAN_MM / pixel_mm)
    trunk_width = np.percentile(width[top : top + span], 90)
    trunk = top + int(np.argmax(width[top : top + span] >= _TRUNK_SHARE * trunk_width))
    if (trunk - top) * pixel_mm < _HEAD_MM:
        return top
    # The crown is narrow too: the neck is looked for in the lower half of head and neck.
    neck_width = width[(top + trunk) // 2 : trunk + 1].min()
    above = np.flatnonzero(width[top:trunk] < (neck_width + trunk_width) / 2)
    return top + int(above[-1]) + 1 if above.size else top
