"""A data set folder looked through: its figures, and every problem with its remedy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data_pipeline.annotations.lesion_shape import lesion_shapes
from data_pipeline.errors import RequestError
from data_pipeline.fields import find_window
from data_pipeline.intake.checking import quality
from data_pipeline.intake.checking.duplicates import copies, landmarks
from data_pipeline.intake.checking.findings import CheckedImage, Problem, Report, fingerprint, notes
from data_pipeline.intake.folder import (
    SPLITS,
    SPLITS_FILE,
    DataSetFolder,
    load_boxes,
    load_facts,
    load_masks,
    load_scan,
    read_data_set,
)
from data_pipeline.intake.manifest import MANIFEST
from data_pipeline.normalize import normalize
from data_pipeline.scan import Scan, View
from data_pipeline.terminal.progress import progress as bar
from data_pipeline.thorax import FIELD_MM, body_mask, field_size_px
from data_pipeline.windows import cut

FEW_COUNTS = 100_000
"""A planar bone scan of the whole body has a million or more; below this its noise hides what is to be learned."""

DARK_UPTAKE = 0.8
"""Mean normalised uptake under a mask (the body is at 1) below which the mask is elsewhere than the lesions."""

GREY_REMEDY = "save it without interpolation: a number per lesion, or 255 for all if no two lesions touch"


def check_data_set(folder: str | Path, *, progress: bool = True) -> Report:
    """Checks every image.

    Raises:
      RequestError: manifest or splits cannot be read, or a patient is in two splits.
    """
    data_set = read_data_set(folder)
    split_of = {patient: split for split, patients in data_set.splits.items() for patient in patients}
    images: list[CheckedImage] = []
    bodies: dict[tuple[str, View], np.ndarray] = {}
    for entry in bar(data_set.entries, title="checking", unit="image", quiet=not progress):
        image = CheckedImage(entry, split_of[entry.patient])
        images.append(image)
        try:
            scan = load_scan(data_set.folder, entry)
        except RequestError as error:
            _tell_error(image, entry.counts, error, data_set.folder)
            continue
        # At a quarter of the size, so that a large set fits into memory.
        body = body_mask(scan.counts, pixel_mm=FIELD_MM / field_size_px(scan))
        bodies.setdefault((entry.patient, entry.view), body[::2, ::2])
        _check_scan(image, scan)
        _check_masks(image, scan, data_set.folder)
        _check_notes(image, data_set.folder)
    _check_pairs(images, bodies)
    _check_duplicates(images)
    return Report(data_set, fingerprint(data_set, images), images, _check_set(data_set), notes(data_set, images))


def _tell_error(image: CheckedImage, file: str, error: RequestError, folder: Path) -> None:
    text = str(error).replace(f"{folder / file}: ", "").replace(f"{file}: ", "")
    what, _, remedy = text.partition("; ")
    image.tell(file, what, remedy or "import the scan again")


def _check_scan(image: CheckedImage, scan: Scan) -> None:
    counts, file = scan.counts, image.entry.counts
    image.counts = int(counts.sum(dtype=np.int64))
    image.shape = (counts.shape[0], counts.shape[1])
    image.digest = hashlib.sha256(repr(counts.shape).encode() + counts.tobytes()).hexdigest()
    image.marks = landmarks(counts, image.entry.pixel_size_mm)
    image.noise = quality.noise(counts)
    ratio = image.noise.variance_over_mean
    if image.counts == 0:
        image.tell(file, "is empty", "remove its row, or import the right series")
    elif image.counts < FEW_COUNTS:
        image.tell(file, f"has {image.counts} counts only", "a scaled-down picture? import the original counts")
    if (plateau := quality.saturated_px(counts)) > 0:
        top = int(counts.max())
        image.tell(file, f"is cut off at {top} ({plateau} connected pixels)", "export with more bits per pixel")
    if image.noise.smoothed:
        what = f"was smoothed or enlarged (noise correlation {image.noise.correlation:.2f}, of counts it is near 0)"
        image.tell(file, what, "import the unprocessed scan")
    elif image.noise.rescaled:
        what = f"was rescaled or compressed (variance over mean {ratio:.2f}, of counts it is near 1)"
        image.tell(file, what, "import the original counts")
    box = image.entry.thorax
    rows, columns = image.shape
    if box.row + box.size_px <= 0 or box.column + box.size_px <= 0 or box.row >= rows or box.column >= columns:
        image.tell(MANIFEST, f"thorax box of {image.entry.image_id} lies outside the scan", "correct its cells")


def _check_masks(image: CheckedImage, scan: Scan, folder: Path) -> None:
    entry = image.entry
    uptake = normalize(scan.counts)
    for kind, file in entry.masks.items():
        try:
            ids = load_masks(folder, entry, (kind,))[kind]
        except RequestError as error:
            _tell_error(image, file, error, folder)
            continue
        present = np.unique(ids)[1:] if (ids == 0).any() else np.unique(ids)
        if len(present) > 1 and present[-1] == 255:
            shown = ", ".join(map(str, present[:5].tolist()))
            image.tell(file, f"has grey values ({shown}, ... 255)", GREY_REMEDY)
            continue
        if kind != "lesions":
            continue
        image.measured = True
        image.lesions = lesion_shapes(ids, entry.pixel_size_mm)
        if not present.size:
            continue
        field = set(np.unique(cut(ids, find_window(scan, "thorax", entry.thorax))).tolist())
        image.outside = len(set(present.tolist()) - field)
        if quality.mask_is_mirrored(scan.counts, ids > 0):
            image.tell(file, "fits the scan better when mirrored", "mirror the mask, or check the scan's view")
        elif uptake[ids > 0].mean() < DARK_UPTAKE:
            what = f"lies on little uptake ({uptake[ids > 0].mean():.2f} of the body's level)"
            image.tell(file, what, "is it shifted, upside down or of another scan?")


def _check_notes(image: CheckedImage, folder: Path) -> None:
    entry = image.entry
    for file, load in ((entry.lesion_facts, load_facts), (entry.weak_boxes, load_boxes)):
        try:
            load(folder, entry)
        except RequestError as error:
            _tell_error(image, file, error, folder)


def _check_pairs(images: Sequence[CheckedImage], bodies: dict[tuple[str, View], np.ndarray]) -> None:
    for image in images:
        entry = image.entry
        front = bodies.get((entry.patient, View.ANTERIOR))
        back = bodies.get((entry.patient, View.POSTERIOR))
        if entry.view != View.POSTERIOR or front is None or back is None:
            continue
        if quality.view_is_mirrored(front, back) > quality.VIEW_MIRRORED:
            image.tell(
                entry.counts,
                "fits the anterior view of its patient unmirrored: one of the two is stored mirrored",
                "mirror that view and its masks, or correct the views in the manifest",
            )


def _check_duplicates(images: Iterable[CheckedImage]) -> None:
    read = [image for image in images if image.digest]
    for number, originals in copies([image.marks for image in read], [image.digest for image in read]).items():
        image, others = read[number], [read[original] for original in originals]
        apart = [other for other in others if {image.split, other.split} <= set(SPLITS) and image.split != other.split]
        other = (apart or others)[0]
        what = "is the same scan as" if image.digest == other.digest else "is a copy, scaled or cut out, of"
        where = " of another patient" if image.entry.patient != other.entry.patient else ""
        where += f", and they are in {other.split} and {image.split}" if apart else ""
        remedy = "remove one row from the manifest, or give both the same patient"
        image.tell(image.entry.counts, f"{what} {other.entry.counts}{where}", remedy)


def _check_set(data_set: DataSetFolder) -> list[Problem]:
    problems = []
    masked = {entry.patient for entry in data_set.entries if "lesions" in entry.masks}
    for split in SPLITS:
        patients = data_set.splits[split]
        if not masked & set(patients):
            remedy = "training needs one at least: " + ("move one" if len(masked) >= len(SPLITS) else "add masks")
            problems.append(Problem(SPLITS_FILE, f"{split} has no patient with a lesion mask", remedy))
    for entry in data_set.entries:
        if "lesions" not in entry.masks and any(entry.patient in data_set.splits[split] for split in SPLITS):
            problems.append(
                Problem(entry.counts, "has no lesion mask: neither trained on nor scored", "add a mask (may be empty)")
            )
    return problems
