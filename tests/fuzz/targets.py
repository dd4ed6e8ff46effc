"""What is fuzzed: readers of scans, annotations, archives, data sets, model files, recipes, runs and results."""

from __future__ import annotations

import base64
import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from configs.msanet import get_config
from data_pipeline.intake.annotate import annotate
from data_pipeline.intake.build import ImportOptions, import_source
from data_pipeline.intake.folder import load_boxes, load_facts, load_masks, load_scan, read_data_set
from data_pipeline.intake.layouts import recognise
from data_pipeline.intake.pairing import pair_files
from data_pipeline.readers import read_scans
from data_pipeline.readers.formats.dicom_file import quiet
from data_pipeline.readers.sources import open_source
from data_pipeline.scan import Scan, View
from msanet_jax.prediction.follow_up import read_results
from msanet_jax.prediction.predict import Request, predict_with
from msanet_jax.report.data import read_runs
from msanet_jax.runs.cases import read_cases
from msanet_jax.runs.history import read_history
from msanet_jax.runs.metrics_file import read_lesions, read_metrics
from msanet_jax.runs.recipe import check_recipe, read_config
from msanet_jax.trained import admission
from msanet_jax.trained.exported import load_exported
from tests.fakes import HOT_MODEL, scored_run
from tests.foreign import seg
from tests.fuzz import Finding, Target, check_line
from tests.fuzz.mutators import (
    Mutate,
    headers,
    mutate_bytes,
    mutate_dicom,
    mutate_json,
    mutate_lines,
    mutate_members,
    mutate_zip,
)
from tests.user_files import body_scan, lesion_mask, nm_header, save_dicom, save_picture

COUNTS = body_scan()[::4, ::2].copy()
"""`[128, 64]`: small, so that many fit a second."""

SHAPE = COUNTS.shape
MASK = np.zeros(SHAPE, np.uint8)
MASK[30:33, 25:28] = MASK[40:44, 36:40] = 1


def _header(values: np.ndarray = COUNTS) -> pydicom.Dataset:
    header = nm_header(values, views=("Anterior", "Posterior")[: 1 if values.ndim == 2 else 2])
    header.PixelSpacing = [9.04, 9.04]
    return header


def _dicom(folder: Path, name: str = "a.dcm") -> list[Path]:
    return [save_dicom(_header(), folder / name)]


def _dicom_two(folder: Path) -> list[Path]:
    return [save_dicom(_header(np.stack([COUNTS, COUNTS[:, ::-1]])), folder / "a.dcm")]


def _dicom_packed(folder: Path) -> list[Path]:
    header = _header()
    with quiet():
        header.compress(RLELossless, generate_instance_uid=False)
    deflated = _header()
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return [save_dicom(header, folder / "a.dcm"), save_dicom(deflated, folder / "b.dcm")]


def _nifti(folder: Path, suffix: str = ".nii") -> list[Path]:
    image = nibabel.Nifti1Image(COUNTS.T[:, :, None].astype(np.int32), np.diag([-9.04, -9.04, 1, 1]))
    nibabel.save(image, folder / f"a_ant{suffix}")
    return [folder / f"a_ant{suffix}"]


def _npy(folder: Path) -> list[Path]:
    np.save(folder / "a.npy", COUNTS)
    return [folder / "a.npy"]


def _pictures(folder: Path) -> list[Path]:
    made = [save_picture(COUNTS, folder / f"a{n}{suffix}") for n, suffix in enumerate((".png", ".tif"))]
    Image.fromarray(COUNTS.astype(np.uint16)).save(folder / "b.tif", compression="tiff_lzw")
    Image.fromarray(np.minimum(COUNTS, 255).astype(np.uint8)).save(folder / "c.jpg", quality=95)
    return [*made, folder / "b.tif", folder / "c.jpg"]


def _read_all(folder: Path) -> bool:
    """Every file of the folder as a scan."""
    for path in sorted(folder.iterdir()):
        for scan in read_scans(path):
            if scan.counts.dtype != np.int32 or scan.counts.min() < 0 or scan.counts.max() == 0:
                raise Finding("a scan that is none")
    return True


def _annotated(folder: Path) -> bool:
    """The annotations of the folder's one scan; an empty mask without a line is a finding."""
    with open_source(folder) as source:
        layout = recognise(source, name="auto", told={})
        pairing = pair_files(layout.source, channels=layout.name == "nnunet")
        problems = [*layout.problems, *pairing.problems]
        if len(pairing.scans) != 1:
            if problems:
                return False
            raise Finding("the annotation became a scan")
        (file,) = pairing.scans
        scan = Scan(COUNTS, None, View.ANTERIOR, "p", "a", orientation=1)
        annotated = annotate(scan, file, frame=0, views=[scan.view], segments={}, labels=layout.labels)
    lines = [line for _, line in (*problems, *annotated.problems)]
    return _judged(lines, annotated.usable().masks.get("lesions"))


def _judged(lines: Sequence[str], lesions: np.ndarray | None) -> bool:
    for line in lines:
        if kind := check_line(line):
            raise Finding(kind)
    if lesions is None and not lines:
        raise Finding("lesions lost without a line")
    if lesions is not None and not lines and not lesions.any():
        raise Finding("an empty mask without a line")
    return not lines


def _imported(folder: Path) -> bool:
    """As `_annotated`, by a whole import."""
    out = folder.with_name("set")
    shutil.rmtree(out, ignore_errors=True)
    outcome = import_source(folder, out, ImportOptions(scans_without_mask="no-lesion"), progress=False)
    (entry,) = outcome.entries
    lesions = load_masks(out, entry, ("lesions",))["lesions"] if "lesions" in entry.masks else None
    return _judged(outcome.problems, lesions)


def _beside(make: Callable[[Path], Path]) -> Callable[[Path], list[Path]]:
    """An annotation beside its scan `a.npy`."""

    def both(folder: Path) -> list[Path]:
        _npy(folder)
        return [make(folder)]

    return both


def _labelme(folder: Path) -> Path:
    patch = io.BytesIO()
    Image.fromarray(MASK[30:33, 25:28] * 255).save(patch, "PNG")
    mask = base64.b64encode(patch.getvalue()).decode()
    kinds: list[dict[str, Any]] = [
        {"shape_type": "polygon", "points": [[10, 50], [14, 50], [14, 55], [10, 55]]},
        {"shape_type": "rectangle", "points": [[36, 40], [40, 44]]},
        {"shape_type": "circle", "points": [[30, 60], [33, 60]]},
        {"shape_type": "rotation", "points": [[40, 70], [45, 70], [45, 75], [40, 75]], "direction": 0.3},
        {"shape_type": "mask", "points": [[25, 30], [27, 32]], "mask": mask},
    ]
    shapes = [{"label": "lesion", "group_id": None, "flags": {}, **kind} for kind in kinds]
    content = {"imagePath": "a.npy", "imageHeight": SHAPE[0], "imageWidth": SHAPE[1], "flags": {}, "shapes": shapes}
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


def _coco(folder: Path) -> Path:
    parts: list[Any] = [[[25, 30, 28, 30, 28, 33, 25, 33]], {"size": list(SHAPE), "counts": [5000, 20, 3172]}]
    annotations = [{"id": n, "image_id": 1, "category_id": 1, "segmentation": part} for n, part in enumerate(parts)]
    content = {
        "images": [{"id": 1, "file_name": "a.npy", "height": SHAPE[0], "width": SHAPE[1]}],
        "categories": [{"id": 1, "name": "lesion"}],
        "annotations": annotations,
    }
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


def _mutate_coco(content: bytes, draw: random.Random) -> bytes:
    """As `mutate_json`, but never to a sound file without annotations, which says nothing of its image."""
    while True:
        changed = mutate_json(content, draw)
        try:
            value = json.loads(changed)
        except (ValueError, RecursionError):
            return changed
        if not isinstance(value, dict) or value.get("annotations") != []:
            return changed


def _voc(folder: Path) -> Path:
    _write_mask(folder, "a_mask.png")
    box = "<bndbox><xmin>26</xmin><ymin>31</ymin><xmax>28</xmax><ymax>33</ymax></bndbox>"
    (folder / "a.xml").write_text(
        f"<annotation><size><width>{SHAPE[1]}</width><height>{SHAPE[0]}</height></size>"
        f"<object><name>lesion</name>{box}</object></annotation>"
    )
    return folder / "a.xml"


def _write_mask(folder: Path, name: str) -> Path:
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, MASK)
    elif ".nii" in name:
        nibabel.save(nibabel.Nifti1Image(MASK.T[:, :, None], np.diag([-9.04, -9.04, 1, 1])), path)
    else:
        options = {"compression": {".tif": "tiff_lzw", ".tiff": "tiff_adobe_deflate"}.get(path.suffix)}
        Image.fromarray(MASK * 255).save(path, **options)
    return path


def _seg(folder: Path) -> list[Path]:
    scan = _header()
    save_dicom(scan, folder / "a.dcm")
    seg(folder / "seg.dcm", [scan], Rows=SHAPE[0], Columns=SHAPE[1], PixelData=(MASK * 255).tobytes())
    return [folder / "seg.dcm"]


def _nnunet(folder: Path) -> list[Path]:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir()
    save_picture(COUNTS, folder / "imagesTr" / "c_0000.png")
    Image.fromarray(MASK).save(folder / "labelsTr" / "c.png")
    (folder / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "lesion": 1}, "file_ending": ".png", "channel_names": {"0": "NM"}})
    )
    return [folder / "dataset.json"]


def _zip(folder: Path) -> list[Path]:
    (folder / "in").mkdir()
    inside = [*_npy(folder / "in"), *_dicom(folder / "in", "b.dcm"), _write_mask(folder / "in", "a_mask.png")]
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, path in enumerate(inside):
            archive.write(path, f"p{number}/{path.name}")
            path.unlink()
    (folder / "in").rmdir()
    return [folder / "a.zip"]


def _dicomdir(folder: Path) -> list[Path]:
    from pydicom.fileset import FileSet

    disc = FileSet()
    disc.add(_header())
    disc.write(folder)
    disc._stage["t"].cleanup()
    return [folder / "DICOMDIR"]


def _opened(folder: Path) -> bool:
    """A source is opened, and all that it holds is read or refused."""
    (path,) = [path for path in folder.iterdir() if path.name in ("a.zip", "DICOMDIR")]
    with open_source(path) as source:
        for problem in source.problems:
            if kind := check_line(str(problem).replace(str(path), "")):
                raise Finding(kind)
        for file in source.files:
            if not file.path.resolve().is_relative_to(folder.resolve()) and path.name == "DICOMDIR":
                raise Finding("a file out of the source")
        return not source.problems


def _data_set(folder: Path) -> list[Path]:
    source = folder.with_name(folder.name + "_in")
    for number in range(3):
        save_dicom(nm_header(body_scan(number)[::4, ::2], patient=f"N{number}"), source / f"c{number}.dcm")
        save_picture(lesion_mask()[::4, ::2], source / f"c{number}_mask.png")
    folder.rmdir()
    import_source(source, folder, ImportOptions(), progress=False)
    (folder / "weak").mkdir(exist_ok=True)
    return [*folder.glob("*.csv"), *folder.glob("*.json"), *folder.glob("*/*.json"), *folder.glob("masks/*.png")]


def _data_set_read(folder: Path) -> bool:
    data_set = read_data_set(folder)
    for entry in data_set.entries:
        load_scan(folder, entry)
        load_masks(folder, entry, entry.masks)
        load_facts(folder, entry)
        load_boxes(folder, entry)
        load_boxes(folder, entry)
    return True


def _by_suffix(content: bytes, draw: random.Random) -> bytes:
    """By what the content looks like: JSON, a table, or bytes."""
    if content.startswith((b"{", b"[")) and b"}\n{" not in content:
        return mutate_json(content, draw)
    return mutate_bytes(content, draw) if b"\0" in content else mutate_lines(content, draw)


def _model(folder: Path) -> list[Path]:
    path = folder / "x.msanet"
    path.write_bytes((Path(__file__).parents[1] / "data" / "jax_0_10.msanet").read_bytes())
    return [path]


def _model_loaded(folder: Path) -> bool:
    """All but running the program, which another process tries."""
    tried = admission._tried
    admission._tried = lambda program, shape: {"problem": "not tried"}  # type: ignore[assignment]
    try:
        load_exported(folder / "x.msanet")
    except Exception as error:
        if str(error).endswith("its program is not run: not tried"):
            return True
        raise
    finally:
        admission._tried = tried
    return True


def _program_tried(folder: Path) -> bool:
    """The program too, in another process."""
    load_exported(folder / "x.msanet")
    return True


def _run_folder(folder: Path) -> list[Path]:
    (folder / "config.json").write_text(get_config("smoke").to_json())
    return [folder / "config.json"]


def _scored(folder: Path) -> list[Path]:
    return [path for path in sorted(scored_run(folder).iterdir()) if path.is_file()]


def _scored_read(folder: Path) -> bool:
    """All files of a scored run, as `msanet report` and `msanet compare` read them."""
    read_lesions(folder, read_metrics(folder))
    read_history(folder / "history.jsonl")
    read_cases(folder)
    return True


def _recipe_read(folder: Path) -> bool:
    check_recipe(read_config(folder))
    return True


def _scored_run(folder: Path) -> list[Path]:
    scored_run(folder)
    (folder / "config.json").write_text(get_config("smoke").to_json())
    return [path for path in folder.iterdir() if path.suffix != ".npz"]


def _cases(folder: Path) -> list[Path]:
    return [scored_run(folder) / "cases.npz"]


def _cases_read(folder: Path) -> bool:
    return read_cases(folder) is not None


def _run_read(folder: Path) -> bool:
    """All that `msanet report` reads."""
    read_runs([folder])
    return True


def _results(folder: Path) -> list[Path]:
    np.save(folder / "a.npy", COUNTS)
    predict_with(HOT_MODEL, [folder / "a.npy"], out=folder, request=Request(progress=False, formats=()))
    return [*folder.glob("*.json")]


def _results_read(folder: Path) -> bool:
    read_results(folder)
    return True


_MODEL_MEMBERS: dict[str, Mutate] = {
    "manifest.json": mutate_json,
    "config_0.json": mutate_json,
    "program.jax": mutate_bytes,
    "weights_0.safetensors": headers(2000),
}

TARGETS = (
    Target("dicom", _dicom, _read_all, mutate_dicom),
    Target("dicom_two_views", _dicom_two, _read_all, mutate_dicom),
    Target("dicom_packed", _dicom_packed, _read_all, mutate_bytes),
    Target("nifti", _nifti, _read_all, headers(400)),
    Target("nifti_gz", lambda folder: _nifti(folder, ".nii.gz"), _read_all, mutate_bytes),
    Target("npy", _npy, _read_all, headers(140)),
    Target("pictures", _pictures, _read_all, headers(600), cost=2),
    Target("labelme", _beside(_labelme), _annotated, mutate_json),
    Target("coco", _beside(_coco), _annotated, _mutate_coco),
    Target("voc", _beside(_voc), _annotated, mutate_bytes),
    Target("mask_png", _beside(lambda folder: _write_mask(folder, "a_mask.png")), _annotated, mutate_bytes),
    Target("mask_tif", _beside(lambda folder: _write_mask(folder, "a_mask.tif")), _annotated, mutate_bytes),
    Target("mask_tif_deflate", _beside(lambda folder: _write_mask(folder, "a_mask.tiff")), _annotated, mutate_bytes),
    Target("mask_npy", _beside(lambda folder: _write_mask(folder, "a_mask.npy")), _annotated, headers(130)),
    Target("mask_nii", _beside(lambda folder: _write_mask(folder, "a_mask.nii")), _annotated, headers(400)),
    Target("seg", _seg, _imported, mutate_dicom, cost=4),
    Target("nnunet", _nnunet, _imported, mutate_json, cost=4),
    Target("zip", _zip, _opened, mutate_zip),
    Target("dicomdir", _dicomdir, _opened, mutate_dicom),
    Target("data_set", _data_set, _data_set_read, _by_suffix, cost=2),
    Target("model", _model, _model_loaded, mutate_members(_MODEL_MEMBERS), cost=40),
    Target("program", _model, _program_tried, mutate_members({"program.jax": mutate_bytes}), cost=400),
    Target("scored_run", _scored, _scored_read, _by_suffix),
    Target("recipe", _run_folder, _recipe_read, mutate_json),
    Target("run", _scored_run, _run_read, _by_suffix),
    Target("cases", _cases, _cases_read, mutate_bytes),
    Target("results", _results, _results_read, mutate_json),
)
BY_NAME = {target.name: target for target in TARGETS}
