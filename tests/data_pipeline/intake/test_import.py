"""msanet import: each layout and format into a data set, one line for what is wrong, nothing half-written."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from data_pipeline.intake import writing
from data_pipeline.intake.build import ImportOptions, ImportOutcome, import_source, parse_labels
from data_pipeline.intake.folder import load_facts, load_masks, load_scan, read_data_set
from data_pipeline.intake.splitting import draw_splits, place_of
from data_pipeline.phantom.files import Request, write_patient
from data_pipeline.readers.names import is_derived, mask_kind, pairing_key, patient_of_path
from data_pipeline.readers.pseudonyms import KEY_FILE
from data_pipeline.scan import View
from msanet_jax.cli import main
from tests.fakes import quick_patient
from tests.user_files import (
    LESIONS,
    NAME,
    SECRETS,
    bad_files,
    body_scan,
    image_entry,
    lesion_mask,
    nm_header,
    picture_source,
    save_dicom,
    save_picture,
    save_segmentation,
)


def _import(source: Path, out: Path, **options: Any) -> ImportOutcome:
    return import_source(source, out, ImportOptions(**options), progress=False)


def test_parts_of_a_simulated_patient_are_no_scans() -> None:
    assert is_derived("p/anterior_organs.png")
    assert is_derived("p/anterior_expected.npy")
    assert not is_derived("p/anterior.png")


@pytest.mark.parametrize(
    ("mask", "scan", "kind"),
    [
        ("a_mask.png", "a.dcm", "lesions"),
        ("p1/a-seg.nii.gz", "p1/a.dcm", "lesions"),
        ("masks/p1/a.png", "images/p1/a.png", "lesions"),
        ("labelsTr/case1.png", "imagesTr/case1_0000.png", "lesions"),
        ("masks/benign/a.png", "a.npy", "benign"),
        ("x/anterior_lesions_isocontour.png", "x/anterior.dcm", "lesions_isocontour"),
        ("a_reader2.png", "a.tif", "reader_2"),
        ("1.2.840.99_mask.png", "1.2.840.99", "lesions"),
    ],
)
def test_masks_find_their_scans_by_name(mask: str, scan: str, kind: str) -> None:
    assert mask_kind(mask) == kind
    assert mask_kind(scan) is None
    channels = "Tr/" in mask
    assert pairing_key(mask, channels=channels) == pairing_key(scan, channels=channels)


def test_classes_of_scans_are_no_masks() -> None:
    for name in ("normal/a.png", "benign/a.png", "Abnormal/a.png", "lesions/a.png"):
        assert mask_kind(name) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("wholeBodyANT/0001.jpg", "wholeBodyPOST/0001.jpg"),
        ("images/x/Anterior/A12.png", "images/x/Posterior/P12.png"),
        ("p1/anterior.png", "p1/posterior.png"),
        ("case7_ant.png", "case7_post.png"),
        ("imagesTr/case7_ant_0000.png", "imagesTr/case7_post_0000.png"),
    ],
)
def test_both_views_have_one_patient(one: str, other: str) -> None:
    channels = one.startswith("imagesTr/")
    assert patient_of_path(one, channels=channels) == patient_of_path(other, channels=channels) != ""
    assert patient_of_path("p1/anterior.png") != patient_of_path("p2/anterior.png")


def test_numbered_names_are_no_channels(tmp_path: Path) -> None:
    """IM_0001... are files of several patients; only nnU-Net's images end in the number of a channel."""
    source = tmp_path / "in"
    for number in (1, 2, 3):
        save_dicom(nm_header(body_scan(number), patient=f"X{number}"), source / f"IM_{number:04d}.dcm")
    save_picture(lesion_mask(), source / "IM_0002_mask.png")
    outcome = _import(source, tmp_path / "set", scans_without_mask="no-lesion")
    assert outcome.problems == []
    with (tmp_path / "set" / "private" / "sources.csv").open() as text:
        file_of = {row["image_id"]: row["source_file"] for row in csv.DictReader(text)}
    ill = {
        file_of[entry.image_id]
        for entry in outcome.entries
        if load_masks(tmp_path / "set", entry, ("lesions",))["lesions"].any()
    }
    assert ill == {"IM_0002.dcm"}
    for number in range(1, 5):
        save_picture(body_scan(number), tmp_path / "pictures" / f"scan_{number:04d}.png")
        save_picture(lesion_mask(), tmp_path / "pictures" / f"scan_{number:04d}_mask.png")
    outcome = _import(tmp_path / "pictures", tmp_path / "of_pictures")
    assert outcome.problems == []
    assert len({entry.patient for entry in outcome.entries}) == 4
    # A case of nnU-Net may end in a number of its own.
    assert pairing_key("labelsTr/a_0001.png", channels=True) == pairing_key("imagesTr/a_0001_0000.png", channels=True)
    assert patient_of_path("imagesTr/a_0001_0000.png", channels=True).endswith("a_0001")


def test_pictures_with_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = picture_source(tmp_path / "in")
    save_picture(lesion_mask(), source / "nobody_mask.png")
    save_picture(body_scan(77), source / "unmarked_post.png")
    code = main(["import", str(source), f"--out={tmp_path / 'set'}", "--pixel-mm", "4.5"])
    said = capsys.readouterr()
    assert code == 1
    assert "nobody_mask.png: no scan of that name; name it as its scan with _mask behind" in said.err
    assert "unmarked_post.png: a scan without a lesion mask: it is left out" in said.err
    assert len(said.err.strip().splitlines()) == 2
    assert "7 scans" in said.out and "6 with a lesion mask" in said.out
    data_set = read_data_set(tmp_path / "set")
    assert [len(data_set.splits[name]) for name in ("train", "validation", "test", "left_out")] == [2, 2, 2, 1]
    assert data_set.origin == "own"
    entry = next(entry for entry in data_set.entries if entry.patient in data_set.splits["test"])
    assert entry.pixel_size_mm == (4.5, 4.5) and entry.pixel_size_from == "user"
    with_lesions = [e for e in data_set.entries if "lesions" in e.masks and load_masks(
        tmp_path / "set", e, ("lesions",))["lesions"].any()]  # fmt: skip
    assert len(with_lesions) == 4
    ids = load_masks(tmp_path / "set", with_lesions[0], ("lesions",))["lesions"]
    np.testing.assert_array_equal(ids > 0, lesion_mask() > 0)
    assert ids.max() == 3
    np.testing.assert_array_equal(load_scan(tmp_path / "set", with_lesions[0]).counts, body_scan(0))


def test_nothing_that_speaks_of_lesions_is_declared_free_of_them(tmp_path: Path) -> None:
    """A refused mask, one in a format that is not read, boxes, a reader's mask: the scan stays out, with a line."""
    source = tmp_path / "in"
    for number, name in enumerate(("healthy", "size", "nrrd", "json", "boxes", "read", "benign")):
        save_picture(body_scan(number), source / f"{name}.png")
    save_picture(lesion_mask()[::2, ::2], source / "size_mask.png")
    (source / "nrrd_mask.nrrd").write_bytes(b"NRRD0004\n")
    (source / "json.json").write_text("{")
    (source / "boxes.xml").write_text(VOC.format("boxes", "lesion"))
    save_picture(lesion_mask(), source / "read_reader_1.png")
    save_picture(lesion_mask(), source / "benign_benign.png")
    outcome = _import(source, tmp_path / "set", scans_without_mask="no-lesion")
    told = {Path(line.partition(": ")[0]).stem: line for line in outcome.problems if ".png: " in line}
    assert {name for name, line in told.items() if "an annotation of this scan cannot be used" in line} == {
        "size",
        "nrrd",
        "json",
    }
    assert {name for name, line in told.items() if "something marks lesions" in line} == {"boxes", "read"}
    # What was refused may mark lesions of any scan, as a mask of no scan may be the misnamed one of any.
    assert {name for name, line in told.items() if "may mark lesions of this scan" in line} == {"healthy", "benign"}
    assert not any("lesions" in entry.masks for entry in outcome.entries)
    for name in ("size_mask.png", "nrrd_mask.nrrd", "json.json"):
        (source / name).unlink()
    outcome = _import(source, tmp_path / "mended", scans_without_mask="no-lesion")
    with (tmp_path / "mended" / "private" / "sources.csv").open() as text:
        file_of = {row["image_id"]: row["source_file"] for row in csv.DictReader(text)}
    free = {file_of[entry.image_id] for entry in outcome.entries if "lesions" in entry.masks}
    assert free == {"healthy.png", "size.png", "nrrd.png", "json.png", "benign.png"}
    save_picture(lesion_mask(), source / "helthy_mask.png")
    outcome = _import(source, tmp_path / "again", scans_without_mask="no-lesion")
    told = {Path(line.partition(": ")[0]).stem: line for line in outcome.problems}
    assert {name for name, line in told.items() if "helthy_mask.png was not used" in line} == {
        "healthy", "size", "nrrd", "json", "benign"
    }  # fmt: skip
    assert not any("lesions" in entry.masks for entry in outcome.entries)


def test_scans_without_masks_may_be_healthy(tmp_path: Path) -> None:
    source = picture_source(tmp_path / "in", 3, healthy=0)
    save_picture(body_scan(9, ()), source / "case9_ant.png")
    outcome = _import(source, tmp_path / "set", scans_without_mask="no-lesion")
    assert not outcome.problems
    assert all("lesions" in entry.masks for entry in outcome.entries)


def test_dicom_of_one_and_two_frames_in_folders_a_zip_and_with_both_masks(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for number in range(3):
        both = np.stack([body_scan(number), body_scan(100 + number)[:, ::-1]])
        header = nm_header(both, patient=f"N{number}", views=("Anterior", "Posterior"))
        save_dicom(header, source / f"p{number}" / "deep" / "IM0001")
        save_picture(lesion_mask(), source / f"p{number}" / "deep" / "IM0001_anterior_mask.png")
        save_picture(lesion_mask()[:, ::-1].copy(), source / f"p{number}" / "deep" / "IM0001_posterior_mask.png")
    save_dicom(nm_header(body_scan(50), patient="N0", views=("Posterior",)), source / "late.dcm")
    save_picture(lesion_mask(value=0)[:, ::-1].copy(), source / "late_mask.png")
    archive = tmp_path / "scans.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                packed.write(path, path.relative_to(source).as_posix())
    (tmp_path / "key").write_text("a secret of the department")
    sets = [_import(where, tmp_path / where.stem / "set", key_file=tmp_path / "key") for where in (source, archive)]
    assert [outcome.problems for outcome in sets] == [[], []]
    assert sets[0].entries == sets[1].entries
    entries = sets[0].entries
    assert len(entries) == 7 and len({entry.patient for entry in entries}) == 3
    assert sorted(entry.view for entry in entries) == [View.ANTERIOR] * 3 + [View.POSTERIOR] * 4
    assert all(entry.pixel_size_mm == (4.52, 4.52) for entry in entries)
    for entry in entries:
        ids = load_masks(tmp_path / "in" / "set", entry, ("lesions",))["lesions"]
        expected = lesion_mask() if entry.view == View.ANTERIOR else lesion_mask()[:, ::-1]
        np.testing.assert_array_equal(ids > 0, expected > 0)
    assert not (tmp_path / "in" / "set" / "private" / KEY_FILE).exists()  # the user keeps the key


@pytest.mark.parametrize("form", ["labelme", "coco", "nifti", "seg-like names", "npy"])
def test_other_annotations_give_the_same_set(tmp_path: Path, form: str) -> None:
    source = tmp_path / "in"
    rectangles = [[[c, r], [c + w, r + h]] for r, c, h, w in LESIONS]
    coco: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "metastasis"}]}
    for number in range(3):
        stem = f"case{number}_post"
        save_picture(body_scan(number), source / "scans" / f"{stem}.tif")
        if form == "labelme":
            shapes = [{"label": "lesion", "shape_type": "rectangle", "points": points} for points in rectangles]
            content = {"imagePath": f"{stem}.tif", "imageHeight": 512, "imageWidth": 128, "shapes": shapes}
            (source / "scans" / f"{stem}.json").write_text(json.dumps(content))
        elif form == "coco":
            coco["images"].append({"id": number, "file_name": f"{stem}.tif", "height": 512, "width": 128})
            for (left, top), (right, bottom) in rectangles:
                outline = [left, top, right, top, right, bottom, left, bottom]
                coco["annotations"].append(
                    {"id": len(coco["annotations"]), "image_id": number, "category_id": 1, "segmentation": [outline]}
                )
            (source / "annotations.json").write_text(json.dumps(coco))
        elif form == "nifti":
            (source / "masks").mkdir(exist_ok=True)
            mask = nibabel.Nifti1Image(lesion_mask(value=1).T[:, :, None], np.diag([-1.0, -1.0, 1.0, 1.0]))
            nibabel.save(mask, source / "masks" / f"{stem}.nii.gz")
        elif form == "npy":
            np.save(source / "scans" / f"{stem}_lesions.npy", lesion_mask() > 0)
        else:
            save_picture(lesion_mask(value=0), source / "scans" / f"{stem}-segmentation.png")
    outcome = _import(source, tmp_path / "set")
    assert outcome.problems == [] and len(outcome.entries) == 3
    for entry in outcome.entries:
        assert entry.view == View.POSTERIOR
        ids = load_masks(tmp_path / "set", entry, ("lesions",))["lesions"]
        np.testing.assert_array_equal(ids > 0, lesion_mask() > 0)
        assert ids.max() == 3


def test_simulated_patients_import_as_they_are(tmp_path: Path) -> None:
    patient = dataclasses.replace(
        quick_patient(seed=5, index=2, views=(View.ANTERIOR, View.POSTERIOR)),
        parameters={"patient": {"sex": "female", "height_mm": 1700.0, "camera": "ge"}},
    )
    write_patient(tmp_path / "scans", Request(seed=5, index=2, noise_seed=5), patient)
    outcome = _import(tmp_path / "scans", tmp_path / "set")
    assert outcome.problems == []
    assert [entry.view for entry in outcome.entries] == [View.ANTERIOR, View.POSTERIOR]
    assert len({entry.patient for entry in outcome.entries}) == 1
    data_set = read_data_set(tmp_path / "set")
    assert data_set.origin == "simulated"
    for entry in data_set.entries:
        made = patient.views[entry.view]
        np.testing.assert_array_equal(load_scan(tmp_path / "set", entry).counts, made.scan.counts)
        masks = load_masks(tmp_path / "set", entry, entry.masks)
        assert set(masks) == {"lesions", "lesions_all", "lesions_isocontour", "reader_1", "reader_2", "benign"}
        for kind, ids in masks.items():
            np.testing.assert_array_equal(ids, getattr(made, kind))
        stored = json.loads((tmp_path / "set" / entry.lesion_facts).read_text())
        assert stored == {"lesions": json.loads(json.dumps([dataclasses.asdict(row) for row in made.lesion_rows]))}
        assert [facts.cnr for facts in load_facts(tmp_path / "set", entry)] == [row.cnr for row in made.lesion_rows]
    (document,) = (tmp_path / "scans").glob("*/patient.json")
    for views, said in (("[]", "expected `object`, got `array`"), ('{"anterior": 3}', "[...]: expected `object`")):
        document.write_text(f'{{"note": "PhantomBone", "views": {views}}}')
        (line,) = _import(tmp_path / "scans", tmp_path / f"damaged {len(views)}").problems
        assert "patient.json: views: " in line and said in line and line.endswith("simulate the patient again")


def test_nnunet_in_and_out(tmp_path: Path) -> None:
    raw = tmp_path / "Dataset007_Bone"
    for number in range(4):
        save_picture(body_scan(number), raw / "imagesTr" / f"case{number}_0000.png")
        save_picture(lesion_mask(value=2), raw / "labelsTr" / f"case{number}.png")
    save_picture(body_scan(60), raw / "imagesTr" / "case0_0001.png")
    document = {"channel_names": {"0": "counts"}, "labels": {"background": 0, "benign": 1, "metastasis": 2}}
    (raw / "dataset.json").write_text(json.dumps(document | {"numTraining": 4, "file_ending": ".png"}))
    outcome = _import(raw, tmp_path / "set")
    assert len(outcome.entries) == 4
    assert ["case0_0001.png: another channel" in line for line in outcome.problems] == [True]
    for entry in outcome.entries:
        assert load_masks(tmp_path / "set", entry, ("lesions",))["lesions"].max() == 3
    assert main(["import", str(tmp_path / "set"), f"--out={tmp_path / 'Dataset008_Bone'}", "--to=nnunet"]) == 0
    back = tmp_path / "Dataset008_Bone"
    written = json.loads((back / "dataset.json").read_text())
    assert written["labels"] == {"background": 0, "lesion": 1} and written["file_ending"] == ".png"
    images = sorted(path.name for path in (back / "imagesTr").iterdir())
    assert len(images) == written["numTraining"] == 3
    again = _import(back, tmp_path / "again", layout="nnunet")
    assert again.problems == [] and len(again.entries) == 4
    np.testing.assert_array_equal(
        load_masks(tmp_path / "again", again.entries[0], ("lesions",))["lesions"] > 0, lesion_mask() > 0
    )


VOC = (
    "<annotation><filename>{0}.jpg</filename><object><name>{1}</name><bndbox><xmin>51</xmin><ymin>181</ymin>"
    "<xmax>54</xmax><ymax>186</ymax></bndbox></object></annotation>"
)


def test_bs80k(tmp_path: Path) -> None:
    """A stand-in with BS-80K's layout: scans, table, boxes, and a folder of crops."""
    for view, letters in (("ANT", "ant"), ("POST", "post")):
        folder = tmp_path / "temp" / f"wholeBody{view}"
        (folder / letters).mkdir(parents=True)
        for number in (1, 2, 3):
            pixels = np.minimum(body_scan(number + len(view)), 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:04d}.jpg", quality=95)
        (folder / f"wholeBody{view}.txt").write_text("0001.jpg\t0\n0002.jpg\t1\n0003.jpg\t1\n")
        (folder / letters / "0002.xml").write_text(VOC.format("0002", "Abnormal"))
        (folder / letters / "0003.xml").write_text(VOC.format("0003", "Normal"))
    save_picture(np.zeros((64, 64), np.uint8), tmp_path / "temp" / "chestANT" / "0001.png")
    outcome = _import(tmp_path / "temp", tmp_path / "set")
    assert outcome.problems == []
    entries = outcome.entries
    assert len(entries) == 6 and len({entry.patient for entry in entries}) == 3
    assert [entry.image_label for entry in entries] == ["normal", "abnormal", "abnormal"] * 2
    assert all(not entry.masks for entry in entries)  # boxes are no truth
    assert outcome.splits["train"] == [] and len(outcome.splits["left_out"]) == 3
    boxes = [json.loads((tmp_path / "set" / e.weak_boxes).read_text())["boxes"] for e in entries if e.weak_boxes]
    assert [(box["kind"], box["row"], box["rows"]) for (box,) in boxes] == [
        ("lesions", 180.0, 6.0),
        ("benign", 180.0, 6.0),
    ] * 2


def test_paraguay(tmp_path: Path) -> None:
    """A stand-in with the Zenodo set's layout."""
    for label, number in (("metastasis", 1), ("normal", 2)):
        for folder, letter in (("Anterior", "A"), ("Posterior", "P")):
            save_picture(
                body_scan(number + ord(letter)), tmp_path / "images" / label / folder / f"{letter}{number}.png"
            )
    outcome = _import(tmp_path, tmp_path / "set", layout="paraguay")
    assert outcome.problems == []
    assert [(entry.image_label, str(entry.view)) for entry in outcome.entries] == [
        ("metastasis", "anterior"), ("metastasis", "posterior"),
        ("no_metastasis", "anterior"), ("no_metastasis", "posterior"),
    ]  # fmt: skip
    assert len({entry.patient for entry in outcome.entries}) == 2
    assert outcome.notes == ["not there: lesion masks of 4 scans; they can be looked at and checked, not trained on"]
    save_picture(lesion_mask(), tmp_path / "images" / "metastasis" / "Anterior" / "A1_mask.png")
    save_picture(lesion_mask(()), tmp_path / "masks" / "normal" / "Posterior" / "P2.png")
    outcome = _import(tmp_path, tmp_path / "with_masks")
    assert outcome.problems == []
    assert ["lesions" in entry.masks for entry in outcome.entries] == [True, False, False, True]
    assert "not there: lesion masks of 2 scans; they can be looked at and checked, not trained on" in outcome.notes


def test_folders_of_patients_are_no_classes(tmp_path: Path) -> None:
    """PATIENT/Anterior/A12.png looks like the Paraguay set, whose folder names become labels."""
    for source, options in ((tmp_path / "in", {}), (tmp_path / "images", {"layout": "paraguay"})):
        for number in (12, 13):
            for folder, letter in (("Anterior", "A"), ("Posterior", "P")):
                name = source / "images" / "MUSTERFRAU_ERIKA" / folder / f"{letter}{number}"
                save_picture(body_scan(number + ord(letter)), name.with_suffix(".png"))
                save_picture(lesion_mask(), name.with_name(f"{name.name}_mask.png"))
        outcome = _import(source, source / "set", **options)
        assert outcome.problems == []
        assert len(outcome.entries) == 4 and all("lesions" in entry.masks for entry in outcome.entries)
        assert len({entry.patient for entry in outcome.entries}) == 2
        assert "MUSTERFRAU" not in (source / "set" / "manifest.csv").read_text()
        assert {entry.image_label for entry in outcome.entries} == {""}


def test_every_bad_file_gets_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = bad_files(tmp_path / "in")
    assert main(["import", str(tmp_path / "in"), f"--out={tmp_path / 'set'}"]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    for name, words in expected.items():
        (line,) = [line for line in lines if line.startswith(f"{tmp_path / 'in' / name}: ")]
        assert words in line
    assert len(lines) == len(expected)
    assert len(read_data_set(tmp_path / "set").entries) == 2


def test_nothing_is_left_of_an_import_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = picture_source(tmp_path / "in", 3)

    def refused(*arguments: str) -> str:
        assert main(["import", *arguments, "--quiet"]) == 2
        said = capsys.readouterr().err
        assert len(said.strip().splitlines()) == 1
        return said

    (tmp_path / "empty").mkdir()
    assert "nothing to import" in refused(str(tmp_path / "empty"), f"--out={tmp_path / 'set'}")
    assert "no such file or folder" in refused(str(tmp_path / "absent"), f"--out={tmp_path / 'set'}")
    assert "exists; choose another" in refused(str(source), f"--out={source}")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(str(source), f"--out={tmp_path / 'file' / 'set'}")
    out = f"--out={tmp_path / 'set'}"
    assert "must be NAME=KIND" in refused(str(source), out, "--labels", "x=hot")
    assert "must be one of auto" in refused(str(source), out, "--format", "dicomweb")
    assert "has not that layout" in refused(str(source), out, "--format", "bs80k")
    assert "leave something for training" in refused(str(source), out, "--test-share", "1")

    def full(folder: Path, stem: str, values: np.ndarray) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "write_image", full)
    assert "no space left on the disk; make room" in refused(str(source), out)
    out = f"--out={tmp_path / 'deep' / 'er' / 'set'}"
    assert "no space left" in refused(str(source), out)
    locked = source / "case0_ant.png"

    def unreadable(folder: Path, stem: str, values: np.ndarray) -> str:
        raise OSError(errno.EIO, "Input/output error", str(locked))

    monkeypatch.setattr(writing, "write_image", unreadable)
    assert f"{locked}: cannot be read (Input/output error)" in refused(str(source), out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "in"]


def test_all_scans_with_one_patient_number(tmp_path: Path) -> None:
    for number in range(3):
        save_dicom(nm_header(body_scan(number), patient="ANON"), tmp_path / "in" / f"p{number}" / "anterior.dcm")
    outcome = _import(tmp_path / "in", tmp_path / "one")
    assert "all 3 scans carry the same patient" in outcome.problems[-1]
    outcome = _import(tmp_path / "in", tmp_path / "three", patient_from="folder")
    assert len({entry.patient for entry in outcome.entries}) == 3


def test_the_same_scan_twice_is_read_once(tmp_path: Path) -> None:
    for name in ("a.dcm", "again/copy.dcm"):
        save_dicom(nm_header(body_scan(1)), tmp_path / "in" / name)
    save_picture(lesion_mask(), tmp_path / "in" / "a_mask.png")
    outcome = _import(tmp_path / "in", tmp_path / "set")
    assert len(outcome.entries) == 1
    assert any("this scan of this patient is there already" in note for note in outcome.notes)


def test_a_copy_gives_its_mask_to_the_scan_that_is_kept(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm", "c.dcm"):
        save_dicom(nm_header(body_scan(1)), tmp_path / "in" / name)
    save_picture(lesion_mask(), tmp_path / "in" / "b_mask.png")
    save_picture(lesion_mask(LESIONS[:1]), tmp_path / "in" / "c_mask.png")
    outcome = _import(tmp_path / "in", tmp_path / "set")
    (entry,) = outcome.entries
    ids = load_masks(tmp_path / "set", entry, ("lesions",))["lesions"]
    np.testing.assert_array_equal(ids > 0, lesion_mask() > 0)
    assert [line.rpartition("/")[2] for line in outcome.problems] == [
        "c.dcm: another annotation of lesions than the same scan has elsewhere; remove one"
    ]


_OUTLINE = [50, 120, 54, 120, 54, 126, 50, 126]
"""Of the first lesion, x and y in turn."""


TOLD = {"lesion MUSTERFRAU": "lesions"}


def _annotate(form: str, folder: Path, stem: str) -> None:
    """The first lesion of `stem`, as an outline or a box."""
    corners = [[50, 120], [54, 126]]
    if form == "labelme":
        shape = {"label": "lesion", "shape_type": "rectangle", "points": corners}
        (folder / f"{stem}.json").write_text(json.dumps({"imagePath": "elsewhere.png", "shapes": [shape]}))
    elif form == "voc":
        text = VOC.format(stem, "lesion MUSTERFRAU").replace("<object>", "{}<object>")
        size = "<size><width>128</width><height>512</height></size>"
        (folder / f"{stem}.xml").write_text(text.format(size))
    else:
        content = {
            "images": [{"id": 1, "file_name": f"{stem}.png"}],
            "categories": [{"id": 1, "name": "lesion"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [_OUTLINE]}],
        }
        (folder / f"{stem}_coco.json").write_text(json.dumps(content))


@pytest.mark.parametrize("form", ["labelme", "coco", "voc"])
def test_text_annotations_of_two_views_say_which(tmp_path: Path, form: str) -> None:
    both = np.stack([body_scan(1), body_scan(2)[:, ::-1]])
    source = tmp_path / "in"
    save_dicom(nm_header(both, views=("Anterior", "Posterior")), source / "a.dcm")
    _annotate(form, source, "a")
    outcome = _import(source, tmp_path / "set", scans_without_mask="no-lesion", labels=TOLD)
    line, *of_scans = outcome.problems
    assert "its scan has two views; " in line and "..._anterior, one ..._posterior" in line
    assert len(of_scans) == 2 and all("an annotation of this scan cannot be used" in line for line in of_scans)
    for path in source.glob("a*.[jx]*"):
        path.unlink()
    _annotate(form, source, "a_posterior")
    outcome = _import(source, tmp_path / "named", scans_without_mask="no-lesion", labels=TOLD)
    assert ["something marks lesions" in line for line in outcome.problems] == [True] * (form == "voc")
    marked = {str(entry.view): bool(entry.weak_boxes) for entry in outcome.entries}
    if form != "voc":
        marked = {
            str(entry.view): bool(load_masks(tmp_path / "named", entry, ("lesions",))["lesions"].any())
            for entry in outcome.entries
        }
    assert marked == {"anterior": False, "posterior": True}


def test_annotations_that_fit_no_scan(tmp_path: Path) -> None:
    source = tmp_path / "in"
    save_dicom(nm_header(body_scan(1)), source / "a.dcm")
    for stem in ("a", "a_posterior"):
        _annotate("voc", source, stem)
    (source / "a.seg.nrrd").write_bytes(b"NRRD0004\n")
    for name, text in (("images", ["a.png"]), ("annotations", ["x"])):
        content = {"images": [], "annotations": [], "categories": None, name: text}
        (source / f"{name}.json").write_text(json.dumps(content))
    lines = [line.rpartition("/in/")[2] for line in _import(source, tmp_path / "set", labels=TOLD).problems]
    assert sorted(lines)[1:] == [
        "a.seg.nrrd: NRRD is not read; save it as .nii.gz (in 3D Slicer: Export to file)",
        "a_posterior.xml: its scan has no posterior view; name it as the scan, or correct the view",
        "annotations.json: damaged (AttributeError); export it again",
        "images.json: damaged (AttributeError); export it again",
    ]
    (boxes,) = (tmp_path / "set" / "weak").iterdir()
    assert "MUSTERFRAU" not in boxes.read_text()
    save_picture(body_scan(3)[:, :100], source / "b.png")
    _annotate("voc", source, "b")
    for stem in ("a", "b"):
        for copy in ("1", "2"):
            (source / copy).mkdir(exist_ok=True)
            _annotate("voc", source / copy, stem)
    lines = [line.rpartition("/in/")[2] for line in _import(source, tmp_path / "again", labels=TOLD).problems]
    assert sum("a second Pascal VOC file of the same scan; remove one" in line for line in lines) == 4
    assert any("drawn on 512 x 128 pixels, the scan has 512 x 100" in line for line in lines)


def test_a_segmentation_by_highdicom_beside_its_scan(tmp_path: Path) -> None:

    source = save_dicom(nm_header(body_scan()), tmp_path / "in" / "scan.dcm")
    save_dicom(nm_header(body_scan(3), patient="other"), tmp_path / "in" / "unmarked.dcm")
    save_segmentation(source, tmp_path / "in" / "seg.dcm")
    outcome = _import(tmp_path / "in", tmp_path / "set")
    (line,) = outcome.problems
    assert "unmarked.dcm: a scan without a lesion mask" in line
    (entry,) = (entry for entry in outcome.entries if entry.masks)
    ids = load_masks(tmp_path / "set", entry, ("lesions",))["lesions"]
    np.testing.assert_array_equal(ids, lesion_mask(value=0))
    np.testing.assert_array_equal(load_scan(tmp_path / "set", entry).counts, body_scan())


def test_nothing_identifying_leaves(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The rule: names of files are shown to who typed the command, and kept in private/ only."""
    source = tmp_path / "in"
    for number in range(3):
        header = nm_header(body_scan(number), patient=f"HOSP-77123{number}")
        header.ImageComments = header.SeriesDescription = header.ProtocolName = f"{NAME} ANT Sankt Gertrauden"
        save_dicom(header, source / f"MUSTERFRAU_ERIKA_{number}" / "s19640812.dcm")
        save_picture(lesion_mask(), source / f"MUSTERFRAU_ERIKA_{number}" / "s19640812_mask.png")
        save_picture(body_scan(50 + number), source / f"ERIKA 77123{number}_post.png")
        save_picture(lesion_mask(), source / f"ERIKA 77123{number}_post_mask.png")
    broken = nm_header(body_scan(8))
    broken.PixelSpacing = [0.0, 5.0]
    broken.NumberOfFrames = 7
    save_dicom(broken, source / "broken.dcm")
    out = tmp_path / "set"
    assert main(["import", str(source), f"--out={out}"]) == 1
    assert main(["check", str(out)]) in (0, 1)
    said = "".join(capfd.readouterr())
    assert "broken.dcm" in said
    written = [path for path in sorted(out.rglob("*")) if path.is_file() and "private" not in path.parts]
    assert len(written) >= 6 * 2 + 5
    for secret in SECRETS:
        for path in written:
            assert secret.encode() not in path.read_bytes(), path
            assert secret not in path.name
        assert secret not in said
    for spelled in (f"77123{number}" for number in range(3)):
        assert not any(spelled.encode() in path.read_bytes() for path in written)
    private = out / "private"
    assert "MUSTERFRAU_ERIKA_0" in (private / "sources.csv").read_text()
    assert stat.S_IMODE((private / KEY_FILE).stat().st_mode) == 0o600
    patients = {row["patient"] for row in csv.DictReader((out / "manifest.csv").read_text().splitlines())}
    other = _import(source, tmp_path / "other")
    assert not patients & {entry.patient for entry in other.entries}  # another key, other pseudonyms
    same = _import(source, tmp_path / "same", key_file=private / KEY_FILE)
    assert patients == {entry.patient for entry in same.entries}


def test_labels_of_the_command_line() -> None:
    assert parse_labels(["a=b=lesions", "2=ignored"]) == {"a=b": "lesions", "2": "ignored"}


@pytest.mark.parametrize("shares", [(0.1, 0.3), (0.2, 0.2), (0.05, 0.5)])
def test_splits_are_by_patient_and_stable(shares: tuple[float, float]) -> None:
    entries = [image_entry(f"p{n:03d}", view) for n in range(400) for view in (View.ANTERIOR, View.POSTERIOR)]
    places = {one.patient: place_of(one.patient, 1) for one in entries}
    options = {"validation_share": shares[0], "test_share": shares[1]}
    splits = draw_splits(entries, places, **options)
    place = {patient: name for name, members in splits.items() for patient in members}
    assert sorted(place) == sorted(places)
    for name, share in (("validation", shares[0]), ("test", shares[1])):
        assert abs(len(splits[name]) - 400 * share) <= 3 * np.sqrt(400 * share * (1 - share)) + 1
    for left in range(0, 400, 7):
        fewer = draw_splits([one for one in entries if one.patient != f"p{left:03d}"], places, **options)
        moved = {patient for name, members in fewer.items() for patient in members if place[patient] != name}
        assert not moved
    assert draw_splits(entries, {p: place_of(p, 2) for p in places}, **options) != splits


@pytest.mark.parametrize("patients", [3, 4, 6, 12])
def test_small_sets_have_three_splits(patients: int) -> None:
    for seed in range(20):
        entries = [image_entry(f"p{n}", View.ANTERIOR) for n in range(patients)]
        places = {one.patient: place_of(one.patient, seed) for one in entries}
        splits = draw_splits(entries, places, validation_share=0.1, test_share=0.3)
        assert all(splits[name] for name in ("train", "validation", "test"))


def test_the_same_import_has_the_same_test_patients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the key, and if patients come or go; --splits-from keeps those of another set where they are."""

    def tested(out: Path) -> set[str]:
        data_set = read_data_set(out)
        with (out / "private" / "sources.csv").open() as text:
            file_of = {row["image_id"]: row["source_file"] for row in csv.DictReader(text)}
        members = data_set.splits["test"]
        return {file_of[entry.image_id] for entry in data_set.entries if entry.patient in members}

    source = picture_source(tmp_path / "in", 12)
    _import(source, tmp_path / "one")
    _import(source, tmp_path / "two")
    assert tested(tmp_path / "one") == tested(tmp_path / "two")
    removed = next(iter(sorted(tested(tmp_path / "one"))))
    (source / removed).unlink()
    (source / removed.replace(".png", "_mask.png")).unlink()
    _import(source, tmp_path / "fewer")
    assert tested(tmp_path / "fewer") == tested(tmp_path / "one") - {removed}
    document = json.loads((tmp_path / "one" / "splits.json").read_text())
    document["test"], document["train"] = document["train"], document["test"]
    (tmp_path / "one" / "splits.json").write_text(json.dumps(document))
    _import(source, tmp_path / "as_one", splits_from=tmp_path / "one", seed=9)
    swapped = tested(tmp_path / "one")
    assert tested(tmp_path / "as_one") == swapped and not swapped & tested(tmp_path / "two")
    other = ["import", str(source), f"--out={tmp_path / 'x'}", f"--splits-from={tmp_path / 'one'}", "--key-file"]
    (tmp_path / "key").write_text("a secret of the department")
    assert main([*other, str(tmp_path / "key")]) == 2
    assert "has none of these patients; pseudonyms agree only under one key" in capsys.readouterr().err
