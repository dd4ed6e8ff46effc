"""Which frames of a nuclear medicine file are the scan, which side each shows, and which way up it lies."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from data_pipeline.readers import orientation
from data_pipeline.readers.formats.dicom_file import entry, numbers, sequence, texts
from data_pipeline.readers.settle import OTHER_VIEW_REMEDY, VIEW_NOT_STATED, stated_views
from data_pipeline.readers.stated import Stated
from data_pipeline.readers.views import guess_note, other_projection, view_and_guess, view_of_text
from data_pipeline.scan import ScanError, View

# Codes of DICOM context group 26, projections in nuclear medicine; older files are recognised by their wording.
_VIEW_CODES = {"399321004": View.ANTERIOR, "399001007": View.POSTERIOR} | {
    "G-5215": View.ANTERIOR,
    "G-5216": View.POSTERIOR,
}
_OTHER_CODES = {"24422004", "81654009", "131186000", "49370004", "399300004", "399159002", "399074003"} | {
    *("399118008", "399136008", "399012007", "399268006", "399089007", "399108003", "399297009", "399075002"),
    *("30730003", "399273000", "103340004", "62824007", "131185001"),
    *("G-5206", "G-5207", "G-5208", "G-5209", "G-5210", "G-5212", "G-5220", "G-5221", "G-5222", "G-5223", "G-5224"),
    *("G-5225", "G-A104", "G-A117", "G-A138", "G-A145", "G-A147", "G-A186", "G-A18A", "G-A18B"),
}
_FROM_ELSEWHERE = {"vertex", "superior", "inferior", "cranial", "caudal", "medial", "axillary", "sitting", "subxiphoid"}
# On two-headed whole-body cameras detector 1 is above the patient, who lies on the back.
_VIEW_OF_DETECTOR = {1: View.ANTERIOR, 2: View.POSTERIOR}
_OPPOSITE = {View.ANTERIOR: View.POSTERIOR, View.POSTERIOR: View.ANTERIOR}
_PHOTOPEAK_KEV = 140.5
_SCATTER = {"scatter", "scat", "sc", "compton", "lower", "upper", "low", "background", "tew"}
_BY_NUMBER = "view not stated: taken from the detector's number (1 anterior, 2 posterior); --view= settles it"
_BY_ORDER = "frames taken in the order of the detectors, the DetectorVector does not fit; --view= settles it"
_AXES = ("LR", "PA", "HF")
"""Letters of the positive and the negative direction of x, y and z."""


def choose_frames(
    header: pydicom.Dataset, stored: np.ndarray, path: Path, stated: Stated
) -> tuple[list[int], tuple[str, ...]]:
    """Indices of the frames of one energy window, and what was assumed.

    Raises:
      ScanError: more than two frames, or no window with the photopeak of technetium-99m.
    """
    windows, notes = _windows(header, len(stored))
    number, said = _window(header, stored, windows, path, stated)
    chosen = [index for index in range(len(stored)) if windows[index] == number]
    if len(chosen) > 2:
        raise ScanError(f"{path}: {len(chosen)} frames; a planar scan has one or two (anterior, posterior): split it")
    return chosen, notes + said


def views_of(
    header: pydicom.Dataset, chosen: list[int], path: Path, frames: int, stated: Stated
) -> tuple[list[View], tuple[str, ...]]:
    """Views of the chosen frames, and what was assumed.

    Raises:
      ScanError: a lateral or oblique view, twice the same, or the user names another number of views.
    """
    if stated.views:
        return stated_views(stated, len(chosen), path), ()
    vector = _vector(header, "DetectorVector", frames)
    in_order = list(range(1, len(chosen) + 1))
    detectors = [vector[index] for index in chosen] if vector else in_order
    views = [_view_of_code(header, detector, path) for detector in detectors]
    ordered = () if vector or len(chosen) == 1 else (_BY_ORDER,)
    if len(chosen) == 1:
        if not vector and len(sequence(header, "DetectorInformationSequence")) > 1:
            views = [View.UNKNOWN]
        if views[0] == View.UNKNOWN:
            view, notes = _view_of_words(header, path)
            if view == View.UNKNOWN and vector:
                view, notes = _VIEW_OF_DETECTOR.get(detectors[0], View.UNKNOWN), (_BY_NUMBER,)
            return [view], notes if view != View.UNKNOWN else (VIEW_NOT_STATED,)
        return views, ()
    if detectors[0] == detectors[1] or (views[0] == views[1] != View.UNKNOWN):
        raise ScanError(
            f"{path}: both frames are of one detector or view; --view=anterior,posterior says which is which"
        )
    known = [view for view in views if view != View.UNKNOWN]
    if len(known) == 1:
        views = [_OPPOSITE[known[0]] if view == View.UNKNOWN else view for view in views]
        return views, (*ordered, "one view not stated: taken to be opposite to the other; --view= settles it")
    if not known and vector:
        return [_VIEW_OF_DETECTOR.get(detector, View.UNKNOWN) for detector in detectors], (_BY_NUMBER,)
    return views, ordered if known else (VIEW_NOT_STATED,)


def orientation_of_frame(
    header: pydicom.Dataset, index: int, view: View, path: Path, frames: int, views: int, stated: Stated
) -> tuple[int, str]:
    """How a frame lies (EXIF number) and which entry says so; as it should where none does.

    PatientOrientation is one for all frames; of two views it can only be right for the rows.

    Raises:
      ScanError: it is a lateral view's, or turning it needs a view that is not stated.
    """
    if stated.orientation is not None:
        return orientation.AS_STORED, ""
    stated_letters: list[str] = entry(header, "PatientOrientation", texts, [])
    letters = [text[:1].upper() for text in stated_letters]
    source = "PatientOrientation"
    if len(letters) != 2 or not set(letters) <= set("LRHFAP") or letters[0] == letters[1]:
        letters, source = _letters_of_detector(header, index, frames), "ImageOrientationPatient"
    elif views > 1 and letters[0] in "LR" and letters[1] in "HF":
        return (4 if letters[1] == "H" else orientation.AS_STORED), source
    if not letters:
        return orientation.AS_STORED, ""
    if set(letters) & set("AP"):
        raise ScanError(f"{path}: {source} is that of a lateral or transverse view; --orientation= says otherwise")
    turn = orientation.orientation_of(letters[0], letters[1], view)
    if turn is None:
        raise ScanError(f"{path}: {source} says that it does not stand, and no view is stated; --view= says it")
    return turn, source


def _letters_of_detector(header: pydicom.Dataset, index: int, frames: int) -> list[str]:
    """Directions by the detector's cosines; none where they are absent or an axial placeholder."""
    detectors = sequence(header, "DetectorInformationSequence")
    vector = _vector(header, "DetectorVector", frames)
    number = vector[index] if vector else index + 1
    if not 1 <= number <= len(detectors):
        return []
    cosines: list[float] = entry(detectors[number - 1], "ImageOrientationPatient", numbers, [])
    if len(cosines) != 6 or not np.isfinite(cosines).all():
        return []
    axes = [max(range(3), key=lambda axis: abs(part[axis])) for part in (cosines[:3], cosines[3:])]
    if set(axes) != {0, 2}:  # x and z: anything else is no frontal projection, and often a placeholder
        return []
    cosine = zip(axes, (cosines[:3], cosines[3:]), strict=True)
    return [_AXES[axis][0 if part[axis] > 0 else 1] for axis, part in cosine]


def _view_of_code(header: pydicom.Dataset, detector: int, path: Path) -> View:
    detectors = sequence(header, "DetectorInformationSequence")
    if not 1 <= detector <= len(detectors):
        return View.UNKNOWN
    for code in sequence(detectors[detector - 1], "ViewCodeSequence"):
        number, meaning = str(code.get("CodeValue", "")), str(code.get("CodeMeaning", ""))
        view = _VIEW_CODES.get(number, view_of_text(meaning))
        elsewhere = other_projection(meaning) or meaning.strip().lower() in _FROM_ELSEWHERE
        if number in _OTHER_CODES or (number not in _VIEW_CODES and elsewhere):
            raise ScanError(f"{path}: a lateral or oblique view by its view code; {OTHER_VIEW_REMEDY}")
        if view != View.UNKNOWN:
            return view
    return View.UNKNOWN


def _view_of_words(header: pydicom.Dataset, path: Path) -> tuple[View, tuple[str, ...]]:
    """View of a single frame by the header's texts, else by the file's name."""
    words = {key: entry(header, key, str, "") for key in ("ImageID", "SeriesDescription", "ProtocolName")}
    for source, text in {**words, "its name": path.stem}.items():
        if other_projection(text):
            raise ScanError(f"{path}: a lateral or oblique view by {source}; {OTHER_VIEW_REMEDY}")
        view, guess = view_and_guess(text)
        if view != View.UNKNOWN:
            return view, guess_note(guess)
    return View.UNKNOWN, ()


def _windows(header: pydicom.Dataset, frames: int) -> tuple[list[int], tuple[str, ...]]:
    """Number of the energy window of each frame."""
    if vector := _vector(header, "EnergyWindowVector", frames):
        return vector, ()
    windows = len(sequence(header, "EnergyWindowInformationSequence"))
    detectors = len(sequence(header, "DetectorInformationSequence"))
    if windows == frames > 1 and detectors < 2:
        return list(range(1, frames + 1)), ("frames taken in the order of the energy windows",)
    return [1] * frames, ()


def _window(
    header: pydicom.Dataset, stored: np.ndarray, windows: list[int], path: Path, stated: Stated
) -> tuple[int, tuple[str, ...]]:
    """The window to use and what is to be said about the choice."""
    present = list(dict.fromkeys(windows))
    if stated.energy_window is not None:
        if stated.energy_window not in present:
            raise ScanError(f"{path}: --energy-window={stated.energy_window}: the file has {len(present)} windows")
        return stated.energy_window, ()
    items = sequence(header, "EnergyWindowInformationSequence")
    about = {number: items[number - 1] for number in present if 1 <= number <= len(items)}
    ranges = {number: _ranges(item) for number, item in about.items()}
    peaks = [n for n in present if any(low <= _PHOTOPEAK_KEV <= high for low, high in ranges.get(n, ()))]
    scatter = {n for n, item in about.items() if not ranges[n] and _names_scatter(item)}
    # Without limits a window is taken for scatter by its name only; with limits its name says nothing more.
    candidates = peaks or [n for n in present if not ranges.get(n) and n not in scatter]
    if not candidates:
        raise ScanError(
            f"{path}: no energy window holds {_PHOTOPEAK_KEV:g} keV, the photopeak of technetium-99m: scattered "
            "radiation only; --energy-window= says which to use"
        )
    if len(present) == 1:
        return present[0], ()
    counts = {
        n: float(sum(stored[i].sum(dtype=np.float64) for i, w in enumerate(windows) if w == n)) for n in candidates
    }
    number = max(candidates, key=lambda candidate: counts[candidate])
    if len(peaks) == 1:
        return number, (f"several energy windows: number {number}, that of the photopeak, is used",)
    reason = "the only one not called scatter" if len(candidates) == 1 else "that with the most counts"
    return number, (f"several energy windows: number {number}, {reason}, is used; --energy-window= settles it",)


def _ranges(window: pydicom.Dataset) -> list[tuple[float, float]]:
    """Limits in keV; none where they are missing or empty."""
    found = [
        (entry(item, "EnergyWindowLowerLimit", float, 0.0), entry(item, "EnergyWindowUpperLimit", float, 0.0))
        for item in sequence(window, "EnergyWindowRangeSequence")
    ]
    return [(low, high) for low, high in found if 0 <= low < high]


def _names_scatter(window: pydicom.Dataset) -> bool:
    name = entry(window, "EnergyWindowName", str, "").lower()
    words = {"".join(group) for letter, group in itertools.groupby(name, str.isalpha) if letter}
    return bool(words & _SCATTER) or "scatter" in name


def _vector(header: pydicom.Dataset, keyword: str, frames: int) -> list[int]:
    """A frame-wise index vector; empty where it is absent or of another length."""

    def whole(value: Any) -> list[int]:
        return [int(number) for number in numbers(value)]

    values: list[int] = entry(header, keyword, whole, [])
    return values if len(values) == frames else []
