"""Names, headers, archives and devices that nobody should trust: one line each, and the rest is done."""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import logging
import os
import signal
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image, UnidentifiedImageError
from pydicom.dataset import Dataset

from data_pipeline.errors import RequestError
from data_pipeline.files import resolved
from data_pipeline.readers import archives
from data_pipeline.readers.formats.dicom_file import quiet, read_dicom_file
from data_pipeline.readers.formats.images import open_picture
from data_pipeline.readers.pseudonyms import read_or_draw_key
from data_pipeline.readers.sources import open_source
from data_pipeline.text import as_file_name, as_line, last_bytes, printable, table_cell
from msanet_jax import cli
from msanet_jax.prediction.dicom.seg_header import valid_value
from msanet_jax.prediction.earlier_results import clear_earlier, earlier_files
from msanet_jax.prediction.files import FORMATS
from msanet_jax.prediction.predict import Outcome, Request, predict_with
from msanet_jax.trained.export import _data_card
from tests.fakes import HOT_MODEL
from tests.user_files import BIRTH, NAME, SECRETS, body_scan, nm_header, save_dicom, save_picture

ROOT = Path(__file__).parents[3]
BODY = body_scan(1)


def _predict(sources: list[Path], out: Path, *, formats: tuple[str, ...] = ("seg",), **options: Any) -> Outcome:
    return predict_with(HOT_MODEL, sources, out=out, request=Request(formats=formats, progress=False, **options))


def _raw(path: Path, change: Callable[[Dataset], None]) -> Path:
    """A file with entries that pydicom itself would refuse to write."""
    header = nm_header(BODY)
    change(header)
    before = pydicom.config.settings.writing_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        with quiet():
            return save_dicom(header, path)
    finally:
        pydicom.config.settings.writing_validation_mode = before


def _entry(**values: Any) -> Callable[[Dataset], None]:
    def change(header: Dataset) -> None:
        for key, value in values.items():
            vr = pydicom.datadict.dictionary_VR(key)
            header[key] = pydicom.DataElement(key, vr, value, validation_mode=pydicom.config.IGNORE)

    return change


def test_any_character_set_gives_a_segmentation(tmp_path: Path) -> None:
    sets = ("", ["", "ISO 2022 IR 87"], "ISO 2022 IR 100", "ISO_IR 6", "NONE")
    files = [_raw(tmp_path / f"{n}.dcm", _entry(SpecificCharacterSet=name)) for n, name in enumerate(sets)]
    assert _predict(files, tmp_path / "out").failed == ()
    for number in range(len(sets)):
        stored = pydicom.dcmread(tmp_path / "out" / f"{number}_seg.dcm")
        assert (stored.SpecificCharacterSet, str(stored.PatientName)) == ("ISO_IR 192", NAME)
        assert stored.PatientBirthDate == BIRTH


def test_letters_of_a_known_set_are_kept_and_of_an_unknown_one_left_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = nm_header(BODY)
    header.SpecificCharacterSet, header.PatientName = "ISO_IR 100", "Müller^Jörg"
    path = save_dicom(header, tmp_path / "a.dcm")
    _predict([path], tmp_path / "known")
    assert str(pydicom.dcmread(tmp_path / "known" / "a_seg.dcm").PatientName) == "Müller^Jörg"
    assert capsys.readouterr().err == ""
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 999"))
    _predict([path], tmp_path / "unknown")
    assert str(pydicom.dcmread(tmp_path / "unknown" / "a_seg.dcm").PatientName) == ""
    assert "left empty in DICOM results" in capsys.readouterr().err


INVALID = [
    ("PatientBirthDate", "19640000"),
    ("PatientBirthDate", "00000000"),
    ("PatientBirthDate", "1964-08-12"),
    ("PatientBirthDate", "UNKNOWN"),
    ("StudyDate", "20230229"),
    ("StudyTime", "12:00:00"),
    ("StudyTime", "256100"),
    ("PatientSex", "U"),
    ("PatientSex", "W"),
    ("StudyID", "12345678901234567"),
    ("PatientName", "a=b=c=d"),
    ("PatientID", "x" * 65),
]


@pytest.mark.parametrize(("keyword", "value"), INVALID)
def test_values_that_the_standard_does_not_allow(keyword: str, value: str) -> None:
    header = nm_header(BODY)
    assert valid_value(header, keyword) == (str(header[keyword].value), True)
    _entry(**{keyword: value})(header)
    with quiet():
        assert valid_value(header, keyword) == ("", False)


def test_invalid_entries_are_left_empty_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = _raw(tmp_path / "a.dcm", _entry(PatientBirthDate="19640000", StudyTime="12:00:00", PatientSex="W"))
    behind = save_dicom(nm_header(body_scan(2)), tmp_path / "b.dcm")
    outcome = _predict([bad, behind], tmp_path / "out")
    assert (outcome.written, outcome.failed) == (("a", "b"), ())
    stored, other = (pydicom.dcmread(tmp_path / "out" / f"{name}_seg.dcm") for name in "ab")
    emptied = ("PatientBirthDate", "PatientSex", "StudyTime")
    assert not any(stored[key].value for key in emptied) and all(other[key].value for key in emptied)
    line = f"left empty in DICOM results, since the scan's values break the standard: {', '.join(emptied)}"
    assert capsys.readouterr().err == f"{bad}: {line}\n"
    assert line in (tmp_path / "out" / "a.json").read_text()


@pytest.mark.parametrize("spacing", [["1e999", "nan"], ["0", "-3"], ["4.52"]])
def test_a_pixel_size_that_is_none(tmp_path: Path, spacing: list[str]) -> None:
    """The reader takes it for unknown; so does the segmentation."""
    path = _raw(tmp_path / "a.dcm", _entry(PixelSpacing=spacing))
    assert _predict([path], tmp_path / "out").failed == ()
    groups = pydicom.dcmread(tmp_path / "out" / "a_seg.dcm").SharedFunctionalGroupsSequence[0]
    (measures,) = groups.PixelMeasuresSequence
    assert measures.PixelSpacing == [1.0, 1.0]


def test_series_number_that_is_none(tmp_path: Path) -> None:
    path = save_dicom(nm_header(BODY), tmp_path / "a.dcm")
    content = path.read_bytes()
    entry = b"\x20\x00\x11\x00IS\x02\x001 "
    assert content.count(entry) == 1
    path.write_bytes(content.replace(entry, b"\x20\x00\x11\x00IS\x04\x00abc "))
    assert _predict([path], tmp_path / "out").failed == ()
    assert pydicom.dcmread(tmp_path / "out" / "a_seg.dcm").SeriesNumber == 9000


def test_segmentation_of_a_turned_scan_lies_on_its_stored_pixels(tmp_path: Path) -> None:
    plain = save_dicom(nm_header(BODY), tmp_path / "plain.dcm")
    header = nm_header(BODY[::-1])
    header.PatientOrientation = ["L", "H"]
    turned = save_dicom(header, tmp_path / "turned.dcm")
    _predict([plain, turned], tmp_path / "out")
    planes = [pydicom.dcmread(tmp_path / "out" / f"{name}_seg.dcm").pixel_array for name in ("plain", "turned")]
    assert planes[0].any()
    np.testing.assert_array_equal(planes[1], planes[0][..., ::-1, :])


def test_any_exception_of_one_scan_is_its_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = [save_dicom(nm_header(body_scan(number)), tmp_path / f"{number}.dcm") for number in range(4)]

    def failing(number: int, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            first = arguments[0][0] if isinstance(arguments[0], tuple) else arguments[0]
            if f"{number}" in str(getattr(first, "source", first)):
                raise LookupError(f"of {NAME}")
            return original(*arguments, **options)

        return call

    from msanet_jax.prediction import files as prediction_files
    from msanet_jax.prediction import scan_batches
    from msanet_jax.prediction import sources as scan_sources

    monkeypatch.setattr(scan_sources, "read_scans", failing(0, scan_sources.read_scans))
    monkeypatch.setattr(scan_batches, "find_place", failing(1, scan_batches.find_place))
    monkeypatch.setattr(prediction_files, "lesion_table", failing(2, prediction_files.lesion_table))
    # The file's number must not occur in the folder's name.
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.DEBUG, "msanet"):
        outcome = _predict([Path(file.name) for file in files], tmp_path / "out", formats=("csv",))
    assert outcome.written == ("3",)
    assert [path.name for path in outcome.failed][:3] == ["0.dcm", "1.dcm", "2.dcm"]
    said = capsys.readouterr().err
    assert said.splitlines()[:3] == [f"{n}.dcm: failed (LookupError); --debug prints where" for n in range(3)]
    assert not any(secret in said for secret in SECRETS)
    assert caplog.text.count("Traceback") >= 3


NAMES = ("骨" * 80, "$x^2_{$ $\\frac$", "=cmd|' C'!A0", "-1+2", "\x1b[31mred\nline", "Fr\udcfchling", "Müller")


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_name_of_a_file(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_picture(BODY, tmp_path / "a.png").rename(tmp_path / f"{name}.png")
    outcome = _predict([path, tmp_path / f"{name}.none"], tmp_path / "out", formats=tuple(FORMATS))
    assert len(outcome.written) == 1
    said = capsys.readouterr().err.rstrip("\n")
    assert said.isprintable() and said.endswith("no such file or folder")
    for file in (tmp_path / "out").iterdir():
        assert file.name.isprintable()
        if file.suffix == ".csv":
            rows = list(csv.reader(io.StringIO(file.read_text("utf-8"))))
            assert len(rows) > 1 and not any(row[0].startswith(("=", "+", "-", "@")) for row in rows)


def test_text_from_outside() -> None:
    assert printable("a\x1b[31m\n\udcfc ä骨") == "a\\x1b[31m\\n\\udcfc ä骨"
    assert as_line("a" * 1500) == "a" * 1500
    assert as_line("a" * 99_000 + "; export it again\n") == f"{'a' * 1200} ... {'a' * 281}; export it again\\n"
    assert as_file_name('a/b:c"\x1b\udcfc骨') == "a_b_c___骨"
    assert last_bytes("骨" * 80, 10) == "骨" * 3
    assert last_bytes("abc", 10) == "abc"
    assert [table_cell(text) for text in ("=1", "@x", "a=1", "")] == ["'=1", "'@x", "a=1", ""]


def test_results_of_an_earlier_run_are_refused_or_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = save_picture(BODY, tmp_path / "first.png")
    second = save_picture(body_scan(2), tmp_path / "second.png")
    _predict([first], out, formats=tuple(FORMATS))
    (out / "mine.txt").write_text("kept")
    before = {path.name for path in out.iterdir()}
    with pytest.raises(RequestError, match=r"--out=.*holds results of an earlier run .* say --overwrite"):
        _predict([second], out, formats=("png",))
    assert {path.name for path in out.iterdir()} == before
    (out / "msanet_run.json").unlink()  # a run that was cut short
    _predict([second], out, formats=("png",), overwrite=True)
    names = {path.name for path in out.iterdir()}
    assert {"mine.txt", "second.json", "second_mask.png", "msanet_run.json"} <= names
    assert not any("first" in name or name.endswith(".html") for name in names)
    assert len([name for name in names if name.startswith("patient_")]) == 1
    (tmp_path / "trap").write_text("kept")
    (out / "x.json").write_text('{"patient_pseudonym": 1, "thorax_box_px": 1, "files": ["../trap", "..", 3]}')
    _predict([second], out, formats=("png",), overwrite=True)
    assert (tmp_path / "trap").exists()


def _member(archive: zipfile.ZipFile, name: str, content: bytes = b"x" * 100, **fields: Any) -> None:
    member = zipfile.ZipInfo("name")
    member.filename = name
    for key, value in fields.items():
        setattr(member, key, value)
    archive.writestr(member, content)


def _open(path: Path) -> tuple[list[str], list[str]]:
    with open_source(path) as source:
        return [file.name for file in source.files], [problem.removeprefix(f"{path}: ") for problem in source.problems]


def test_odd_members_are_one_line_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (".", "", "x" * 300 + ".dcm", "\x1b[31mevil\n2nd ok.dcm", "good.dcm"):
            _member(archive, name)
    files, problems = _open(path)
    assert files == ["_x1b[31mevil_n2nd ok.dcm", "good.dcm"]
    assert sum("has no name" in problem for problem in problems) == 2
    assert sum("too long for this disk" in problem for problem in problems) == 1
    assert all(problem.isprintable() for problem in problems)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_members_of_every_method(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.zip"
    generator = np.random.default_rng(method)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("bad.dcm", generator.bytes(2000))
        archive.writestr("good.dcm", b"good" * 50)
    whole = path.read_bytes()
    for _ in range(40):
        content = bytearray(whole)
        for place in generator.integers(30, 1500, 8):
            content[place] = generator.integers(0, 256)
        path.write_bytes(content)
        files, problems = _open(path)
        assert files == ["good.dcm"] and len(problems) == 1


def test_a_member_that_is_file_and_folder(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a", "a/below.dcm", "good.dcm"):
            archive.writestr(name, b"good")
    files, problems = _open(path)
    assert files == ["a", "good.dcm"]
    assert problems == ["a/below.dcm: cannot be unpacked (FileExistsError); pack it again"]


def test_names_that_are_no_utf8_and_versions_from_the_future(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ä.dcm", b"bad name")
        archive.writestr("good.dcm", b"good")
    whole = path.read_bytes()
    path.write_bytes(whole.replace("ä".encode(), b"\xc3\x28"))
    files, problems = _open(path)
    assert files == ["good.dcm"] and "its name is not what the archive says" in problems[0]
    entry = whole.rindex(b"PK\x01\x02")
    path.write_bytes(whole[: entry + 6] + struct.pack("<H", 204) + whole[entry + 8 :])
    assert _open(path)[0] == ["good.dcm", "ä.dcm"]


def test_a_bomb_among_the_members_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MEMBER_RATIO_FROM_BYTES", 100_000)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", "[" * 500_000)
        archive.writestr("good.dcm", b"good")
    files, problems = _open(path)
    assert files == ["good.dcm"] and "times its size: refused" in problems[0]


def test_devices_pipes_and_read_errors_are_one_line_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(RequestError, match="a device, pipe or socket, no file"), open_source(path):
            pass
    with pytest.raises(RequestError, match="cannot be read"), open_source("/proc/self/mem"):
        pass
    (tmp_path / "scan.png").symlink_to(tmp_path / "scan.png")
    with pytest.raises(RequestError, match=r"scan.png: cannot be read"), open_source(tmp_path / "scan.png"):
        pass


@pytest.mark.parametrize("name", ["pipe", "zero", "folder", "none", "bytes"])
def test_text_files_that_a_flag_names(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes").write_bytes(b"\xff" * 40)
    path = tmp_path / name
    with pytest.raises(RequestError, match=f"--key-file={path}: is (no regular file|missing|not UTF-8 text)"):
        read_or_draw_key(path)
    with pytest.raises(RequestError, match=f"--data-card={path}: is (no regular file|missing|not UTF-8 text)"):
        _data_card(path, "phantom_bone/tiny")


def test_pipes_in_the_folder_of_results(tmp_path: Path) -> None:
    for name in ("a.json", "msanet_run.json", "index.html"):
        os.mkfifo(tmp_path / name)
    assert earlier_files(tmp_path) == []
    with pytest.raises(RequestError, match=r"has an index.html of another program"):
        clear_earlier(tmp_path, overwrite=True)


def test_a_link_to_itself_is_one_line_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "self.dcm").symlink_to("self.dcm")
    (tmp_path / "good.dcm").write_bytes(b"good")
    files, problems = _open(tmp_path)
    assert files == ["good.dcm"]
    assert problems == [f"{tmp_path}/self.dcm: a symbolic link to nothing; remove it"]
    assert resolved(tmp_path / "self.dcm") == tmp_path.resolve() / "self.dcm"


def test_links_are_followed_in_one_place() -> None:
    """`Path.resolve` raises RuntimeError where a link leads to itself; `files.resolved` does not."""
    found = [
        path.name
        for folder in ("data_pipeline", "msanet_jax")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "resolve"
    ]
    assert found == ["versions.py"]  # of the module itself


def test_faults_of_whoever_uses_a_source_stay_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"x")
    with pytest.raises(PermissionError, match="mine"), open_source(tmp_path):
        raise PermissionError("mine")


def test_dicomdir_with_impossible_and_renamed_files(tmp_path: Path) -> None:
    save_dicom(nm_header(BODY), tmp_path / "dicom" / "im1.dcm")
    index = Dataset()
    index.file_meta = pydicom.dataset.FileMetaDataset()
    index.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    index.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    index.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    index.DirectoryRecordSequence = []
    for name in (["DICOM", "IM1"], ["NUL\0", "X"], ["Y" * 300], ["..", "Z"]):
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        record["ReferencedFileID"] = pydicom.DataElement("ReferencedFileID", "CS", name, validation_mode=0)
        index.DirectoryRecordSequence.append(record)
    before = pydicom.config.settings.writing_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    save_dicom(index, tmp_path / "DICOMDIR")
    pydicom.config.settings.writing_validation_mode = before
    files, problems = _open(tmp_path / "DICOMDIR")
    assert files == ["DICOM/IM1"]
    assert len(problems) == 3 and all(problem.isprintable() for problem in problems)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_unpacked_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", save_picture(BODY, tmp_path / "a.png").read_bytes())
    unpacked = tmp_path / "tmp"
    unpacked.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(unpacked))
    monkeypatch.setattr("msanet_jax.prediction.predict.load_model", lambda *arguments, **options: HOT_MODEL)

    def stop(*arguments: Any, **options: Any) -> None:
        assert list(unpacked.rglob("a.png"))
        os.kill(os.getpid(), number)

    monkeypatch.setattr("msanet_jax.prediction.sources.read_scans", stop)
    assert cli.main(["predict", str(tmp_path / "a.zip"), f"--out={tmp_path / 'out'}", "--quiet"]) == 128 + number
    assert list(unpacked.iterdir()) == []
    assert capsys.readouterr().err == f"msanet predict: stopped by {number.name}\n"
    assert signal.getsignal(number) == signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("at", "kept"), [("data_pipeline.intake.taking.read_scans", 0), ("data_pipeline.intake.build.draw_splits", 1)]
)
def test_a_signal_leaves_nothing_half_written_of_an_import(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    at: str,
    kept: int,
) -> None:
    """While a scan of the zip is read, and while the data set is half written: what was read is kept."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", save_picture(BODY, tmp_path / "a.png").read_bytes())
    (tmp_path / "tmp").mkdir()
    (tmp_path / "sets").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))

    def stop(*arguments: Any, **options: Any) -> None:
        assert list((tmp_path / "tmp").rglob("a.png"))
        os.kill(os.getpid(), number)

    out = tmp_path / "sets" / "new"
    with monkeypatch.context() as patch:
        patch.setattr(at, stop)
        assert cli.main(["import", str(tmp_path / "a.zip"), f"--out={out}", "--quiet"]) == 128 + number
    assert list((tmp_path / "tmp").iterdir()) == []
    assert len(list((tmp_path / "sets").iterdir())) == kept
    said = capsys.readouterr().err.splitlines()
    assert said.pop() == f"msanet import: stopped by {number.name}"
    assert ["the same import goes on" in line for line in said] == [True] * kept
    assert cli.main(["import", str(tmp_path / "a.zip"), f"--out={out}", "--quiet"]) == 1  # it has no mask
    assert list((tmp_path / "sets").iterdir()) == [out]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 64\n%%EndComments\nshowpage\n%%EOF\n"


def test_eps_is_no_picture_and_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **options: pytest.fail("a process was started"))
    (tmp_path / "s_mask.png").write_bytes(EPS)
    for source in (tmp_path / "s_mask.png", EPS):
        with pytest.raises(UnidentifiedImageError), open_picture(source):
            pass
    outcome = _predict([tmp_path / "s_mask.png"], tmp_path / "out", formats=("png",))
    assert [path.name for path in outcome.failed] == ["s_mask.png"]
    with open_picture(save_picture(BODY, tmp_path / "a.png")) as picture:
        assert picture.size == (128, 512)


def test_pictures_are_opened_in_one_place() -> None:
    """Pillow decodes formats that run programs; the one function that opens pictures names those it may."""
    found = []
    for folder in ("data_pipeline", "msanet_jax", "configs", "experiments", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Attribute)
                    and node.attr in ("open", "imread")
                    and isinstance(node.value, ast.Name)
                    and node.value.id in ("Image", "PIL", "io", "plt", "pyplot", "skio", "imageio", "cv2")
                ):
                    found.append((path.name, node.value.id))
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("PIL.Image", "skimage.io")):
                    found.append((path.name, node.module))
    assert found == [("images.py", "Image")]


def test_readers_start_no_process() -> None:
    starters = {"subprocess", "multiprocessing", "pty", "ctypes"}
    for folder in ("readers", "annotations"):
        for path in (ROOT / "data_pipeline" / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not starters & {name.split(".")[0] for name in names}, path
                assert not (isinstance(node, ast.Attribute) and node.attr in ("system", "popen", "execv")), path


def test_a_damaged_length_is_not_allocated(tmp_path: Path) -> None:
    path = save_dicom(nm_header(BODY), tmp_path / "a.dcm")
    content = path.read_bytes()
    at = content.index(b"\xe0\x7f\x10\x00OW") + 8
    path.write_bytes(content[:at] + (1 << 31).to_bytes(4, "little") + content[at + 4 :])
    tracemalloc.start()
    try:
        with quiet(), contextlib.suppress(Exception):
            read_dicom_file(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_single_bits_whose_number_cannot_be_told_are_refused(tmp_path: Path) -> None:
    """Pixels of 8 bits, packed with LZW, whose tag was damaged to 1: Pillow gives a blank picture."""
    mask = np.zeros((16, 16), np.uint8)
    mask[4:8, 4:8] = 255
    path = tmp_path / "a.tif"
    Image.fromarray(mask).save(path, compression="tiff_lzw")
    with open_picture(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), mask)
    eight, one = (struct.pack("<HHIH", 258, 3, 1, bits) for bits in (8, 1))
    assert path.read_bytes().count(eight) == 1
    path.write_bytes(path.read_bytes().replace(eight, one))
    with pytest.raises(OSError, match="damaged \\(ValueError"), open_picture(path):
        pass
