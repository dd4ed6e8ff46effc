"""What a run leaves beside the results of its scans: a page and a record per patient, one table, one picture."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.files import private_folder, whole_files, write_json, write_text
from data_pipeline.reading import read_json
from msanet_jax.prediction.contact_sheet import SHOWN_MAX, Tile, save_preview
from msanet_jax.prediction.files import OutputNames, lesion_table, scan_table
from msanet_jax.prediction.follow_up import compare, earlier_of
from msanet_jax.prediction.index_page import IndexPatient, index_page, index_patient
from msanet_jax.prediction.patient import patient_record
from msanet_jax.prediction.patient_page import patient_sheet
from msanet_jax.prediction.records import ScanRecord
from msanet_jax.prediction.run_file import (
    INDEX_NAME,
    PREVIEW_NAME,
    SCANS_NAME,
    TABLE_NAME,
    Failure,
    Result,
    skipped,
)
from msanet_jax.prediction.saving import Job, Saved, picture_path
from msanet_jax.prediction.segmentation import Segmentation


class Collector(contextlib.AbstractContextManager["Collector"]):
    """Remembers what the summary needs, on disk where it is large: memory does not grow with the number of scans.

    Args:
      folder: of the results.
      formats: of the scans; `sheet` and `csv` decide what is written of the run.
      anonymous: no file names, neither of this run nor of the earlier one.
    """

    def __init__(self, folder: Path, formats: Sequence[str], *, anonymous: bool = False) -> None:
        self._folder = folder
        self._anonymous = anonymous
        self._formats = formats
        self._jobs = 0
        self._tiles: list[Tile] = []
        self._patients: list[IndexPatient] = []
        self._kept = contextlib.ExitStack()
        self._pictures = self._kept.enter_context(private_folder(prefix="msanet-"))

    def __exit__(self, *error: object) -> None:
        """Removes what was kept aside."""
        self._kept.close()

    def job(self, stem: str, result: Segmentation, header: Any = None) -> Job:
        """A scan to be written, with its pictures for contact sheet, index and the patient's page."""
        self._jobs += 1
        return Job(
            self._folder,
            stem,
            result,
            formats=[name for name in self._formats if name != "sheet"],
            header=header,
            anonymous=self._anonymous,
            pictures=self._pictures if "sheet" in self._formats else None,
            on_sheet=self._jobs <= SHOWN_MAX,
        )

    def add(self, saved: Saved) -> None:
        """Keeps what the contact sheet shows of a scan that was written."""
        if saved.tile is not None:
            self._tiles.append(saved.tile)

    def write_all(
        self,
        results: Sequence[Result],
        names: OutputNames,
        earlier: Mapping[str, Sequence[ScanRecord]] | None,
        tell: Callable[[str], None],
        *,
        failures: Sequence[Failure],
        notice: str,
        facts: str,
        run_file: Sequence[str] = (),
    ) -> list[str]:
        """Writes patients, tables, contact sheet and index; returns the names of the files.

        Args:
          results: see `write_patients`, as for the next three.
          names: see there.
          earlier: see there.
          tell: see there.
          failures: what was skipped.
          notice: of the model.
          facts: one line on model and threshold.
          run_file: what is written beside and linked, too.
        """
        pages = self.write_patients(results, names, earlier, tell)
        files = self.write_tables(results) + self.write_preview(results, len(failures), notice)
        return files + pages + self.write_index([*files, *run_file], failures, notice, facts)

    def write_patients(
        self,
        results: Sequence[Result],
        names: OutputNames,
        earlier: Mapping[str, Sequence[ScanRecord]] | None,
        tell: Callable[[str], None],
    ) -> list[str]:
        """Writes patient_KEY.json, and patient_KEY.html if sheets are wanted.

        Args:
          results: of the run.
          names: keeps names apart.
          earlier: patients of the earlier folder, if there is one to compare with.
          tell: told of patients that could not be compared.

        Returns:
          The names of the files.
        """
        stems: dict[str, list[str]] = {}
        for result in results:
            stems.setdefault(result.patient, []).append(result.stem)
        written: list[str] = []
        for patient, own in stems.items():
            scans = [(stem, self._record(stem)) for stem in own]
            comparison = None
            if earlier is not None:
                before, note = earlier_of(patient, earlier, only=len(stems) == 1)
                comparison = compare([record for _, record in scans], before, note, anonymous=self._anonymous)
                for line in comparison.notes:
                    tell(f"patient {patient}: {line}")
            content = patient_record(patient, scans, comparison)
            name = names.claim(f"patient_{patient}")
            write_json(self._folder / f"{name}.json", content)
            written.append(f"{name}.json")
            if "sheet" in self._formats:
                pictures = {stem: self._picture(stem).read_bytes() for stem in own}
                self._patients.append(index_patient(content, scans, f"{name}.html"))
                write_text(self._folder / f"{name}.html", patient_sheet(content, scans, pictures))
                written.append(f"{name}.html")
        return written

    def write_index(self, files: Sequence[str], failures: Sequence[Failure], notice: str, facts: str) -> list[str]:
        """Writes the page of the run, if pages are wanted.

        Args:
          files: tables and pictures of the whole run.
          failures: what was skipped.
          notice: of the model.
          facts: one line on model and threshold.
        """
        if not self._patients:
            return []
        pictures = {
            scan.stem: self._picture(scan.stem, "small").read_bytes()
            for patient in self._patients
            for scan in patient.scans
        }
        failed = skipped(failures, anonymous=self._anonymous)
        text = index_page(self._patients, pictures, notice=notice, facts=facts, failures=failed, run_files=files)
        write_text(self._folder / INDEX_NAME, text)
        return [INDEX_NAME]

    def write_tables(self, results: Sequence[Result]) -> list[str]:
        """Writes the lesions of all scans as one CSV, and the scans as another, if tables are wanted."""
        if "csv" not in self._formats:
            return []
        with (
            whole_files(self._folder, [TABLE_NAME]) as beside,
            (beside / TABLE_NAME).open("w", encoding="utf-8", newline="") as file,
        ):
            file.write(lesion_table())
            for result in results:
                file.write(lesion_table((result.stem, self._record(result.stem)), heading=False))
        write_text(
            self._folder / SCANS_NAME, scan_table((result.stem, self._record(result.stem)) for result in results)
        )
        return [TABLE_NAME, SCANS_NAME]

    def write_preview(self, results: Sequence[Result], failures: int, notice: str) -> list[str]:
        """Writes the contact sheet, if there is anything on it."""
        if not self._tiles:
            return []
        with whole_files(self._folder, [PREVIEW_NAME]) as beside:
            save_preview(self._tiles, beside / PREVIEW_NAME, scans=len(results), failures=failures, notice=notice)
        return [PREVIEW_NAME]

    def _picture(self, stem: str, size: str = "large") -> Path:
        return picture_path(self._pictures, stem, size)

    def _record(self, stem: str) -> ScanRecord:
        return read_json(self._folder / f"{stem}.json", ScanRecord, remedy="predict the scan again")
