"""A source of scans and annotations -> a data set folder, which is there whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data_pipeline.annotations.kinds import IGNORED, KINDS
from data_pipeline.errors import RequestError
from data_pipeline.files import whole_folder, write_json
from data_pipeline.intake import writing
from data_pipeline.intake.folder import PRIVATE, load_masks, read_data_set, read_stored
from data_pipeline.intake.kept import Kept, keeping, place, remove_finished
from data_pipeline.intake.layouts import Layout, recognise
from data_pipeline.intake.manifest import ImageEntry
from data_pipeline.intake.pairing import pair_files, same_files
from data_pipeline.intake.sorting import Facts, ScanFile
from data_pipeline.intake.splitting import check_shares, draw_splits, one_patient, place_of
from data_pipeline.intake.taking import Taken, TakenScan, Taker
from data_pipeline.intake.unmasked import UNMASKED, Origin
from data_pipeline.readers import names
from data_pipeline.readers.entries import Problem
from data_pipeline.readers.pseudonyms import pseudonym, pseudonym_key, read_or_draw_key
from data_pipeline.readers.sources import SourceFile, open_source
from data_pipeline.readers.stated import Stated
from data_pipeline.terminal.progress import progress as bar
from data_pipeline.text import grouped, printable


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """How a source is understood.

    Attributes:
      layout: one of `layouts.FORMATS`.
      labels: label or number in annotations -> kind or `ignored`.
      scans_without_mask: `left-out` of training and scores, or `no-lesion`: they get an empty mask, unless something
        speaks against it (`imports.unmasked`).
      patient_from: `header` (DICOM), `folder` or `file` says who the patient is; `auto`: the header where there is one.
      stated: what the user says of all scans where files do not, or say it wrongly.
      key_file: holds the key of the pseudonyms; None draws one.
      validation_share, test_share: of the patients with masks.
      seed: of the splits.
      splits_from: data set folder whose patients keep their splits; its key is used unless `key_file` names another.
    """

    layout: str = "auto"
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    scans_without_mask: str = "left-out"
    patient_from: str = "auto"
    stated: Stated = dataclasses.field(default_factory=Stated)
    key_file: Path | None = None
    validation_share: float = 0.1
    test_share: float = 0.3
    seed: int = 0
    splits_from: Path | None = None


@dataclasses.dataclass
class ImportOutcome:
    """What came of an import.

    Attributes:
      entries: images of the set.
      splits: split -> patients.
      problems: a line for every file that was skipped or lacks its counterpart.
      notes: lines about what was left out on purpose.
    """

    entries: list[ImageEntry] = dataclasses.field(default_factory=list)
    splits: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def summary(self, out: Path) -> str:
        """A line on what is there and one on what to do next."""
        masked = sum("lesions" in entry.masks for entry in self.entries)
        patients = ", ".join(f"{len(members)} {name.replace('_', ' ')}" for name, members in self.splits.items())
        folder = printable(str(out))
        passed = f"; {len(self.problems)} problem(s)" if self.problems else ""
        return (
            f"{len(self.entries)} scans in {folder}, {masked} with a lesion mask; patients: {patients}{passed}\n"
            f"look at it: msanet check {folder}"
        )


def parse_labels(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=KIND` words of the command line.

    Raises:
      RequestError: not of that form, or no such kind.
    """
    labels = {}
    for pair in pairs:
        name, mark, kind = pair.rpartition("=")
        if not mark or kind not in (*KINDS, IGNORED):
            raise RequestError(f"--labels {pair}: must be NAME=KIND with a kind of {', '.join((*KINDS, IGNORED))}")
        labels[name] = kind
    return labels


def import_source(source: Path, out: Path, options: ImportOptions, *, progress: bool = True) -> ImportOutcome:
    """Imports a file, folder, zip or DICOMDIR into a new data set folder.

    If it is interrupted, the same import goes on: files that it has read are not read again unless they have changed.

    Raises:
      RequestError: nothing was imported; nothing is left behind but what an earlier, interrupted import has read.
    """
    check_shares(options.validation_share, options.test_share)
    old = read_data_set(options.splits_from).splits if options.splits_from else None
    key, keep_key = read_or_draw_key(options.key_file or writing.key_beside(options.splits_from))
    remove_finished(out.parent)
    with (
        open_source(source) as opened,
        contextlib.ExitStack() as finished,
        whole_folder(out) as folder,
        keeping(out, finished) as kept,
    ):
        key = kept.pseudonym_key(key) if keep_key else key
        layout = recognise(opened, name=options.layout, told=options.labels)
        labels = {**layout.labels, **options.labels}
        asked = kept.asked(str(source), options.stated, sorted(labels.items()), key)
        work = _Import(folder, options, layout, asked, Taker(source, asked, stated=options.stated, labels=labels))
        with pseudonym_key(key):
            work.run(progress=progress)
        outcome = work.outcome
        if not outcome.entries:
            first = outcome.problems[0] if outcome.problems else "no file in it is a scan"
            raise RequestError(f"{source}: nothing to import; {first}")
        if line := one_patient(outcome.entries):
            outcome.problems.append(Problem(source, line))
        outcome.splits = draw_splits(
            outcome.entries,
            work.places,
            validation_share=options.validation_share,
            test_share=options.test_share,
            old=old,
        )
        origin = "simulated" if work.all_simulated else "own"
        writing.write_documents(folder, outcome.entries, outcome.splits, origin=origin)
        outcome.problems, outcome.notes = grouped(outcome.problems), grouped(outcome.notes)
        writing.write_private(folder / PRIVATE, work.origins, key if keep_key else None)
    return outcome


class _Import:
    """One import in progress."""

    def __init__(self, folder: Path, options: ImportOptions, layout: Layout, kept: Kept, taker: Taker) -> None:
        self._folder = folder
        self._options = options
        self._layout = layout
        self._kept = kept
        self._taker = taker
        self._seen: dict[tuple[str, str], int] = {}
        self._origins: list[Origin] = []
        self._used: Counter[str] = Counter()
        self.outcome = ImportOutcome(problems=list(layout.source.problems))
        self._stray = layout.source.problems[0].partition(": ")[0] if layout.source.problems else ""
        self.outcome.notes += [f"not read: {note}" for note in layout.notes]
        self.outcome.notes += layout.assumed
        self.all_simulated = True
        self.places: dict[str, float] = {}
        self.origins: list[tuple[str, str, int]] = []
        for name in ("counts", "masks", "weak", PRIVATE):
            (folder / name).mkdir()

    def run(self, *, progress: bool) -> None:
        """Imports every scan."""
        pairing = pair_files(self._layout.source, channels=self._layout.channels)
        for file, line in (*self._layout.problems, *pairing.problems):
            self._problem(*self._taker.line(file, line))
        self.outcome.notes += [f"not read: {note}" for note in pairing.notes]
        known: dict[str, list[ScanFile]] = defaultdict(list)
        for scan in pairing.scans:
            known[scan.uid].append(scan)
        for file in pairing.segmentations:
            if line := self._take_segmentation(file, known):
                self._problem(*self._taker.line(file, line))
                pairing.finder.refuse(file)
        results = [self._taker.name(scan) for scan in pairing.scans]
        before = [result in self._kept for result in results]
        if progress and any(before):
            print(f"the import goes on after {sum(before)} scans", file=sys.stderr)
        with bar(title="importing", unit="file", total=len(results), initial=sum(before), quiet=not progress) as shown:
            for scan, result, was_read in zip(pairing.scans, results, before, strict=True):
                self._take(scan, self._taker.scans(scan, result))
                shown.update(not was_read)
        self._settle_unmasked()

    def _take_segmentation(self, file: SourceFile, known: Mapping[str, Sequence[ScanFile]]) -> str:
        """Keeps its frames for their scans; returns why it cannot be used, or nothing."""
        taken = self._taker.segmentation(file)
        if taken.problem:
            return taken.problem
        scans = [scan for uid in taken.scans for scan in known.get(uid, ())]
        line = taken.not_understood
        if any(not same_files(known.get(uid, ())) for uid in taken.scans):
            line = line or "the scan that it segments has its SOP instance UID from several; give each its own"
        if line:
            for scan in scans:
                scan.refused = True
            return line
        self._taker.use(file, taken)
        if not taken.scans or taken.scans - set(known):
            return "the scan that it segments is not in the source; add it"
        return ""

    def _take(self, file: ScanFile, taken: Taken) -> None:
        if taken.problem:
            self._problem(self._taker.shown(file.file), taken.problem, stray=taken.is_mask or file.modality == "")
        for frame, scan in enumerate(taken.scans):
            refused = bool(scan.problems) or file.refused
            for of, line in scan.problems:
                self._problem(of, line)
            file.refused |= scan.of_all_views
            self._keep(dataclasses.replace(scan, patient=self._patient(file, scan)), file, frame, refused=refused)

    def _patient(self, file: ScanFile, scan: TakenScan) -> str:
        way, name = self._options.patient_from, printable(file.file.name)
        if way == "header" or (way == "auto" and file.dicom):
            identity, patient = file.identity or f"file {name}", scan.patient
        else:
            path = names.patient_of_path(name, channels=self._layout.channels)
            identity = f"path {names.patient_of_folder(name) if way == 'folder' else path}"
            patient = pseudonym(identity)
        self.places.setdefault(patient, place_of(identity, self._options.seed))
        return patient

    def _keep(self, scan: TakenScan, file: ScanFile, frame: int, *, refused: bool) -> None:
        # There may be more lesions in an annotation that could not be used.
        masks = {kind: stored for kind, stored in scan.masks.items() if kind != "lesions" or not refused}
        label = self._layout.image_labels.get(file.file.name, "")
        if (content := (scan.content, scan.patient)) in self._seen:
            shown = f"not read: {self._taker.shown(file.file)}"
            self.outcome.notes.append(Problem(shown, "this scan of this patient is there already"))
            number = self._seen[content]
            self._origins[number].copies.append(file)
            self._add_to_twin(number, file, scan, masks)
        else:
            number = self._seen[content] = len(self.outcome.entries)
            self.all_simulated &= file.simulated
            image_id = self._image_id(scan)
            self.origins.append((image_id, file.file.name, frame))
            facts = file.facts.get(str(scan.view)) if "lesions" in masks else None
            self._origins.append(Origin([file], scan.shape))
            self.outcome.entries.append(self._write(image_id, scan, masks, facts, label))
        self._origins[number].add(label, marked=scan.marked, refused=refused)

    def _add_to_twin(self, number: int, file: ScanFile, scan: TakenScan, masks: Mapping[str, str]) -> None:
        """Of the same scan twice, the one that is kept gets the masks and boxes that only the other has."""
        entry = self.outcome.entries[number]
        for kind, stored in masks.items():
            if kind not in entry.masks:
                entry = dataclasses.replace(entry, masks={**entry.masks, **self._place_masks(entry, {kind: stored})})
            elif not np.array_equal(
                read_stored(self._kept.folder / stored), load_masks(self._folder, entry, (kind,))[kind]
            ):
                line = f"another annotation of {kind} than the same scan has elsewhere; remove one"
                self._problem(self._taker.shown(file.file), line)
        if scan.boxes and not entry.weak_boxes:
            entry = dataclasses.replace(entry, weak_boxes=self._write_boxes(entry.image_id, scan))
        self.outcome.entries[number] = entry

    def _place_masks(self, entry: ImageEntry, masks: Mapping[str, str]) -> dict[str, str]:
        return {kind: self._place(stored, f"masks/{entry.image_id}_{kind}") for kind, stored in masks.items()}

    def _place(self, stored: str, stem: str) -> str:
        """Gives a kept file its name in the data set, and returns that."""
        name = f"{stem}{Path(stored).suffix}"
        place(self._kept.folder / stored, self._folder / name)
        return name

    def _write_boxes(self, image_id: str, scan: TakenScan) -> str:
        if not scan.boxes:
            return ""
        write_json(self._folder / "weak" / f"{image_id}.json", {"boxes": scan.boxes})
        return f"weak/{image_id}.json"

    def _settle_unmasked(self) -> None:
        """What becomes of scans without a lesion mask, once every copy of them was seen."""
        declared, missing = self._options.scans_without_mask == "no-lesion", 0
        stray = self._stray if declared else ""
        for number, (entry, origin) in enumerate(zip(self.outcome.entries, self._origins, strict=True)):
            if "lesions" in entry.masks:
                continue
            objection = origin.objection(stray=stray)
            if declared and not objection:
                stem = f"{entry.image_id}_lesions"
                empty = writing.write_image(self._folder / "masks", stem, np.zeros(origin.shape, np.uint8))
                masks = {**entry.masks, "lesions": f"masks/{empty}"}
                self.outcome.entries[number] = dataclasses.replace(entry, masks=masks)
            elif declared or not self._layout.without_masks:
                self._problem(self._taker.shown(origin.copies[0].file), objection or UNMASKED, stray=False)
            else:
                missing += 1
        if missing:
            self.outcome.notes.append(
                f"not there: lesion masks of {missing} scans; they can be looked at and checked, not trained on"
            )

    def _image_id(self, scan: TakenScan) -> str:
        name = f"{scan.patient}-{scan.view}"
        self._used[name] += 1
        return name if self._used[name] == 1 else f"{name}-{self._used[name]}"

    def _write(
        self, image_id: str, scan: TakenScan, masks: Mapping[str, str], facts: Facts | None, label: str
    ) -> ImageEntry:
        facts_file = ""
        if facts is not None:
            facts_file = f"masks/{image_id}_lesions.json"
            write_json(self._folder / facts_file, {"lesions": facts})
        entry = ImageEntry(
            image_id=image_id,
            patient=scan.patient,
            view=scan.view,
            pixel_size_mm=scan.pixel_size_mm,
            pixel_size_from=scan.pixel_size_from,
            thorax=scan.thorax,
            counts=self._place(scan.counts, f"counts/{image_id}"),
            masks={},
            lesion_facts=facts_file,
            weak_boxes=self._write_boxes(image_id, scan),
            image_label=label,
            notes=scan.notes,
        )
        return dataclasses.replace(entry, masks=self._place_masks(entry, masks))

    def _problem(self, shown: str, line: str, *, stray: bool = True) -> None:
        """A line about a file; `stray` says that lesions may be marked in it."""
        self.outcome.problems.append(Problem(shown, line))
        if stray and not self._stray:
            self._stray = shown
