"""Words of the patient's page, of the overlay and of the model card."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from data_pipeline.pages import percent
from data_pipeline.scan import Scan, View
from data_pipeline.thorax import find_thorax
from msanet_jax.prediction.overlay import Drawing, _title
from msanet_jax.prediction.patient import patient_label, patient_record
from msanet_jax.prediction.patient_page import patient_sheet
from msanet_jax.runs.notices import scores_notice
from msanet_jax.trained.card import model_card
from tests.fakes import scan_record
from tests.user_files import body_scan


@pytest.mark.parametrize(("change", "shown"), [(-0.004, "+0 %"), (0.126, "+13 %"), (-0.35, "-35 %"), (None, "")])
def test_changes_in_percent(change: float | None, shown: str) -> None:
    assert percent(change) == shown


@pytest.mark.parametrize(("count", "words"), [(0, "0</b> lesions"), (1, "1</b> lesion marked"), (2, "2</b> lesions")])
def test_one_lesion_is_no_lesions(count: int, words: str) -> None:
    patient = dataclasses.replace(patient_record("p1", [("a", scan_record())]), lesion_count=count)
    assert f"<b>{words}" in patient_sheet(patient, [("a", scan_record())], {})


@pytest.mark.parametrize(
    ("scans", "label"),
    [
        ([("ward7_anterior", "anterior.dcm"), ("ward7_posterior", "posterior.dcm")], "ward7"),
        ([("both_anterior", "both.dcm"), ("both_posterior", "both.dcm")], "both"),
        ([("12_ant", "12_ant.png")], "12"),
        ([("case-12", "case-12.npy")], "case-12"),
        ([("anterior-2", "anterior.png")], ""),
        ([("p1_anterior", "p1")], ""),
        ([(f"s{k}", f"s{k}.png") for k in range(5)], "s0, s1, s2, …"),
    ],
)
def test_a_patient_is_called_as_the_files_are(scans: list[tuple[str, str]], label: str) -> None:
    named = [(stem, scan_record(source=source)) for stem, source in scans]
    assert patient_label("p1", named) == label
    text = patient_sheet(patient_record("p1", named), named, {})
    assert f"<h1>{label or 'Patient p1'}" in text and ("<small>p1</small>" in text) == bool(label)


def test_an_overlay_says_its_view_once() -> None:
    scan = Scan(counts=body_scan(), view=View.ANTERIOR, patient="p1", pixel_size_mm=None, source="a.dcm")
    drawing = Drawing(scan, find_thorax(scan), np.zeros(scan.counts.shape), 0.5, [], "p1_anterior", "", "")
    assert _title(drawing) == "p1_anterior"
    assert _title(dataclasses.replace(drawing, title="case7_ant")) == "case7_ant, anterior"


@pytest.mark.parametrize("simulated", [True, False])
def test_the_card_of_an_imported_set_says_what_its_scores_are(simulated: bool) -> None:
    """Simulated scans that were imported are no PhantomBone by name; their scores are told apart all the same."""
    side = {"what": "", "shape": ["b"], "field": "thorax"}
    manifest = {
        "provenance": {"checkpoint": "own", "dataset": "set", "config_sha256": "0" * 64},
        "versions": {},
        "input": side,
        "output": side,
        "parameters": [1],
        "weights": "float32",
        "threshold": 0.5,
        "platforms": ["cpu"],
        "program_bytes": 1,
    }
    card = model_card(
        manifest, [{"note": scores_notice(simulated=simulated), "test": {"dsc_pooled": 0.5}}], dataset="set"
    )
    assert ("not comparable with the 0.6671" in card) == simulated
    assert ("Imported scans, scored against the masks that came with them" in card) != simulated
