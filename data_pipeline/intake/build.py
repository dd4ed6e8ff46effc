"""A source of scans and annotations -> a data set folder, which is there whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data_pipeline.annotations.dicom_seg import SegmentFrame, read_segmentation
from data_pipeline.annotations.kinds import IGNORED, KINDS, Annotation
from data_pipeline.errors import RequestError
from data_pipeline.files import whole_folder, write_json
from data_pipeline.intake import strangers, writing
from data_pipeline.intake.annotate import Annotated, annotate
from data_pipeline.intake.folder import PRIVATE, load_masks, read_data_set
from data_pipeline.intake.grouping import grouped
from data_pipeline.intake.layouts import Layout, recognise
from data_pipeline.intake.manifest import ImageEntry
from data_pipeline.intake.pairing import Facts, Finder, ScanFile, pair_files, same_files
from data_pipeline.intake.splitting import draw_splits, one_patient, place_of
from data_pipeline.intake.unmasked import UNMASKED, Origin
from data_pipeline.readers import names, read_scans
from data_pipeline.readers.entries import Problem
from data_pipeline.readers.pseudonyms import pseudonym, pseudonym_key, read_or_draw_key
from data_pipeline.readers.settle import NO_PIXEL_SIZE, USERS_PIXEL_SIZE
from data_pipeline.readers.sources import SourceFile, open_source
from data_pipeline.readers.stated import Stated
from data_pipeline.scan import Scan, ScanError, View
from data_pipeline.terminal.progress import progress as bar
from data_pipeline.text import printable
from data_pipeline.thorax import FIELD_MM, field_size_px, find_thorax


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
        passed = f"; {len(self.problems)} problem(s)" if self.problems else ""
        return (
            f"{len(self.entries)} scans in {out}, {masked} with a lesion mask; patients: {patients}{passed}\n"
            f"look at it: msanet check {out}"
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

    Raises:
      RequestError: nothing was imported, and nothing is left behind.
    """
    old = read_data_set(options.splits_from).splits if options.splits_from else None
    key, keep_key = read_or_draw_key(options.key_file or writing.key_beside(options.splits_from))
    with open_source(source) as opened, whole_folder(out) as folder:
        layout = recognise(opened, name=options.layout, told=options.labels)
        work = _Import(source, folder, options, layout)
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

    def __init__(self, source: Path, folder: Path, options: ImportOptions, layout: Layout) -> None:
        self._source = source
        self._folder = folder
        self._options = options
        self._layout = layout
        self._labels = {**layout.labels, **options.labels}
        self._segments: dict[str, list[tuple[SourceFile, SegmentFrame]]] = defaultdict(list)
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
            self._problem(file, line)
        self.outcome.notes += [f"not read: {note}" for note in pairing.notes]
        finder = Finder(pairing.scans, channels=self._layout.channels)
        known: dict[str, list[ScanFile]] = defaultdict(list)
        for scan in pairing.scans:
            known[scan.uid].append(scan)
        for file in pairing.segmentations:
            if line := self._take_segmentation(file, known):
                self._problem(file, line)
                finder.refuse(file)
        for scan in bar(pairing.scans, title="importing", unit="file", quiet=not progress):
            self._take_scan(scan)
        self._settle_unmasked()

    def _take_segmentation(self, file: SourceFile, known: Mapping[str, Sequence[ScanFile]]) -> str:
        """Keeps its frames for their scans; returns why it cannot be used, or nothing."""
        try:
            segmentation = read_segmentation(file.path, labels=self._labels)
        except ScanError as error:
            return str(error)
        scans = [scan for uid in segmentation.scans for scan in known.get(uid, ())]
        line = segmentation.not_understood
        if any(not same_files(known.get(uid, ())) for uid in segmentation.scans):
            line = line or "the scan that it segments has its SOP instance UID from several; give each its own"
        if line:
            for scan in scans:
                scan.refused = True
            return line
        for frame in segmentation.frames:
            self._segments[frame.references].append((file, frame))
        if not segmentation.scans or segmentation.scans - set(known):
            return "the scan that it segments is not in the source; add it"
        return ""

    def _take_scan(self, file: ScanFile) -> None:
        try:
            scans = read_scans(file.file.path, self._options.stated)
        except ScanError as error:
            self._problem(file.file, str(error), stray=file.modality == "")
            return
        if not file.dicom and any(strangers.is_mask(scan.counts) for scan in scans):
            self._problem(file.file, strangers.MASK)
            return
        views = [scan.view for scan in scans]
        for frame, scan in enumerate(scans):
            annotated = annotate(scan, file, frame=frame, views=views, segments=self._segments, labels=self._labels)
            for of, line in annotated.problems:
                self._problem(of, line)
            file.refused |= annotated.of_all_views
            self._keep(dataclasses.replace(scan, patient=self._patient(file, scan)), file, frame, annotated)

    def _patient(self, file: ScanFile, scan: Scan) -> str:
        way, name = self._options.patient_from, printable(file.file.name)
        if way == "header" or (way == "auto" and file.dicom):
            identity, patient = file.identity or f"file {name}", scan.patient
        else:
            path = names.patient_of_path(name, channels=self._layout.channels)
            identity = f"path {names.patient_of_folder(name) if way == 'folder' else path}"
            patient = pseudonym(identity)
        self.places.setdefault(patient, place_of(identity, self._options.seed))
        return patient

    def _keep(self, scan: Scan, file: ScanFile, frame: int, annotated: Annotated) -> None:
        annotation = annotated.usable()
        content = hashlib.sha256(repr(scan.counts.shape).encode() + scan.counts.tobytes()).hexdigest()
        if (content, scan.patient) in self._seen:
            shown = f"not read: {self._shown(file.file)}"
            self.outcome.notes.append(Problem(shown, "this scan of this patient is there already"))
            self._add_to_twin(self._seen[content, scan.patient], file, annotated)
            return
        self._seen[content, scan.patient] = len(self.outcome.entries)
        self.all_simulated &= file.simulated
        image_id = self._image_id(scan)
        self.origins.append((image_id, file.file.name, frame))
        facts = file.facts.get(str(scan.view)) if "lesions" in annotation.masks else None
        label = self._layout.image_labels.get(file.file.name, "")
        self._origins.append(Origin([file], scan.counts.shape))
        self._origins[-1].add(annotated.annotation, label, refused=annotated.refused)
        self.outcome.entries.append(self._write(image_id, scan, annotation, facts, label))

    def _add_to_twin(self, number: int, file: ScanFile, annotated: Annotated) -> None:
        """Of the same scan twice, the one that is kept gets the masks and boxes that only the other has."""
        entry, annotation = self.outcome.entries[number], annotated.usable()
        label = self._layout.image_labels.get(file.file.name, "")
        self._origins[number].copies.append(file)
        self._origins[number].add(annotated.annotation, label, refused=annotated.refused)
        for kind, ids in annotation.masks.items():
            if kind not in entry.masks:
                entry = dataclasses.replace(entry, masks={**entry.masks, **self._write_masks(entry, {kind: ids})})
            elif not np.array_equal(ids, load_masks(self._folder, entry, (kind,))[kind]):
                self._problem(file.file, f"another annotation of {kind} than the same scan has elsewhere; remove one")
        if annotation.boxes and not entry.weak_boxes:
            entry = dataclasses.replace(entry, weak_boxes=self._write_boxes(entry.image_id, annotation))
        self.outcome.entries[number] = entry

    def _write_masks(self, entry: ImageEntry, masks: Mapping[str, np.ndarray]) -> dict[str, str]:
        return {
            kind: f"masks/{writing.write_image(self._folder / 'masks', f'{entry.image_id}_{kind}', ids)}"
            for kind, ids in masks.items()
        }

    def _write_boxes(self, image_id: str, annotation: Annotation) -> str:
        if not annotation.boxes:
            return ""
        write_json(self._folder / "weak" / f"{image_id}.json", {"boxes": annotation.boxes})
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
                empty = self._write_masks(entry, {"lesions": np.zeros(origin.shape, np.uint8)})
                self.outcome.entries[number] = dataclasses.replace(entry, masks={**entry.masks, **empty})
            elif declared or not self._layout.without_masks:
                self._problem(origin.copies[0].file, objection or UNMASKED, stray=False)
            else:
                missing += 1
        if missing:
            self.outcome.notes.append(
                f"not there: lesion masks of {missing} scans; they can be looked at and checked, not trained on"
            )

    def _image_id(self, scan: Scan) -> str:
        name = f"{scan.patient}-{scan.view}"
        self._used[name] += 1
        return name if self._used[name] == 1 else f"{name}-{self._used[name]}"

    def _write(
        self,
        image_id: str,
        scan: Scan,
        annotation: Annotation,
        facts: Facts | None,
        label: str,
    ) -> ImageEntry:
        notes = tuple(note for note in scan.warnings if not note.startswith(NO_PIXEL_SIZE))
        by_user = any(note.startswith(USERS_PIXEL_SIZE) for note in scan.warnings)
        pixel, pixel_from = scan.pixel_size_mm, "user" if by_user else "file"
        if pixel is None:
            size, pixel_from = FIELD_MM / field_size_px(scan), "assumed"
            pixel = (size, size)
            scan = dataclasses.replace(scan, pixel_size_mm=pixel)
        counts = writing.write_image(self._folder / "counts", image_id, scan.counts)
        facts_file = ""
        if facts is not None:
            facts_file = f"masks/{image_id}_lesions.json"
            write_json(self._folder / facts_file, {"lesions": facts})
        entry = ImageEntry(
            image_id=image_id,
            patient=scan.patient,
            view=View(scan.view),
            pixel_size_mm=pixel,
            pixel_size_from=pixel_from,
            thorax=find_thorax(scan),
            counts=f"counts/{counts}",
            masks={},
            lesion_facts=facts_file,
            weak_boxes=self._write_boxes(image_id, annotation),
            image_label=label,
            notes="; ".join((*notes, *annotation.warnings)),
        )
        return dataclasses.replace(entry, masks=self._write_masks(entry, annotation.masks))

    def _shown(self, file: SourceFile) -> str:
        """The file as the user knows it: a zip's files lie in a temporary folder."""
        return printable(str(self._source) if file.path == self._source else f"{self._source}/{file.name}")

    def _problem(self, file: SourceFile, line: str, *, stray: bool = True) -> None:
        """A line about a file; `stray` says that lesions may be marked in it."""
        path, shown = str(file.path), self._shown(file)
        self.outcome.problems.append(Problem(shown, line.removeprefix(f"{path}: ").replace(path, shown)))
        if stray and not self._stray:
            self._stray = shown
