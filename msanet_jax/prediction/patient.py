"""All views of one patient together: lesions seen twice counted once, burden, change since an earlier time."""

from __future__ import annotations

import re
from collections.abc import Sequence

from data_pipeline.readers.names import split_view, stem_of
from data_pipeline.readers.views import without_view
from data_pipeline.scan import View
from msanet_jax.prediction.matching import VIEWS_TOLERANCE_MM, match_views
from msanet_jax.prediction.records import FollowUp, PatientRecord, ScanRecord, ViewMatch, ViewPair

_LABELS_MAX = 3
BURDEN_NOTE = (
    "Lesion area fraction: marked pixels over pixels of the body's outline within the field, uncalibrated. It is no "
    "bone scan index: that weighs every lesion by the share of its bone in the mass of the skeleton; here nobody knows "
    "which bone a pixel shows, and the thorax is not the skeleton."
)


def patient_record(
    patient: str, scans: Sequence[tuple[str, ScanRecord]], comparison: FollowUp | None = None
) -> PatientRecord:
    """One patient of a run (docs/outputs.md).

    Args:
      patient: pseudonym.
      scans: (stem, record) of every scan.
      comparison: of `follow_up.compare`.
    """
    pairs = tuple(
        ViewPair(scans[a][0], scans[p][0], tuple(ViewMatch(*match) for match in match_views(scans[a][1], scans[p][1])))
        for a, p in _view_pairs(scans)
    )
    marks = sum(record.lesion_count for _, record in scans)
    area, body = (sum(getattr(record, key) for _, record in scans) for key in ("lesion_area_px", "body_area_px"))
    return PatientRecord(
        notice=scans[0][1].notice,
        patient_pseudonym=patient,
        scans=tuple(stem for stem, _ in scans),
        views=tuple(record.view for _, record in scans),
        view_pairs=pairs,
        view_rule=f"centres at most {VIEWS_TOLERANCE_MM:g} mm apart after mirroring about the body's midline",
        mark_count=marks,
        lesion_count=marks - sum(len(pair.matched) for pair in pairs),
        lesion_area_fraction=round(area / body, 6) if body else None,
        burden_note=BURDEN_NOTE,
        comparison=comparison,
    )


def patient_label(patient: str, scans: Sequence[tuple[str, ScanRecord]]) -> str:
    """What the user calls a patient: the names of the files without the words of their views.

    Args:
      patient: pseudonym.
      scans: (stem, record) of every scan.

    Returns:
      Empty where these names say nothing more than the pseudonym, as in results without names.

    Example:
      >>> from types import SimpleNamespace as Fake
      >>> patient_label("p1", [("ward7_anterior", Fake(source="anterior.dcm"))])
      'ward7'
    """
    labels: dict[str, None] = {}
    stems = {stem for stem, _ in scans}
    for named, record in scans:
        first = re.sub(r"-\d+$", "", named)
        stem = first if first in stems else named
        own = stem_of(record.source)
        # A stem of the file's own name may have a number behind it that keeps results apart.
        if label := split_view(own if stem.startswith(own) else stem)[1]:
            labels[label] = None
    label = ", ".join(list(labels)[:_LABELS_MAX]) + (", …" if len(labels) > _LABELS_MAX else "")
    return "" if label == patient else label


def _view_pairs(scans: Sequence[tuple[str, ScanRecord]]) -> list[tuple[int, int]]:
    """(anterior, posterior) numbers of the scans that belong together.

    One of each is a pair. Of several, those of one file are, or whose names differ only in the words of the view.
    """
    by_view = {
        view: [number for number, (_, record) in enumerate(scans) if record.view == view]
        for view in (View.ANTERIOR, View.POSTERIOR)
    }
    anterior, posterior = by_view[View.ANTERIOR], by_view[View.POSTERIOR]
    if len(anterior) == len(posterior) == 1:
        return [(anterior[0], posterior[0])]
    pairs = []
    for key in (lambda n: scans[n][1].source, lambda n: without_view(scans[n][0])):
        for number in anterior:
            alike = [other for other in posterior if key(other) == key(number)]
            rivals = [other for other in anterior if key(other) == key(number)]
            if len(alike) == len(rivals) == 1:
                pairs.append((number, alike[0]))
        paired = {number for pair in pairs for number in pair}
        anterior = [number for number in anterior if number not in paired]
        posterior = [number for number in posterior if number not in paired]
    return sorted(pairs)
