"""A simulated patient as a folder of files that other programs open."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_pipeline.errors import RequestError
from data_pipeline.files import whole_folder, write_json
from data_pipeline.phantom import VERSION
from data_pipeline.phantom.dicom import to_dicom
from data_pipeline.phantom.imaging.acquisition import Faults
from data_pipeline.phantom.simulate import SimulatedPatient
from data_pipeline.phantom.truth import MASKS

NOTE = (
    "Simulated scan of a virtual patient (PhantomBone). Research only, not for diagnosis; scores on it are not "
    "comparable with scores on clinical data."
)


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for; two folders with the same request hold the same bytes.

    Attributes:
      seed: of the population.
      index: of the patient.
      noise_seed: of the Poisson noise.
      camera: preset, or None for the one drawn with the patient.
      counts: expected counts per view, or None for the drawn number.
      motion_mm, uniformity: see `Faults`, or None for those drawn with the patient.
      first_column, end_column: the detector's field of view, or None for the one drawn with the patient.
    """

    seed: int
    index: int
    noise_seed: int
    camera: str | None = None
    counts: float | None = None
    motion_mm: float | None = None
    uniformity: float | None = None
    first_column: int | None = None
    end_column: int | None = None

    @property
    def field_of_view(self) -> tuple[int, int] | None:
        """As `simulate_patient` takes it."""
        if self.first_column is None or self.end_column is None:
            return None
        return self.first_column, self.end_column

    @property
    def faults(self) -> Faults | None:
        """Likewise; where one of the two is asked for, the other is none."""
        if self.motion_mm is None and self.uniformity is None:
            return None
        return Faults(self.motion_mm or 0.0, self.uniformity or 0.0)

    def identity(self) -> str:
        """One line that names the request."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def patient_folder(out: Path, index: int) -> Path:
    """Where the patient's files go."""
    return out / f"patient_{index:04d}"


def is_written(out: Path, request: Request) -> bool:
    """Whether the patient is there already.

    Raises:
      RequestError: the folder holds another patient or another version, or is none of ours.
    """
    folder = patient_folder(out, request.index)
    if not folder.exists():
        return False
    try:
        stored = json.loads((folder / "patient.json").read_text(encoding="utf-8"))
        same = Request(**stored["request"]) == request and stored["version"] == VERSION
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise RequestError(f"{folder}: is not a simulated patient; choose another --out or move the folder") from None
    if not same:
        asked = ", ".join(f"{key} {value}" for key, value in stored["request"].items())
        raise RequestError(
            f"{folder}: holds another patient ({asked}, version {stored['version']}); "
            "choose another --out or delete the folder"
        )
    return True


def write_patient(out: Path, request: Request, patient: SimulatedPatient) -> Path:
    """Writes the folder of a patient, whole: an interrupted run leaves no half patient."""
    folder = patient_folder(out, request.index)
    drawn = patient.parameters["patient"]
    with whole_folder(folder) as beside:
        for view, made in patient.views.items():
            header = to_dicom(
                made.scan,
                identity=request.identity(),
                sex=drawn["sex"],
                height_mm=drawn["height_mm"],
                camera=drawn["camera"],
            )
            header.save_as(beside / f"{view}.dcm", enforce_file_format=True)
            Image.fromarray(np.minimum(made.scan.counts, 65535).astype(np.uint16)).save(beside / f"{view}.png")
            for name in MASKS:
                Image.fromarray(getattr(made, name)).save(beside / f"{view}_{name}.png")
            Image.fromarray(made.organs).save(beside / f"{view}_organs.png")
            np.save(beside / f"{view}_expected.npy", made.expected)
        document: dict[str, Any] = {
            "note": NOTE,
            "version": VERSION,
            "key": patient.key,
            "request": dataclasses.asdict(request),
            **patient.parameters,
            "views": {
                str(view): {
                    "counts": int(made.scan.counts.sum()),
                    "pixel_size_mm": made.scan.pixel_size_mm,
                    "lesions": made.lesion_rows,
                }
                for view, made in patient.views.items()
            },
        }
        write_json(beside / "patient.json", document)
    return folder
