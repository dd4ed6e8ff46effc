"""What one scan leaves on disk, and under which name."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_pipeline.errors import RequestError
from data_pipeline.files import whole_files, write_json
from data_pipeline.text import table_cell
from msanet_jax.prediction.overlay import Drawing, save_overlay
from msanet_jax.prediction.records import ScanRecord
from msanet_jax.prediction.segmentation import Segmentation

FORMATS: dict[str, tuple[str, ...]] = {
    "png": ("_mask.png",),
    "npy": ("_probability.npy",),
    "overlay": ("_overlay.png",),
    "csv": ("_lesions.csv",),
    "nifti": ("_scan.nii.gz", "_mask.nii.gz", "_probability.nii.gz"),
    "seg": ("_seg.dcm",),
    "sc": ("_sc.dcm",),
    "sheet": (),
}
"""Format -> endings behind the scan's stem. `STEM.json` is always written, and last: where it is, the others are whole.
`sheet` is a page per patient (`patient_sheet`)."""

DEFAULT_FORMATS = ("png", "npy", "overlay", "csv", "sheet")
"""`nifti`, `seg` and `sc` on request: the first is bulk, the others carry the patient's name back to the archive."""

DICOM_FORMATS = ("seg", "sc")
"""Need the header of the scan's own DICOM file."""

_CSV_COLUMNS = (
    "scan",
    "patient",
    "view",
    "lesion",
    "centre_row_px",
    "centre_column_px",
    "area_px",
    "area_mm2",
    "equivalent_diameter_mm",
    "major_axis_mm",
    "counts_mean",
    "counts_max",
    "uptake_mean",
    "uptake_max",
    "probability_mean",
    "probability_max",
)
_SCAN_COLUMNS = (
    "scan",
    "patient",
    "view",
    "file",
    "rows_px",
    "columns_px",
    "pixel_height_mm",
    "pixel_width_mm",
    "counts_total",
    "threshold",
    "lesion_count",
    "lesion_area_px",
    "lesion_area_mm2",
    "lesion_area_fraction",
    "longest_lesion_mm",
    "uptake_max",
    "warnings",
)


class OutputNames:
    """Gives every result a name of its own, whatever the inputs are called.

    The rule: a result is named after its file's stem; the second file of the same stem becomes STEM-2, the third
    STEM-3, in the order given. Upper and lower case count as the same, since some file systems think so.
    """

    def __init__(self, reserved: Sequence[str] = ()) -> None:
        self._taken: set[str] = {name.lower() for name in reserved}

    def claim(self, stem: str) -> str:
        """The first free of stem, stem-2, stem-3..."""
        name, copy = stem, 1
        while self._files(name) & self._taken:
            copy += 1
            name = f"{stem}-{copy}"
        self._taken |= self._files(name)
        return name

    @staticmethod
    def _files(name: str) -> set[str]:
        return {file.lower() for file in (*file_names(name, tuple(FORMATS)), f"{name}.html")}


def parse_formats(text: str) -> tuple[str, ...]:
    """`png,seg` -> ("png", "seg"); `all` is every format, `default` the default ones, `json` nothing beside the record.

    Raises:
      RequestError: an unknown name.
    """
    chosen: list[str] = []
    for name in (part.strip().lower() for part in text.split(",")):
        if name in ("all", "default"):
            chosen += FORMATS if name == "all" else DEFAULT_FORMATS
        elif name in FORMATS:
            chosen.append(name)
        elif name not in ("json", ""):
            raise RequestError(f"--formats={text}: {name!r} must be one of {', '.join(FORMATS)}, json, default, all")
    return tuple(name for name in FORMATS if name in chosen)


def file_names(stem: str, formats: Sequence[str] = DEFAULT_FORMATS) -> list[str]:
    """The files of a result, in the order in which they appear."""
    return [*(f"{stem}{ending}" for name in formats for ending in FORMATS[name]), f"{stem}.json"]


def save_prediction(
    out: Path,
    stem: str,
    result: Segmentation,
    *,
    formats: Sequence[str] = DEFAULT_FORMATS,
    header: Any = None,
    anonymous: bool = False,
) -> tuple[list[str], list[str]]:
    """Writes a result in the formats asked for, and its record: all, or none.

    Args:
      out: folder.
      stem: see `OutputNames`.
      result: the segmented scan.
      formats: names in `FORMATS`.
      header: DICOM header of the source (`write_dicom_seg.read_header`), without which there is no SEG.
      anonymous: see `write_dicom_seg.save_seg`.

    Returns:
      Names of the files, and what had to be left out of them. What was asked for and cannot be is in the record's
      `not_written` with the reason.
    """
    not_written = _impossible(result, formats, header)
    formats = [name for name in formats if name not in not_written]
    names = file_names(stem, formats)
    with whole_files(out, names) as beside:
        emptied: dict[str, None] = {}
        for name in formats:
            own = [beside / f"{stem}{ending}" for ending in FORMATS[name]]
            emptied |= dict.fromkeys(_save(name, own, stem, result, header, anonymous))
        notes = _emptied_note(list(emptied))
        record = dataclasses.replace(
            result.record,
            warnings=(*result.record.warnings, *notes),
            files=tuple(names),
            not_written=not_written,
        )
        write_json(beside / f"{stem}.json", record)
    return names, notes


def _emptied_note(keywords: Sequence[str]) -> list[str]:
    if not keywords:
        return []
    return [f"left empty in DICOM results, since the scan's values break the standard: {', '.join(keywords)}"]


def drawing(result: Segmentation, title: str | None = None) -> Drawing:
    """The overlay's content; `title` in place of the file's name."""
    record = result.record
    rows, columns = result.scan.counts.shape
    pixel = "unknown size" if result.scan.pixel_size_mm is None else f"{result.scan.pixel_size_mm[0]:.2f} mm"
    provenance = record.provenance
    subtitle = (
        f"{rows} x {columns} pixels of {pixel}, {record.counts_total / 1e6:.2f} M counts; "
        f"model {model_name(provenance)}, step {provenance.get('step')}"
    )
    return Drawing(
        scan=result.scan,
        box=result.box,
        probability=result.probability,
        threshold=record.threshold,
        lesions=result.lesions,
        title=title or record.source,
        subtitle=subtitle,
        notice=record.notice,
    )


def model_name(provenance: Mapping[str, Any]) -> str:
    """What a model is called: its file, else its run."""
    return str(provenance.get("file") or provenance.get("checkpoint") or "without a name")


def model_facts(provenance: Mapping[str, Any], threshold: float) -> str:
    """One line on what marked the lesions."""
    return f"Model {model_name(provenance)}, step {provenance.get('step')}; a pixel is marked above {threshold:.3g}."


def lesion_table(*scans: tuple[str, ScanRecord], heading: bool = True) -> str:
    """Lesions of scans (stem and record) as CSV; unknown lengths are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=_CSV_COLUMNS, lineterminator="\n", extrasaction="ignore")
    if heading:
        writer.writeheader()
    for stem, record in scans:
        head = {"scan": table_cell(stem), "patient": record.patient_pseudonym, "view": record.view}
        for lesion in record.lesions:
            row = {**head, "lesion": lesion.id, **dataclasses.asdict(lesion)}
            writer.writerow({key: "" if value is None else value for key, value in row.items()})
    return text.getvalue()


def scan_table(scans: Iterable[tuple[str, ScanRecord]]) -> str:
    """Scans as CSV, a row each: stem and record; what a scan has not is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=_SCAN_COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for stem, record in scans:
        height, width = record.pixel_size_mm or (None, None)
        area = None if height is None or width is None else round(record.lesion_area_px * height * width, 2)
        row = {
            **dataclasses.asdict(record),
            "scan": table_cell(stem),
            "patient": record.patient_pseudonym,
            "file": table_cell(record.source),
            "rows_px": record.shape_px[0],
            "columns_px": record.shape_px[1],
            "pixel_height_mm": height,
            "pixel_width_mm": width,
            "lesion_area_mm2": area,
            "longest_lesion_mm": record.largest("major_axis_mm"),
            "uptake_max": record.largest("uptake_max"),
            "warnings": table_cell("; ".join(record.warnings)),
        }
        writer.writerow({key: "" if value is None else value for key, value in row.items()})
    return text.getvalue()


def _impossible(result: Segmentation, formats: Sequence[str], header: Any) -> dict[str, str]:
    wanted = [name for name in DICOM_FORMATS if name in formats]
    if header is None:
        return dict.fromkeys(wanted, "the source is not a DICOM file with the UIDs that DICOM results must reference")
    if "seg" in wanted and not result.lesions:
        return {"seg": "nothing is marked; DICOM knows no segmentation without segments"}
    return {}


def _save(
    name: str, paths: list[Path], stem: str, result: Segmentation, header: Any, anonymous: bool
) -> tuple[str, ...]:
    """Writes one format; returns keywords of the header that DICOM could not take over."""
    if name == "png":
        Image.fromarray(np.where(result.mask, 255, 0).astype(np.uint8)).save(paths[0], format="PNG")
    elif name == "npy":
        # Through memory: NumPy's own writing reports a full disk without saying that it is one.
        array = io.BytesIO()
        np.save(array, result.probability.astype(np.float32))
        paths[0].write_bytes(array.getvalue())
    elif name == "overlay":
        # In a folder of patients the files themselves may all be called anterior.dcm.
        save_overlay(drawing(result, stem), paths[0])
    elif name == "csv":
        paths[0].write_text(lesion_table((stem, result.record)), encoding="utf-8")
    elif name == "nifti":
        from msanet_jax.prediction.write_nifti import save_nifti  # loads nibabel

        save_nifti(result, *paths)
    elif name == "seg":
        from msanet_jax.prediction.dicom.write_dicom_seg import save_seg  # loads highdicom, which takes a second

        return save_seg(result, header, paths[0], anonymous=anonymous)
    elif name == "sc":
        from msanet_jax.prediction.dicom.secondary_capture import save_secondary_capture  # as above

        return save_secondary_capture(result, drawing(result, stem), header, paths[0], anonymous=anonymous)
    return ()
