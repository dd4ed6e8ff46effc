"""What is found in folders, archives and DICOMDIRs, and what is refused in them."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRLittleEndian, NuclearMedicineImageStorage, generate_uid

from data_pipeline.errors import RequestError
from data_pipeline.readers import archives, names
from data_pipeline.readers.sources import natural_order, open_source


def _tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def _names(source: Path) -> list[str]:
    with open_source(source) as found:
        assert all(file.path.read_text() == file.name for file in found.files)
        return [file.name for file in found.files]


def test_one_file_is_a_source(tmp_path: Path) -> None:
    _tree(tmp_path, "scan.png")
    assert _names(tmp_path / "scan.png") == ["scan.png"]


def test_folders_are_walked_in_natural_order_without_litter(tmp_path: Path) -> None:
    _tree(tmp_path, "p10/a.dcm", "p2/deep/b.dcm", "p2/a.dcm", ".hidden", "__MACOSX/._a.dcm", "Thumbs.db", "DICOMDIR")
    assert _names(tmp_path) == ["p2/a.dcm", "p2/deep/b.dcm", "p10/a.dcm"]
    assert natural_order("scan2") < natural_order("scan10") < natural_order("scanA")


def test_zip_is_unpacked_for_as_long_as_needed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "scans.bin", "w") as archive:
        archive.writestr("p1/a.dcm", "p1/a.dcm")
        archive.writestr("b.dcm", "b.dcm")
    with open_source(tmp_path / "scans.bin") as found:
        paths = [file.path for file in found.files]
        assert [file.name for file in found.files] == ["b.dcm", "p1/a.dcm"]
        assert [path.read_text() for path in paths] == ["b.dcm", "p1/a.dcm"]
    assert not any(path.exists() for path in paths)


def test_links_out_of_the_folder_are_told_and_links_within_followed(tmp_path: Path) -> None:
    inside = _tree(tmp_path / "in", "a.dcm")
    _tree(tmp_path, "out/secret.dcm")
    (inside / "link_within.dcm").symlink_to(inside / "a.dcm")
    (inside / "link_out.dcm").symlink_to(tmp_path / "out" / "secret.dcm")
    (inside / "folder").symlink_to(tmp_path / "out")
    (inside / "dangling.dcm").symlink_to(inside / "gone")
    with open_source(inside) as found:
        assert [file.name for file in found.files] == ["a.dcm", "link_within.dcm"]
    told = " | ".join(found.problems)
    for words in ("link_out.dcm: a symbolic link out of", "folder: a symbolic link to a folder", "link to nothing"):
        assert words in told
    assert len(found.problems) == 3


def test_unsafe_members_of_a_zip_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "scans.zip"
    link = zipfile.ZipInfo("link.dcm")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../out.dcm", "x")
        archive.writestr("/root.dcm", "x")
        archive.writestr("C:/windows.dcm", "x")
        archive.writestr(link, "/etc/passwd")
        archive.writestr("good.dcm", "good.dcm")
    with open_source(path) as found:
        assert [file.name for file in found.files] == ["good.dcm"]
    assert len(found.problems) == 4
    assert sum("a path out of the archive" in line for line in found.problems) == 3
    assert not (tmp_path / "out.dcm").exists()


def test_bombs_are_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.npy", bytes(4_000_000))
    monkeypatch.setattr(archives, "RATIO_FROM_BYTES", 1_000_000)
    with pytest.raises(RequestError, match="times its size: refused"), open_source(path):
        pass
    monkeypatch.setattr(archives, "RATIO_FROM_BYTES", 1 << 30)
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1_000_000)
    with open_source(path) as found:
        assert not found.files
        assert "no planar scan is that large" in found.problems[0]


def test_damaged_zip_absent_and_unreadable_sources(tmp_path: Path) -> None:
    (tmp_path / "short.zip").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(RequestError, match=r"short.zip: the archive is damaged"), open_source(tmp_path / "short.zip"):
        pass
    with pytest.raises(RequestError, match="no such file or folder"), open_source(tmp_path / "absent"):
        pass
    with zipfile.ZipFile(tmp_path / "flipped.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", os.urandom(1000))
        archive.writestr("b.dcm", "b.dcm")
    content = bytearray((tmp_path / "flipped.zip").read_bytes())
    content[400:420] = bytes(20)
    (tmp_path / "flipped.zip").write_bytes(content)
    with open_source(tmp_path / "flipped.zip") as found:
        assert [file.name for file in found.files] == ["b.dcm"]
    assert "a.dcm: cannot be unpacked" in found.problems[0]


def _instance(patient: str) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = NuclearMedicineImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
    header.PatientID, header.PatientName, header.Modality = patient, "DOE^JANE", "NM"
    header.StudyInstanceUID, header.SeriesInstanceUID = generate_uid(), generate_uid()
    header.StudyDate, header.StudyTime, header.StudyID, header.SeriesNumber = "20200101", "120000", "1", 1
    header.InstanceNumber = 1
    return header


def test_dicomdir_gives_the_files_it_references(tmp_path: Path) -> None:
    disc = FileSet()
    for patient in ("one", "two"):
        disc.add(_instance(patient))
    disc.write(tmp_path / "disc")
    disc._stage["t"].cleanup()  # pydicom leaves it to the garbage collector, which warns
    with open_source(tmp_path / "disc" / "DICOMDIR") as found:
        assert len(found.files) == 2 and not found.problems
        by_index = sorted(file.path.resolve() for file in found.files)
    with open_source(tmp_path / "disc") as walked:
        assert sorted(file.path.resolve() for file in walked.files) == by_index
    by_index[0].unlink()
    with open_source(tmp_path / "disc" / "DICOMDIR") as found:
        assert len(found.files) == 1
        assert "not there; copy the whole disc" in found.problems[0]
    (tmp_path / "disc" / "DICOMDIR").write_text("no index")
    with pytest.raises(RequestError, match="not a readable DICOMDIR"), open_source(tmp_path / "disc" / "DICOMDIR"):
        pass


@pytest.mark.parametrize("suffix", [*sorted(names.NOT_DICOM), ".dcm", ".dicom", ".IMA", ".NII.GZ"])
def test_a_scan_is_named_without_its_suffix(suffix: str) -> None:
    assert names.stem_of(f"a/case.1{suffix}") == "case.1"
    assert names.pairing_key(f"masks/case.1{suffix}") == names.pairing_key("case.1.png")
