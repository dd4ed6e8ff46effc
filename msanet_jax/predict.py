"""A checkpoint and scans -> masks, probabilities, overlays and lesion lists, on the whole scan.

A scan's way: thorax -> 256 px field -> binned -> normalised as in training -> network -> back the same way.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage
from tqdm import tqdm

from data_pipeline.errors import RequestError
from data_pipeline.normalize import bin_counts, binning_factor, normalize
from data_pipeline.readers import read_scans
from data_pipeline.scan import THORAX_SIZE_PX, Scan, ScanError
from data_pipeline.thorax import ThoraxBox, crop, find_thorax, paste, resample_counts
from msanet_jax.lesion_list import list_lesions
from msanet_jax.overlay import NOTICE, Drawing
from msanet_jax.prediction_files import OutputNames, counts_digest, save_prediction

PACKAGES = ("msanet-jax", "jax", "flax", "numpy", "pydicom")
"""Versions written into every record."""


class Predictor(Protocol):
    """What prediction needs of a trained network; `checkpoints.Predictor` is one."""

    @property
    def probability(self) -> Callable[[np.ndarray], np.ndarray]:
        """Images `[n, size, size, 1]` float32 normalised -> `[n, size, size]` in [0, 1]."""

    @property
    def config(self) -> ConfigDict:
        """The run's recipe."""

    @property
    def step(self) -> int:
        """Step of the checkpoint."""

    @property
    def provenance(self) -> dict[str, Any]:
        """JSON-able facts about the checkpoint."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of the files.

    Attributes:
      written: stems of the results, in order.
      failed: the files that gave none.
    """

    written: tuple[str, ...]
    failed: tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class _Job:
    """A scan on its way through the network."""

    file: Path
    stem: str
    scan: Scan
    box: ThoraxBox


def predict_files(
    files: Sequence[str | Path],
    *,
    checkpoint: str | Path,
    out: str | Path,
    threshold: float | None = None,
    progress: bool = True,
) -> Outcome:
    """Segments every scan in `files` and writes STEM_mask.png, STEM_probability.npy, STEM_overlay.png, STEM.json.

    A file that cannot be used is reported on stderr in one line and passed over.

    Args:
      files: DICOM, PNG, JPEG, TIFF or NPY; a file named twice is read once.
      checkpoint: the run folder of a training.
      out: folder of the results, made if absent; results of the same name are replaced.
      threshold: probability above which a pixel is lesion; None for the recipe's.
      progress: whether several files show a progress bar.

    Raises:
      RequestError: no usable checkpoint, output folder or threshold; nothing was written.
    """
    # JAX takes seconds to load; the rest of this module, and its tests, do without.
    from msanet_jax.checkpoints import load_predictor

    return predict_with(load_predictor(Path(checkpoint)), files, out=out, threshold=threshold, progress=progress)


def predict_with(
    predictor: Predictor,
    files: Sequence[str | Path],
    *,
    out: str | Path,
    threshold: float | None = None,
    progress: bool = True,
) -> Outcome:
    """As `predict_files`, with a network that is already loaded."""
    threshold = float(predictor.config.evaluate.threshold) if threshold is None else threshold
    if not 0.0 < threshold < 1.0:
        raise RequestError(f"--threshold={threshold:g}: must lie between 0 and 1")
    folder = _output_folder(Path(out))
    failed: list[Path] = []
    written: list[str] = []

    unique = list(dict.fromkeys(Path(file) for file in files))
    bar = tqdm(total=len(unique), unit="file", disable=not progress or len(unique) < 2, file=sys.stderr)

    def report(file: Path, reason: str) -> None:
        failed.append(file)
        with tqdm.external_write_mode(file=sys.stderr):
            print(reason, file=sys.stderr)

    done: set[Path] = set()
    jobs = _read(unique, report)
    for number, batch in enumerate(_batches(jobs, int(predictor.config.evaluate.batch_size))):
        probabilities = _probabilities(predictor, batch, padded=number > 0)
        for job, probability in zip(batch, probabilities, strict=True):
            try:
                _save(folder, job, probability, predictor, threshold)
            except OSError as error:
                report(job.file, f"{folder / job.stem}: cannot be written ({error.strerror or error})")
            else:
                written.append(job.stem)
            done.add(job.file)
            bar.update(len(done | set(failed)) - bar.n)
    bar.update(len(unique) - bar.n)
    bar.close()
    return Outcome(tuple(written), tuple(dict.fromkeys(failed)))


def network_input(scan: Scan, box: ThoraxBox, image_size_px: int) -> np.ndarray:
    """Thorax of a scan as the network was trained to see it: [size, size, 1] float32.

    Raises:
      RequestError: the network's image side does not divide the field's 256 pixels.
    """
    field = crop(scan.counts, box)
    if box.size_px != THORAX_SIZE_PX:
        field = resample_counts(field, THORAX_SIZE_PX)
    binned = bin_counts(field, binning_factor(THORAX_SIZE_PX, image_size_px), xp=np)
    return np.asarray(normalize(binned, xp=np), np.float32)[..., None]


def onto_scan(probability: np.ndarray, box: ThoraxBox, shape: tuple[int, int]) -> np.ndarray:
    """Probability [size, size] of the network -> [rows, columns] float32 of the scan; 0 outside the thorax box."""
    enlarged = ndimage.zoom(
        probability.astype(np.float64), box.size_px / len(probability), order=1, mode="nearest", grid_mode=True
    )
    return paste(np.clip(enlarged, 0.0, 1.0).astype(np.float32), box, shape)


def _output_folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".msanet-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RequestError(f"--out={out}: cannot be written ({error.strerror}); choose another folder") from None
    return out


def _read(files: Sequence[Path], report: Callable[[Path, str], None]) -> Iterator[_Job]:
    """Reads file after file, so that memory holds no more than one batch."""
    names = OutputNames()
    for file in files:
        stem = names.claim(file.stem)
        try:
            scans = read_scans(file)
        except ScanError as error:
            report(file, str(error))
            continue
        for scan in scans:
            # Two views in one file: both stems carry the view.
            own = stem if len(scans) == 1 else names.claim(f"{stem}_{scan.view.value}")
            yield _Job(file, own, scan, find_thorax(scan))


def _batches(jobs: Iterator[_Job], size: int) -> Iterator[list[_Job]]:
    batch: list[_Job] = []
    for job in jobs:
        batch.append(job)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _probabilities(predictor: Predictor, batch: list[_Job], *, padded: bool) -> np.ndarray:
    """Network output of a batch; a last, smaller one is padded, so that nothing is compiled twice."""
    config = predictor.config
    images = np.stack([network_input(job.scan, job.box, config.data.image_size_px) for job in batch])
    missing = int(config.evaluate.batch_size) - len(batch)
    if padded and missing > 0:
        images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.float32)])
    probabilities = predictor.probability(images)[: len(batch)]
    if not np.isfinite(probabilities).all():
        raise RequestError("the network gives values that are no numbers: its checkpoint is of no use, take another")
    return probabilities


def _save(folder: Path, job: _Job, probability: np.ndarray, predictor: Predictor, threshold: float) -> None:
    scan = job.scan
    whole = onto_scan(probability, job.box, scan.counts.shape)
    mask = whole > threshold
    lesions = list_lesions(mask, whole, scan.counts, scan.pixel_size_mm)
    name = predictor.provenance.get("checkpoint", "")
    drawing = Drawing(
        scan, job.box, whole, threshold, lesions, f"{_describe(scan)}; checkpoint {name}, step {predictor.step}"
    )
    save_prediction(folder, job.stem, drawing, mask, _record(job, mask, lesions, predictor, threshold))


def _describe(scan: Scan) -> str:
    rows, columns = scan.counts.shape
    pixel = "unknown size" if scan.pixel_size_mm is None else f"{scan.pixel_size_mm[0]:.2f} mm"
    return f"{rows} x {columns} pixels of {pixel}, {scan.counts.sum(dtype=np.int64) / 1e6:.2f} M counts"


def _record(
    job: _Job, mask: np.ndarray, lesions: list[dict[str, Any]], predictor: Predictor, threshold: float
) -> dict[str, Any]:
    """STEM.json: no date and nothing that names the patient."""
    scan = job.scan
    config = predictor.config.to_json(sort_keys=True)
    return {
        "notice": NOTICE,
        "source": scan.source,
        "view": scan.view.value,
        "patient_pseudonym": scan.patient,
        "shape_px": list(scan.counts.shape),
        "pixel_size_mm": None if scan.pixel_size_mm is None else list(scan.pixel_size_mm),
        "counts_total": int(scan.counts.sum(dtype=np.int64)),
        "counts_sha256": counts_digest(scan.counts),
        "warnings": list(scan.warnings),
        "thorax_box_px": dataclasses.asdict(job.box),
        "threshold": threshold,
        "lesion_count": len(lesions),
        "lesion_area_px": int(mask.sum()),
        "lesions": lesions,
        "provenance": {
            **predictor.provenance,
            "step": predictor.step,
            "config_sha256": hashlib.sha256(config.encode()).hexdigest(),
            "versions": _versions(),
        },
    }


def _versions() -> dict[str, str | None]:
    def version(package: str) -> str | None:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a source tree that is not installed
            return None

    return {package: version(package) for package in PACKAGES}
